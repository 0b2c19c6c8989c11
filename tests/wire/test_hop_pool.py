"""Connections used again: when, how many, how long, and what happens when one has died meanwhile."""

from __future__ import annotations

import asyncio
import mmap
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.hop_pool import Pool
from gateway.next_hops import NextHops
from gateway.outgoing import CutOff
from gateway.smtp_client import Outcome, Outgoing, OutRecipient, Stage, Timeouts
from policies.directory import NextHop
from tests.wire.one_hop import Run
from tests.wire.scripted import OFFERED, Wire, serving
from tracker.model import Address

LETTER = b"From: a@mof.example\r\nSubject: x\r\n\r\nbody\r\n"
PATIENT = Timeouts(connect=60, greeting=60, hello=60, tls=60, mail=60, data=60, block=60, final=60)


def mail(name: str = "r1", octets: Any = LETTER) -> Outgoing:
    to = OutRecipient(address=Address.parse(f"{name}@moh.example"))
    return Outgoing(sender=Address.parse("a@mof.example"), recipients=(to,), pieces=[octets])


def pool(port: int, *, max_connections: int = 20, quit_s: float = 60, **more: Any) -> Pool:
    hop = NextHop(name="MOH", host="127.0.0.1", port=port, tls="none", max_connections=max_connections)
    return Pool(hop, hostname="wasl.example", times=replace(PATIENT, quit=quit_s), **more)


async def serve_well(wire: Wire) -> None:
    await wire.hello(*OFFERED)
    while True:
        line = await wire.line()
        if line == b"QUIT":
            await wire.say("221 bye")
            return
        assert line.startswith(b"MAIL")
        await wire.lines(2)
        await wire.say("250 ok", "250 ok", "354 go on")
        await wire.octets()
        await wire.say("250 taken")


def accepted(outcome: Outcome) -> bool:
    return all(result.accepted for result in outcome.results)


def test_letters_share_a_connection_without_reset(run: Run) -> None:
    async def main() -> None:
        async with serving(serve_well) as server:
            connections = pool(server.port)
            for _ in range(5):
                assert accepted(await connections.send(mail()))
            await connections.close()
            assert len(server.wires) == 1
            assert b"RSET" not in server.said
            assert server.said[-1] == b"QUIT"

    run(main)


def test_never_more_connections_than_the_directory_says(run: Run) -> None:
    now, most = 0, 0

    async def play(wire: Wire) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await serve_well(wire)
        finally:
            now -= 1

    async def main() -> None:
        async with serving(play) as server:
            connections = pool(server.port, max_connections=3)
            outcomes = await asyncio.gather(*(connections.send(mail(f"r{i}")) for i in range(50)))
            assert all(map(accepted, outcomes))
            assert len(server.wires) == most == 3
            assert connections.idle == 3 and connections.busy == 0
            await connections.close()
            assert connections.idle == 0

    run(main)


def test_a_hop_behind_a_unix_socket(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "lmtp"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer, 1)
        await wire.hello("PIPELINING")
        await wire.letter()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_unix_server(serve, path)
        hop = NextHop(name="MOH", host=str(path), port=0, protocol="lmtp")
        connections = Pool(hop, hostname="wasl.example", times=replace(PATIENT, quit=0.1))
        outcome = await connections.send(mail())
        assert accepted(outcome) and outcome.peer == str(path)
        await connections.close()
        server.close()

    run(main)


def test_a_connection_ends_after_so_many_letters(run: Run) -> None:
    async def main() -> None:
        async with serving(serve_well) as server:
            connections = pool(server.port, max_messages=2)
            for _ in range(5):
                assert accepted(await connections.send(mail()))
            await connections.close()
            assert [sum(line.startswith(b"MAIL") for line in wire.said) for wire in server.wires] == [2, 2, 1]
            assert all(wire.said[-1] == b"QUIT" for wire in server.wires)

    run(main)


def test_an_idle_connection_is_closed_politely(run: Run) -> None:
    async def main() -> None:
        async with serving(serve_well) as server:
            connections = pool(server.port, max_idle_s=0.1)
            assert accepted(await connections.send(mail()))
            assert connections.idle == 1
            while connections.idle or server.said[-1] != b"QUIT":  # noqa: ASYNC110 -- nobody tells of it
                await asyncio.sleep(0.01)
            assert accepted(await connections.send(mail()))
            assert len(server.wires) == 2
            await connections.close()

    run(main)


async def _drop_now(wire: Wire) -> None:
    wire.drop()


async def _drop_at_mail(wire: Wire) -> None:
    await wire.lines(3)
    wire.drop()


async def _drop_after_354(wire: Wire) -> None:
    await wire.lines(3)
    await wire.say("250 ok", "250 ok", "354 go on")
    await wire.reader.read(10)
    wire.drop()


async def _say_421_while_idle(wire: Wire) -> None:
    await wire.say("421 4.4.2 timeout exceeded")


