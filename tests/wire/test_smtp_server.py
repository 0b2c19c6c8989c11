"""SMTP sessions over real sockets: framing, state, failures of the desk."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from gateway.desk import WireLimits
from gateway.smtp_data import Content
from tests.wire.wire_desk import ENVELOPE, LOOPS, Client, Closed, House, Taken, house, play, run, until
from tracker.archive import Octets, Spool
from tracker.model import NULL_PATH, Connection
from tracker.reply import Reply


async def one(h: House, content: bytes, ending: bytes = b".\r\n") -> str:
    """Send one letter by DATA and return the answer."""
    async with await h.greeted() as client:
        await play(client, ENVELOPE + "C: DATA\nS: 354")
        await client.send(content + ending)
        return await client.reply()


@pytest.mark.parametrize("loop", LOOPS)
def test_the_whole_envelope_and_the_octets_arrive(loop: str, tmp_path: Path) -> None:
    async def main() -> Taken:
        async with house(tmp_path) as h, await h.greeted() as client:
            await play(
                client,
                """
                C: MAIL FROM:<Ali@MOF.example> RET=hdrs ENVID=Qq+2B7 BODY=8BITMIME SMTPUTF8 SIZE=30
                S: 250
                C: RCPT TO:<b@moh.example> NOTIFY=success,delay ORCPT=rfc822;Bob@Moh.example
                S: 250
                C: RCPT TO:<علي@moh.example>
                S: 250
                C: DATA
                S: 354
                C> .\\xff\\xfe first\\r\\n..\\r\\n...\\r\\nlast\\r\\n.\\r\\n
                S: 250
                """,
            )
            assert h.desk.params[0].size == 30
            return h.desk.letters[0]

    taken = run(loop, main())
    e = taken.envelope
    assert str(e.sender) == "Ali@MOF.example"
    assert (e.ret, e.envid, e.body, e.smtputf8, e.requiretls) == ("HDRS", "Qq+2B7", "8BITMIME", True, False)
    assert [str(r.address) for r in e.recipients] == ["b@moh.example", "علي@moh.example"]
    assert e.recipients[0].notify == "SUCCESS,DELAY"
    assert e.recipients[0].orcpt == "rfc822;Bob@Moh.example"
    assert taken.content == b"\xff\xfe first\r\n.\r\n..\r\nlast\r\n"
    assert taken.conn.peer == "127.0.0.1" and taken.conn.helo == "client.example" and taken.conn.port
    assert taken.conn.tls is None and taken.conn.account is None


def test_bdat_keeps_octets_that_data_could_not(tmp_path: Path) -> None:
    async def main() -> bytes:
        async with house(tmp_path) as h, await h.greeted() as client:
            # A CRLF may be cut by the edge of a chunk, dots stay as they are, and no end of line is needed.
            await play(
                client,
                ENVELOPE
                + "C> BDAT 5\\r\\n.\\r\\n.\\r\n"
                + "C> BDAT 6 LAST\\r\\n\\n..\\r\\nx\n"
                + "S: 250\nS: 250 2.0.0 Taken",
            )
            return h.desk.letters[0].content

    assert run("uvloop", main()) == b".\r\n.\r\n..\r\nx"


def test_the_null_sender_is_the_null_path(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            await play(client, "C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<b@moh.example>\nS: 250\nC: DATA\nS: 354")
            await play(client, "C: .\nS: 250")
            assert h.desk.letters[0].envelope.sender is NULL_PATH
            assert h.desk.letters[0].content == b""

    run("uvloop", main())


# What is no end of DATA, each followed by a smuggled transaction: CR, LF and NUL in all the ways that one
# server or another has taken for the end (and the end itself hidden behind one of them).
SMUGGLERS = [
    before + b"." + after
    for before in (b"\n", b"\r", b"\r\n", b"\r\n\0", b"\r\0\n", b"\n\r", b"\n\n", b"\r\r\n", b"\0")
    for after in (b"\n", b"\r", b"\r\n", b"\0\r\n", b"\r\0\n", b"\r\r\n", b"\n\r\n", b"\n\n")
    if not (before.endswith(b"\r\n") and after == b"\r\n")
]
SMUGGLED = b"MAIL FROM:<evil@mof.example>\r\nRCPT TO:<b@moh.example>\r\nDATA\r\nsmuggled\r\n.\r\n"


def test_nothing_is_smuggled_behind_a_false_end(tmp_path: Path) -> None:
    async def attempt(h: House, vector: bytes) -> None:
        async with await h.greeted() as client:
            await play(client, ENVELOPE + "C: DATA\nS: 354")
            await client.send(b"Subject: x\r\n\r\nbody" + vector + SMUGGLED)
            assert (await client.reply()).startswith("554 5.6.0"), vector
            client.writer.write_eof()
            assert await client.rest() == b"", vector

    async def main() -> None:
        async with house(tmp_path) as h:
            for vector in SMUGGLERS:
                await attempt(h, vector)
            assert h.desk.letters == []

    run("uvloop", main())


@pytest.mark.parametrize(
    "vector", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\0\n.\r\n", b"\r\n.\r\r\n"]
)
def test_a_false_end_cut_at_every_octet(vector: bytes, tmp_path: Path) -> None:
    content = b"x\r\n" + vector + b"y\r\n.\r\nNOOP\r\n"

    async def main() -> None:
        async with house(tmp_path) as h:
            for cut in range(1, len(content)):
                async with await h.greeted() as client:
                    await play(client, ENVELOPE + "C: DATA\nS: 354")
                    await client.send(content[:cut])
                    await asyncio.sleep(0.002)
                    await client.send(content[cut:])
                    assert (await client.reply()).startswith("554 5.6.0")
                    client.writer.write_eof()
                    assert await client.rest() == b""
            assert h.desk.letters == []

    run("uvloop", main())


def test_a_letter_cut_at_every_octet(tmp_path: Path) -> None:
    wire = b"..a\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@moh.example>\r\nBDAT 4 LAST\r\nb\r\nc"

    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            for cut in range(1, len(wire)):
                await play(client, ENVELOPE + "C: DATA\nS: 354")
                await client.send(wire[:cut])
                await asyncio.sleep(0.002)
                await client.send(wire[cut:])
                await play(client, "S: 250 2.0.0 Taken\nS: 250 2.1.0\nS: 250 2.1.5\nS: 250 2.0.0 Taken")
                assert [t.content for t in h.desk.letters[-2:]] == [b".a\r\n", b"b\r\nc"]

    run("uvloop", main())


@pytest.mark.parametrize("chunk", [b"a\nb", b"a\rb", b"a\0b", b"a\r"])
def test_bare_octets_in_a_chunk(chunk: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            await play(client, ENVELOPE)
            await client.send(b"BDAT %d LAST\r\n%sNOOP\r\n" % (len(chunk), chunk))
            assert (await client.reply()).startswith("554 5.6.0")
            client.writer.write_eof()
            assert await client.rest() == b""
            assert h.desk.letters == []

    run("uvloop", main())


@pytest.mark.parametrize(
    "line", [b"NOOP\nNOOP\r\n", b"NOOP\n", b"NOOP\rNOOP\r\n", b"NO\0OP\r\n", b"\n", b"NOOP \r\r\n"]
)
def test_bare_octets_in_a_command_end_the_session(line: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            await client.send(line)
            assert (await client.reply()).startswith("500 5.5.2")
            client.writer.write_eof()
            assert await client.rest() == b""

    run("uvloop", main())


def test_content_that_runs_ahead_of_the_354_is_never_read_as_commands(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            h.desk.refused = {"bad@moh.example"}
            async with await h.greeted() as client:
                await play(
                    client,
                    """
                    C: MAIL FROM:<a@mof.example>
                    C: RCPT TO:<bad@moh.example>
                    C: DATA
                    C: RSET
                    C: MAIL FROM:<evil@mof.example>
                    C: RCPT TO:<b@moh.example>
                    S: 250
                    S: 550
                    S: 554 5.5.0
                    """,
                )
                client.writer.write_eof()
                assert await client.rest() == b""
            assert len(h.desk.params) == 1

    run("uvloop", main())


def test_an_over_long_line_is_skipped_and_the_session_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            async with await h.greeted() as client, await h.greeted() as other:
                assert (await client.ask("NOOP " + "x" * 3000)).startswith("500 5.5.2")
                assert (await client.ask("NOOP " + "x" * 30_000)).startswith("500 5.5.2")
                # The limit is the instance's own: another connection takes nothing away from it.
                assert (await other.ask("NOOP " + "x" * 2000)).startswith("250")
                assert (await client.ask("NOOP " + "x" * 2000)).startswith("250")
            async with await h.greeted() as client:
                await client.send(b"NOOP " + b"x" * 200_000)
                assert (await client.reply()).startswith("500 5.5.2")
                client.writer.write_eof()
                assert await client.rest() == b""

    run("uvloop", main())


class FailingSpool(Spool):
    __slots__ = ()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class FailingEnd(Spool):
    __slots__ = ()

    def finish(self) -> Octets:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("kind", [FailingSpool, FailingEnd])
def test_no_space_is_452_and_the_session_goes_on(kind: type[Spool], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            h.desk.on_spool = lambda _: kind(h.desk.archive._area)
            await play(client, ENVELOPE + "C: DATA\nS: 354\nC: x\nC: y\nC: .\nS: 452 4.3.1")
            await play(client, "C: DATA\nS: 503 5.5.1\n" + ENVELOPE + "C> BDAT 3 LAST\\r\\nabc\nS: 452 4.3.1")
            h.desk.on_spool = None
            await play(client, ENVELOPE + "C: DATA\nS: 354\nC: x\nC: .\nS: 250 2.0.0 Taken 1")

    run("uvloop", main())


def test_no_spool_at_all_is_452_before_the_content(tmp_path: Path) -> None:
    def none(spool: Spool) -> Spool:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            h.desk.on_spool = none
            await play(client, ENVELOPE + "C: DATA\nS: 452 4.3.1\nC: DATA\nS: 503")
            await play(client, ENVELOPE + "C> BDAT 5 LAST\\r\\nRSET\\n\nS: 452 4.3.1\nC: NOOP\nS: 250")

    run("uvloop", main())


def test_what_else_a_spool_raises_keeps_the_framing(tmp_path: Path) -> None:
    def none(spool: Spool) -> Spool:
        raise RuntimeError("unforeseen")

    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            h.desk.on_spool = none
            await play(client, ENVELOPE + "C: DATA\nS: 451 4.3.0\nC: DATA\nS: 503")
            await play(client, ENVELOPE + "C> BDAT 6 LAST\\r\\nRSET\\r\\nNOOP\\r\\n\nS: 451 4.3.0\nS: 250")

    run("uvloop", main())


def test_the_unforeseen_within_content_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows then where the content ends: what follows must not be read as commands."""

    def broken(self: Content, piece: bytes, final: bool = False) -> None:
        raise RuntimeError("unforeseen")

    async def main() -> None:
        async with house(tmp_path) as h:
            for begin in ("C: DATA\nS: 354\nC: x", "C> BDAT 9 LAST\\r\\nx\\r\\n"):
                async with await h.greeted() as client:
                    await play(client, ENVELOPE + begin + "\nC: RSET\nS: 451 4.3.0\nC: NOOP")
                    client.writer.write_eof()
                    assert await client.rest() == b""

    monkeypatch.setattr(Content, "take", broken)
    run("uvloop", main())


