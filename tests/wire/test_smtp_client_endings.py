"""The client when a session ends as it should not: silence, garbage and 421 before, at and after the dot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway import reply_stream
from gateway.smtp_client import Outcome, Stage
from tests.wire.one_hop import PATIENT, THREE, Run, mail, one, pool, short, short_at
from tests.wire.scripted import OFFERED, Hung, Wire, serving

# The final dot


async def _close(wire: Wire) -> None:
    wire.drop()


async def _silence(wire: Wire) -> None:
    await wire.reader.read()


async def _garbage(wire: Wire) -> None:
    await wire.say(b"\x00\xff garbage")
    await wire.reader.read()


async def _flood(wire: Wire) -> None:
    await wire.say(*["250-" + "x" * 1000] * 4000)
    await wire.reader.read()


async def _endless(wire: Wire) -> None:
    await wire.say(b"250 " + b"x" * 4_000_000)
    await wire.reader.read()


async def _two_codes(wire: Wire) -> None:
    await wire.say("250-taken", "550 or not")
    await wire.reader.read()


async def _go_on(wire: Wire) -> None:
    await wire.say("354 go on")
    await wire.reader.read()


@pytest.mark.parametrize("end", [_close, _silence, _garbage, _flood, _endless, _two_codes, _go_on])
@pytest.mark.parametrize("reused", [False, True])
def test_no_reply_to_the_final_dot_is_doubt_and_never_repeated(
    run: Run, end: Callable[[Wire], Awaitable[None]], reused: bool
) -> None:
    letters = []

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        if reused:
            letters.append(await wire.letter())
        await wire.lines(3)
        await wire.say("250 ok", "250 ok", "354 go on")
        letters.append(await wire.octets())
        await end(wire)

    async def main() -> None:
        async with serving(play) as server:
            connections = pool(server.port, short_at("final"))
            if reused:
                assert (await connections.send(mail())).results[0].accepted
            outcome = await connections.send(mail())
            (result,) = outcome.results
            assert (result.reply, result.stage, result.in_doubt) == (None, Stage.FINAL, True)
            assert result.why and not result.permanent and not result.accepted
            assert result.told.transient
            assert len(server.wires) == 1 and len(letters) == 1 + reused
            assert connections.idle == 0
            await connections.close(0.2)

    run(main)


@pytest.mark.parametrize("at", ["greeting", "ehlo", "mail", "rcpt", "354", "content"])
@pytest.mark.parametrize("how", [_close, _silence, _garbage, _flood, _endless, _two_codes])
def test_a_connection_that_ends_before_the_dot_is_no_doubt(
    run: Run, at: str, how: Callable[[Wire], Awaitable[None]]
) -> None:
    async def play(wire: Wire) -> None:
        if at == "greeting":
            return await how(wire)
        await wire.say("220 hello")
        await wire.line()
        if at == "ehlo":
            return await how(wire)
        await wire.say("250-hello", "250-SIZE", "250 PIPELINING")
        await wire.lines(3)
        if at == "mail":
            return await how(wire)
        await wire.say("250 ok")
        if at == "rcpt":
            return await how(wire)
        await wire.say("250 ok")
        if at == "354":
            return await how(wire)
        await wire.say("354 go on")
        await wire.reader.readexactly(100)
        if how is _silence:
            await asyncio.sleep(600)  # and takes nothing more
        return await how(wire)

    large = mail(octets=b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 1_500_000)
    started = time.monotonic()
    batch = ("mail", "data")  # are sent at once and waited for together
    waits = {"greeting": ("greeting",), "ehlo": ("hello",), "content": ("block",)}
    times = short_at(*waits.get(at, batch))
    outcome = run(lambda: one(play, large if at == "content" else mail(), times=times))
    (result,) = outcome.results
    stages = {"greeting": Stage.GREETING, "ehlo": Stage.HELLO, "mail": Stage.MAIL, "rcpt": Stage.RCPT,
              "354": Stage.DATA, "content": Stage.CONTENT}  # fmt: skip
    assert result.stage is stages[at]
    assert not result.in_doubt and not result.accepted and not result.permanent
    assert result.told.transient and result.told.status is not None
    assert time.monotonic() - started < 50  # no other stage's time was waited for


def test_a_refusal_in_the_middle_of_the_content_ends_it_without_the_dot(run: Run) -> None:
    got = []

    async def play(wire: Wire) -> None:
        await wire.hello("PIPELINING")
        await wire.lines(3)
        await wire.say("250 ok", "250 ok", "354 go on")
        await wire.reader.readexactly(1000)
        await wire.say("552 5.3.4 too big")
        while more := await wire.reader.read(1 << 20):
            got[:] = [more[-5:]]

    large = mail(octets=b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 1_500_000)
    outcome = run(lambda: one(play, large))
    assert short(outcome) == [(552, Stage.CONTENT, False)]
    assert outcome.results[0].permanent
    assert b"\r\n.\r\n" not in got


# 421


def test_a_server_that_closes_at_the_greeting(run: Run) -> None:
    async def busy(wire: Wire) -> None:
        await wire.say("421 4.3.2 too busy")

    async def never(wire: Wire) -> None:
        await wire.say("554 5.7.1 go away")

    first, second = run(lambda: one(busy)), run(lambda: one(never))
    assert short(first) == [(421, Stage.GREETING, False)]
    # It speaks of the connection: the letter is not returned for it.
    assert short(second) == [(554, Stage.GREETING, False)] and not second.results[0].permanent


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("close", [True, False])
def test_421_between_recipients(run: Run, batch: bool, close: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_stream, "CLOSING_GRACE_S", 0.1)

    async def play(wire: Wire) -> None:
        await wire.hello(*(OFFERED if batch else ("DSN",)))
        answers = ["250 ok", "550 5.1.1 no", "250 ok", "421 4.3.2 going"]
        if batch:
            await wire.lines(6)
            await wire.say(*answers)
        else:
            for answer in answers:
                await wire.line()
                await wire.say(answer)
        if not close:
            assert await wire.reader.read() == b""

    outcome = run(lambda: one(play, mail(*THREE, "r4@moh.example")))
    assert short(outcome) == [(550, Stage.RCPT, False), *[(421, Stage.RCPT, False)] * 3]


def test_421_to_the_dot_is_an_answer_and_ends_the_connection(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.letter("421 4.3.2 going down")
        assert await wire.reader.read() == b""

    async def main() -> None:
        async with serving(play) as server:
            connections = pool(server.port)
            assert short(await connections.send(mail())) == [(421, Stage.FINAL, False)]
            assert connections.idle == 0
            await connections.close(0.2)

    run(main)


# Time


@pytest.mark.parametrize("stage", ["connect", "drip"])
def test_a_slow_server_is_left(run: Run, stage: str) -> None:
    async def play(wire: Wire) -> None:
        if stage == "drip":
            while True:
                await wire.say("220-wait")
                await asyncio.sleep(0.05)
        await wire.reader.read()

    started = time.monotonic()
    (result,) = run(lambda: one(play, times=short_at("greeting"))).results
    assert result.stage is Stage.GREETING and "timed out" in result.why
    assert time.monotonic() - started < 50  # a drip does not draw it out


def test_nobody_listens(run: Run) -> None:
    async def main() -> Outcome:
        async with serving(_silence) as server:
            port = server.port
        return await pool(port).send(mail())

    (result,) = run(main).results
    assert result.stage is Stage.CONNECT and str(result.told.status) == "4.4.1"
    quick = replace(PATIENT, connect=2)  # whoever resolves names here may be slow to say no
    (result,) = run(lambda: pool(25, quick, host="no-such-host.invalid").send(mail())).results
    assert result.stage is Stage.CONNECT


def test_a_cancelled_letter_takes_its_connection_with_it(run: Run) -> None:
    hung = []
    asked = asyncio.Event()

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.lines(3)
        asked.set()
        try:
            await wire.line()
        except Hung:
            hung.append(True)

    async def main() -> None:
        async with serving(play) as server:
            connections = pool(server.port)
            task = asyncio.create_task(connections.send(mail()))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not hung:  # noqa: ASYNC110 -- the other end of a connection
                await asyncio.sleep(0.01)
            assert (connections.idle, connections.busy) == (0, 0)
            await connections.close(0.1)

    run(main)
