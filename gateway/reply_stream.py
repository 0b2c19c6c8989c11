"""The reading side of an SMTP or LMTP client connection: replies, bounded, and flow control for writing.

STANDARDS
    RFC 5321 §4.2 (replies), §4.5.3.1.5 (a reply line is at most 512 octets; some servers write more,
    so up to ``MAX_LINE`` is read), §3.8 (421 at any time); RFC 3207 §6 (nothing read before the TLS
    handshake is used after it).

HOW IT FAILS
    A server that says what is no reply, too much, or something nobody asked for is cut off, and
    ``why`` says so; whoever waits gets :class:`StreamEnded`. Replies read until then stay readable.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import cast

from tracker.reply import Reply, ReplyError

MAX_LINE = 4096  # octets
MAX_REPLY = 1 << 16  # octets of all lines of one reply
MAX_LINES = 500
CLOSING_GRACE_S = 5.0
KEPT_TEXT = 2000  # characters of a reply that are kept

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class StreamEnded(ConnectionError):
    """The connection is over or unusable; the text says why."""


class ReplyStream(asyncio.Protocol):
    """One connection. ``ask`` writes commands and counts the replies they call for, ``read`` awaits them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        self.replies: deque[Reply] = deque()
        self.why: str | None = None  # why the stream has ended
        self.timed_out = False
        self.closing: Reply | None = None  # its 421, after which nothing more is sent
        self.unasked: Reply | None = None  # what the server said when nothing was asked
        self._due = 0  # replies that are asked for and not read from the wire yet
        self._buffer = b""
        self._lines: list[bytes] = []
        self._read_size = 0
        self._count = 0  # how many the waiter wants
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"connection lost: {_reason(exc)}" if exc else "connection closed by the server")

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        if self.why is not None:
            return
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while True:
            end = buffer.find(b"\n", at)
            if end < 0:
                break
            line = buffer[at:end]
            at = end + 1
            if not self._line(line[:-1] if line.endswith(b"\r") else line):
                return
        self._buffer = bytes(buffer[at:])
        if len(self._buffer) > MAX_LINE:
            self.abort("a reply line without end")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # for the client

    @property
    def alive(self) -> bool:
        """True while commands may be written."""
        return self.why is None and self.closing is None

    def ask(self, octets: bytes, replies: int) -> None:
        """Write commands that call for so many replies; raises :class:`StreamEnded`."""
        if self.why is not None or self.closing is not None or self.transport is None:
            raise StreamEnded(self.why or f"the server closed: {self.closing}"[:300])
        self._due += replies
        self.transport.write(octets)

    def expect(self, replies: int) -> None:
        """Count replies for what the connection itself calls for, such as the greeting."""
        self._due += replies

    async def gather(self, count: int, timeout_s: float) -> None:
        """Wait until ``count`` replies can be taken or no more will come; raises nothing."""
        if len(self.replies) >= count or self.why is not None:
            return
        self._count = count
        self._waiter = waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._expire)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def take(self) -> Reply:
        """The next reply that was read; raises :class:`StreamEnded` if there is none."""
        if not self.replies:
            raise StreamEnded(self.why or "no reply")
        return self.replies.popleft()

    async def read(self, timeout_s: float) -> Reply:
        """Wait for one reply; raises :class:`StreamEnded` when it does not come."""
        await self.gather(1, timeout_s)
        return self.take()

    async def drain(self, timeout_s: float) -> None:
        """Wait until the peer has taken enough of what was written; raises :class:`StreamEnded`."""
        if self.why is not None:
            raise StreamEnded(self.why)
        if not self._paused:
            return
        self._drained = drained = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._expire)
        try:
            await drained
        finally:
            timer.cancel()
            self._drained = None
        if self.why is not None:
            raise StreamEnded(self.why)

    def forget_unread(self) -> None:
        """Throw away what was read before a TLS handshake (RFC 3207 §6)."""
        self._buffer = b""
        self._lines.clear()
        self._read_size = 0
        self.replies.clear()

    def abort(self, why: str) -> None:
        """Cut the connection off."""
        self._end(why)
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close after what was written is out."""
        self._end("closed by us")
        if self.transport is not None:
            self.transport.close()

    # within

    def _line(self, line: bytes) -> bool:
        if not self._lines:
            known = _KNOWN.get(line)
            if known is not None:
                return self._take(known)
        self._read_size += len(line) + 2
        if len(line) > MAX_LINE:
            self.abort("a reply line too long")
            return False
        if self._read_size > MAX_REPLY or len(self._lines) >= MAX_LINES:
            self.abort("a reply too long")
            return False
        mark = line[3:4]
        if not (line[:3].isdigit() and line[:1] in b"2345" and (mark in (b" ", b"-", b""))):
            self.abort(f"not a reply: {_shown(line[:60])}")
            return False
        if self._lines and line[:3] != self._lines[0][:3]:
            self.abort("a reply of two codes")
            return False
        if mark == b"-":
            self._lines.append(line)
            return True
        if self._lines:
            self._lines.append(line)
            reply = _parse(b"\n".join(self._lines))
            self._lines.clear()
        else:
            reply = _parse(line)
            if len(line) <= 80:
                if len(_KNOWN) >= 512:  # most of them bear a queue's number and never come again
                    _KNOWN.clear()
                _KNOWN[line] = reply
        self._read_size = 0
        return self._take(reply)

    def _take(self, reply: Reply) -> bool:
        if self._due == 0:
            self.unasked = reply
            self.abort(f"the server spoke unasked: {reply}"[:300])
            return False
        self._due -= 1
        self.replies.append(reply)
        if reply.code == 421 and self.closing is None:
            # RFC 5321 §3.8: the server closes. What it still owes may come at once or never.
            self.closing = reply
            self._loop.call_later(CLOSING_GRACE_S, self.abort, f"the server closed: {reply}"[:300])
        waiter = self._waiter
        if waiter is not None and len(self.replies) >= self._count and not waiter.done():
            waiter.set_result(None)
        return True

    def _expire(self) -> None:
        self.timed_out = True
        self.abort("timed out")

    def _end(self, why: str) -> None:
        if self.why is None:
            self.why = why
        for future in (self._waiter, self._drained):
            if future is not None and not future.done():
                future.set_result(None)


_KNOWN: dict[bytes, Reply] = {}  # servers say the same few short things again and again


def _parse(octets: bytes) -> Reply:
    """A reply from its checked lines, joined by LF."""
    text = _CONTROL.sub("?", octets.decode("utf-8", "replace"))
    try:
        reply = Reply.parse(text.split("\n"))
    except ReplyError as error:  # the lines were checked: this is a slip of ours
        raise AssertionError(octets[:100]) from error
    if len(reply.text) > KEPT_TEXT:
        return Reply(reply.code, reply.text[:KEPT_TEXT], reply.status)
    return reply


def _reason(error: Exception) -> str:
    return _CONTROL.sub("?", str(error) or type(error).__name__)[:200]


def _shown(octets: bytes) -> str:
    return ascii(octets.decode("utf-8", "replace"))
