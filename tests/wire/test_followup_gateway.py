"""Follow-up by a running gateway: a reminder arrives in a registry's mailbox, and none after the answer."""

from __future__ import annotations

import email.policy
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update

from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.place import wait_until
from tests.wire.gateway_front import MOF, MOH, Agency, Front, gateway_front, hop
from tests.wire.wire_letters import letter
from tracker import schema

pytestmark = pytest.mark.servers

REGISTRY = "diwan@moh.gov.example"
PEOPLE = Agency(code="MOH", domain=MOH.domain, bind=MOH.bind, more=f"registry: {REGISTRY}\n")
# The office never closes, so that the test need not wait for it.
CALENDAR = """working_days: [sunday, monday, tuesday, wednesday, thursday, friday, saturday]
office_hours: "00:00-24:00"
"""
FOLLOWUP = """reminders: [2 working hours before, 1 working day after]
digest: {at: "00:00", registry: false}
"""
DUE = """rules:
  - id: three-hours
    priority: 145
    description: {ar: مهلة ثلاث ساعات, en: Three hours}
    match: {recipient: agency, subject_contains: urgent matter}
    due: 3 working hours
"""


@pytest.fixture(scope="module")
def mailboxes() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


@pytest.fixture(scope="module")
def front(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, mailboxes: Dovecot
) -> Iterator[Front]:
    with gateway_front(
        tmp_path_factory.mktemp("follow"),
        authority,
        agencies=(MOF, PEOPLE),
        hops={"MOH": hop(mailboxes.lmtp_port, "lmtp")},
    ) as running:
        folder = running.house.root / "policy"
        first = running.house.rows("policy", "versions")[0]["digest"]
        for name, text in (("calendar", CALENDAR), ("followup", FOLLOWUP), ("due", DUE)):
            (folder / f"{name}.yaml").write_text(text, "utf-8")
        running.house.run("reload")
        wait_until(lambda: running.house.rows("policy", "versions")[0]["digest"] != first, "the new policy")
        yield running


def reminders(mailboxes: Dovecot, number: str) -> list[EmailMessage]:
    found = []
    for path in mailboxes.maildir(REGISTRY).files():
        message = BytesParser(policy=email.policy.default).parsebytes(path.read_bytes())
        assert isinstance(message, EmailMessage)
        if message["Wasl-Receipt"] == "reminder" and message["Wasl-Letter"] == number:
            found.append(message)
    return found


def owed(front: Front, *more: str) -> list[str]:
    return [row["number"] for row in front.house.rows("followup", "list", "answer", *more)]


def ahead(front: Front, number: str, when: datetime) -> list[str]:
    """The steps that would be taken then."""
    steps = front.house.run(
        "followup", "run", "--dry-run", "--at", when.isoformat(timespec="minutes"), "--json"
    )
    delivery = {
        row["delivery"] for row in front.house.rows("followup", "list", "answer") if row["number"] == number
    }
    told = [json.loads(line) for line in steps.splitlines()]
    return [step["step"] for step in told if step.get("delivery") in delivery and step["taken"]]


def an_hour_passes(front: Front, number: str, hours: int = 1) -> None:
    """The letter came earlier, and is due earlier; -1 hour: as it was, and as its evidence says."""
    le, d = schema.letter.c, schema.delivery.c
    hour = hours * 3_600_000_000
    with front.engine.begin() as conn:
        letter_id = conn.scalar(select(le.id).where(le.number == number))
        conn.execute(
            update(schema.letter).where(le.id == letter_id).values(accepted_us=le.accepted_us - hour)
        )
        conn.execute(update(schema.delivery).where(d.letter_id == letter_id).values(due_us=d.due_us - hour))


def test_a_reminder_arrives_and_stops_after_the_answer(front: Front, mailboxes: Dovecot) -> None:
    octets, message_id = letter(REGISTRY, subject="an urgent matter: موازنة")
    number = front.accept(octets, REGISTRY)
    front.wait_standing(message_id, REGISTRY, "sent", 3, "open")
    an_hour_passes(front, number)
    assert owed(front, "--agency", "moh") == [number]
    front.house.run("followup", "run")
    wait_until(lambda: reminders(mailboxes, number), "the reminder", hint=front.wasl.log)
    (mail,) = reminders(mailboxes, number)
    assert mail["In-Reply-To"] == message_id and mail["Auto-Submitted"] == "auto-generated"
    assert mail["Return-Path"] == "<>"
    assert "تذكير" in mail["Subject"] and "موازنة" in mail["Subject"]
    assert "DKIM-Signature" in mail or not front.dkim
    (row,) = [r for r in front.house.rows("followup", "list", "answer") if r["number"] == number]
    assert [done["step"] for done in row["done"]] == ["2 working hours before"]
    assert row["next"] == "expire"
    # The gateway looks by itself too, and again: there is still one.
    assert json.loads(front.house.run("followup", "run", "--json")) == {"mails": 0}
    soon = datetime.now(ZoneInfo("Asia/Amman")).replace(tzinfo=None) + timedelta(days=1, hours=3)
    assert sorted(ahead(front, number, soon)) == ["1 working day after", "expire"]
    # The answer goes back through the gateway: nothing is owed any more.
    answer, answer_id = letter(
        "author@mof.gov.example",
        author=REGISTRY,
        subject=f"رد: [{number}]",
        more={"In-Reply-To": message_id, "References": message_id},
    )
    front.accept(answer, "author@mof.gov.example", sender=REGISTRY, agency=PEOPLE)
    front.arrived(MOF, answer_id)
    wait_until(lambda: number not in owed(front), "the answer to close it", hint=front.wasl.log)
    assert ahead(front, number, soon) == []
    front.house.run("followup", "run")
    assert len(reminders(mailboxes, number)) == 1
    an_hour_passes(front, number, -1)
    front.verify()


def test_what_was_answered_before_is_not_reminded_of(front: Front, mailboxes: Dovecot) -> None:
    octets, message_id = letter(REGISTRY, subject="another urgent matter")
    number = front.accept(octets, REGISTRY)
    front.wait_standing(message_id, REGISTRY, "sent", 3, "open")
    an_hour_passes(front, number)
    front.house.run("letter", "close", number, "--agency", "MOH", person="rana")
    front.house.run("followup", "run")
    with front.engine.connect() as conn:
        f, le = schema.followup.c, schema.letter.c
        taken = conn.execute(
            select(f.step)
            .join(schema.letter, le.id == f.letter_id)
            .where(le.number == number, f.state == "sent")
        ).all()
    assert taken == [] and reminders(mailboxes, number) == []


def test_an_automatic_letter_is_owed_no_answer(front: Front) -> None:
    octets, _ = letter(
        REGISTRY, subject="an urgent matter of a machine", more={"Auto-Submitted": "auto-generated"}
    )
    number = front.accept(octets, REGISTRY)
    assert number and number not in owed(front)


def test_the_digest_is_shown(front: Front) -> None:
    octets, message_id = letter(REGISTRY, subject="an urgent matter for the digest")
    number = front.accept(octets, REGISTRY)
    front.wait_standing(message_id, REGISTRY, "sent", 3, "open")
    shown = front.house.run("followup", "digest", "--agency", "MOH")
    assert "متابعة جهة MOH" in shown and number in shown and "Waiting for registration" in shown
    told = json.loads(front.house.run("followup", "digest", "--agency", "MOH", "--json"))
    assert told["counts"]["registration"] >= 1 and not told["empty"]
    assert "all agencies" in front.house.run("followup", "digest")
