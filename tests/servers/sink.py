"""A small SMTP and LMTP server of the tests' own, that keeps what it is given and answers by script.

For what no real server does on request: a 4xx at RCPT, a connection that dies after the final dot, an
answer that comes late. It takes the wire literally (RFC 5321 §4.1.1.4: only CRLF.CRLF ends DATA) and keeps
octets as they came, dots un-stuffed, so that a test can compare them with what was archived.

``Sink.script`` is asked before each answer: return None for the ordinary one, octets for another
(``b"450 4.2.0 later"``), :data:`DROP` to close without a word, or a float to wait that many seconds first.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.servers.place import PATIENCE, free_port, wait_until

_KEYWORDS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "SIZE 0", "CHUNKING")


class _Drop:
    def __repr__(self) -> str:
        return "DROP"


DROP: Final = _Drop()
Answer = bytes | float | _Drop | None


@dataclass(frozen=True, kw_only=True)
class Received:
    """One transaction as it came: paths and parameters as octets of the wire, without the verb."""

    sender: bytes  # <a@b> with its parameters
    recipients: tuple[bytes, ...]  # those that were answered 2xx
    octets: bytes
    session: int  # number of the connection
    tls: bool
    helo: bytes

    @property
    def message_id(self) -> bytes:
        """The value of the Message-ID field; empty when there is none."""
        for line in self.octets.partition(b"\r\n\r\n")[0].split(b"\r\n"):
            if line[:11].lower() == b"message-id:":
                return line[11:].strip()
        return b""


@dataclass(kw_only=True)
class Sink:
    """A running sink. What it received is in ``received``, in order of the final answer."""

    host: str
    port: int
    lmtp: bool = False
    received: list[Received] = field(default_factory=list)
    verbs: list[bytes] = field(default_factory=list)  # every command line of every session
    sessions: int = 0
    open: int = 0
    script: Callable[[str, bytes], Answer] = lambda verb, line: None

    def wait(self, count: int = 1, *, timeout: float = PATIENCE) -> list[Received]:
        """Wait for ``count`` transactions; raises ``ServerFailed`` when they do not come in ``timeout`` s."""
        wait_until(
            lambda: len(self.received) >= count,
            f"{count} message(s) at the sink",
            timeout=timeout,
            hint=lambda: f"there are {len(self.received)}",
        )
        return list(self.received)

    def duplicates(self) -> dict[tuple[bytes, bytes], int]:
        """(Message-ID, recipient) pairs that came more than once, and how often."""
        seen = Counter(
            (r.message_id, rcpt.split(b">")[0]) for r in list(self.received) for rcpt in r.recipients
        )
        return {pair: times for pair, times in seen.items() if times > 1}

    def answer_once(self, verb: str, answer: Answer) -> None:
        """Give ``answer`` at the next ``verb`` (``"."`` is the final dot) and the ordinary one after that."""
        before = self.script
        left = [answer]

        def once(at: str, line: bytes) -> Answer:
            if at == verb and left:
                return left.pop()
            return before(at, line)

        self.script = once


class _Session:
    def __init__(
        self,
        sink: Sink,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        keywords: Sequence[str],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.sink = sink
        self.reader = reader
        self.writer = writer
        self.keywords = keywords
        self.tls = tls
        self.number = sink.sessions
        self.secure = False
        self.helo = b""
        self.sender: bytes | None = None
        self.recipients: list[bytes] = []
        self.body = b""

    async def answer(self, verb: str, line: bytes, ordinary: bytes) -> bool:
        """Write the scripted or the ordinary reply; True when it was a 2xx or 3xx."""
        return await self.write(verb, await self.reply(verb, line, ordinary))

    async def reply(self, verb: str, line: bytes, ordinary: bytes) -> bytes:
        """The scripted or the ordinary reply; raises ConnectionError where the script says to drop."""
        scripted = self.sink.script(verb, line)
        if isinstance(scripted, _Drop):
            raise ConnectionError
        if isinstance(scripted, float):
            await asyncio.sleep(scripted)
            scripted = None
        return ordinary if scripted is None else scripted

    async def write(self, verb: str, reply: bytes) -> bool:
        """Write a reply, at once unless the verb may be pipelined; True when it was a 2xx or 3xx."""
        self.writer.write(reply + b"\r\n")
        if b"PIPELINING" not in " ".join(self.keywords).encode() or verb not in ("MAIL", "RCPT", "RSET"):
            await self.writer.drain()
        return reply[:1] in b"23"

    def reset(self) -> None:
        self.sender, self.recipients, self.body = None, [], b""

    async def run(self) -> None:
        await self.answer("CONNECT", b"", b"220 sink.example ESMTP")
        while line := await self.reader.readline():
            self.sink.verbs.append(line.rstrip(b"\r\n"))
            verb, _, rest = line.rstrip(b"\r\n").partition(b" ")
            name = verb.decode("ascii", "replace").upper()
            step = getattr(self, f"on_{name.lower()}", None)
            if step is None:
                await self.answer(name, line, b"502 5.5.2 not known")
            elif await step(rest, line):
                return

    async def on_ehlo(self, rest: bytes, line: bytes) -> None:
        self.reset()
        self.helo = rest
        words = ["sink.example", *self.keywords, *(["STARTTLS"] if self.tls and not self.secure else [])]
        text = "".join(f"250{'-' if i < len(words) - 1 else ' '}{word}\r\n" for i, word in enumerate(words))
        await self.answer("EHLO", line, text.encode()[:-2])

    on_lhlo = on_ehlo

    async def on_helo(self, rest: bytes, line: bytes) -> None:
        self.reset()
        self.helo = rest
        await self.answer("HELO", line, b"250 sink.example")

    async def on_starttls(self, rest: bytes, line: bytes) -> None:
        if self.tls and await self.answer("STARTTLS", line, b"220 2.0.0 go ahead"):
            await self.writer.start_tls(self.tls)
            self.secure = True

    async def on_mail(self, rest: bytes, line: bytes) -> None:
        if await self.answer("MAIL", line, b"250 2.1.0 OK"):
            self.sender = rest[5:]

    async def on_rcpt(self, rest: bytes, line: bytes) -> None:
        if await self.answer("RCPT", line, b"250 2.1.5 OK"):
            self.recipients.append(rest[3:])

    async def on_data(self, rest: bytes, line: bytes) -> None:
        if not self.recipients:
            await self.answer("DATA", line, b"554 5.5.1 no valid recipients")
        elif await self.answer("DATA", line, b"354 go on"):
            octets = await self.reader.readuntil(b"\r\n.\r\n") if not await self._empty() else b".\r\n"
            lines = (b"\r\n" + octets[:-3]).replace(b"\r\n..", b"\r\n.")
            await self.take(lines[2:])

    async def _empty(self) -> bool:
        first = await self.reader.readexactly(3)
        if first == b".\r\n":
            return True
        self.reader._buffer[:0] = first  # type: ignore[attr-defined]
        return False

    async def on_bdat(self, rest: bytes, line: bytes) -> None:
        size, _, last = rest.partition(b" ")
        self.body += await self.reader.readexactly(int(size))
        if last.upper() == b"LAST":
            await self.take(self.body)
        else:
            await self.answer("BDAT", line, b"250 2.0.0 OK")

    async def take(self, octets: bytes) -> None:
        """The end of the data: one answer, or over LMTP one for each recipient (RFC 2033 §4.2)."""
        ordinary = b"250 2.0.0 OK " + str(len(self.sink.received) + 1).encode()
        asked = self.recipients if self.sink.lmtp else [b""]
        replies = [await self.reply(".", rcpt, ordinary) for rcpt in asked]
        taken = [rcpt for rcpt, reply in zip(asked, replies, strict=True) if reply[:1] == b"2"]
        if taken:  # noted before it is answered, so that who saw the answer finds it here
            self.sink.received.append(
                Received(
                    sender=self.sender or b"",
                    recipients=tuple(taken if self.sink.lmtp else self.recipients),
                    octets=octets,
                    session=self.number,
                    tls=self.secure,
                    helo=self.helo,
                )
            )
        for reply in replies:
            await self.write(".", reply)
        self.reset()

    async def on_rset(self, rest: bytes, line: bytes) -> None:
        self.reset()
        await self.answer("RSET", line, b"250 2.0.0 OK")

    async def on_noop(self, rest: bytes, line: bytes) -> None:
        await self.answer("NOOP", line, b"250 2.0.0 OK")

    async def on_quit(self, rest: bytes, line: bytes) -> bool:
        await self.answer("QUIT", line, b"221 2.0.0 bye")
        return True


@contextmanager
def smtp_sink(
    *,
    lmtp: bool = False,
    keywords: Sequence[str] = _KEYWORDS,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> Iterator[Sink]:
    """Run a sink in a thread. ``keywords`` are what EHLO offers (STARTTLS is added when ``tls`` is given)."""
    sink = Sink(host=host, port=port or free_port(host), lmtp=lmtp)
    loop = asyncio.new_event_loop()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sink.sessions += 1
        sink.open += 1
        writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await _Session(sink, reader, writer, keywords, tls).run()
        finally:
            sink.open -= 1
            writers.discard(writer)
            writer.transport.abort() if not writer.is_closing() and sink.script(
                "CLOSE", b""
            ) is DROP else writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, host, sink.port, limit=1 << 27))
    thread = threading.Thread(target=loop.run_forever, name="smtp sink", daemon=True)
    thread.start()

    async def close() -> None:
        server.close()
        for writer in list(writers):
            writer.transport.abort()
        await asyncio.sleep(0)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield sink
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
