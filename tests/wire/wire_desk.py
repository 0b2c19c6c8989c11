"""A desk that keeps what it is given, a client that speaks octets, and a player of transcripts."""

from __future__ import annotations

import asyncio
import codecs
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvloop

from gateway.desk import MailParams, WireLimits
from gateway.smtp_listener import SmtpListener
from tracker.archive import Archive, Octets, Spool
from tracker.model import Address, Connection, Door, Envelope, Recipient
from tracker.reply import Reply

LOOPS = ["asyncio", "uvloop"]
# Dialogues begin with these.
OPENING = "S: 220 mail.example\nC: EHLO client.example\nS: 250-mail.example\n"
ENVELOPE = "C: MAIL FROM:<a@mof.example>\nS: 250 2.1.0\nC: RCPT TO:<b@moh.example>\nS: 250 2.1.5\n"


def run(loop: str, main: Coroutine[Any, Any, Any]) -> Any:
    """Run a test on one of the two loops, and fail it on anything that the loop had to report."""
    reports: list[dict[str, Any]] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with asyncio.timeout(120):
            return await main

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(watched())
    assert not reports, reports
    return result


@dataclass
class Taken:
    conn: Connection
    envelope: Envelope
    content: bytes


@dataclass
class KeepingDesk:
    """Accepts what it is told to accept and keeps it. ``on_letter`` runs before the answer."""

    archive: Archive
    letters: list[Taken] = field(default_factory=list)
    peers: list[Connection] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    on_connected: Callable[[Connection], Connection | Reply] | None = None
    on_sender: Callable[[], Awaitable[Reply | None]] | None = None
    on_spool: Callable[[Spool], Spool] | None = None
    on_letter: Callable[[], Awaitable[Reply | None]] | None = None
    params: list[MailParams] = field(default_factory=list)

    async def connected(self, conn: Connection) -> Connection | Reply:
        self.peers.append(conn)
        return self.on_connected(conn) if self.on_connected else conn

    async def sign_in(self, conn: Connection, user: str, password: str) -> Connection | Reply:
        if self.passwords.get(user) != password:
            return Reply.of(535, "5.7.8", "Wrong user or password")
        return replace(conn, account=user, agency="MOF")

    async def sender(self, conn: Connection, sender: Address, params: MailParams) -> Reply | None:
        self.params.append(params)
        if self.on_sender is not None:
            return await self.on_sender()
        return Reply.of(550, "5.7.1", "Not yours") if str(sender) in self.refused else None

    async def recipient(
        self, conn: Connection, sender: Address, so_far: tuple[Recipient, ...], rcpt: Recipient
    ) -> Reply | None:
        return Reply.of(550, "5.1.1", "لا أحد هنا") if str(rcpt.address) in self.refused else None

    def spool(self) -> Spool:
        spool = self.archive.spool()
        return self.on_spool(spool) if self.on_spool else spool

    async def letter(self, conn: Connection, envelope: Envelope, octets: Octets) -> Reply:
        answer = await self.on_letter() if self.on_letter is not None else None
        if answer is None or answer.positive:
            self.letters.append(Taken(conn, envelope, bytes(octets.view())))
        octets.discard()
        return answer or Reply.of(250, "2.0.0", f"Taken {len(self.letters)}")


class Closed(Exception):
    """The server closed the connection where a reply was expected."""


class OverTls(asyncio.StreamReaderProtocol):
    """A stream that begins within TLS."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class Client:
    """A client of octets: sends what it is told, reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def reply(self) -> str:
        """One reply, its lines joined by newlines; raises :class:`Closed` at the end."""
        lines = []
        while True:
            try:
                line = await self.reader.readline()
            except ConnectionError:
                raise Closed from None
            if not line:
                raise Closed
            assert line.endswith(b"\r\n"), line
            lines.append(line[:-2].decode())
            if line[3:4] != b"-":
                return "\n".join(lines)

    async def ask(self, line: str | bytes) -> str:
        await self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def rest(self) -> bytes:
        """All that still comes until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def start_tls(self, context: ssl.SSLContext, name: str = "mail.example") -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = OverTls(reader)
        transport = await loop.start_tls(self.writer.transport, protocol, context, server_hostname=name)
        assert transport is not None
        reader.set_transport(transport)
        self.clear = self.writer  # a StreamWriter that is collected closes its transport
        self.reader, self.writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def close(self) -> None:
        self.writer.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


@dataclass
class House:
    """A listener with its desk."""

    desk: KeepingDesk
    listener: SmtpListener
    port: int

    async def call(self, tls: ssl.SSLContext | None = None, **options: Any) -> Client:
        if tls is not None:
            options.setdefault("server_hostname", "mail.example")
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, **options))

    async def greeted(self, tls: ssl.SSLContext | None = None) -> Client:
        """A client that has said EHLO."""
        client = await self.call(tls)
        assert (await client.reply()).startswith("220 ")
        assert (await client.ask("EHLO client.example")).startswith("250-")
        return client


@asynccontextmanager
async def house(
    folder: Path, *, door: Door = Door.RELAY, limits: WireLimits | None = None, **options: Any
) -> AsyncIterator[House]:
    """A listener on a free port of the loopback, stopped at the end."""
    desk = KeepingDesk(Archive(folder / "archive"))
    limits = limits or WireLimits(auth_delay=0.0, linger_time=1.0)
    listener = SmtpListener(desk, door, limits, hostname="mail.example", **options)
    (address,) = await listener.start("127.0.0.1")
    try:
        yield House(desk, listener, address[1])
    finally:
        await listener.stop(0.2)
        assert listener.tally.octets == 0
        assert listener.tally.connections == 0
        assert not listener.tally.by_account


async def until(found: Callable[[], object]) -> None:
    """Wait for what nobody tells of; the test ends when it does not come."""
    while not found():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def play(client: Client, transcript: str) -> None:
    """Play a transcript.

    ``C: TEXT`` sends a line with CRLF, ``C> TEXT`` octets with Python's escapes and nothing added, several of
    them in a row together; ``S: START`` expects a reply that starts so; ``X`` expects the server to close.
    """
    pending = b""
    for number, line in enumerate(transcript.strip("\n").split("\n"), 1):
        line = line.strip()
        if line[:3] == "C: " or line == "C:":
            pending += line[3:].encode() + b"\r\n"
        elif line[:3] == "C> ":
            pending += codecs.escape_decode(line[3:].encode())[0]
        elif line[:3] == "S: ":
            if pending:
                await client.send(pending)
                pending = b""
            try:
                said = await client.reply()
            except Closed:
                raise AssertionError(f"line {number}: closed, expected {line[3:]!r}") from None
            assert said.startswith(line[3:]), f"line {number}: expected {line[3:]!r}, got {said!r}"
        elif line == "X":
            if pending:
                await client.send(pending)
                pending = b""
            left = await client.rest()
            assert left == b"", f"line {number}: expected the end, got {left!r}"
        else:
            assert not line or line.startswith("#"), f"line {number}: {line!r}"
    if pending:
        await client.send(pending)
