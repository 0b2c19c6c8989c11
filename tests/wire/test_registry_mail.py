"""The receiving side over the wire: command mails, the terminal, answers, and what the author is told.

MOH has its incoming numbers assigned and a registrar beside its registry; MOJ keeps numbers of its own.
"""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.place import wait_until
from tests.servers.sink import Received
from tests.wire.gateway_front import MOF, MOH, MOJ, SHADOW, Front, gateway_front
from tests.wire.wire_letters import header, letter, return_address
from tracker import schema
from tracker.model import id_text

DIWAN, CLERK, LOOKER = "diwan@moh.gov.example", "rana@moh.gov.example", "sami@moh.gov.example"
AUTHOR = "author@mof.gov.example"
REGISTRY = f"registry: {DIWAN}\nregistrars: [{CLERK}]\nincoming: assigned\n"
OWN = "registry: diwan@moj.gov.example\nanswers: advances\nregistrars: [author@moj.gov.example]\n"

RULES = """\
rules:
  - id: no-closing
    priority: 101
    description: {ar: لا يغلق, en: Closes nothing}
    match: {subject_contains: [SHORT-WORD]}
    answers: nothing
  - id: tell-of-referrals
    priority: 102
    description: {ar: الإحالات, en: Referrals}
    match: {subject_contains: [TELL-ALL]}
    receipts: [registered, referred, processed]
"""


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, dovecot_server: Dovecot
) -> Iterator[Front]:
    agencies = (MOF, replace(MOH, more=REGISTRY), replace(MOJ, more=OWN), SHADOW)
    folder = tmp_path_factory.mktemp("registry")
    with gateway_front(folder, authority, agencies=agencies) as front:
        (front.house.root / "policy" / "own.yaml").write_text(RULES, "utf-8")
        port = dovecot_server.imap_port
        front.house.agency("MOH", f"sign_in: {{kind: imap, host: 127.0.0.1, port: {port}, tls: none}}\n")
        front.reload()
        wait_until(
            lambda: front.wasl.log().count("policy version") >= 1 or "fault" in front.wasl.log(),
            "the rules in force",
            hint=front.wasl.log,
        )
        yield front


class Sent:
    """A letter of MOF's at MOH: its Message-ID, number, and the address of its copy."""

    def __init__(self, front: Front, *to: str, at: Any = MOH, **more: Any) -> None:
        octets, self.id = letter(to[0] if to else DIWAN, **more)
        self.number = front.accept(octets, *(to or (DIWAN,)))
        self.to = to[0] if to else DIWAN
        self.copy = front.arrived(at, self.id)[0]
        self.back = return_address(self.copy)
        front.wait_standing(self.id, self.to, "sent", 2, "open")


def command(
    front: Front,
    sent: Sent,
    text: str,
    *,
    who: str = DIWAN,
    agency: Any = MOH,
    more: Any = None,
    **changes: Any,
) -> str:
    """Mail a command from MOH's server; its Message-ID."""
    octets, message_id = letter(sent.back, author=who, subject="Re: " + sent.number, text=text, more=more)
    front.accept(octets, sent.back, **({"sender": who, "agency": agency} | changes))
    return message_id


def told(front: Front, message_id: str, at: Any = MOH) -> str:
    """The text of the answer to a command."""
    sink = front.sink(at)

    def found() -> list[Received]:
        return [r for r in list(sink.received) if header(r.octets, "In-Reply-To") == message_id]

    wait_until(lambda: bool(found()), f"the answer to {message_id}", hint=front._hint)
    (one,) = found()
    assert one.sender.startswith(b"<>"), one.sender
    assert header(one.octets, "Auto-Submitted") == "auto-replied"
    message = email.message_from_bytes(one.octets, policy=email.policy.default)
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def events(front: Front, sent: Sent) -> list[tuple[str, str]]:
    return [(e.event, e.source) for e in front.evidence(sent.id) if e.delivery_id][1:]


def entry(front: Front, sent: Sent, agency: str = "MOH") -> Any:
    i = schema.incoming.c
    with front.engine.connect() as conn:
        letter_id = front.letter(sent.id).id
        return conn.execute(
            select(schema.incoming).where(i.letter_id == letter_id, i.agency == agency)
        ).one_or_none()


