"""The octets of one SMTP session: lines and blocks in, replies out, time kept. No verb is known here.

A :class:`Wire` is aiosmtpd's ``SMTP`` with its stream machinery replaced: octets come by ``data_received``,
one task per session reads them as command lines or as blocks of content, and replies are gathered and
written when that task next waits (RFC 2920: pipelined commands, answered in one segment).

Only CRLF ends a line (RFC 5321 §2.3.8). A bare CR, bare LF or NUL in a command line ends the session, as
does anything that waits behind a command which must be the last of its group: what an attacker got a sloppy
client to send as text is never read as commands.

How it fails: :class:`Hangup` when the peer is gone, :class:`Cut` when we end the session with a last reply.
Memory per session is bounded: reading pauses above ``HIGH_WATER``, and nothing more is read while the
peer does not read our replies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Session

from gateway.desk import WireLimits
from tracker.reply import Reply

HIGH_WATER = 128 * 1024  # octets that wait to be read by the session, before the socket is paused
_BLOCK_COST = 64  # octets of memory that a block takes beside its content: many tiny ones count too
_SKIP_LIMIT = 64 * 1024  # octets of an over-long command line that are skipped to find its end
_MAX_OUT = 256  # pieces of replies that are gathered at most
_NEVER = float("inf")

BAD_OCTETS = Reply.of(500, "5.5.2", "Command lines end with CRLF and hold no bare CR, bare LF or NUL")
TOO_LONG = Reply.of(500, "5.5.2", "Command line too long")
TIMED_OUT = Reply.of(421, "4.4.2", "Timed out, closing the connection")
STOPPING = Reply.of(421, "4.3.2", "Service is stopping, please try again later")
UNSYNCHRONISED = Reply.of(554, "5.5.0", "Nothing may follow this command before its reply (RFC 2920)")


class Hangup(Exception):
    """The peer is gone."""


class Cut(Exception):
    """The session ends with ``reply``; with ``linger`` the peer may finish what it is sending first."""

    def __init__(self, reply: Reply, *, linger: bool = True) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.linger = linger


class LongLine(Exception):
    """A command line was longer than allowed and has been skipped."""


class Wire(SMTP):
    """The transport side of a session. Subclasses say what is done with lines and blocks."""

    transport: asyncio.Transport | None

    def __init__(self, limits: WireLimits, loop: asyncio.AbstractEventLoop) -> None:
        # aiosmtpd's own __init__ looks through all attributes of the handler and itself by name for every
        # connection, and asyncio's makes a reader and a future: neither is called. What of them the
        # inherited methods use is set here; tests/unit/test_smtp_upstream.py pins that list.
        self.loop = self._loop = loop
        self.limits = limits
        self.transport = None
        self.session: Session | None = None
        self._handler_coroutine: asyncio.Task[None] | None = None
        self.deadline = _NEVER  # loop time, looked at by the listener once a second
        self._blocks: deque[bytes] = deque()  # received, not yet looked at
        self._held = 0  # octets of memory in them, about
        self._block = b""  # being read, from _at on
        self._at = 0
        self._out: list[bytes] = []  # replies not yet written
        self._waiter: asyncio.Future[None] | None = None
        self._cut: Cut | None = None  # raised at the next wait
        self.secured = False  # the transport is TLS
        self._eof = False
        self.lost = False
        self._reading_paused = False
        self._writing_paused = False
        self._closing = False
        self._deaf = False  # what still comes is thrown away

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._blocks.append(data)
        self._held += len(data) + _BLOCK_COST
        if self._held > HIGH_WATER and not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        # True keeps our side open, so that who half-closes after the final dot still reads the answer.
        # TLS has no half-close here, and asyncio warns about True.
        return not self.secured

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._wake()
        # Nothing may be sent any more, and without this cycle the session goes without the collector.
        self.transport = None

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake()

    # What the session's task calls.

    async def _handle_client(self) -> None:
        raise AssertionError("a Wire alone speaks no protocol")

    async def push(self, status: Any) -> None:
        """aiosmtpd's way to send one reply line."""
        self.say(status if isinstance(status, bytes) else str(status).encode())

    def say(self, reply: bytes) -> None:
        """Send a reply (without its last CRLF) when the session next waits for input."""
        self._out.append(reply)
        self._out.append(b"\r\n")

    def flush(self) -> None:
        """Hand the gathered replies to the transport now."""
        if self._out:
            if not self.lost and self.transport is not None:
                self.transport.write(b"".join(self._out))
            self._out.clear()

    @property
    def input_waits(self) -> bool:
        """True when octets are at hand that no one has read yet."""
        return self._at < len(self._block) or bool(self._blocks)

    def forget_input(self) -> None:
        """Drop what was received and not yet read."""
        self._blocks.clear()
        self._held = 0
        self._block, self._at = b"", 0
        self._resume_reading()

    async def next_block(self, deadline: float) -> bytes:
        """The octets at hand, or those that come next; raises Hangup, or Cut at ``deadline``."""
        if self._at < len(self._block):
            block = self._block[self._at :] if self._at else self._block
        else:
            await self._next(deadline)
            block = self._block
        self._block, self._at = b"", 0
        return block

    def give_back(self, rest: bytes) -> None:
        """Return octets of the last block that are for someone else."""
        self._block, self._at = rest, 0

    async def relieve(self, deadline: float) -> None:
        """Between commands: do not gather replies without end for a peer that sends and never reads."""
        if len(self._out) > _MAX_OUT:
            self.flush()
            if self._writing_paused:
                await self._wait(deadline)

    async def next_line(self, limit: int, deadline: float) -> bytes:
        """One command line without its CRLF.

        Raises :class:`LongLine` when it was longer than ``limit`` (it is then behind us), Cut for octets
        that no command line may hold and at ``deadline``, Hangup when the peer is gone.
        """
        skipped = 0
        while True:
            block, at = self._block, self._at
            end = block.find(b"\r\n", at)
            if end >= 0:
                line = block[at:end]
                self._at = end + 2
                _check_line(line)
                if skipped or len(line) > limit:
                    raise LongLine
                return line
            part = block[at:]
            # Without a CRLF an LF is a bare one, and so is a CR that something follows.
            _check_line(part[:-1] if part.endswith(b"\r") else part)
            if len(part) > limit + 1:
                skipped += len(part) - 1
                if skipped > _SKIP_LIMIT:
                    raise Cut(TOO_LONG)
                part = part[-1:]
            self._block, self._at = b"", 0
            await self._next(deadline)
            if part:
                self._block = part + self._block

    async def _next(self, deadline: float) -> None:
        """Make the next received block the one that is read."""
        if self.lost:
            raise Hangup
        if not self._blocks:
            await self._wait(deadline)
        self._block = self._blocks.popleft()
        self._at = 0
        self._held -= len(self._block) + _BLOCK_COST
        if self._reading_paused and self._held <= HIGH_WATER:
            self._resume_reading()

    async def _wait(self, deadline: float) -> None:
        """Until there is input. Replies go out first; nothing is read while they are not taken."""
        self.flush()
        self.deadline = deadline
        while self._writing_paused or not self.input_waits:
            if self._cut is not None:
                cut, self._cut = self._cut, None
                raise cut
            if self.lost or (self._eof and not self.input_waits):
                raise Hangup
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self.deadline = _NEVER

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _resume_reading(self) -> None:
        if self._reading_paused and self.transport is not None and not self.lost:
            self._reading_paused = False
            self.transport.resume_reading()

    # Ending.

    def cut(self, cut: Cut) -> None:
        """End the session where it next waits for input, which may be now."""
        self._cut = cut
        self._wake()

    def expire(self) -> None:
        """The deadline has passed: a peer that does not even read is dropped, another is told."""
        self.deadline = _NEVER
        if self._closing or self._writing_paused:
            self.abort()
        else:
            self.cut(Cut(TIMED_OUT, linger=False))

    def abort(self) -> None:
        """Drop the connection without a word."""
        if self.transport is not None:
            self.transport.abort()

    def end(self) -> None:
        """Drop the connection and the session's task, whatever it waits for."""
        self.abort()
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    async def linger(self) -> None:
        """Send what is to be sent, then throw away input until the peer stops or its time is over.

        Closing a socket with unread input resets the connection, and the peer may never read our reply.
        """
        self.flush()
        self.forget_input()
        self._deaf = True
        if not (self.secured or self.lost) and self.transport is not None:
            self.transport.write_eof()
        until = self.loop.time() + self.limits.linger_time
        while not (self._eof or self.lost) and self.loop.time() < until:
            self._waiter = self.loop.create_future()
            timer = self.loop.call_at(until, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None

    def hang_up(self) -> None:
        """Close once everything is written; a peer that does not take it is dropped after a while."""
        self.flush()
        self._deaf = True
        self._closing = True
        if self.transport is not None and not self.lost:
            self.deadline = self.loop.time() + self.limits.linger_time
            self.transport.close()


def _check_line(line: bytes) -> None:
    if b"\n" in line or b"\r" in line or b"\0" in line:
        raise Cut(BAD_OCTETS)
