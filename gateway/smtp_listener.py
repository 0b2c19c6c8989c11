"""A door: sockets that accept SMTP sessions, the caps over them, and their orderly end.

A second listener may share a :class:`~gateway.tally.Tally`, so that caps hold over all doors together.
Implicit TLS (RFC 8314) is spoken after the caps were looked at, so that half-done handshakes are counted.

How it fails: ``start`` raises OSError when the address cannot be had. ``stop`` answers 421 to sessions that
wait (RFC 5321 §3.8), lets a letter that is coming in or being committed finish within its grace, then cuts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from gateway.desk import Desk, WireLimits
from gateway.smtp_path import Offered
from gateway.smtp_server import SmtpServer
from gateway.smtp_session import SmtpSession
from gateway.smtp_wire import STOPPING, Cut
from gateway.tally import Tally, address_group, plain_address
from tracker.model import Door
from tracker.reply import Reply

log = logging.getLogger(__name__)

_SWEEP = 1.0  # seconds between two looks at the deadlines, or a quarter of the shortest limit


class SmtpListener:
    """Accepts connections for a desk. Make it inside the running event loop."""

    def __init__(
        self,
        desk: Desk,
        door: Door,
        limits: WireLimits,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        require_auth: bool = False,
        hostname: str = "localhost",
        *,
        offer_auth: bool = True,
        tally: Tally | None = None,
    ) -> None:
        """``implicit``: TLS from the first octet. ``require_auth``: no MAIL before AUTH. Both need TLS."""
        if (implicit or require_auth) and tls is None:
            raise ValueError("implicit TLS and AUTH need a TLS context")
        self.loop = asyncio.get_running_loop()
        self.desk = desk
        self.door = door
        self.limits = limits
        self.tls = tls
        self.implicit = implicit
        self.require_auth = require_auth
        self.offer_auth = offer_auth and tls is not None
        self.hostname = hostname
        self.tally = tally or Tally()
        self.greeting = f"220 {hostname} ESMTP".encode()
        self._offers = {
            (extended, secured): Offered(
                extended=extended, size=limits.size, tls=secured, auth=secured and self.offer_auth
            )
            for extended, secured in ((False, False), (True, False), (True, True))
        }
        self._ehlos = {
            offered: _ehlo(hostname, offered, tls is not None) for offered in self._offers.values()
        }
        self.sessions: set[SmtpSession] = set()
        self.addresses: list[tuple[str, int]] = []
        self._letters: set[asyncio.Task[Reply]] = set()
        self._servers: list[asyncio.Server] = []
        self._accepting: list[tuple[socket.socket, asyncio.Task[None]]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_every = min(_SWEEP, limits.command_time / 4, limits.data_time / 4, limits.linger_time / 4)
        self._stopping = False
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(
        self, host: str, port: int = 0, reuse_port: bool = False, *, backlog: int = 512
    ) -> list[tuple[str, int]]:
        """Listen on every address of ``host`` and return them; port 0 takes a free one. Raises OSError."""
        made = []
        for family, kind, proto, _, address in await self.loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = _listening(family, kind, proto, address, reuse_port)
            made.append(sock.getsockname()[:2])
            if self.implicit:
                sock.listen(backlog)
                self._accepting.append((sock, self.loop.create_task(self._accept(sock))))
            else:
                self._servers.append(
                    await self.loop.create_server(lambda: SmtpServer(self), sock=sock, backlog=backlog)
                )
        self.addresses += made
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(self._sweep_every, self._sweep)
        return made

    async def stop(self, grace_s: float = 10.0) -> int:
        """Stop within about ``grace_s`` seconds; returns how many letters were still being committed.

        Those run on in their tasks: neither client nor caller has been promised anything for them.
        """
        self._stopping = True
        for server in self._servers:
            server.close()
        for sock, accepting in self._accepting:
            accepting.cancel()
            with suppress(asyncio.CancelledError):
                await accepting
            sock.close()
        for handshake in self._handshakes:
            handshake.cancel()
        for session in list(self.sessions):
            session.stop()
        until = self.loop.time() + grace_s
        await self._ended_by(until)
        for session in list(self.sessions):
            session.cut(Cut(STOPPING, linger=False))
        if self._letters:
            await asyncio.wait(self._letters, timeout=max(0.0, until - self.loop.time()))
        await self._ended_by(self.loop.time() + 0.5)
        for session in list(self.sessions):
            session.end()
        await self._ended_by(self.loop.time() + 0.5)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        return len(self._letters)

    async def _ended_by(self, until: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._empty.wait()

    async def _accept(self, sock: socket.socket) -> None:
        """Accept for implicit TLS. The loop's own server would tell us of a connection only after its
        handshake, and those that never finish one would count for nothing."""
        while True:
            try:
                peer, name = await self.loop.sock_accept(sock)
            except OSError as error:
                log.warning("accept: %s", error)  # out of descriptors, say
                await asyncio.sleep(_SWEEP)
                continue
            task = self.loop.create_task(self._handshake(peer, plain_address(name[0])))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _handshake(self, sock: socket.socket, peer: str) -> None:
        session = SmtpServer(self)
        made = False
        try:
            if self.enter(session, peer):
                await self.loop.connect_accepted_socket(
                    lambda: session, sock, ssl=self.tls, ssl_handshake_timeout=self.limits.handshake_time
                )
                made = True
        except (OSError, EOFError, TimeoutError) as error:
            log.info("TLS handshake with %s: %s", peer, error)
        finally:
            if not made:
                sock.close()
                self.gone(session)

    # What sessions ask.

    def enter(self, session: SmtpSession, peer: str) -> bool:
        """Count a new session; False when it is one too many."""
        tally = self.tally
        address = address_group(peer)
        full = (
            tally.connections >= self.limits.connections
            or tally.by_address[address] >= self.limits.connections_per_address
        )
        tally.enter(address)
        session.counted_as = address
        session.stopping = self._stopping
        self.sessions.add(session)
        self._empty.clear()
        return not full

    def ended(self, session: SmtpSession) -> None:
        """The session's task is over; it is kept until its socket is closed."""
        session.sign_out()
        if session.lost:
            self.gone(session)

    def gone(self, session: SmtpSession) -> None:
        """Task and socket are both at their end. Idempotent."""
        if session in self.sessions:
            self.sessions.remove(session)
            session._handler_coroutine = None
            self.tally.leave(session.counted_as)
            if not self.sessions:
                self._empty.set()

    def take(self, letter: Coroutine[Any, Any, Reply]) -> asyncio.Task[Reply]:
        """Run the commit of one letter in a task that is kept until it is done."""
        task = self.loop.create_task(letter)
        self._letters.add(task)
        task.add_done_callback(self._letters.discard)
        return task

    def offer(self, *, extended: bool, secured: bool) -> Offered:
        """What a session in that state is offered."""
        return self._offers[extended, extended and secured]

    def ehlo(self, offered: Offered) -> bytes:
        """The answer to EHLO for that offer."""
        return self._ehlos[offered]

    def _sweep(self) -> None:
        now = self.loop.time()
        for session in list(self.sessions):
            if session.deadline < now:
                session.expire()
        self._sweeper = self.loop.call_later(self._sweep_every, self._sweep)


def _ehlo(hostname: str, offered: Offered, tls: bool) -> bytes:
    lines = [
        hostname,
        f"SIZE {offered.size}",
        "8BITMIME",
        "SMTPUTF8",
        "PIPELINING",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "CHUNKING",
    ]
    if tls and not offered.tls:
        lines.append("STARTTLS")
    if offered.tls:
        lines.append("REQUIRETLS")
    if offered.auth:
        lines.append("AUTH PLAIN LOGIN")
    lines.append("HELP")
    last = len(lines) - 1
    return "\r\n".join(f"250{' ' if i == last else '-'}{line}" for i, line in enumerate(lines)).encode()


def _listening(family: int, kind: int, proto: int, address: Any, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit it: a reply never waits for the peer's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