@pytest.mark.parametrize("code", [421, 521])
def test_a_desk_that_says_421_hangs_up(code: int, tmp_path: Path) -> None:
    async def enough() -> Reply:
        return Reply(code, "Enough")

    async def main() -> None:
        async with house(tmp_path) as h:
            h.desk.on_letter = enough
            async with await h.greeted() as client:
                await play(client, ENVELOPE + f"C: DATA\nS: 354\nC: .\nS: {code} Enough\nX")
            h.desk.on_sender = enough
            async with await h.greeted() as client:
                await play(client, f"C: MAIL FROM:<a@mof.example>\nS: {code} Enough\nX")

    run("uvloop", main())


@pytest.mark.parametrize("loop", LOOPS)
def test_the_unforeseen_is_451_and_resets(
    loop: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> Reply | None:
        raise KeyError("secret detail")

    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            h.desk.on_letter = broken
            await play(client, ENVELOPE + "C: DATA\nS: 354\nC: x\nC: .\nS: 451 4.3.0 Temporary failure")
            await play(client, "C: DATA\nS: 503 5.5.1")
            h.desk.on_letter, h.desk.on_sender = None, broken
            await play(
                client, "C: MAIL FROM:<a@mof.example>\nS: 451 4.3.0\nC: RCPT TO:<b@moh.example>\nS: 503"
            )
            h.desk.on_sender = None
            await play(client, ENVELOPE + "C: DATA\nS: 354\nC: x\nC: .\nS: 250 2.0.0 Taken 1")

    run(loop, main())
    assert "secret detail" in caplog.text


def test_a_desk_that_fails_at_the_start_gives_421(tmp_path: Path) -> None:
    def broken(conn: Connection) -> Connection:
        raise RuntimeError("no database")

    async def main() -> None:
        async with house(tmp_path) as h:
            h.desk.on_connected = broken
            async with await h.call() as client:
                await play(client, "S: 421 4.3.0\nX")

    run("uvloop", main())


def test_the_desk_may_refuse_a_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            h.desk.on_connected = lambda conn: Reply.of(554, "5.7.1", "You have no business here")
            async with await h.call() as client:
                assert await client.reply() == "554 5.7.1 You have no business here"
                client.writer.write_eof()
                assert await client.rest() == b""

    run("uvloop", main())


def test_a_refused_letter_and_its_repeat(tmp_path: Path) -> None:
    async def refuse() -> Reply | None:
        return Reply.of(550, "5.7.1", "Refused by policy\nsee https://wasl.example/r/1")

    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            h.desk.on_letter = refuse
            await play(client, ENVELOPE + "C: DATA\nS: 354\nC: x\nC: .\nS: 550-5.7.1 Refused by policy")
            await play(client, "C: DATA\nS: 503")

    run("uvloop", main())


@pytest.mark.parametrize("loop", LOOPS)
def test_half_closing_after_the_final_dot_cancels_nothing(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h, await h.greeted() as client:
            started = asyncio.Event()

            async def slow() -> None:
                started.set()
                await asyncio.sleep(0.2)

            h.desk.on_letter = slow
            await play(client, ENVELOPE + "C: DATA\nS: 354")
            await client.send(b"x\r\n.\r\n")
            client.writer.write_eof()
            await started.wait()
            assert await client.reply() == "250 2.0.0 Taken 1"
            assert await client.rest() == b""

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_resets_after_the_final_dot_cancels_nothing(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            done = asyncio.Event()
            started = asyncio.Event()

            async def slow() -> None:
                started.set()
                await asyncio.sleep(0.2)
                done.set()

            h.desk.on_letter = slow
            async with await h.greeted() as client:
                await play(client, ENVELOPE + "C: DATA\nS: 354")
                await client.send(b"x\r\n.\r\n")
                await started.wait()
                client.writer.transport.abort()
            await done.wait()
            await until(lambda: h.desk.letters and not h.listener.sessions)
            assert len(h.desk.letters) == 1

    run(loop, main())


def test_a_client_that_leaves_within_its_letter_leaves_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            for ending in (b"x\r\n.\r", b"x\r\n.", b"x", b".\r"):
                async with await h.greeted() as client:
                    await play(client, ENVELOPE + "C: DATA\nS: 354")
                    await client.send(ending)
                    client.writer.write_eof()
                    assert await client.rest() == b""
            async with await h.greeted() as client:
                await play(client, ENVELOPE)
                await client.send(b"BDAT 10 LAST\r\nabc")
                client.writer.write_eof()
                assert await client.rest() == b""
            assert h.desk.letters == []
            assert h.listener.tally.octets == 0

    run("uvloop", main())


def test_a_large_letter_goes_through_a_file(tmp_path: Path) -> None:
    line = b"0123456789abcdef" * 4 + b"\r\n"
    content = line * 50_000  # 3.3 MB

    async def main() -> None:
        async with house(tmp_path) as h:
            assert (await one(h, content)).startswith("250")
            assert h.desk.letters[0].content == content
            assert list((tmp_path / "archive").rglob("*.eml")) == []

    run("uvloop", main())


def test_many_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=WireLimits(connections_per_address=500)) as h:

            async def tick() -> None:
                await asyncio.sleep(0)

            h.desk.on_letter = tick
            await asyncio.gather(*(one(h, b"Subject: %d\r\n\r\n" % n) for n in range(200)))
            assert {t.content for t in h.desk.letters} == {b"Subject: %d\r\n\r\n" % n for n in range(200)}

    run("uvloop", main())


@pytest.mark.parametrize("loop", LOOPS)
def test_stop_tells_the_living_and_finishes_letters(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            started = asyncio.Event()

            async def slow() -> None:
                started.set()
                await asyncio.sleep(0.2)

            h.desk.on_letter = slow
            waiting, sending, late = await h.greeted(), await h.greeted(), await h.greeted()
            await play(sending, ENVELOPE + "C: DATA\nS: 354\nC: x\nC: .")
            await play(late, ENVELOPE + "C: DATA\nS: 354\nC: y")
            await started.wait()
            stop = asyncio.create_task(h.listener.stop(60))
            await play(waiting, "S: 421 4.3.2\nX")
            await play(sending, "S: 250 2.0.0 Taken 1\nS: 421 4.3.2\nX")
            await play(late, "C: .\nS: 250 2.0.0 Taken 2\nS: 421 4.3.2\nX")
            assert await stop == 0
            with pytest.raises(OSError):
                await h.call()
            for client in (waiting, sending, late):
                client.close()

    run(loop, main())


def test_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            release, begun = asyncio.Event(), asyncio.Event()

            async def stuck() -> None:
                begun.set()
                await release.wait()

            h.desk.on_letter = stuck
            stuck_client, slow = await h.greeted(), await h.greeted()
            await play(stuck_client, ENVELOPE + "C: DATA\nS: 354\nC: x\nC: .")
            await play(slow, ENVELOPE + "C: DATA\nS: 354\nC: half a letter")
            await begun.wait()
            assert await h.listener.stop(0.1) == 1
            await play(slow, "S: 421 4.3.2\nX")
            # The letter that was being committed is not undone: its task goes on.
            release.set()
            await until(lambda: h.desk.letters)
            assert len(h.desk.letters) == 1
            for client in (stuck_client, slow):
                client.close()

    run("uvloop", main())


def test_closed_is_what_a_client_sees(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            async with await h.greeted() as client:
                await client.ask("QUIT")
                with pytest.raises(Closed):
                    await client.ask("NOOP")
            assert isinstance(client, Client)

    run("uvloop", main())