def test_a_registry_works_through_its_mail_client(house: Front) -> None:
    sent = Sent(house)
    first = command(house, sent, "قيد\nإحالة إلى مديرية المشتريات للإجراء: للسرعة\n\nشكراً")
    answer = told(house, first)
    number = entry(house, sent).number
    assert number.endswith(f"/{sent.number.split('/')[1]}") and number in answer
    assert "مديرية المشتريات" in answer and "Your command was carried out" in answer
    assert events(house, sent) == [("registered", "person"), ("referred", "person")]
    (e,) = [e for e in house.evidence(sent.id) if e.event == "registered"]
    assert (e.grade, e.reporter, e.detail["where"]) == (6, DIWAN, "mail")
    assert e.detail["incoming_number"] == number and e.detail["report"]
    assert told(house, command(house, sent, "قيد الإجراء", who=CLERK))
    assert told(house, command(house, sent, "تم: صُرفت المخصصات", who=CLERK))
    house.wait_standing(sent.id, DIWAN, "sent", 7, "closed")
    receipts = house.receipts(sent.id, "submitted", "registered", "processed")
    registered = next(r for r in receipts if header(r.octets, "Wasl-Receipt") == "registered")
    text = email.message_from_bytes(registered.octets, policy=email.policy.default)
    words = str(text.get_body(("plain",)).get_content())  # type: ignore[union-attr]
    assert number in words and "رقم الوارد" in words and sent.number in words
    with house.engine.connect() as conn:
        remarks = list(conn.scalars(select(schema.referral.c.remark)))
    assert "للسرعة" in remarks
    assert not any("للسرعة" in r.octets.decode("utf-8", "replace") for r in house.sink(MOF).received)
    house.verify()


def test_what_cannot_be_done_is_explained(house: Front) -> None:
    sent = Sent(house)
    assert "write only" in told(house, command(house, sent, "قيد 77"))
    assert "write the reason" in told(house, command(house, sent, "معاد"))
    told(house, command(house, sent, "register"))
    again = told(house, command(house, sent, "register"))
    assert "registered already as incoming" in again and "مقيّد من قبل" in again
    told(house, command(house, sent, "return: not for us"))
    house.wait_standing(sent.id, DIWAN, "sent", 6, "returned")
    assert "in progress" in told(house, command(house, sent, "done"))
    assert events(house, sent) == [("registered", "person"), ("returned", "person")]
    house.receipts(sent.id, "submitted", "registered", "returned")


def test_a_slip_is_answered_with_how_to_write_it(house: Front) -> None:
    """What a registrar meant for the gateway does not go to the other agency, remark and all."""
    sent = Sent(house)
    slip = command(house, sent, "إحالة: لا تخبروهم\n", who=CLERK)
    answer = told(house, slip)
    assert "was not understood" in answer and "لا تخبروهم" in answer and "refer to Procurement" in answer
    below = command(house, sent, "مدير الديوان\nقيد\n")
    assert "is not the first line" in told(house, below) and "لم تُرسل رسالتكم" in told(house, below)
    assert "register 512" in told(house, command(house, sent, "مساعدة"))
    theirs = command(house, sent, "إحالة: كلام", who=LOOKER)  # whom nobody entitled: words to the author
    house.arrived(MOF, theirs)
    assert events(house, sent) == [] and entry(house, sent) is None
    passed = {header(r.octets, "Message-ID") for r in house.sink(MOF).received}
    assert not {slip, below} & passed


def test_a_registry_with_numbers_of_its_own(house: Front) -> None:
    first = Sent(house, "diwan@moj.gov.example", at=MOJ)
    second = Sent(house, "diwan@moj.gov.example", at=MOJ)
    who: dict[str, Any] = {"who": "diwan@moj.gov.example", "agency": MOJ}
    assert "register 512" in told(house, command(house, first, "قيد", **who), MOJ)
    assert "٥١٢" in told(house, command(house, first, "قيد رقم ٥١٢", **who), MOJ)
    assert entry(house, first, "MOJ").number == "٥١٢"
    assert "another letter" in told(house, command(house, second, "register 512", **who), MOJ)
    assert entry(house, second, "MOJ") is None


def test_who_is_not_entitled_is_told_so_and_does_nothing(house: Front) -> None:
    sent = Sent(house)
    answer = told(house, command(house, sent, "قيد", who=LOOKER))
    assert "not among those" in answer and "لم يُنفَّذ شيء" in answer
    assert events(house, sent) == [] and entry(house, sent) is None


