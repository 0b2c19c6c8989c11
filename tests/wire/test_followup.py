"""Following up on a real record: claims, mail, restarts, clocks set back, several nodes; both databases."""

from __future__ import annotations

import asyncio
import email.policy
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, func, select, update

from gateway.crossing import Crossing
from gateway.followup import FollowUpClock, FollowUpSettings
from gateway.own_mail import OwnPost
from gateway.retry import RetrySchedule
from policies.agency import Agency, Mode, NextHop
from policies.chain import Policy
from policies.directory import Directory
from policies.load import LETTERS, load_policy_texts
from tests.records import HOUR, record_at
from tests.wire.watch_house import claim_all
from tracker import schema
from tracker.acceptance import Acceptance, DeliveryDraft
from tracker.archive import Archive, Octets
from tracker.ledger import LedgerKey
from tracker.model import Address, Connection, DeliveryKind, Door, Envelope, LetterKind, Recipient
from tracker.notice import GatewayIdentity
from tracker.noting import Note
from tracker.record import Record
from tracker.states import Event
from tracker.store import Store

ZONE = ZoneInfo("Asia/Amman")
CALENDAR = """holidays:
  - {date: 2026-05-26, until: 2026-05-30, ar: عيد الأضحى, en: Eid al-Adha}
"""
ESCALATE = "escalation: {when: 5 working days after, to: office@pm.gov.example}\n"
_numbers = count(1)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()) * 1_000_000


def policy(followup: str = "") -> Policy:
    files = {"letters.yaml": LETTERS.read_text("utf-8"), "calendar.yaml": CALENDAR}
    return load_policy_texts(files | ({"followup.yaml": followup} if followup else {}))


def agency(code: str, **more: Any) -> Agency:
    domain = f"{code.lower()}.gov.example"
    terms: dict[str, Any] = {"registry": Address.parse(f"diwan@{domain}"), "mode": Mode.ACTIVE} | more
    return Agency(
        code=code,
        name_ar=f"جهة {code}",
        name_en=f"Agency {code}",
        domains=(domain,),
        next_hop=NextHop(name=code, host="127.0.0.1"),
        **terms,
    )


DIRECTORY = Directory(
    [
        agency("MOF"),
        agency("MOH"),
        agency("PM"),
        agency("SHD", mode=Mode.SHADOW),
        agency("OFF", mode=Mode.OFF),
    ]
)


SCHEDULE = RetrySchedule(
    waits=(timedelta(minutes=1),),
    jitter=0,
    warn_after=timedelta(hours=4),
    give_up_after=timedelta(days=5),
)


