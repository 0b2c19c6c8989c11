"""The client against servers of every kind: what it says, what it makes of what they say, and that no
hostile one can make it wait for ever, take too much, send what it must not, or lose count of the dot."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway import reply_stream
from gateway.smtp_client import Outgoing, OutRecipient, Stage
from tests.wire.one_hop import LETTER, THREE, TWO, Run, mail, one, pool, short
from tests.wire.scripted import OFFERED, Wire, serving
from tracker.model import NULL_PATH, Address

# What goes over the wire


def test_one_write_for_mail_every_rcpt_and_data(run: Run) -> None:
    async def play(wire: Wire) -> None:
        assert await wire.hello(*OFFERED) == b"EHLO wasl.example"
        first = await wire.reader.read(1 << 16)  # all in one segment, before any answer
        assert first.split(b"\r\n") == [
            b"MAIL FROM:<a@mof.example> SIZE=41",
            b"RCPT TO:<r1@moh.example>",
            b"RCPT TO:<r2@moh.example>",
            b"DATA",
            b"",
        ]
        await wire.say("250 2.1.0 ok", "250 2.1.5 ok", "250 2.1.5 ok")
        assert await wire.nothing()  # the octets wait for 354
        await wire.say("354 go on")
        assert await wire.octets() == LETTER
        await wire.say("250 2.0.0 taken as 7")

    outcome = run(lambda: one(play, mail(*TWO)))
    assert short(outcome) == [(250, Stage.FINAL, False)] * 2
    assert all(result.accepted for result in outcome.results)
    assert outcome.transcript.splitlines() == [
        "greeting: 220 play.example ESMTP",
        "EHLO: 250 play.example",
        "MAIL: 250 2.1.0 ok",
        "DATA: 354 go on",
    ]
    assert outcome.transcript_for(1).splitlines()[-2:] == ["RCPT: 250 2.1.5 ok", ".: 250 2.0.0 taken as 7"]
    assert outcome.peer.startswith("127.0.0.1[127.0.0.1]:")
    assert outcome.dsn


def test_without_pipelining_every_command_waits_for_its_answer(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello("8BITMIME")
        for want, answer in (
            (b"MAIL FROM:<a@mof.example>", "250 ok"),
            (b"RCPT TO:<r1@moh.example>", "550 5.1.1 no"),
            (b"RCPT TO:<r2@moh.example>", "250 ok"),
            (b"DATA", "354 go on"),
        ):
            assert await wire.line() == want
            assert await wire.nothing(0.02)
            await wire.say(answer)
        assert await wire.octets() == LETTER
        await wire.say("250 taken")

    outcome = run(lambda: one(play, mail(*TWO)))
    assert short(outcome) == [(550, Stage.RCPT, False), (250, Stage.FINAL, False)]
    assert outcome.results[0].permanent and not outcome.results[0].accepted
    assert not outcome.dsn


@pytest.mark.parametrize(
    ("octets", "wire_form"),
    [
        (b".\r\n", b"..\r\n"),
        (b"", b""),
        (b"x", b"x\r\n"),
        (b"a\r\n.\r\n..\r\nb.c\r\n.", b"a\r\n..\r\n...\r\nb.c\r\n..\r\n"),
        (b"\r\n.\r\n", b"\r\n..\r\n"),
        (b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n", b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n"),
    ],
)
def test_dots_and_the_last_line_end(run: Run, octets: bytes, wire_form: bytes) -> None:
    seen = []

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        seen.append(await wire.letter())

    assert short(run(lambda: one(play, mail(octets=octets)))) == [(250, Stage.FINAL, False)]
    assert seen == [wire_form]


def test_dsn_parameters_keep_their_case_and_go_only_where_offered(run: Run) -> None:
    letter = Outgoing(
        sender=NULL_PATH,
        recipients=(
            OutRecipient(
                address=Address.parse("r@moh.example"),
                notify="SUCCESS,DELAY",
                orcpt="rfc822;R+2BX@Moh.example",
            ),
        ),
        pieces=[LETTER],
        ret="HDRS",
        envid="QQ+2BaBc",
    )

    async def offered(wire: Wire) -> None:
        await wire.hello("PIPELINING", "dsn")
        await wire.letter()
        assert wire.said[1:3] == [
            b"MAIL FROM:<> RET=HDRS ENVID=QQ+2BaBc",
            b"RCPT TO:<r@moh.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;R+2BX@Moh.example",
        ]

    async def not_offered(wire: Wire) -> None:
        await wire.hello("PIPELINING")
        await wire.letter()
        assert wire.said[1:3] == [b"MAIL FROM:<>", b"RCPT TO:<r@moh.example>"]

    assert run(lambda: one(offered, letter)).dsn
    assert not run(lambda: one(not_offered, letter)).dsn


ARABIC = Address.parse("مدير@moh.example")
EIGHT = "Subject: x\r\n\r\nكتاب\r\n".encode()


@pytest.mark.parametrize(
    ("letter", "offered", "status", "command"),
    [
        (mail(octets=EIGHT), (), "5.6.3", b""),
        (mail(eightbit=True), (), "", b"MAIL FROM:<a@mof.example>"),
        (mail(eightbit=True), ("8BITMIME",), "", b"MAIL FROM:<a@mof.example> BODY=8BITMIME"),
        (mail(octets=EIGHT), ("8BITMIME",), "", b"MAIL FROM:<a@mof.example> BODY=8BITMIME"),
        (replace(mail(), recipients=(OutRecipient(address=ARABIC),)), ("8BITMIME",), "5.6.7", b""),
        (replace(mail(), recipients=(OutRecipient(address=ARABIC),)), ("SMTPUTF8",), "",
         b"MAIL FROM:<a@mof.example> SMTPUTF8"),
        (mail(octets=EIGHT, smtputf8=True), ("8BITMIME",), "5.6.7", b""),
        (mail(octets=EIGHT, smtputf8=True), ("8BITMIME", "SMTPUTF8"), "",
         b"MAIL FROM:<a@mof.example> BODY=8BITMIME SMTPUTF8"),
        # Asked for and not needed: it can go everywhere.
        (mail(smtputf8=True), (), "", b"MAIL FROM:<a@mof.example>"),
        (mail(), ("SIZE 40",), "5.3.4", b""),
        (mail(), ("SIZE 41",), "", b"MAIL FROM:<a@mof.example> SIZE=41"),
        (mail(), ("SIZE 0",), "", b"MAIL FROM:<a@mof.example> SIZE=41"),
        (mail(), ("SIZE",), "", b"MAIL FROM:<a@mof.example> SIZE=41"),
        (mail(), ("SIZE ٤",), "", b"MAIL FROM:<a@mof.example> SIZE=41"),
        (mail(requiretls=True), ("REQUIRETLS",), "5.7.30", b""),
    ],
)  # fmt: skip
def test_what_the_hop_cannot_carry_is_not_sent(
    run: Run, letter: Outgoing, offered: tuple[str, ...], status: str, command: bytes
) -> None:
    said = []

    async def play(wire: Wire) -> None:
        await wire.hello("PIPELINING", *offered)
        said.append(await wire.line())
        if said[-1].startswith(b"MAIL"):
            await wire.lines(2)
            await wire.say("250 ok", "250 ok", "354 go on")
            await wire.octets()
            await wire.say("250 ok")

    outcome = run(lambda: one(play, letter))
    if status:
        (result,) = outcome.results
        assert result.stage is Stage.LOCAL and result.permanent
        assert result.reply is not None and str(result.reply.status) == status
        assert not said or said == [b"QUIT"]
    else:
        assert outcome.results[0].accepted
        assert said[0] == command


@pytest.mark.parametrize(
    "octets",
    [
        b"a\rb\r\n",
        b"a\nb\r\n",
        b"\n",
        b"\r",
        b"a\r\n\r",
        b"a\0b\r\n",
        b"a\r\n.\n",
        b"\r\r\n",
        b"x" * 600_000 + b"\n",
    ],
)
def test_bare_line_ends_and_nul_never_leave(run: Run, octets: bytes) -> None:
    async def play(wire: Wire) -> None:
        raise AssertionError("no connection is made for it")

    (result,) = run(lambda: one(play, mail(octets=octets))).results
    assert (result.stage, str(result.reply.status)) == (Stage.LOCAL, "5.6.0")
    assert result.permanent


def test_line_ends_cut_by_pieces_are_whole(run: Run) -> None:
    seen = []

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        seen.append(await wire.letter())

    letter = replace(mail(), pieces=[b"Subject: x\r", memoryview(b"\n\r\n"), b"", b".y\r", b"\n", b"."])
    assert run(lambda: one(play, letter)).results[0].accepted
    assert seen == [b"Subject: x\r\n\r\n..y\r\n..\r\n"]


@pytest.mark.parametrize(
    "change",
    [
        {"sender": Address("a\r\nRCPT TO:<x@y>", "b.example")},
        {"recipients": (OutRecipient(address=Address("a", "b.example>\r\nDATA\r\n")),)},
    ],
)
def test_an_address_cannot_write_a_command(run: Run, change: dict[str, Any]) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        assert await wire.line() == b"QUIT"

    (result,) = run(lambda: one(play, replace(mail(), **change))).results
    assert result.stage is Stage.LOCAL and result.permanent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orcpt", "rfc822;x\r\nQUIT"),
        ("orcpt", "rfc822;x y"),
        ("orcpt", "no type"),
        ("orcpt", "rfc822;" + "x" * 500),
        ("orcpt", "utf-8;\u0643"),  # without SMTPUTF8
        ("notify", "NEVER\r\nQUIT"),
        ("notify", "NEVER,SUCCESS"),
        ("notify", "SOMETIMES"),
        ("envid", "a b"),
        ("envid", "a=b"),
        ("envid", "+4g"),
        ("envid", "x" * 101),
        ("envid", "\r\nQUIT"),
        ("ret", "FULL\r\nQUIT"),
    ],
)
def test_a_malformed_parameter_is_left_out_and_the_letter_goes(run: Run, name: str, value: str) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.letter()
        assert wire.said[1:] == [b"MAIL FROM:<a@mof.example> SIZE=41", b"RCPT TO:<r1@moh.example>", b"DATA"]

    if name in ("orcpt", "notify"):
        to = OutRecipient(address=Address.parse("r1@moh.example"), **{name: value})
        letter = replace(mail(), recipients=(to,))
    else:
        letter = replace(mail(), **{name: value})  # type: ignore[arg-type]
    assert run(lambda: one(play, letter)).results[0].accepted


def test_an_old_server_is_greeted_with_helo(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.say("220 old")
        assert await wire.line() == b"EHLO wasl.example"
        await wire.say("500 what")
        assert await wire.line() == b"HELO wasl.example"
        await wire.say("250 old PIPELINING")
        for answer in ("250 ok", "250 ok", "354 go on"):
            await wire.line()
            assert await wire.nothing(0.02)
            await wire.say(answer)
        await wire.octets()
        await wire.say("250 ok")

    assert run(lambda: one(play)).results[0].accepted


# Refusals


def test_each_recipient_has_its_own_result(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.lines(5)
        await wire.say(
            "250 ok", "550-5.1.1 no such", "550 5.1.1 user", "250 ok", "451 4.7.1 later", "354 go on"
        )
        await wire.octets()
        await wire.say("250 2.0.0 taken")

    outcome = run(lambda: one(play, mail(*THREE)))
    assert short(outcome) == [
        (550, Stage.RCPT, False),
        (250, Stage.FINAL, False),
        (451, Stage.RCPT, False),
    ]
    assert [r.permanent for r in outcome.results] == [True, False, False]
    assert str(outcome.results[0].told) == "550 5.1.1 no such user"
    assert "5.1.1" not in outcome.transcript + outcome.transcript_for(1)
    assert outcome.transcript_for(0).endswith("RCPT: 550 5.1.1 no such user")


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize(
    ("answers", "want"),
    [
        (("451 4.3.0 later", "503 no", "503 no"), (451, Stage.MAIL)),
        (("550 5.7.1 never", "503 no", "503 no"), (550, Stage.MAIL)),
        (("250 ok", "250 ok", "452 4.3.1 full"), (452, Stage.DATA)),
        (("250 ok", "250 ok", "554 5.7.1 no"), (554, Stage.DATA)),
        (("250 ok", "550 5.1.1 no", "554 no valid"), (550, Stage.RCPT)),
    ],
)
def test_a_refused_letter_leaves_the_connection_clean(
    run: Run, batch: bool, answers: tuple[str, ...], want: tuple[int, Stage]
) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*(OFFERED if batch else ("DSN",)))
        if batch:
            await wire.lines(3)
            await wire.say(*answers)
        else:
            for answer in answers:
                await wire.line()
                await wire.say(answer)
                if answer[0] == "5" or answer.startswith("451"):
                    break
        line = await wire.line()
        if line == b"RSET":
            await wire.say("250 reset")
            line = await wire.line()
        assert line.startswith(b"MAIL")
        if batch:
            await wire.lines(2)
            await wire.say("250 ok", "250 ok", "354 go on")
        else:
            await wire.say("250 ok")
            await wire.line()
            await wire.say("250 ok")
            await wire.line()
            await wire.say("354 go on")
        await wire.octets()
        await wire.say("250 taken")

    async def main() -> None:
        async with serving(play) as server:
            connections = pool(server.port)
            assert short(await connections.send(mail())) == [(*want, False)]
            assert (await connections.send(mail())).results[0].accepted
            assert len(server.wires) == 1
            if want[1] is not Stage.MAIL:
                assert b"RSET" in server.said
            await connections.close(0.2)

    run(main)


def test_354_although_all_are_refused_is_ended_with_a_lone_dot(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.lines(4)
        await wire.say("250 ok", "550 no", "551 no", "354 go on")
        assert await wire.line() == b"."
        await wire.say("554 no recipients")
        assert await wire.lines(4) == [b"RSET", b"MAIL FROM:<a@mof.example> SIZE=41",
                                       b"RCPT TO:<r1@moh.example>", b"DATA"]  # fmt: skip
        await wire.say("250 ok", "250 ok", "250 ok", "354 go on")
        assert await wire.octets() == LETTER
        await wire.say("250 ok")

    async def main() -> None:
        async with serving(play) as server:
            connections = pool(server.port)
            assert short(await connections.send(mail(*TWO))) == [
                (550, Stage.RCPT, False),
                (551, Stage.RCPT, False),
            ]
            assert (await connections.send(mail())).results[0].accepted
            await connections.close(0.2)

    run(main)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_confused_server_gets_no_empty_letter(run: Run, protocol: str) -> None:
    rest = []

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.lines(3)
        if protocol == "smtp":
            await wire.say("550 5.7.1 not you", "250 ok", "354 go on")
        else:
            await wire.say("250 ok", "550 5.1.1 no", "354 go on")
        rest.append(await wire.reader.read())

    outcome = run(lambda: one(play, protocol=protocol))
    assert [r[:2] for r in short(outcome)] == [(550, Stage.MAIL if protocol == "smtp" else Stage.RCPT)]
    assert rest in ([b""], [])


@pytest.mark.parametrize(("final", "permanent"), [("552 5.2.2 full", True), ("451 4.2.0 later", False)])
def test_a_refusal_of_the_content(run: Run, final: str, permanent: bool) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.letter(final, recipients=2)

    outcome = run(lambda: one(play, mail(*TWO)))
    assert short(outcome) == [(int(final[:3]), Stage.FINAL, False)] * 2
    assert [r.permanent for r in outcome.results] == [permanent] * 2
    assert not outcome.results[0].accepted


@pytest.mark.parametrize("reply", ["530 5.7.0 STARTTLS first", "538 5.7.11 encrypt", "503 5.5.1 sequence"])
def test_what_the_directory_has_wrong_returns_no_letter(run: Run, reply: str) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.lines(3)
        await wire.say(reply, "503 5.5.1 no", "503 5.5.1 no")

    (result,) = run(lambda: one(play)).results
    assert result.stage is Stage.MAIL and result.reply is not None and not result.permanent


def test_too_many_recipients_for_one_transaction_go_in_further_ones(run: Run) -> None:
    took = []

    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        while True:
            lines = [await wire.line()]
            while lines[-1] != b"DATA":
                lines.append(await wire.line())
            asked = [line for line in lines if line.startswith(b"RCPT")]
            replies = ["250 ok" if i < 2 else "452 4.5.3 too many" for i in range(len(asked))]
            await wire.say("250 ok", *replies, "354 go on")
            await wire.octets()
            took.append(asked[:2])
            await wire.say(f"250 taken {len(took)}")

    letter = mail(*(f"r{i}@moh.example" for i in range(5)))
    outcome = run(lambda: one(play, letter))
    assert [len(part) for part in took] == [2, 2, 1]
    assert all(result.accepted for result in outcome.results)
    assert [result.told.text for result in outcome.results] == ["taken 1"] * 2 + ["taken 2"] * 2 + ["taken 3"]


def test_a_mailbox_that_is_always_full_is_not_asked_for_ever(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello(*OFFERED)
        await wire.lines(4)
        await wire.say("250 ok", "250 ok", "452 4.2.2 full", "354 go on")
        await wire.octets()
        await wire.say("250 taken")
        await wire.lines(3)
        await wire.say("250 ok", "452 4.2.2 full", "554 none")

    outcome = run(lambda: one(play, mail(*TWO)))
    assert short(outcome) == [(250, Stage.FINAL, False), (452, Stage.RCPT, False)]


# LMTP


def test_lmtp_answers_for_each_accepted_recipient(run: Run) -> None:
    async def play(wire: Wire) -> None:
        assert await wire.hello("PIPELINING") == b"LHLO wasl.example"
        await wire.lines(5)
        await wire.say("250 ok", "250 ok", "550 5.1.1 unknown", "250 ok", "354 go on")
        await wire.octets()
        await wire.say("250 2.0.0 r1 saved")
        await asyncio.sleep(0.02)
        await wire.say("452 4.2.2 r3 full")

    outcome = run(lambda: one(play, mail(*THREE), protocol="lmtp"))
    assert short(outcome) == [(250, Stage.FINAL, False), (550, Stage.RCPT, False), (452, Stage.FINAL, False)]
    assert outcome.transcript_for(2).splitlines()[-1] == ".: 452 4.2.2 r3 full"
    assert "saved" not in outcome.transcript_for(2)


@pytest.mark.parametrize("last", ["", "421 4.3.0 going down"])
def test_lmtp_replies_that_do_not_come_are_in_doubt(
    run: Run, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_stream, "CLOSING_GRACE_S", 0.1)

    async def play(wire: Wire) -> None:
        await wire.hello("PIPELINING")
        await wire.lines(5)
        await wire.say("250 ok", *["250 ok"] * 3, "354 go on")
        await wire.octets()
        await wire.say("250 2.0.0 saved", *([last] if last else []))
        if last:
            await wire.reader.read()

    outcome = run(lambda: one(play, mail(*THREE), protocol="lmtp"))
    assert short(outcome)[0] == (250, Stage.FINAL, False)
    assert short(outcome)[1] == ((421, Stage.FINAL, False) if last else (None, Stage.FINAL, True))
    assert short(outcome)[2] == (None, Stage.FINAL, True)
    assert "in doubt" in outcome.transcript_for(2)
