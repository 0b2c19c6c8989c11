"""Caps and clocks over real sockets, while others' letters keep flowing."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path

import pytest

from gateway.desk import WireLimits
from gateway.smtp_listener import SmtpListener
from gateway.tally import Tally, address_group, plain_address
from tests.wire.wire_desk import LOOPS, Client, house, play, run, until
from tracker.model import Door

ENVELOPE = "C: MAIL FROM:<a@mof.example>\nS: 250 2.1.0\nC: RCPT TO:<b@moh.example>\nS: 250 2.1.5\n"
LETTER = ENVELOPE + "C: DATA\nS: 354\nC: x\nC: .\nS: 250 2.0.0\n"


def limits(**given: float) -> WireLimits:
    return WireLimits(**{"linger_time": 0.4, "auth_delay": 0.0, **given})  # type: ignore[arg-type]


def test_too_many_connections_from_one_address(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(connections_per_address=2)) as h:
            first, second = await h.greeted(), await h.greeted()
            async with await h.call() as third:
                assert (await third.reply()).startswith("421 4.7.0 Too many connections")
                assert await third.rest() == b""
            await play(first, LETTER)
            await play(first, "C: QUIT\nS: 221\nX")
            first.close()
            await until(lambda: h.listener.tally.connections < 2)
            async with await h.greeted() as fourth:
                await play(fourth, LETTER)
            second.close()

    run("uvloop", main())


def test_the_cap_over_all_holds_over_all_doors(tmp_path: Path) -> None:
    async def main() -> None:
        tally = Tally()
        async with (
            house(tmp_path / "1", limits=limits(connections=1), tally=tally) as one,
            house(tmp_path / "2", limits=limits(connections=1), tally=tally) as other,
        ):
            async with await one.greeted(), await other.call() as refused:
                assert (await refused.reply()).startswith("421 4.7.0")
            await until(lambda: not tally.connections)
            async with await other.greeted() as client:
                await play(client, LETTER)

    run("uvloop", main())


def test_too_many_errors(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(errors=3)) as h, await h.greeted() as client:
            for _ in range(3):
                assert (await client.ask("FROB")).startswith("500")
            # A letter that is taken clears the account.
            await play(client, LETTER)
            for _ in range(3):
                assert (await client.ask("FROB")).startswith("500")
            assert (await client.ask("FROB")).startswith("500")
            assert (await client.reply()).startswith("421 4.7.0 Too many errors")

    run("uvloop", main())


def test_refused_recipients_have_a_count_of_their_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            house(tmp_path, limits=limits(errors=2, refused_recipients=5)) as h,
            await h.greeted() as client,
        ):
            h.desk.refused = {"bad@moh.example"}
            await play(client, ENVELOPE)
            for _ in range(5):
                assert (await client.ask("RCPT TO:<bad@moh.example>")).startswith("550")
            await play(client, "C: RCPT TO:<bad@moh.example>\nS: 550\nS: 421 4.7.0\nX")

    run("uvloop", main())


def test_too_many_commands(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(commands=5)) as h, await h.greeted() as client:
            for _ in range(4):
                assert (await client.ask("NOOP")).startswith("250")
            assert (await client.ask("NOOP")).startswith("421 4.7.0")

    run("uvloop", main())


def test_many_letters_in_one_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(letters=2)) as h, await h.greeted() as client:
            await play(client, LETTER + LETTER + "S: 421 4.7.0\nX")
            assert len(h.desk.letters) == 2

    run("uvloop", main())


def test_a_letter_that_takes_too_long(tmp_path: Path) -> None:
    async def main() -> None:
        given = limits(data_time=60, data_rate=1, letter_time=0.8)  # only the whole letter's time runs out
        async with house(tmp_path, limits=given) as h, await h.greeted() as client:
            await play(client, ENVELOPE + "C: DATA\nS: 354")
            dripping = asyncio.create_task(drip(client, b"x" * 1000, 0.05))
            assert (await client.reply()).startswith("421 4.4.2")
            assert not dripping.done()
            dripping.cancel()

    run("uvloop", main())


def test_too_many_recipients(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(recipients=2)) as h, await h.greeted() as client:
            await play(
                client,
                ENVELOPE
                + "C: RCPT TO:<c@moh.example>\nS: 250\nC: RCPT TO:<d@moh.example>\nS: 452 4.5.3\n"
                + "C: DATA\nS: 354\nC: .\nS: 250",
            )
            assert len(h.desk.letters[0].envelope.recipients) == 2

    run("uvloop", main())


def test_over_size_by_data(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(size=1000)) as h, await h.greeted() as client:
            await play(client, ENVELOPE + "C: DATA\nS: 354")
            await client.send(b"x" * 1500 + b"\r\n.\r\n")
            await play(client, "S: 552 5.3.4\nC: DATA\nS: 503")
            # What fits exactly, fits.
            await play(client, ENVELOPE + "C: DATA\nS: 354")
            await client.send(b"x" * 998 + b"\r\n.\r\n")
            await play(client, "S: 250")
            # What never ends is not swallowed for ever.
            await play(client, ENVELOPE + "C: DATA\nS: 354")
            await client.send(b"x" * 3000)
            await play(client, "S: 552 5.3.4")
            client.writer.write_eof()
            assert await client.rest() == b""
            assert len(h.desk.letters) == 1

    run("uvloop", main())


def test_over_size_by_bdat(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(size=1000)) as h, await h.greeted() as client:
            await play(client, ENVELOPE)
            await client.send(b"BDAT 900\r\n" + b"x" * 900 + b"BDAT 200\r\n" + b"NOOP\r\n" + b"y" * 194)
            await play(client, "S: 250\nS: 552 5.3.4")
            await client.send(b"BDAT 10 LAST\r\nRSET\r\nRSETNOOP\r\n")
            await play(client, "S: 503\nS: 250 2.0.0 OK")
            await play(client, ENVELOPE + "C: BDAT 99999999999999999999 LAST\nS: 552 5.3.4\nX")
            assert h.desk.letters == []

    run("uvloop", main())


def test_octets_in_flight(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(octets_in_flight=5000)) as h:
            first, second = await h.greeted(), await h.greeted()
            await play(first, ENVELOPE + "C: DATA\nS: 354")
            await first.send(b"x" * 4000)
            await play(second, ENVELOPE + "C: DATA\nS: 354")
            await until(lambda: h.listener.tally.octets >= 4000)
            await second.send(b"x" * 2000 + b"\r\n.\r\n")
            await play(second, "S: 452 4.3.1\nC: MAIL FROM:<a@mof.example> SIZE=2000\nS: 452 4.3.1")
            await first.send(b"\r\n.\r\n")
            await play(first, "S: 250")
            await play(second, ENVELOPE + "C: DATA\nS: 354")
            await second.send(b"x" * 2000 + b"\r\n.\r\n")
            await play(second, "S: 250")
            first.close()
            second.close()

    run("uvloop", main())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_idle_client_is_told_and_closed(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        began = time.monotonic()
        async with house(tmp_path, limits=limits(command_time=0.5)) as h, await h.greeted() as client:
            await play(client, "S: 421 4.4.2\nX")
            assert 0.5 <= time.monotonic() - began < 50

    run(loop, main())


async def drip(client: Client, octets: bytes, every: float) -> None:
    try:
        for i in range(len(octets)):
            await client.send(octets[i : i + 1])
            await asyncio.sleep(every)
    except ConnectionError:
        pass


def test_a_command_that_comes_octet_by_octet(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(command_time=0.5)) as h, await h.greeted() as client:
            dripping = asyncio.create_task(drip(client, b"NOOP " + b"x" * 100_000, 0.02))
            assert (await client.reply()).startswith("421 4.4.2")
            assert not dripping.done(), "an octet now and then does not draw it out"
            dripping.cancel()

    run("uvloop", main())


def test_content_that_comes_octet_by_octet_while_others_send(tmp_path: Path) -> None:
    async def main() -> None:
        given = limits(data_time=1.0, data_rate=10_000)
        async with house(tmp_path, limits=given) as h, await h.greeted() as slow:
            await play(slow, ENVELOPE + "C: DATA\nS: 354")
            dripping = asyncio.create_task(drip(slow, b"x" * 100_000, 0.02))
            answer = asyncio.create_task(slow.reply())
            sent = 0
            while not answer.done():
                async with await h.greeted() as other:
                    await play(other, LETTER)
                    sent += 1
            assert answer.result().startswith("421 4.4.2")
            assert not dripping.done()
            assert sent and len(h.desk.letters) == sent
            dripping.cancel()

    run("uvloop", main())


def test_an_idle_sender_of_content(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, limits=limits(data_time=0.3)) as h, await h.greeted() as client:
            await play(client, ENVELOPE + "C: DATA\nS: 354\nC: x\nS: 421 4.4.2\nX")
            assert h.desk.letters == []

    run("uvloop", main())


def test_a_session_ends_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            house(tmp_path, limits=limits(session_time=1.0, linger_time=0.2)) as h,
            await h.greeted() as client,
        ):
            await play(client, LETTER)
            await play(client, "S: 421 4.4.2\nX")

    run("uvloop", main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_never_reads(loop: str, tmp_path: Path) -> None:
    """It may send as much as it likes: we stop reading, hold little, and drop it in time."""

    async def main() -> None:
        async with house(tmp_path, limits=limits(command_time=0.5, commands=10**9)) as h:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            aio = asyncio.get_running_loop()
            await aio.sock_connect(sock, ("127.0.0.1", h.port))
            await aio.sock_sendall(sock, b"EHLO client.example\r\n")
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while True:
                    await aio.sock_sendall(sock, b"HELP\r\n" * 1000)
                    sent += 6000

            with pytest.raises((ConnectionError, TimeoutError)):
                async with asyncio.timeout(60):
                    await flood()
            await until(lambda: not h.listener.sessions)
            assert sent < 50_000_000
            sock.close()

    run(loop, main())


def test_connections_that_say_nothing_and_reset(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            for _ in range(50):
                sock = socket.create_connection(("127.0.0.1", h.port))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            await until(lambda: not h.listener.sessions and h.listener.tally.connections == 0)
            async with await h.greeted() as client:
                await play(client, LETTER)

    run("uvloop", main())


def test_an_address_that_is_taken_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            second = SmtpListener(h.desk, Door.RELAY, limits())
            with pytest.raises(OSError):
                await second.start("127.0.0.1", h.port)
            await second.stop(0)

    run("uvloop", main())


def test_addresses_that_count_as_one() -> None:
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("fe80::1%eth0") == "fe80::1"
    assert address_group("192.0.2.1") == "192.0.2.1"
    assert address_group("2001:db8::1") == address_group("2001:db8:0:0:ffff::2") == "2001:db8::/64"