@dataclass
class Desk:
    """A record, a clock that the test sets, and gateways that follow up by it."""

    record: Record
    now: int = at("2026-05-10 09:00")
    policy: Policy = field(default_factory=policy)
    directory: Directory = DIRECTORY

    def run(self, work: Callable[[FollowUpClock], Awaitable[Any]], owner: str = "0/a") -> Any:
        """One life of a gateway: what ``work`` does with its worker."""

        async def life() -> Any:
            with ThreadPoolExecutor(2) as executor:
                crossing = Crossing(self.record)
                clock = FollowUpClock(
                    crossing,
                    FollowUpSettings(
                        gateway=GatewayIdentity(
                            domain="wasl.gov.example",
                            hostname="wasl.gov.example",
                            zone=ZONE,
                            local="postmaster",
                        ),
                        base_url="https://wasl.gov.example",
                    ),
                    lambda: self.directory,
                    lambda: self.policy,
                    OwnPost(crossing, lambda: self.directory, SCHEDULE, None),
                    executor,
                    owner=owner,
                    now=lambda: self.now,
                )
                return await work(clock)

        return asyncio.run(life())

    def look(self, when: str = "", owner: str = "0/a") -> int:
        if when:
            self.now = at(when)
        found: int = self.run(lambda clock: clock.look(), owner)
        return found

    def post(
        self,
        *to: str,
        due: str | None = "2026-05-21 15:30",
        came: str = "2026-05-10 09:00",
        subject: str = "",
        sent: bool = True,
        **letter: Any,
    ) -> int:
        """A letter from MOF that its agencies' servers took; its id."""
        n = next(_numbers)
        octets = Octets.of(f"From: a@mof.gov.example\r\nSubject: {n}\r\n\r\n{n}\r\n".encode())
        people = tuple(Recipient(address=Address.parse(t)) for t in to)
        kind = letter.pop("delivery_kind", DeliveryKind.LETTER)
        accepted = self.record.accept(
            Acceptance(
                submission_id=self.record.ids.next(),
                kind=letter.pop("kind", LetterKind.LETTER),
                peer=Connection(door=Door.RELAY, peer="192.0.2.1", agency="MOF"),
                envelope=Envelope(sender=Address.parse("a@mof.gov.example"), recipients=people),
                octets=octets,
                at_us=at(came),
                expires_us=at(came) + 120 * HOUR,
                agency="MOF",
                author="a@mof.gov.example",
                message_id=f"<{n}.{id(self)}@mof.gov.example>",
                references=(f"<before.{n}@moh.gov.example>",),
                facts={"v": 2, "references": [f"<before.{n}@moh.gov.example>"]},
                digest=octets.sha256,
                number_shape="{agency}/{year}/{seq:06d}",
                subject=subject or f"كتاب {n}",
                due_us=at(due) if due else None,
                deliveries=tuple(
                    DeliveryDraft(
                        recipient=r,
                        kind=kind,
                        agency=r.address.host.partition(".")[0].upper(),
                        hop=r.address.host.partition(".")[0].upper(),
                        due_us=at(due) if due else None,
                    )
                    for r in people
                ),
                **letter,
            )
        )
        if sent:
            for claim in claim_all(self.record):
                note = Note(delivery_id=claim.delivery_id, event=Event.RELAYED, at_us=at(came), source="smtp")
                self.record.note(note)
        return accepted.letter_id

    def note(self, letter_id: int, event: Event) -> None:
        d = schema.delivery.c
        with self.record.read() as conn:
            (found,) = conn.scalars(select(d.id).where(d.letter_id == letter_id))
        self.record.note(Note(delivery_id=found, event=event, at_us=self.now, source="person"))

    def mail(self) -> list[tuple[str, EmailMessage]]:
        """Who was written to, and what: all that follow-up has sent, in order."""
        le, d, s = schema.letter.c, schema.delivery.c, schema.submission.c
        with self.record.read() as conn:
            rows = conn.execute(
                select(d.recipient, s.archive_key, s.sender)
                .join(schema.letter, le.id == d.letter_id)
                .join(schema.submission, s.id == d.submission_id)
                .where(le.kind == LetterKind.RECEIPT.value)
                .order_by(d.id)
            ).all()
        out = []
        for row in rows:
            assert row.sender == "", "a null reverse-path"
            octets = self.record.archive.open(row.archive_key)
            message = BytesParser(policy=email.policy.default).parsebytes(bytes(octets.view()))
            octets.close()
            assert isinstance(message, EmailMessage)
            out.append((row.recipient, message))
        return out

    def sent(self) -> list[tuple[str, str]]:
        """Mailbox and kind of what was sent."""
        return [(to, str(m["Wasl-Receipt"])) for to, m in self.mail()]

    def events(self, letter_id: int) -> list[str]:
        e = schema.evidence.c
        asked = select(e.event).where(e.letter_id == letter_id, e.source == "timer").order_by(e.id)
        with self.record.read() as conn:
            return list(conn.scalars(asked))

    def steps(self) -> list[tuple[str, str]]:
        f = schema.followup.c
        with self.record.read() as conn:
            return [(r.step, r.state) for r in conn.execute(select(f.step, f.state).order_by(f.id))]


NO_DIGEST = "digest: {registry: false}\n"


@pytest.fixture
def desk(record_url: str, tmp_path: Path) -> Iterator[Desk]:
    with record_at(record_url, tmp_path) as record:
        yield Desk(record, policy=policy(NO_DIGEST + ESCALATE))