def test_nobody_elses_words_are_commands(house: Front) -> None:
    """Another agency, a foreign author, a machine, a list, another copy's address: nothing is done."""
    sent = Sent(house)
    other = Sent(house, "diwan@moj.gov.example", at=MOJ)
    ids = [
        command(house, sent, "تم", who=AUTHOR, agency=MOF),
        command(house, sent, "تم", who="diwan@moj.gov.example", agency=MOJ),
        command(house, sent, "تم", who=DIWAN, sender=CLERK),
        command(house, sent, "تم", more={"Auto-Submitted": "auto-replied"}),
        command(house, sent, "تم", more={"Precedence": "bulk"}),
        command(house, other, "تم", who=DIWAN),
        command(house, sent, "تم استلام كتابكم وسنجيب"),
    ]
    code, _ = house.send(letter(sent.back, author=DIWAN, text="تم")[0], sent.back, sender="", agency=MOH)
    assert code == 250
    house.quiet()
    assert {e for e, _ in events(house, sent)} <= {"auto-reply"} and entry(house, sent) is None
    for agency in (MOF, MOH, MOJ):
        replies = [header(r.octets, "In-Reply-To") for r in house.sink(agency).received]
        assert not set(ids) & set(replies)
    words = [r for r in house.sink(MOF).received if header(r.octets, "Message-ID") == ids[-1]]
    assert len(words) == 1, "a person's words still reach the author"


def test_the_same_command_mail_twice_is_done_once(house: Front) -> None:
    sent = Sent(house)
    octets, message_id = letter(sent.back, author=DIWAN, text="قيد")
    for _ in range(2):
        house.accept(octets, sent.back, sender=DIWAN, agency=MOH)
    told(house, message_id)
    house.quiet()
    assert events(house, sent) == [("registered", "person")]


def test_a_signed_in_account_may_act(house: Front) -> None:
    sent = Sent(house)
    octets, message_id = letter(sent.back, author=CLERK, text="register")
    with house.signed_in(CLERK, "secret") as smtp:
        assert smtp.sendmail(CLERK, [sent.back], octets) == {}
    told(house, message_id)
    assert events(house, sent) == [("registered", "person")]
    assert [e.reporter for e in house.evidence(sent.id) if e.event == "registered"] == [CLERK]


def test_machines_at_both_ends_do_not_talk_to_each_other(house: Front) -> None:
    """A responder without manners answers every answer of ours; it is no command, and it ends."""
    sent = Sent(house)
    told(house, command(house, sent, "قيد"))
    for _ in range(5):
        octets, message_id = letter(sent.back, author=DIWAN, text="أنا في إجازة")
        house.accept(octets, sent.back, sender=DIWAN, agency=MOH)
        house.quiet()
        assert not [r for r in house.sink(MOH).received if header(r.octets, "In-Reply-To") == message_id]


def rows(front: Front, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in front.house.run(*words, "--json", may_fail=True).splitlines()]


def test_the_terminal(house: Front) -> None:
    sent = Sent(house, DIWAN, subject="TELL-ALL")
    both_octets, both = letter(DIWAN)
    both_number = house.accept(both_octets, DIWAN, "diwan@moj.gov.example")
    house.arrived(MOH, both)
    house.arrived(MOJ, both)
    house.quiet()
    (done,) = rows(house, "letter", "register", sent.number)
    assert done["error"] == "" and done["incoming"] and done["stage"] == "registered"
    (unsaid,) = rows(house, "letter", "register", both_number)
    assert "at which agency" in unsaid["error"]
    (own,) = rows(house, "letter", "register", both_number, "--agency", "MOJ", "--number", "9001")
    assert own["incoming"] == "9001"
    (twice,) = rows(house, "letter", "register", both_number, "--agency", "MOJ", "--number", "9002")
    assert "already" in twice["error"] and twice["incoming"] == "9001"
    (none,) = rows(house, "letter", "register", "MOF/2026/999999")
    assert none["error"]
    (referred,) = rows(house, "letter", "refer", sent.number, "--to", "قسم الصيدلة", "--for-information")
    assert referred["events"] == ["referred"]
    (progress,) = rows(house, "letter", "progress", sent.number)
    assert progress["stage"] == "in-progress"
    (closed,) = rows(house, "letter", "close", sent.number, "--result", "حُفظ")
    assert closed["stage"] == "closed"
    (ended,) = rows(house, "letter", "return", sent.number, "--reason", "x")
    assert "opens it again" in ended["error"]
    house.receipts(sent.id, "registered", "referred", "processed")
    (page,) = rows(house, "letter", "show", sent.number)
    assert [(e["agency"], e["number"], e["stage"]) for e in page["incoming"]] == [
        ("MOH", done["incoming"], "closed")
    ]
    assert f"at MOH: incoming {done['incoming']}" in house.house.run("letter", "show", sent.number)
    trace = house.house.run("letter", "trace", sent.number)
    assert "registered" in trace and "processed" in trace


