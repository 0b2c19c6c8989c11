"""The watch as the client of a hostile, broken or vanishing server: bounded, told in words, and back."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import imap_watch_client as client_file
from gateway.imap_watch_client import Denied, Hostile, Lost, Unwilling, WatchClient, WatchError, connect
from gateway.imap_watch_words import Unspeakable
from policies.watch import Meaning, Watch
from tests.records import record_at
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.wire.watch_house import Registry, box_name, events, house, post, watch_of
from tracker.record import Record

CONTEXT = ssl.create_default_context()
Play = Callable[["Imap"], Awaitable[None]]
INBOX = (("INBOX", Meaning.ARRIVAL),)


class Imap:
    """A connection as the script of a server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.tag = b""

    async def say(self, *lines: bytes) -> None:
        for line in lines:
            self.writer.write(line.replace(b"TAG", self.tag) + b"\r\n")
        await self.writer.drain()

    async def hear(self, word: bytes) -> bytes:
        """The next command, which must hold ``word``."""
        line = await self.reader.readline()
        assert word in line, line
        self.tag = line.partition(b" ")[0]
        return line

    async def hello(self, *more: bytes) -> None:
        await self.say(b"* OK ready")
        await self.capable(*more)

    async def capable(self, *more: bytes) -> None:
        await self.hear(b"CAPABILITY")
        await self.say(b" ".join([b"* CAPABILITY IMAP4rev1", *more]), b"TAG OK done")

    async def let_in(self, *more: bytes) -> None:
        """Up to where a folder is opened."""
        await self.hello()
        await self.hear(b"LOGIN")
        await self.say(b"TAG OK in")
        await self.capable(*more)
        await self.hear(b"LIST")
        await self.say(b'* LIST (\\Noselect) "/" ""', b"TAG OK done")

    async def opened(self, exists: int = 1) -> None:
        await self.hear(b"EXAMINE")
        await self.say(
            b"* %d EXISTS" % exists, b"* OK [UIDVALIDITY 7] ok", b"* OK [UIDNEXT 100] ok", b"TAG OK done"
        )