def text(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def test_a_letter_is_followed_to_its_end(desk: Desk) -> None:
    letter = desk.post("someone@moh.gov.example", subject="موازنة المشاريع")
    other = desk.post("diwan@moh.gov.example", due="2026-06-14 15:30", subject="تعميم آخر")
    assert desk.look("2026-05-18 12:00") == 0
    assert desk.look("2026-05-19 07:30") == 0  # before the office opens
    assert desk.look("2026-05-19 08:05") == 1
    assert desk.look("2026-05-19 08:06") == 0
    ((to, mail),) = desk.mail()
    assert to == "diwan@moh.gov.example"  # the registry, not whom the author named
    number = str(mail["Wasl-Letter"])
    assert mail["Subject"] == f"تذكير: [{number}] موازنة المشاريع"
    assert mail["Auto-Submitted"] == "auto-generated" and mail["X-Auto-Response-Suppress"] == "All"
    assert str(mail["In-Reply-To"]) in str(mail["References"]) and "before." in str(mail["References"])
    body = text(mail)
    assert body.index("تذكير بكتاب ينتظر الرد") < body.index("Reminder: a letter that waits")
    assert "يومي عمل" in body and "2 working days from now" in body
    assert "تعميم آخر" in body, "the list of what else waits"
    assert "Thursday 21 May 2026, 15:30" in body and "الخميس 21 أيار 2026، 15:30" in body
    # On the day, when it is over, three working days after it, five.
    desk.look("2026-05-21 09:00")
    assert desk.events(letter) == ["reminded", "reminded"]
    desk.look("2026-05-22 12:00")  # Friday: evidence needs no office
    assert desk.events(letter) == ["reminded", "reminded", "expired"]
    for quiet in ("2026-05-24 09:00", "2026-05-27 10:00", "2026-05-30 10:00"):
        desk.look(quiet)
    assert len(desk.mail()) == 2
    desk.look("2026-05-31 08:00")
    mails = desk.mail()
    late = [m for to, m in mails if m["Wasl-Letter"] == number][-1]
    assert "ومضى عليها 3 أيام عمل" in text(late) and "3 working days ago" in text(late)
    desk.look("2026-06-02 08:00")
    to, last = desk.mail()[-1]
    assert (to, last["Wasl-Receipt"]) == ("office@pm.gov.example", "escalation")
    assert last["Subject"].startswith("تنبيه بكتاب متأخر")
    for after in ("2026-06-03 08:00", "2026-06-14 08:00", "2026-08-02 08:00"):
        desk.look(after)
    assert [m["Wasl-Receipt"] for _, m in desk.mail() if m["Wasl-Letter"] == number] == [
        "reminder", "reminder", "reminder", "escalation",
    ]  # fmt: skip
    assert desk.events(letter) == ["reminded", "reminded", "expired", "reminded", "reminded"]
    assert desk.events(other)[0] == "reminded"


@pytest.mark.parametrize("event", [Event.PROCESSED, Event.RETURNED])
def test_it_stops_when_the_letter_is_answered(desk: Desk, event: Event) -> None:
    letter = desk.post("diwan@moh.gov.example")
    assert desk.look("2026-05-19 08:05") == 1
    desk.note(letter, event)
    assert [desk.look(f"2026-05-{day} 09:00") for day in (20, 21, 24, 25, 31)] == [0] * 5
    assert desk.events(letter) == ["reminded"]
    if event is Event.PROCESSED:
        desk.note(letter, Event.IN_PROGRESS)  # opened again: it is late, and nothing is said twice
        assert desk.look("2026-05-31 10:00") == 1
        assert desk.look("2026-05-31 12:00") == 0


def test_an_answer_between_claim_and_mail_stops_the_mail(desk: Desk) -> None:
    letter = desk.post("diwan@moh.gov.example")
    desk.now = at("2026-05-19 08:05")

    async def half(clock: FollowUpClock) -> None:
        lot = clock._plan.due  # the first half of a look, as if the process were killed then
        with desk.record.read() as conn:
            desk.record.follow_up(lot(conn, desk.now))

    desk.run(half)
    assert desk.steps() == [("2 working days before", "due")]
    desk.note(letter, Event.PROCESSED)
    assert desk.look() == 0
    assert desk.steps() == [("2 working days before", "passed")]


def test_a_kill_between_claim_and_mail_loses_nothing_and_repeats_nothing(desk: Desk) -> None:
    letter = desk.post("diwan@moh.gov.example")
    desk.now = at("2026-05-19 08:05")

    async def half(clock: FollowUpClock) -> None:
        with desk.record.read() as conn:
            lot = clock._plan.due(conn, desk.now)
        assert len(desk.record.follow_up(lot).steps) == 1
        assert desk.record.follow_up(lot).steps == (), "claimed once"

    desk.run(half)
    assert desk.look(owner="0/second-life") == 1
    assert desk.look(owner="0/third-life") == 0
    assert desk.events(letter) == ["reminded"]
    # And between the mail and what comes next: the row was settled with it.
    assert desk.steps() == [("2 working days before", "sent")]


def test_a_clock_set_back_repeats_nothing(desk: Desk) -> None:
    desk.post("diwan@moh.gov.example")
    assert desk.look("2026-05-19 08:05") == 1
    for back in ("2026-05-18 09:00", "2026-05-12 09:00", "2025-01-05 09:00", "2026-05-19 08:05"):
        assert desk.look(back, owner="0/b") == 0
    assert desk.look("2026-05-21 08:00") == 1
    assert len(desk.mail()) == 2


def test_of_several_nodes_one_sends(desk: Desk) -> None:
    for _ in range(3):
        desk.post("diwan@moh.gov.example")
    desk.now = at("2026-05-19 08:05")

    async def both(first: FollowUpClock) -> list[int]:
        second = await _other(desk, first)
        looked = await asyncio.gather(first.look(), second.look(), first.look(), second.look())
        return list(looked)

    assert sum(desk.run(both)) == 3
    assert len(desk.mail()) == 3


async def _other(desk: Desk, first: FollowUpClock) -> FollowUpClock:
    clock = object.__new__(FollowUpClock)
    clock.__dict__.update(first.__dict__, _owner="1/b")
    return clock


def test_two_nodes_that_both_made_the_mail_send_one(desk: Desk) -> None:
    """Without the lease's help: both have composed, the record takes one."""
    desk.post("diwan@moh.gov.example")
    desk.now = at("2026-05-19 08:05")

    async def race(clock: FollowUpClock) -> list[bool]:
        with desk.record.read() as conn:
            desk.record.follow_up(clock._plan.due(conn, desk.now))
        ours, _ = clock._compose(desk.now)
        desk.now += 1_000_000  # the other's clock: another Date, other octets
        theirs, _ = clock._compose(desk.now)
        assert ours[0].message != theirs[0].message
        return [await clock._accept(ours[0], desk.now), await clock._accept(theirs[0], desk.now)]

    assert desk.run(race) == [True, False]
    assert len(desk.mail()) == 1
    with desk.record.read() as conn:
        kept = set(conn.scalars(select(schema.submission.c.archive_key)))
    assert set(desk.record.archive.keys()) == kept, "the mail that was not taken leaves no object"


def test_who_is_never_reminded(desk: Desk) -> None:
    desk.post("diwan@shd.gov.example")  # an agency in shadow mode
    desk.post("diwan@off.gov.example")
    desk.post("diwan@moh.gov.example", due=None)
    desk.post("diwan@moh.gov.example", kind=LetterKind.SHADOW, delivery_kind=DeliveryKind.SHADOW)
    desk.post("diwan@moh.gov.example", sent=False)  # has not reached it
    for day in ("2026-05-19", "2026-05-21", "2026-05-24", "2026-05-31"):
        assert desk.look(f"{day} 09:00") == 0
    assert desk.steps() == []
    desk.policy = policy("enabled: false\n")
    desk.post("diwan@moh.gov.example")
    assert desk.look("2026-05-19 09:00") == 0


def test_a_mailbox_without_a_way_stops_nobody_else(desk: Desk) -> None:
    pm = agency("PM", registry=Address.parse("diwan@nowhere.example"))
    desk.directory = Directory([agency("MOF"), agency("MOH", registry=None), pm])
    desk.post("diwan@pm.gov.example")
    desk.post("someone@moh.gov.example")
    assert desk.look("2026-05-19 08:05") == 1
    assert desk.sent() == [("someone@moh.gov.example", "reminder")]  # no registry: who got the letter
    assert sorted(desk.steps()) == [("2 working days before", "passed"), ("2 working days before", "sent")]


def test_many_at_once_are_one_mail(desk: Desk) -> None:
    for n in range(7):
        desk.post("diwan@moh.gov.example", classification="secret" if n == 3 else "", subject=f"كتاب رقم {n}")
    desk.post("diwan@pm.gov.example")
    assert desk.look("2026-05-19 08:05") == 2
    gathered = next(m for to, m in desk.mail() if to == "diwan@moh.gov.example")
    assert gathered["In-Reply-To"] is None and gathered["Subject"] == "تذكير بكتب تنتظر الرد: 7"
    assert all(f"كتاب رقم {n}" in text(gathered) for n in range(7))
    desk.policy = policy(NO_DIGEST + "escalation: {when: on the day, to: office@pm.gov.example}\n")
    desk.look("2026-05-21 08:05")
    told = next(m for to, m in desk.mail() if m["Wasl-Receipt"] == "escalation")
    assert "كتاب رقم 2" in text(told) and "كتاب رقم 3" not in text(told), "a secret letter's subject"
    assert "محجوب" in text(told) and "classified" in text(told)


def test_a_person_reminds_once_a_day(desk: Desk) -> None:
    letter = desk.post("diwan@moh.gov.example", "x@off.gov.example", "diwan@pm.gov.example", due=None)
    desk.now = at("2026-05-19 16:00")  # after the office closed

    def ask(person: str = "ليلى") -> list[str]:
        async def asked(clock: FollowUpClock) -> list[str]:
            return await asyncio.to_thread(clock.remind, letter, person)

        found: list[str] = desk.run(asked)
        return found

    assert ask() == ["diwan@moh.gov.example", "diwan@pm.gov.example"]  # not who is switched off
    assert ask("سامي") == []
    assert desk.look() == 0, "mail waits for the office"
    assert desk.look("2026-05-20 08:00") == 2
    body = text(desk.mail()[0][1])
    assert "بطلب من الجهة المرسلة" in body and "مهلة الرد" not in body
    assert desk.mail()[0][1]["In-Reply-To"]
    e = schema.evidence.c
    with desk.record.read() as conn:
        told = conn.execute(select(e.reporter, e.source, e.detail).where(e.event == "reminded")).all()
    assert {(row.reporter, row.source) for row in told} == {("ليلى", "person")}
    assert ask() == ["diwan@moh.gov.example", "diwan@pm.gov.example"], "another day"
    d = schema.delivery.c
    with desk.record.read() as conn:
        ids = list(conn.scalars(select(d.id).where(d.letter_id == letter)))
    for delivery in ids:
        desk.record.note(Note(delivery_id=delivery, event=Event.PROCESSED, at_us=desk.now, source="person"))
    assert desk.look("2026-05-21 08:00") == 0, "answered before its mail was made"
    assert ask() == []


def test_a_reminder_by_hand_stands_for_that_days(desk: Desk) -> None:
    letter = desk.post("diwan@moh.gov.example")
    desk.now = at("2026-05-19 07:00")

    async def asked(clock: FollowUpClock) -> list[str]:
        return await asyncio.to_thread(clock.remind, letter, "ليلى")

    assert len(desk.run(asked)) == 1
    assert desk.look("2026-05-19 08:05") == 1
    assert desk.look("2026-05-19 10:00") == 0, "no second one on the day"
    assert desk.look("2026-05-21 08:05") == 1


def test_digests(desk: Desk) -> None:
    desk.policy = policy(
        'digest: {at: "08:30", to: audit@pm.gov.example}\n'
        'agencies: {MOF: {digest: {at: "09:00", registry: false, to: follow@mof.gov.example}}}\n'
        "reminders: []\nexpiry: never\n"
    )
    desk.post("diwan@moh.gov.example", due="2026-05-14 15:30", came="2026-05-07 10:00", subject="المتأخر")
    desk.post("diwan@moh.gov.example", due="2026-05-17 15:30", came="2026-05-14 11:00", subject="اليوم")
    desk.post("diwan@moh.gov.example", due=None, came="2026-05-16 11:00", subject="ورد في العطلة")
    # Ids carry the time of the writing process; the letters came when they say.
    _backdate(desk)
    assert desk.look("2026-05-15 09:00") == 0  # Friday
    assert desk.look("2026-05-17 08:00") == 0
    assert desk.look("2026-05-17 08:31") == 2
    by = dict(desk.mail())
    assert sorted(by) == ["audit@pm.gov.example", "diwan@moh.gov.example"]
    body = text(by["diwan@moh.gov.example"])
    assert by["diwan@moh.gov.example"]["Subject"] == "متابعة يوم الأحد 17 أيار 2026: كتاب واحد متأخر"
    assert all(subject in body for subject in ("المتأخر", "اليوم", "ورد في العطلة"))
    assert "Arrived since Thursday 14 May 2026 (2)" in body
    whole = text(by["audit@pm.gov.example"])
    assert "إلى: \u2068جهة MOH\u2069" in whole and "المتأخر" in whole and "ورد في العطلة" not in whole
    assert desk.look("2026-05-17 09:00") == 1
    assert "Agency MOH" in text(desk.mail()[-1][1]), "what others owe"
    for again in ("2026-05-17 10:00", "2026-05-16 09:00", "2026-05-17 08:31"):
        assert desk.look(again, owner="0/b") == 0
    assert desk.look("2026-05-17 15:31") == 0  # the office is closed: tomorrow's will say it
    assert desk.look("2026-05-18 12:00") == 3
    assert desk.look("2026-05-27 09:00") == 0  # a holiday


def _backdate(desk: Desk) -> None:
    """Give letters the ids of the times at which they came."""
    from tracker.question import first_id

    le = schema.letter.c
    with desk.record.read() as conn:
        rows = conn.execute(select(le.id, le.accepted_us).where(le.kind == "letter")).all()

    def change(conn: Any) -> None:
        if conn.dialect.name == "sqlite":
            conn.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        else:
            conn.exec_driver_sql("SET session_replication_role = replica")
        for n, row in enumerate(rows):
            new = first_id(row.accepted_us) + n
            for table in (schema.submission, schema.delivery, schema.evidence):
                conn.execute(update(table).where(table.c.letter_id == row.id).values(letter_id=new))
            conn.execute(update(schema.letter).where(le.id == row.id).values(id=new))

    desk.record.write(change)


def test_nothing_to_say_is_not_said(desk: Desk) -> None:
    desk.policy = policy("digest: {to: audit@pm.gov.example}\n")
    assert desk.look("2026-05-17 09:00") == 0
    with desk.record.read() as conn:
        assert set(conn.scalars(select(schema.followup.c.state))) == {"passed"}
    desk.post("diwan@moh.gov.example")
    assert desk.look("2026-05-17 09:30") == 0, "today's digest is done"


def test_the_ledger_holds_what_was_reminded(desk: Desk) -> None:
    from tracker.audit_ledger import verify_store

    desk.post("diwan@moh.gov.example", "diwan@pm.gov.example")
    desk.look("2026-05-19 08:05")
    desk.look("2026-05-24 08:05")
    desk.record.checkpoint()
    with desk.record.read() as conn:
        assert verify_store(conn, desk.record.archive, desk.record.ledger.key, lambda done, all_: None) == []
        entries = conn.scalar(select(func.count()).select_from(schema.ledger_entry))
    assert entries is not None and entries >= 7


def test_thousands_of_letters_cost_little_once_done(tmp_path: Path) -> None:
    """The second look finds nothing to read again: what is in reach has its row."""
    store = Store(f"sqlite:///{tmp_path / 'wasl.db'}")
    store.create()
    with Archive(tmp_path / "archive") as archive:
        record = Record(store, archive, LedgerKey.make("wasl.test/ledger"), zone="Asia/Amman")
        desk = Desk(record, policy=policy(NO_DIGEST))
        for n in range(8):
            desk.post(
                *[f"p{n}.{i}@moh.gov.example" for i in range(100)], due=f"2026-05-{14 + n % 2 * 3} 15:30"
            )
        desk.look("2026-05-17 09:00")
        assert len(desk.mail()) == 1, "gathered"
        asked: list[str] = []
        for engine in (store.reader, store.writer):
            event.listen(engine, "before_cursor_execute", lambda *what: asked.append(what[2]))
        assert desk.look("2026-05-17 09:01") == 0
        assert 0 < len(asked) < 40, "one question for all, not one for each"
        record.close()


def test_what_was_due_before_the_upgrade_is_awaited_after_it(db_url: str) -> None:
    from alembic import command
    from sqlalchemy import text as sql

    from tracker.migrate import config

    store = Store(db_url)
    settings = config()
    with store.writer.connect() as conn:
        settings.attributes["connection"] = conn
        command.upgrade(settings, "0001")
        for number, due in ((1, 77), (2, None)):
            conn.execute(
                sql(
                    "INSERT INTO letter (id, kind, agency, author, author_name, subject, subject_fold, "
                    "thread_id, classification, urgency, due_us, accepted_us) "
                    "VALUES (:n, 'letter', 'MOF', '', '', '', '', :n, '', '', :due, 1)"
                ),
                {"n": number, "due": due},
            )
            conn.execute(
                sql(
                    "INSERT INTO delivery (id, letter_id, submission_id, kind, recipient, recipient_key, "
                    "agency, bcc, asks, tag, subject_tag, sign, require_tls, hop, state, grade, outcome, "
                    "next_us, attempts, expires_us, changed_us) VALUES (:n, :n, :n, 'letter', 'a', 'a', "
                    "'MOH', false, '', false, false, false, false, 'MOH', 'sent', 2, 'open', 0, 1, 0, 0)"
                ),
                {"n": number},
            )
        conn.commit()
    store.create()
    d = schema.delivery.c
    with store.reader.connect() as conn:
        rows = conn.execute(select(d.due_us, d.from_agency).order_by(d.id)).all()
    assert [tuple(row) for row in rows] == [(77, "MOF"), (None, None)]
    store.close()