def answer(
    front: Front, sent: Sent, text: str = "الجواب\n", *, agency: Any = MOH, **more: Any
) -> tuple[str, str]:
    """A letter back to MOF; its Message-ID and number."""
    who = more.pop("author", DIWAN)
    octets, message_id = letter(AUTHOR, author=who, text=text, **more)
    number = front.accept(octets, AUTHOR, sender=who, agency=agency)
    return message_id, number


@pytest.mark.parametrize("way", ["header", "subject", "text"])
def test_an_answer_closes_the_letter_that_it_answers(house: Front, way: str) -> None:
    sent = Sent(house)
    more: dict[str, Any] = {}
    if way == "header":
        more["more"] = {"In-Reply-To": sent.id, "References": f"<0@x> {sent.id}"}
    elif way == "subject":
        more["subject"] = f"رد: [{sent.number}] كتاب رسمي"
    else:
        digits = sent.number.translate({ord("0") + n: 0x660 + n for n in range(10)})
        more["text"] = f"السلام عليكم،\n\nإشارةً لكتابكم رقم {digits} تاريخ 3/4/2026،\nنفيدكم بالموافقة.\n"
    message_id, number = answer(house, sent, **more)
    house.arrived(MOF, message_id)
    house.wait_standing(sent.id, DIWAN, "sent", 7, "closed")
    assert house.letter(message_id).answers == house.letter(sent.id).id
    assert house.letter(message_id).thread_id == house.letter(sent.id).thread_id
    last = house.evidence(sent.id)[-1]
    assert (last.event, last.source, last.detail["answer"]) == ("processed", "answer", number)
    assert entry(house, sent).stage == "closed" and entry(house, sent).number
    told_of = house.receipts(sent.id, "submitted", "processed")
    processed = next(r for r in told_of if header(r.octets, "Wasl-Receipt") == "processed")
    body = email.message_from_bytes(processed.octets, policy=email.policy.default).get_body(("plain",))
    assert body is not None and number in body.get_content()


def test_policy_says_what_an_answer_does(house: Front) -> None:
    sent = Sent(house)
    message_id, _ = answer(house, sent, subject=f"[{sent.number}] SHORT-WORD")
    house.arrived(MOF, message_id)
    wait_until(lambda: house.evidence(sent.id)[-1].event == "linked", "the link", hint=house._hint)
    assert house.standing(sent.id)[DIWAN] == ("sent", 2, "open")
    theirs = Sent(house, "diwan@moj.gov.example", at=MOJ)
    more = {"In-Reply-To": theirs.id}
    answer(house, theirs, agency=MOJ, author="diwan@moj.gov.example", more=more)
    house.wait_standing(theirs.id, "diwan@moj.gov.example", "sent", 6, "open")
    assert entry(house, theirs, "MOJ").stage == "in-progress"


def test_a_stranger_to_a_letter_is_only_proposed(house: Front) -> None:
    sent = Sent(house)
    text = f"إشارة لكتابكم رقم {sent.number}\n"
    message_id, _ = answer(house, sent, text, agency=MOJ, author="diwan@moj.gov.example")
    house.arrived(MOF, message_id)
    house.quiet()
    k = schema.letter_link.c
    with house.engine.connect() as conn:
        asked = select(schema.letter_link).where(k.letter_id == house.letter(message_id).id)
        row = conn.execute(asked).one()
    assert (row.state, row.to_id, row.how) == ("proposed", house.letter(sent.id).id, "text")
    assert house.letter(message_id).answers is None
    assert house.standing(sent.id)[DIWAN] == ("sent", 2, "open")


def test_an_automatic_answer_closes_nothing(house: Front) -> None:
    sent = Sent(house)
    octets, message_id = letter(
        AUTHOR, author=DIWAN, more={"In-Reply-To": sent.id, "Auto-Submitted": "auto-replied"}
    )
    house.accept(octets, AUTHOR, sender=DIWAN, agency=MOH)
    house.arrived(MOF, message_id)
    house.quiet()
    assert house.standing(sent.id)[DIWAN] == ("sent", 2, "open")


def test_an_agency_in_shadow_mode_is_told_nothing(house: Front) -> None:
    octets, message_id = letter(DIWAN, author="a@shadow.gov.example")
    house.accept(octets, DIWAN, sender="a@shadow.gov.example", agency=SHADOW)
    house.arrived(MOH, message_id)
    (row,) = house.letters(message_id)
    (done,) = rows(house, "letter", "register", id_text(row.id), "--agency", "MOH")
    assert done["error"] == ""
    house.quiet()
    assert not [r for r in house.sink(SHADOW).received if header(r.octets, "In-Reply-To") == message_id]