async def _say_421_to_mail(wire: Wire) -> None:
    await wire.line()
    await wire.say("421 4.4.2 timeout exceeded")


async def _say_421_to_data(wire: Wire) -> None:
    await wire.lines(3)
    await wire.say("250 ok", "250 ok", "421 4.4.2 timeout exceeded")


async def _chatter(wire: Wire) -> None:
    await wire.say("250 unasked", "250 again")
    await wire.reader.read()


@pytest.mark.parametrize(
    "death",
    [_drop_now, _drop_at_mail, _say_421_while_idle, _say_421_to_mail, _say_421_to_data, _chatter],
)
@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_a_dead_idle_connection_costs_nothing_but_a_fresh_one(run: Run, death: Any, wait: float) -> None:
    taken = []

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        taken.append(await wire.letter())
        if wire.number == 1:
            await death(wire)
        else:
            await wire.reader.read()

    async def main() -> None:
        async with serving(play) as server:
            connections = pool(server.port, quit_s=0.05)
            assert accepted(await connections.send(mail()))
            await asyncio.sleep(wait)
            assert accepted(await connections.send(mail("r2")))
            assert len(server.wires) == 2 and len(taken) == 2
            await connections.close()

    run(main)


def test_a_connection_that_died_in_the_content_is_tried_again(run: Run) -> None:
    large = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 1_000_000

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.letter()
        if wire.number == 1:
            await _drop_after_354(wire)
        else:
            await wire.reader.read()

    async def main() -> None:
        async with serving(play, buffer=1 << 22) as server:
            connections = pool(server.port, quit_s=0.05)
            assert accepted(await connections.send(mail()))
            assert accepted(await connections.send(mail("r2", large)))
            assert len(server.wires) == 2
            await connections.close()

    run(main)