@asynccontextmanager
async def server(play: Play, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await play(Imap(reader, writer))
            await reader.read()  # until the client goes
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def at(port: int, **changes: Any) -> Watch:
    return watch_of(port, "registry@moh.gov.example", folders=INBOX, **changes)


def run(main: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(240):
            await main

    asyncio.run(limited())


def meets(play: Play, error: type[WatchError], words: str = "", **changes: Any) -> None:
    """Connecting, opening and reading ends in this error, and in little memory."""

    async def main() -> None:
        async with server(play) as port:
            with pytest.raises(error, match=words or None):
                client = await connect(at(port, **changes), CONTEXT)
                await client.examine("INBOX")
                await client.run("FETCH", "1:*", "(UID FLAGS)", uid=True)

    tracemalloc.start()
    try:
        run(main())
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def endless(*first: bytes) -> Play:
    async def play(imap: Imap) -> None:
        await imap.let_in()
        await imap.opened()
        await imap.hear(b"FETCH")
        imap.writer.write(b"".join(first))
        while True:
            imap.writer.write(first[-1])
            await imap.writer.drain()

    return play


def test_a_line_without_end() -> None:
    meets(endless(b"* 1 FETCH (", b"x" * 65536), Hostile, "without end")


def test_lines_without_end() -> None:
    meets(endless(b"* 1 FETCH (UID 1 FLAGS (%s))\r\n" % (b"f" * 900) * 100), Hostile, "without end")


def test_literals_without_end() -> None:
    meets(endless(b"* 1 FETCH (UID 1 X ", b"{10}\r\n0123456789 "), Hostile, "without end")


@pytest.mark.parametrize("size", [b"65537", b"999999999999", b"4294967296"])
def test_a_literal_beyond_all_measure(size: bytes) -> None:
    async def play(imap: Imap) -> None:
        await imap.let_in()
        await imap.opened()
        await imap.hear(b"FETCH")
        await imap.say(b"* 1 FETCH (UID 1 BODY[] {" + size + b"}", b"x" * 1000)

    meets(play, Hostile, "literal")


def test_a_greeting_without_end() -> None:
    async def play(imap: Imap) -> None:
        while True:
            imap.writer.write(b"* OK " + b"x" * 65536)
            await imap.writer.drain()

    meets(play, Hostile, "without end")


def greets(line: bytes) -> Play:
    async def play(imap: Imap) -> None:
        await imap.say(line)

    return play


@pytest.mark.parametrize("line", [b"* PREAUTH welcome", b"220 smtp", b"* NO", b"\x16\x03\x01"])
def test_another_greeting(line: bytes) -> None:
    meets(greets(line), Hostile, "greets")


def test_a_bye() -> None:
    async def play(imap: Imap) -> None:
        await imap.let_in()
        await imap.hear(b"EXAMINE")
        await imap.say(b"* BYE \x1b[31mtoo many")

    meets(play, Lost, r"closes the connection: \?\[31mtoo many")


@pytest.mark.parametrize(
    "line",
    [
        b"ZZZ9 OK that was for another",
        b"OK",
        b"* ",
        b"* " + b"k" * 100,
        b"+ go on\r\nTAG MAYBE what",
        b"* OK [" + b"[" * 50_000 + b"\r\nTAG NO no",
    ],
)
def test_answers_that_are_none(line: bytes) -> None:
    async def play(imap: Imap) -> None:
        await imap.let_in()
        await imap.hear(b"EXAMINE")
        await imap.say(line)

    meets(play, WatchError)


def test_a_folder_that_opens_for_writing() -> None:
    async def play(imap: Imap) -> None:
        await imap.let_in()
        await imap.hear(b"EXAMINE")
        await imap.say(b"TAG OK [READ-WRITE] yours")

    meets(play, Hostile, "writing")


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_file, "CONNECT_S", 0.2)

    async def play(imap: Imap) -> None:
        return

    meets(play, Lost, "does not answer")


def test_silence_in_the_middle() -> None:
    async def play(imap: Imap) -> None:
        await imap.let_in()
        await imap.hear(b"EXAMINE")

    async def main() -> None:
        async with server(play) as port:
            client = await connect(at(port), CONTEXT)
            with pytest.raises(Lost, match="no answer"):
                await client.run("EXAMINE", '"INBOX"', seconds=0.2)
            with pytest.raises(Lost):  # and it is not used again
                await client.run("FETCH", "1", "(UID)", uid=True)

    run(main())


def test_a_connection_lost_wakes_who_waits() -> None:
    async def play(imap: Imap) -> None:
        await imap.let_in(b"IDLE")
        await imap.opened()
        await imap.hear(b"IDLE")
        await imap.say(b"+ idling")
        imap.writer.transport.abort()

    async def main() -> None:
        async with server(play) as port:
            client = await connect(at(port), CONTEXT)
            await client.examine("INBOX")
            with pytest.raises(Lost):
                await client.rest(60)

    run(main())


def test_a_flood_while_idling_is_bounded() -> None:
    async def play(imap: Imap) -> None:
        await imap.let_in(b"IDLE")
        await imap.opened()
        await imap.hear(b"IDLE")
        await imap.say(b"+ idling")
        while True:
            imap.writer.write(b"* OK still here, and here\r\n" * 1000)
            await imap.writer.drain()

    async def main() -> None:
        async with server(play) as port:
            client = await connect(at(port), CONTEXT)
            await client.examine("INBOX")
            with pytest.raises(Hostile, match="without end"):
                await client.rest(60)

    run(main())


@pytest.mark.parametrize("together", [True, False])
def test_nothing_said_before_the_handshake_is_taken(authority: Authority, together: bool) -> None:
    async def play(imap: Imap) -> None:
        await imap.hello(b"STARTTLS")
        await imap.hear(b"STARTTLS")
        if together:
            await imap.say(b"TAG OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN X-INJECTED")
        else:
            await imap.say(b"TAG OK begin")
            await imap.say(b"* CAPABILITY IMAP4rev1 X-INJECTED")

    async def main() -> None:
        async with server(play) as port:
            with pytest.raises(WatchError):
                await connect(at(port, tls="required"), authority.client())

    run(main())


def test_no_password_in_clear() -> None:
    heard: list[bytes] = []

    async def play(imap: Imap) -> None:
        await imap.hello()
        with contextlib.suppress(ConnectionError):
            heard.append(await imap.reader.read(1000))

    meets(play, Denied, "STARTTLS", tls="required")
    assert b"".join(heard) == b""


def test_no_command_that_changes_a_mailbox_is_known() -> None:
    async def main() -> None:
        client = WatchClient(asyncio.get_running_loop())
        for command in ("SELECT", "STORE", "EXPUNGE", "COPY", "MOVE", "APPEND", "DELETE", "CREATE", "CLOSE"):
            with pytest.raises(Unspeakable):
                await client.run(command)

    run(main())


def test_words_that_are_not_ascii_go_by_authenticate() -> None:
    import base64

    heard: list[bytes] = []

    def play(*offered: bytes) -> Play:
        async def script(imap: Imap) -> None:
            await imap.hello(b"AUTH=PLAIN", *offered)
            line = await imap.hear(b"AUTHENTICATE PLAIN")
            if not offered:
                await imap.say(b"+ ")
                line = await imap.reader.readline()
            heard.append(base64.b64decode(line.split()[-1]))
            await imap.say(b"TAG NO wrong")

        return script

    meets(play(b"SASL-IR"), Denied, "wrong", password="سر")
    meets(play(), Denied, "wrong", password="سر")
    assert heard == ["\0registry@moh.gov.example\0سر".encode()] * 2


def test_a_refused_command_leaves_the_connection_whole() -> None:
    async def play(imap: Imap) -> None:
        await imap.let_in()
        await imap.hear(b"EXAMINE")
        await imap.say(b"TAG NO [NONEXISTENT] none")
        await imap.opened()

    async def main() -> None:
        async with server(play) as port:
            client = await connect(at(port), CONTEXT)
            with pytest.raises(Unwilling, match="NONEXISTENT"):
                await client.examine("معاد")
            assert (await client.examine("INBOX"))["UIDVALIDITY"] == b"7"
            client.close()

    run(main())


def test_thousands_of_responses_in_one_piece() -> None:
    """Upstream recurses here and loses them (aioimaplib 2.0.3)."""

    async def play(imap: Imap) -> None:
        await imap.let_in()
        await imap.opened(5000)
        await imap.hear(b"FETCH")
        lines = b"".join(
            b"* %d FETCH (UID %d FLAGS (\\Seen) BODY[HEADER.FIELDS (X)] {4}\r\nab\r\n)\r\n" % (i, i)
            for i in range(1, 5001)
        )
        await imap.say(lines + b"TAG OK done")

    async def main() -> None:
        found: list[Any] = []
        async with server(play) as port:
            client = await connect(at(port), CONTEXT)
            await client.examine("INBOX")
            await client.run("FETCH", "1:*", "(UID FLAGS)", uid=True, take=found.append)
            client.close()
        assert len(found) == 5000 and {len(one.pieces) for one in found} == {3}

    run(main())


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with record_at(f"sqlite:///{tmp_path / 'wasl.db'}", tmp_path) as made:
        yield made


def test_a_connection_cut_again_and_again_loses_nothing(
    record: Record, dovecot_server: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.imap_watch_mailbox.FIRST_PAUSE_S", 0.05)
    box, port = box_name(), dovecot_server.imap_port
    wires: list[asyncio.StreamWriter] = []
    count = 0

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(4096):
                writer.write(octets)
                await writer.drain()
        writer.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        there, back = await asyncio.open_connection("127.0.0.1", port)
        wires[:] = [writer]
        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    async def main() -> None:
        cutting = await asyncio.start_server(through, "127.0.0.1", 0)
        async with cutting:
            own = cutting.sockets[0].getsockname()[1]
            async with house(record, watch_of(own, box, folders=INBOX)) as h:
                for turn in range(4):
                    letter = post(record, box)
                    await asyncio.to_thread(clerk.put, letter.octets)
                    if turn % 2:
                        wires[0].transport.abort()
                    await h.sees(letter.number, "delivered")
                    assert events(record, letter.number) == ["delivered"]
                    wires[0].transport.abort()

    with Registry(port, box) as clerk:
        run(main())
    assert count >= 4
