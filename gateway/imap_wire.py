"""One socket of a proxied IMAP session: octets up to whoever reads, back-pressure, and the end.

The same class serves the client's side and the server's. Before the login a :class:`Lines` reads from it,
afterwards the session's framing; there is no task and no buffer for a connection that idles. TLS that begins
in mid-stream starts afresh: what was read before it is dropped (RFC 9051 §6.2.1, §11.1).

Fails: a peer that ends the connection is told to the reader by ``lost``; :class:`Lines` raises EOFError, and
:class:`TooLong` for a line beyond its cap.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

HIGH = 131_072  # octets waiting to be sent, beyond which the other side is not read
FULL, HELD = 1, 2  # why a side is not read: the other is full; it has to wait

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 300), (socket.TCP_KEEPINTVL, 60), (socket.TCP_KEEPCNT, 5))


class TooLong(Exception):
    """The peer sent more than it may."""


def _unread(data: bytes) -> None:
    """Nobody reads any more."""


def _unheard() -> None:
    """Nobody cares any more."""


class Wire(asyncio.Protocol):
    """One end of a session."""

    __slots__ = ("_stops", "clean", "closed", "feed", "lost", "made", "other", "transport")

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.feed: Callable[[bytes], object] = _unread
        self.lost: Callable[[], object] = _unheard
        self.other: Wire | None = None  # whom back-pressure is passed on to
        self.made = False
        self.closed = False
        self.clean = False  # closed, and the peer had read all that it was sent
        self._stops = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.made = True
        self._tune()

    def _tune(self) -> None:
        self.transport.set_write_buffer_limits(HIGH)
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            # An idle session lives for days; a peer that vanished is found out by the kernel.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def data_received(self, data: bytes) -> None:
        self.feed(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.clean = exc is None
        self.feed = _unread
        if self.other is not None:
            self.other.go(FULL)
        lost, self.lost = self.lost, _unheard
        lost()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.stop(FULL)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.go(FULL)

    def write(self, data: bytes) -> None:
        if data and not self.closed and not self.transport.is_closing():
            self.transport.write(data)

    def stop(self, why: int) -> None:
        """Read no more for this reason."""
        if not self._stops and not self.closed and not self.transport.is_closing():
            self.transport.pause_reading()
        self._stops |= why

    def go(self, why: int) -> None:
        """That reason is gone."""
        before, self._stops = self._stops, self._stops & ~why
        if before and not self._stops and not self.closed and not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self) -> None:
        """Send what waits, then end."""
        if not self.closed:
            self.transport.close()

    def abort(self) -> None:
        if not self.closed:
            self.transport.abort()

    def address(self) -> tuple[str, int]:
        """Host and port of the peer."""
        name = self.transport.get_extra_info("peername") or ("", 0)
        return str(name[0]), int(name[1])

    async def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, name: str | None = None, timeout_s: float
    ) -> None:
        """Shake hands; raises OSError, EOFError, TimeoutError."""
        self._stops = 0
        secured = await asyncio.get_running_loop().start_tls(
            self.transport,
            self,
            context,
            server_side=server_side,
            server_hostname=name,
            ssl_handshake_timeout=timeout_s,
        )
        if secured is None or self.closed:
            raise EOFError("the connection ended in the handshake")
        self.transport = secured
        self.transport.set_write_buffer_limits(HIGH)


class Lines:
    """Reads a wire line by line while there is a dialogue; made when the dialogue begins."""

    __slots__ = ("_buffer", "_cap", "_waiter", "_wire")

    def __init__(self, wire: Wire, cap: int) -> None:
        self._wire = wire
        self._cap = cap
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        wire.feed = self._came
        wire.lost = self._wake

    def _came(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self._cap:
            self._wire.stop(HELD)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _more(self) -> None:
        if self._wire.closed:
            raise EOFError("the peer closed the connection")
        self._wire.go(HELD)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def line(self, cap: int = 0) -> bytes:
        """The next line without its end; raises EOFError, :class:`TooLong`."""
        cap = cap or self._cap
        while True:
            end = self._buffer.find(b"\n", 0, cap)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line.removesuffix(b"\r")
            if len(self._buffer) >= cap:
                raise TooLong
            await self._more()

    async def octets(self, count: int) -> bytes:
        """Exactly so many octets, at most the cap."""
        if count > self._cap:
            raise TooLong
        while len(self._buffer) < count:
            await self._more()
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    @property
    def ahead(self) -> bool:
        """Octets are here that nobody asked for yet."""
        return bool(self._buffer)

    def forget(self) -> None:
        """Drop what is here: it came before TLS."""
        self._buffer.clear()

    def end(self) -> bytes:
        """The dialogue is over; what is left belongs to the next reader."""
        self._wire.feed, self._wire.lost = _unread, _unheard
        return bytes(self._buffer)