def test_a_fresh_connection_that_dies_is_not_tried_again(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await _drop_at_mail(wire)

    async def main() -> None:
        async with serving(play) as server:
            (result,) = (await pool(server.port).send(mail())).results
            assert (result.reply, result.stage, result.in_doubt) == (None, Stage.MAIL, False)
            assert len(server.wires) == 1

    run(main)


def test_closing_waits_for_what_is_under_way_and_then_cuts(run: Run) -> None:
    got: asyncio.Queue[int] = asyncio.Queue()

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.lines(3)
        await wire.say("250 ok", "250 ok", "354 go on")
        await wire.octets()
        got.put_nowait(wire.number)
        await asyncio.sleep(0.2 if wire.number == 1 else 600)
        await wire.say("250 taken")
        await wire.reader.read()

    async def main() -> None:
        async with serving(play) as server:
            connections = pool(server.port, quit_s=0.05)
            first = asyncio.create_task(connections.send(mail()))
            assert await got.get() == 1
            await connections.close(60.0)
            assert accepted(await first)
            again = pool(server.port, quit_s=0.05)
            second = asyncio.create_task(again.send(mail()))
            assert await got.get() == 2
            await again.close(0.1)
            (result,) = (await second).results
            assert result.in_doubt

    run(main)


def test_twenty_megabytes_are_never_held_whole(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "letter"
    body = b".line that begins with a dot and goes on for a while\r\n" * 400_000
    path.write_bytes(b"Subject: large\r\n\r\n" + body)
    size = path.stat().st_size
    assert size > 20_000_000
    got = 0

    async def play(wire: Wire) -> None:
        nonlocal got
        await wire.hello(*OFFERED)
        await wire.lines(3)
        await wire.say("250 ok", "250 ok", "354 go on")
        last = b""
        while not last.endswith(b"\r\n.\r\n"):
            more = await wire.reader.read(1 << 16)
            got += len(more)
            last = (last + more)[-5:]
        await wire.say("250 taken")
        await wire.reader.read()

    async def main() -> int:
        async with serving(play) as server:
            connections = pool(server.port, quit_s=0.05)
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
                longest, done, began = 0.0, False, time.thread_time()

                async def watch() -> None:
                    nonlocal longest
                    while not done:
                        before = time.thread_time()
                        await asyncio.sleep(0)
                        longest = max(longest, time.thread_time() - before)

                watching = asyncio.create_task(watch())
                tracemalloc.start()
                head = b"Received: by us\r\n"
                letter = Outgoing(
                    sender=Address.parse("a@mof.example"),
                    recipients=(OutRecipient(address=Address.parse("r@moh.example")),),
                    pieces=[head, octets],
                )
                outcome = await connections.send(letter)
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                done = True
                await watching
            assert accepted(outcome)
            # Made whole in one go it would be nearly all of it; the machine may add something to a turn.
            assert longest < (time.thread_time() - began) / 2, "others have their turn"
            await connections.close()
        return peak

    peak = run(main)
    assert got == len(b"Received: by us\r\n") + size + 400_000 + 3  # every dot doubled, and the last one
    assert peak < 6_000_000


def test_who_was_too_many_and_whose_answer_was_lost_is_in_doubt(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.lines(4)
        await wire.say("250 ok", "250 ok", "452 4.5.3 too many", "354 go on")
        await wire.octets()
        await wire.say("250 taken")
        await wire.lines(3)
        await wire.say("250 ok", "250 ok", "354 go on")
        await wire.octets()
        wire.drop()

    async def main() -> None:
        two = replace(mail(), recipients=(*mail("r1").recipients, *mail("r2").recipients))
        async with serving(play) as server:
            connections = pool(server.port)
            outcome = await connections.send(two)
            await connections.close()
        assert [(r.accepted, r.in_doubt) for r in outcome.results] == [(True, False), (False, True)]

    run(main)


@pytest.mark.parametrize("at", ["waiting", "MAIL", "dot", "452"])
def test_who_cuts_a_letter_off_is_told_whether_the_hop_may_have_it(run: Run, at: str) -> None:
    reached = asyncio.Event()

    async def stay(wire: Wire) -> None:
        reached.set()
        await wire.line()

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        if at in ("MAIL", "waiting"):
            await stay(wire)
        await wire.lines(4)
        await wire.say("250 ok", "250 ok", "452 4.5.3 too many" if at == "452" else "250 ok", "354 go on")
        await wire.octets()
        if at == "452":
            await wire.say("250 taken")
        await stay(wire)

    async def main() -> None:
        two = replace(mail(), recipients=(*mail("r1").recipients, *mail("r2").recipients))
        async with serving(play) as server:
            connections = pool(server.port, max_connections=1)
            first = asyncio.create_task(connections.send(two))
            await reached.wait()
            cut = asyncio.create_task(connections.send(two)) if at == "waiting" else first
            await asyncio.sleep(0)
            cut.cancel()
            with pytest.raises(asyncio.CancelledError) as told:
                await cut
            first.cancel()
            await asyncio.wait({first})
            await connections.close(0.2)
        assert isinstance(told.value, CutOff) == (at in ("dot", "452"))

    run(main)


def test_what_waits_at_a_hop_that_is_changed_goes_by_the_new_one(run: Run) -> None:
    """The old connections end what they began; nothing more is begun there, or it would be cut off."""

    async def slow(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        while await wire.line() != b"QUIT":
            await wire.lines(2)
            await wire.say("250 ok", "250 ok", "354 go on")
            await wire.octets()
            await asyncio.sleep(0.4)
            await wire.say("250 taken")
        await wire.say("221 bye")

    async def main() -> None:
        async with serving(slow) as old, serving(serve_well) as new:
            times = replace(PATIENT, final=0.6, quit=0.2)
            hops = NextHops(hostname="wasl.example", times=times, connections=20, letters=200, idle_s=30)
            hop = NextHop(name="MOH", host="127.0.0.1", port=old.port, tls="none", max_connections=2)
            sends = [asyncio.ensure_future(hops.send(hop, mail(f"r{i}"))) for i in range(9)]
            await asyncio.sleep(0.1)
            assert accepted(await hops.send(replace(hop, port=new.port), mail("last")))
            assert all(accepted(one) for one in await asyncio.gather(*sends))
            assert len([said for said in old.said if said.startswith(b"MAIL")]) == 2
            await hops.close()

    run(main)


@pytest.mark.parametrize(
    ("answer", "code"),
    [("454 4.7.0 TLS not available due to temporary reason", "4.7.10"), (None, "5.7.10")],
)
def test_what_wants_encryption_waits_for_it_where_it_is_offered(
    run: Run, answer: str | None, code: str
) -> None:
    """A hop whose TLS is out of order is tried again; one that offers none has the letter returned."""

    async def play(wire: Wire) -> None:
        await wire.hello("PIPELINING", *(["STARTTLS"] if answer else []))
        while True:
            line = await wire.line()
            if line == b"STARTTLS":
                await wire.say(str(answer))
            elif line.startswith(b"MAIL"):
                await wire.lines(2)
                await wire.say("250 ok", "250 ok", "354 go on")
                await wire.octets()
                await wire.say("250 taken")
            else:
                await wire.say("221 bye")
                return

    async def main() -> None:
        async with serving(play) as server:
            hop = NextHop(name="MOH", host="127.0.0.1", port=server.port, tls="opportunistic")
            connections = Pool(hop, hostname="wasl.example", times=replace(PATIENT, quit=0.2))
            assert accepted(await connections.send(mail())), "without TLS, and so it stays open"
            outcome = await connections.send(replace(mail(), require_tls=True))
            assert [str(r.told.status) for r in outcome.results] == [code]
            assert outcome.results[0].permanent == (answer is None)
            assert accepted(await connections.send(mail()))
            await connections.close()

    run(main)
