"""A server of a few lines for one test: it speaks exactly what the test's ``play`` says, right or wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

OFFERED = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 0", "ENHANCEDSTATUSCODES")


class Hung(Exception):
    """The client hung up where the play expected more."""


class Wire:
    """One connection as the play sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number  # of the connection, from 1
        self.said: list[bytes] = []  # the client's lines

    async def line(self) -> bytes:
        """The next command line."""
        line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise Hung
        self.said.append(line[:-2])
        return line[:-2]

    async def lines(self, count: int) -> list[bytes]:
        """Several command lines, none of them answered yet."""
        return [await self.line() for _ in range(count)]

    async def nothing(self, seconds: float = 0.05) -> bool:
        """True when the client says nothing for a while."""
        try:
            await asyncio.wait_for(self.reader._wait_for_data("nothing"), seconds)  # type: ignore[attr-defined]
        except TimeoutError:
            return not self.reader._buffer  # type: ignore[attr-defined]
        return False

    async def say(self, *replies: bytes | str) -> None:
        """Write replies in one go."""
        octets = b"".join((r.encode() if isinstance(r, str) else r) + b"\r\n" for r in replies)
        self.writer.write(octets)
        await self.writer.drain()

    async def hello(self, *words: str) -> bytes:
        """Greet and answer EHLO with these extensions."""
        await self.say("220 play.example ESMTP")
        return await self.ehlo(*words)

    async def ehlo(self, *words: str) -> bytes:
        """Answer EHLO or LHLO."""
        line = await self.line()
        said = ["play.example", *words]
        await self.say(*(f"250{'-' if i < len(said) - 1 else ' '}{word}" for i, word in enumerate(said)))
        return line

    async def octets(self) -> bytes:
        """What stands between 354 and the final dot, as it is on the wire, with its last CRLF."""
        data = b"\r\n"
        while not data.endswith(b"\r\n.\r\n"):
            more = await self.reader.read(1 << 16)
            if not more:
                raise Hung
            data += more
        return data[2:-3]

    async def letter(self, final: str = "250 2.0.0 taken", *, recipients: int = 1) -> bytes:
        """A whole pipelined transaction that goes well."""
        await self.lines(recipients + 2)
        await self.say("250 2.1.0 ok", *["250 2.1.5 ok"] * recipients, "354 go on")
        octets = await self.octets()
        await self.say(final)
        return octets

    def drop(self) -> None:
        """Cut the connection."""
        self.writer.transport.abort()


Play = Callable[[Wire], Awaitable[None]]


class Server:
    """A running play: its port, and every connection it had."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.wires: list[Wire] = []
        self.faults: list[BaseException] = []

    @property
    def said(self) -> list[bytes]:
        """Every line of every client, in order of connection."""
        return [line for wire in self.wires for line in wire.said]


@asynccontextmanager
async def serving(
    play: Play, *, tls: ssl.SSLContext | None = None, buffer: int | None = None
) -> AsyncIterator[Server]:
    """Run ``play`` for every connection; an AssertionError in it fails the test."""
    server = Server(0)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        wire = Wire(reader, writer, len(server.wires) + 1)
        server.wires.append(wire)
        try:
            await play(wire)
        except (Hung, OSError, asyncio.IncompleteReadError):
            pass
        except AssertionError as fault:
            server.faults.append(fault)
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=buffer or 1 << 16)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        if tasks:
            await asyncio.wait(list(tasks), timeout=0.5)
        for task in list(tasks):
            task.cancel()
        for wire in server.wires:
            wire.writer.transport.abort()
    if server.faults:
        raise server.faults[0]
