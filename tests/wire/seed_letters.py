"""Letters for the dashboard's tests and pictures: rows as the gateway writes them, whole histories.

Each letter is told as a story per recipient (``Story``); the rows, the ledger entries and the
archived octets are made from it, so that the pages find everything that they find in service.
Times run backwards from ``now``; ids carry them, as :class:`tracker.model.IdSource` would.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, update

from tracker import schema
from tracker.archive import Archive, key_for
from tracker.ledger import EvidenceRow, Ledger, LedgerKey, entry_bytes
from tracker.model import IdSource, now_us
from tracker.search import fold
from tracker.spool import Octets
from tracker.states import MOVES, Event, Grade, Outcome, Standing, State, move

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

AGENCIES_CSV = Path(__file__).resolve().parents[2] / "policies" / "agencies.csv"


def agency_rows() -> list[dict[str, str]]:
    """The sample directory: code, name_ar, name_en, domain."""
    with AGENCIES_CSV.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def domain_of(code: str) -> str:
    return next(row["domain"] for row in agency_rows() if row["code"] == code)


@dataclass(frozen=True)
class Step:
    """One event of a story: what, how long after acceptance, and what proves it."""

    event: Event
    after_us: int
    source: str = "wasl"
    reporter: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    reply: str | None = None  # of an attempt


@dataclass(frozen=True)
class To:
    """One recipient and his story."""

    agency: str
    story: str = "delivered"
    local: str = "diwan"
    bcc: bool = False


def _transcript(code: str, final: str) -> str:
    host = f"mail.{domain_of(code)}"
    return (
        f"220 {host} ESMTP\n250-{host}\n250-PIPELINING\n250-STARTTLS\n250 DSN\n"
        f"250 2.1.0 Ok\n250 2.1.5 Ok\n354 End data with <CR><LF>.<CR><LF>\n{final}"
    )


def _wire(code: str, event: Event, after: int, reply: str, source: str = "smtp") -> Step:
    host = f"mail.{domain_of(code)}"
    detail = {
        "hop": code,
        "peer": f"{host}[198.51.100.{len(code) * 7}]:25",
        "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384 verified",
        "reply": reply,
        "transcript": _transcript(code, reply),
    }
    return Step(event, after, source, host, detail, reply)


def story_of(to: To, address: str) -> list[Step]:
    """The steps of a story, in order of time."""
    code, host = to.agency, f"mail.{domain_of(to.agency)}"
    relayed = _wire(code, Event.RELAYED, 420_000, "250 2.0.0 Ok: queued as 4F1C9A2B7E")
    saved = _wire(code, Event.DELIVERED, 426_000, "250 2.1.5 <" + address + "> 9Xk2QmVr Saved", "lmtp")
    boxed = [relayed, saved]
    fetched = Step(
        Event.FETCHED, 9 * MINUTE, "imap", f"imap.{domain_of(code)}", {"account": address, "uid": 8123}
    )
    read = Step(
        Event.READ,
        16 * MINUTE,
        "mdn",
        host,
        {
            "disposition": "manual-action/MDN-sent-manually; displayed",
            "original_message_id": f"<4f1c-{code.lower()}@mof.gov.example>",
            "matched_by": "MAC",
        },
    )
    registered = Step(
        Event.REGISTERED,
        95 * MINUTE,
        "person",
        "rana",
        {"person": "رنا العبادي", "incoming_number": "512/2026"},
    )
    closed = Step(
        Event.PROCESSED,
        115 * MINUTE,
        "person",
        "rana",
        {"person": "رنا العبادي", "text": "تمت الموافقة على المخصصات"},
    )
    put_off = "451 4.7.1 Greylisted, please try again later"
    unknown = f"550 5.1.1 <{address}>: Recipient address rejected: User unknown"
    stories: dict[str, list[Step]] = {
        "queued": [],
        "held": [Step(Event.HELD, 1000, detail={"rule": "hold-secret-to-outside"})],
        "relayed": [relayed],
        "delivered": boxed,
        "seen": [*boxed, Step(Event.SEEN, 4 * MINUTE, "imap", host, {"flag": "\\Seen"})],
        "fetched": [*boxed, fetched],
        "read": [*boxed, read],
        "registered": [*boxed, fetched, registered],
        "processed": [*boxed, fetched, read, registered, closed],
        "answered": [*boxed, Step(Event.PROCESSED, 26 * HOUR, "wasl", host, {"text": "رد مرتبط"})],
        "nobody": [_wire(code, Event.FAILED, 380_000, unknown)],
        "retry": [_wire(code, Event.ATTEMPTED, 400_000, put_off)],
        "late": [
            _wire(code, Event.ATTEMPTED, 400_000, put_off),
            _wire(code, Event.ATTEMPTED, 2 * HOUR, "421 4.4.2 Connection timed out"),
            Step(Event.LATE, 4 * HOUR, "timer"),
        ],
        "doubt": [Step(Event.IN_DOUBT, 700_000, "smtp", host, {"hop": code, "peer": f"{host}:25"})],
        "bounced": [
            relayed,
            Step(
                Event.FAILED,
                7 * MINUTE,
                "dsn",
                host,
                {
                    "reporting_mta": host,
                    "action": "failed",
                    "status": "5.2.2",
                    "diagnostic": "smtp; 552 5.2.2 Mailbox full",
                },
                "552 5.2.2 Mailbox full",
            ),
        ],
        "dsn": [
            relayed,
            Step(
                Event.DELIVERED,
                2 * MINUTE,
                "dsn",
                host,
                {"reporting_mta": host, "action": "delivered", "status": "2.0.0"},
            ),
        ],
        "returned": [
            *boxed,
            Step(
                Event.RETURNED,
                3 * HOUR,
                "person",
                "sami",
                {"person": "سامي حداد", "text": "المرفق غير مقروء"},
            ),
        ],
        "refused": [],
    }
    return stories[to.story]


@dataclass
class Seeder:
    """Writes letters into a store; ``key`` signs the checkpoints."""

    conn: Connection
    archive: Archive
    now_us: int = field(default_factory=now_us)
    key: LedgerKey = field(default_factory=lambda: LedgerKey.make("wasl.example/ledger"))
    _count: Any = field(default_factory=lambda: itertools.count(1))
    _seq: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.key)

    def id(self, at_us: int) -> int:
        return (at_us // 1000 - IdSource.EPOCH_MS) << 22 | int(next(self._count)) & 0x3FFFFF

    def letter(
        self,
        sender: str,
        subject: str,
        to: Sequence[To],
        *,
        ago_us: int,
        author: str = "amal.haddad",
        author_name: str = "أمل حداد",
        urgency: str = "",
        classification: str = "",
        due_in_us: int | None = None,
        attachments: Sequence[tuple[str, str, str, int]] = (),
        kind: str = "letter",
        thread: int | None = None,
        header: str = "",
    ) -> int:
        """Write one letter with the stories of its recipients; returns its id."""
        at = self.now_us - ago_us
        letter_id, submission_id = self.id(at), self.id(at)
        number = None
        if kind == "letter":
            self._seq[sender] = self._seq.get(sender, 118) + 1
            number = f"{sender}/2026/{self._seq[sender]:06d}"
        author_address = f"{author}@{domain_of(sender)}"
        addresses = [f"{item.local}@{domain_of(item.agency)}" for item in to]
        message_id = f"<{letter_id:x}.4f1c@{domain_of(sender)}>"
        octets = Octets.of(
            (
                f"Message-ID: {message_id}\r\nFrom: {author_name} <{author_address}>\r\n"
                f"To: {', '.join(a for a, i in zip(addresses, to, strict=True) if not i.bcc)}\r\n"
                + "".join(f"Bcc: {a}\r\n" for a, i in zip(addresses, to, strict=True) if i.bcc)
                + f"Subject: {subject}\r\n{header}\r\nبعد التحية،\r\n{subject}\r\n"
            ).encode()
        )
        archive_key = key_for(submission_id, at)
        self.archive.store([(archive_key, octets)])
        self.conn.execute(
            insert(schema.letter).values(
                id=letter_id,
                kind=kind,
                number=number,
                agency=sender,
                year=2026 if number else None,
                seq=self._seq[sender] if number else None,
                author=author_address,
                author_name=author_name,
                message_id=message_id,
                subject=subject,
                subject_fold=fold(subject),
                thread_id=thread or letter_id,
                classification=classification,
                urgency=urgency,
                due_us=None if due_in_us is None else at + due_in_us,
                accepted_us=at,
            )
        )
        decision = {
            "kind": kind,
            "policy": "v37",
            "facts": 1,
            "verdicts": [
                {
                    "to": address,
                    "action": "reject" if item.story == "refused" else "accept",
                    "kind": kind,
                    "rule": "default",
                    "path": 0,
                }
                for address, item in zip(addresses, to, strict=True)
            ],
            "paths": [
                {"hits": ["due-by-urgency", "tls-for-restricted"], "misses": ["hold-secret: classification"]}
            ],
        }
        self.conn.execute(
            insert(schema.submission).values(
                id=submission_id,
                letter_id=letter_id,
                at_us=at,
                door="submission",
                peer="192.0.2.17",
                helo="[192.0.2.17]",
                tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
                account=author_address,
                sender=author_address,
                size=octets.size,
                sha256=octets.sha256,
                archive_key=archive_key,
                facts={
                    "attachments": [
                        {"name": name, "declared": declared, "detected": detected, "size": size}
                        for name, declared, detected, size in attachments
                    ]
                },
                facts_version=1,
                decision=decision,
                policy_version="v37",
            )
        )
        event = Event.REFUSED if kind == "refused" else Event.SUBMITTED
        detail: dict[str, Any] = {
            "number": number,
            "sender": author_address,
            "author": author_address,
            "recipients": addresses,
            "subject": subject,
            "message_id": message_id,
            "sha256": octets.sha256.hex(),
            "size": octets.size,
        }
        if event is Event.REFUSED:
            detail["reply"] = "550 5.7.1 Refused by policy: attachment type not permitted"
        self.note(letter_id, None, Step(event, 0, detail=detail), at, MOVES[event].grade, octets.sha256)
        for item, address in zip(to, addresses, strict=True):
            self._delivery(letter_id, submission_id, item, address, at, kind, sender, due_in_us)
        return letter_id

    def _delivery(
        self,
        letter_id: int,
        submission_id: int,
        item: To,
        address: str,
        at: int,
        kind: str,
        sender: str,
        due_in_us: int | None,
    ) -> None:
        delivery_id = self.id(at)
        standing = Standing(State.QUEUED, Grade.ACCEPTED, Outcome.OPEN)
        if kind == "refused" or item.story == "refused":
            standing = Standing(State.REFUSED, Grade.NONE, Outcome.FAILED)
        tries, last_reply, changed, warned = 0, None, at, None
        rows = []
        for step in story_of(item, address):
            if at + step.after_us > self.now_us:
                break
            standing = move(standing, step.event)
            changed = at + step.after_us
            rows.append((step, changed, standing.grade))
            if step.event is Event.LATE:
                warned = changed
            if step.reply is not None:
                last_reply = step.reply
            if "hop" in step.detail:
                tries += 1
        self.conn.execute(
            insert(schema.delivery).values(
                id=delivery_id,
                letter_id=letter_id,
                submission_id=submission_id,
                kind="shadow" if kind == "shadow" else "letter",
                recipient=address,
                recipient_key=address.casefold(),
                agency=item.agency,
                bcc=item.bcc,
                hop=item.agency,
                state=standing.state.value,
                grade=int(standing.grade),
                outcome=standing.outcome.value,
                next_us=self.now_us + 11 * MINUTE,
                attempts=tries,
                warned_us=warned,
                expires_us=at + 5 * DAY,
                changed_us=changed,
                last_reply=last_reply,
                from_agency=sender,
                due_us=None if due_in_us is None else at + due_in_us,
            )
        )
        for step, when_us, grade in rows:
            self.note(letter_id, delivery_id, step, when_us, grade)
            if "hop" in step.detail:
                self._attempt(delivery_id, step, when_us)

    def _attempt(self, delivery_id: int, step: Step, at: int) -> None:
        self.conn.execute(
            insert(schema.attempt).values(
                id=self.id(at),
                delivery_id=delivery_id,
                started_us=at - 60_000,
                ended_us=at,
                owner="node-1",
                hop=step.detail["hop"],
                peer=step.detail.get("peer"),
                tls=step.detail.get("tls"),
                reply=step.reply,
                transcript=step.detail.get("transcript"),
                result=step.event.value,
            )
        )

    def note(
        self,
        letter_id: int,
        delivery_id: int | None,
        step: Step,
        at: int,
        grade: int,
        octets: bytes | None = None,
    ) -> int:
        """One row of evidence and its ledger entry."""
        row = EvidenceRow(
            id=self.id(at),
            letter_id=letter_id,
            delivery_id=delivery_id,
            event=step.event.value,
            grade=int(grade),
            at_us=at,
            noted_us=at,
            source=step.source,
            reporter=step.reporter,
            detail=step.detail,
            salt=os.urandom(16),
        )
        self.conn.execute(
            insert(schema.evidence).values(
                id=row.id,
                letter_id=letter_id,
                delivery_id=delivery_id,
                event=row.event,
                grade=row.grade,
                at_us=at,
                noted_us=at,
                source=row.source,
                reporter=row.reporter,
                detail=dict(row.detail),
                salt=row.salt,
            )
        )
        self.ledger.append(self.conn, [(row.id, entry_bytes(row, octets=octets))])
        return row.id

    def advance(self, letter_id: int, delivery_id: int, standing: Standing, step: Step) -> None:
        """A later event of a delivery, noted now; gives the row its new standing."""
        at = now_us()
        after = move(standing, step.event)
        self.conn.execute(
            update(schema.delivery)
            .where(schema.delivery.c.id == delivery_id)
            .values(
                state=after.state.value,
                grade=int(after.grade),
                outcome=after.outcome.value,
                changed_us=at,
            )
        )
        self.note(letter_id, delivery_id, step, at, after.grade)

    def checkpoint(self) -> None:
        self.ledger.checkpoint(self.conn, self.now_us)


PDF = ("application/pdf", "application/pdf")
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def tell_all(seeder: Seeder) -> dict[str, int]:
    """A few dozen letters among many agencies; returns the ids of those that tests speak of."""
    ids: dict[str, int] = {}
    tell = seeder.letter
    subjects = [
        ("MOE", "بشأن تعيينات المعلمين للعام الدراسي القادم", "CSB", "registered"),
        ("MWI", "تقرير مستوى السدود والمياه الجوفية", "MOA", "read"),
        ("MOL", "إحصاءات سوق العمل للربع الثالث", "DOS", "processed"),
        ("MODEE", "Rollout of digital signatures across ministries", "MOF", "processed"),
        ("JMD", "تحذير من حالة عدم استقرار جوي", "MOI", "read"),
        ("GBD", "تعميم موازنة التمويل لسنة 2027", "MOH", "answered"),
        ("MOI", "نقل مكتب الأحوال المدنية في المحافظة", "CSPD", "delivered"),
        ("TRC", "Spectrum allocation: public consultation", "MODEE", "dsn"),
        ("AB", "ملاحظات التدقيق على مشتريات 2026", "MOF", "fetched"),
        ("MOPIC", "منحة دعم مشاريع الطاقة المتجددة", "MEMR", "registered"),
        ("MOT", "دراسة حركة الشحن على الطريق الصحراوي", "LTRC", "relayed"),
        ("MFA", "Note verbale: visit of the technical delegation", "PM", "processed"),
        ("MOENV", "نتائج رصد نوعية الهواء", "MOH", "seen"),
        ("CUSTOMS", "إعفاء معدات طبية من الرسوم الجمركية", "MOH", "processed"),
    ]
    for round_ in range(3):
        for index, (sender, subject, receiver, story) in enumerate(subjects):
            tell(
                sender,
                subject,
                [To(receiver, story)],
                ago_us=(4 + round_ * 9) * DAY + index * 5 * HOUR,
                urgency="urgent" if index % 5 == 0 else "",
            )
    ids["returned"] = tell("MOH", "طلب تزويد بكشوف المراجعين", [To("MOI", "returned")], ago_us=3 * DAY)
    ids["refused"] = tell(
        "MOF", "برنامج محاسبي مرفق", [To("MOE", "refused")], ago_us=30 * HOUR, kind="refused"
    )
    ids["shadow"] = tell(
        "MOJ", "مذكرة داخلية مشتركة", [To("LOB", "relayed")], ago_us=29 * HOUR, kind="shadow"
    )
    ids["earlier"] = tell(
        "MOH", "مشروع موازنة وزارة الصحة للعام 2027", [To("MOF", "processed")], ago_us=5 * DAY
    )
    ids["bounced"] = tell("PM", "دعوة لاجتماع لجنة التحديث الإداري", [To("CSB", "bounced")], ago_us=20 * HOUR)
    ids["held"] = tell(
        "MOI", "محضر اللجنة الأمنية المشتركة", [To("MFA", "held")], ago_us=9 * HOUR, classification="secret"
    )
    ids["late"] = tell("MIT", "أسعار المواد التموينية الأساسية", [To("MOA", "late")], ago_us=6 * HOUR)
    ids["hostile"] = tell(
        "MOF",
        '<script>alert(1)</script><img src=x onerror="alert(2)"> فاتورة \u202efdp.exe\u202c مرفقة',
        [To("MOH", "delivered")],
        ago_us=5 * HOUR,
        author_name='"><svg onload=alert(3)>',
        attachments=[("فاتورة\u202efdp.exe", "application/pdf", "application/x-dosexec", 88_123)],
    )
    ids["doubt"] = tell("ISTD", "قائمة المكلفين المحدّثة", [To("CCD", "doubt")], ago_us=3 * HOUR)
    ids["circular"] = tell(
        "PM",
        "تعميم: ساعات الدوام الرسمي في شهر رمضان المبارك",
        [
            To(code, story)
            for code, story in zip(
                ("MOF", "MOH", "MOE", "MOI", "MOJ", "MFA", "MOT", "MOL", "MOA", "MWI"),
                (
                    "processed",
                    "registered",
                    "read",
                    "read",
                    "delivered",
                    "processed",
                    "delivered",
                    "relayed",
                    "seen",
                    "read",
                ),
                strict=True,
            )
        ],
        ago_us=150 * MINUTE,
        urgency="urgent",
    )
    ids["retry"] = tell("DLS", "مخططات أراضي المشروع", [To("MPWH", "retry")], ago_us=35 * MINUTE)
    main = seeder.now_us
    ids["main"] = tell(
        "MOF",
        "بشأن موازنة المشاريع الصحية للعام 2027",
        [
            To("MOH", "processed"),
            To("MOPIC", "seen"),
            To("GBD", "nobody", local="info"),
            To("AB", "read", bcc=True),
        ],
        ago_us=2 * DAY + 2 * HOUR,
        urgency="urgent",
        classification="restricted",
        due_in_us=1 * HOUR,
        attachments=[
            ("موازنة المشاريع 2027.xlsx", XLSX, XLSX, 318_220),
            ("كتاب التغطية.pdf", *PDF, 142_811),
            ("annex-B.pdf", *PDF, 1_904_332),
        ],
        thread=ids["earlier"],
    )
    ids["queued"] = tell("MOH", "طلب مخصصات عاجلة لمستشفى العقبة", [To("MOF", "queued")], ago_us=2 * MINUTE)
    seeder.conn.execute(
        insert(schema.worklist),
        [
            {
                "id": seeder.id(main - 3 * HOUR),
                "at_us": main - 3 * HOUR,
                "kind": "mdn",
                "reason": "the address carries no valid MAC",
                "sender": "diwan@moh.gov.example",
                "subject": "Read: بشأن موازنة المشاريع الصحية",
                "letter_id": ids["main"],
                "archive_key": None,
                "detail": {
                    "disposition": "manual-action; displayed",
                    "final_recipient": "diwan@moh.gov.example",
                },
                "state": "open",
            },
            {
                "id": seeder.id(main - HOUR),
                "at_us": main - HOUR,
                "kind": "bounce",
                "reason": "no letter of this Message-ID",
                "sender": "",
                "subject": "Undelivered Mail Returned to Sender",
                "letter_id": None,
                "archive_key": None,
                "detail": {"status": "5.1.1", "diagnostic": "smtp; 550 5.1.1 unknown"},
                "state": "open",
            },
        ],
    )
    seeder.checkpoint()
    return ids
