"""Writes the sample receipts beside this file: one letter's life, and an ordinary bounce.

    python docs/samples/make_samples.py [FOLDER]

The key, the salts and the times are fixed, so that the same samples come out every time and a test can
hold them against the code. The key is for samples only; its public half is in ``ledger-key.txt``, with
which ``wasl verify`` (or ``tracker/verify.py``) finds ``letter.eml`` and every receipt good.
"""

from __future__ import annotations

import dataclasses
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine

from tracker import schema
from tracker.evidence_record import Evidence, evidence_file, evidence_record
from tracker.ledger import (
    EvidenceRow,
    Ledger,
    LedgerKey,
    entry_bytes,
    opening,
    proof_text,
)
from tracker.model import Address
from tracker.notice import GatewayIdentity, Kind, LetterFacts, Notice, RecipientFacts
from tracker.receipts import compose
from tracker.reply import EnhancedStatus
from tracker.states import MOVES, Event, Grade
from tracker.verify_code import VerifyCodes

AT = 1_795_339_458_000_000  # 2026-11-22 12:24:18 in Amman
MINUTE = 60_000_000
KEY = LedgerKey("wasl.gov.example/ledger", Ed25519PrivateKey.from_private_bytes(sha256(b"samples").digest()))
GATEWAY = GatewayIdentity(
    domain="wasl.gov.example",
    hostname="mx1.wasl.gov.example",
    zone=ZoneInfo("Asia/Amman"),
    verify_base="https://wasl.gov.example/verify",
)
ORIGINAL = """\
Date: Sun, 22 Nov 2026 12:24:10 +0300
From: =?utf-8?B?2LPYp9mF2Yog2K3Yr9in2K8=?= <s.haddad@mof.gov.example>
To: diwan@moh.gov.example
Subject: =?utf-8?B?2YPYqtin2Kgg2KjYtNij2YYg2YXYrti12LXYp9iqINin2YTZhdmI2KfYstmG2Kk=?=
Message-ID: <20261122.1@mof.gov.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

2KrYrdmK2Kkg2LfZitio2Kkg2YjYqNi52K/YjA==
""".replace("\n", "\r\n").encode()
LETTER = LetterFacts(
    author=Address.parse("s.haddad@mof.gov.example"),
    author_name="سامي حداد",
    accepted_us=AT,
    number="MOF/2026/000123",
    subject="كتاب بشأن مخصصات الموازنة",
    agency="MOF",
    agency_ar="وزارة المالية",
    agency_en="Ministry of Finance",
    message_id="<20261122.1@mof.gov.example>",
    sha256=sha256(ORIGINAL).digest(),
    envid="QQ314159",
    verify_code=VerifyCodes([sha256(b"samples").digest()]).of("MOF/2026/000123"),
)
AGENCIES = (
    ("MOH", "وزارة الصحة", "Ministry of Health"),
    ("MOJ", "وزارة العدل", "Ministry of Justice"),
    ("MPW", "وزارة الأشغال العامة والإسكان", "Ministry of Public Works and Housing"),
    ("DOS", "دائرة الإحصاءات العامة", "Department of Statistics"),
    ("MOE", "وزارة التربية والتعليم", "Ministry of Education"),
    ("MOL", "وزارة العمل", "Ministry of Labour"),
)


def recipient(event: Event, agency: int = 0, minutes: int = 1, **more: Any) -> RecipientFacts:
    code, ar, en = AGENCIES[agency]
    return RecipientFacts(
        address=Address.parse(f"diwan@{code.lower()}.gov.example"),
        event=event,
        at_us=AT + minutes * MINUTE,
        agency=code,
        agency_ar=ar,
        agency_en=en,
        grade=max(MOVES[event].grade, Grade.ACCEPTED),
        **more,
    )


def row(place: int, event: Event, at_us: int) -> EvidenceRow:
    return EvidenceRow(
        id=1000 + place,
        letter_id=900,
        delivery_id=None if event is Event.SUBMITTED else 901,
        event=event.value,
        grade=int(max(MOVES[event].grade, Grade.ACCEPTED)),
        at_us=at_us,
        noted_us=at_us,
        source="wasl",
        reporter="mx1.wasl.gov.example",
        detail={"number": LETTER.number, "sha256": LETTER.sha256.hex()} if event is Event.SUBMITTED else {},
        salt=sha256(f"salt {place}".encode()).digest()[:16],
    )


def proven(people: tuple[RecipientFacts, ...]) -> dict[str, bytes]:
    """``evidence.json`` and ``proof.txt``: the acceptance, then what happened to each recipient."""
    acts: list[tuple[Event, int, tuple[RecipientFacts, ...]]] = [(Event.SUBMITTED, AT, people)]
    acts += [(p.event, p.at_us, (p,)) for p in people if p.event is not Event.SUBMITTED]
    rows = [row(place, event, at_us) for place, (event, at_us, _) in enumerate(acts)]
    entries = [entry_bytes(r, octets=LETTER.sha256 if r.event == "submitted" else None) for r in rows]
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.begin() as conn:
        ledger = Ledger(KEY)
        ledger.append(conn, [(r.id, entry) for r, entry in zip(rows, entries, strict=True)])
        checkpoint = ledger.checkpoint(conn, AT)
        assert checkpoint is not None
        proofs = [
            proof_text(ledger.prove(conn, seq, checkpoint.size), checkpoint.note) for seq in range(len(rows))
        ]
    engine.dispose()
    records = [
        evidence_record(
            Evidence(
                id=r.id,
                gateway=GATEWAY,
                letter=LETTER,
                recipients=about,
                event=event,
                at_us=at_us,
                grade=Grade(r.grade),
                ledger_index=place,
                opening=opening(r),
            ),
            KEY,
        )
        for place, (r, (event, at_us, about)) in enumerate(zip(rows, acts, strict=True))
    ]
    return {"evidence": evidence_file(records), "proof": "".join(proofs).encode()}


def receipt(kind: Kind, *people: RecipientFacts) -> Notice:
    return Notice(
        kind=kind,
        gateway=GATEWAY,
        letter=LETTER,
        recipients=people,
        at_us=people[0].at_us + 1_000_000,
        original_headers=ORIGINAL.partition(b"\r\n\r\n")[0] + b"\r\n",
        **proven(people),
    )


def notices() -> dict[str, Notice]:
    """Each sample's name and what it is made from."""
    unknown: dict[str, Any] = {
        "status": EnhancedStatus(5, 1, 1),
        "reply": "550 5.1.1 <diwan@moh.gov.example>: Recipient address rejected: User unknown",
        "remote_mta": "mail.moh.gov.example",
    }
    found = {
        "submitted": receipt(Kind.SUBMITTED, recipient(Event.SUBMITTED)),
        "refused": receipt(
            Kind.REFUSED,
            recipient(
                Event.REFUSED,
                reason_ar="لا تسمح السياسة بإرسال ملف تنفيذي إلى هذه الجهة.",
                reason_en="Policy does not allow a program file to be sent to this agency.",
            ),
        ),
        "held": receipt(
            Kind.HELD,
            recipient(Event.HELD, reason_ar="كتاب سري إلى جهة خارج المجموعة.", reason_en="Secret letter."),
        ),
        "relayed": receipt(
            Kind.RELAYED,
            recipient(Event.RELAYED, reply="250 2.0.0 Ok: queued as 4F1", remote_mta="mail.moh.gov.example"),
        ),
        "delivered": receipt(Kind.DELIVERED, recipient(Event.DELIVERED, remote_mta="mail.moh.gov.example")),
        "late": receipt(
            Kind.LATE,
            recipient(
                Event.LATE,
                minutes=240,
                status=EnhancedStatus(4, 4, 1),
                reply="Connection timed out",
                remote_mta="mail.moh.gov.example",
                attempts=9,
                last_attempt_us=AT + 239 * MINUTE,
                retry_until_us=AT + 5 * 24 * 60 * MINUTE,
            ),
        ),
        "failed": receipt(
            Kind.FAILED, recipient(Event.FAILED, attempts=1, last_attempt_us=AT + MINUTE, **unknown)
        ),
        "read": receipt(
            Kind.READ,
            recipient(
                Event.READ,
                minutes=95,
                disposition="manual-action/MDN-sent-manually; displayed",
                read_mode="manual-action",
            ),
        ),
        "registered": receipt(
            Kind.REGISTERED, recipient(Event.REGISTERED, minutes=120, incoming_number="MOH/IN/2026/877")
        ),
        "returned": receipt(
            Kind.RETURNED,
            recipient(
                Event.RETURNED,
                minutes=130,
                person="ليلى عمر",
                reason_ar="ليس من اختصاص الوزارة.",
                reason_en="Not within the ministry's remit.",
            ),
        ),
        "processed": receipt(Kind.PROCESSED, recipient(Event.PROCESSED, minutes=1500, person="ليلى عمر")),
        "digest": receipt(
            Kind.DIGEST,
            recipient(Event.DELIVERED, 0),
            recipient(Event.READ, 1, 40),
            recipient(Event.RELAYED, 2, 2),
            recipient(Event.REGISTERED, 3, 55, incoming_number="DOS/2026/31"),
            recipient(Event.PROCESSED, 4, 300),
            recipient(Event.DELIVERED, 5, 3),
        ),
    }
    mail = dataclasses.replace(
        LETTER, number=None, agency="", agency_ar="", agency_en="", subject="Minutes of our meeting"
    )
    stranger = dataclasses.replace(
        recipient(Event.FAILED, **unknown),
        address=Address.parse("bob@example.org"),
        agency="",
        agency_ar="",
        agency_en="",
        reply="552 5.2.2 <bob@example.org>: mailbox full",
        status=EnhancedStatus(5, 2, 2),
        remote_mta="mx.example.org",
    )
    bounce = Notice(
        kind=Kind.FAILED,
        gateway=GATEWAY,
        letter=mail,
        recipients=(stranger,),
        at_us=stranger.at_us,
        original_headers=ORIGINAL.partition(b"\r\n\r\n")[0] + b"\r\n",
    )
    return {**found, "bounce": bounce}


def samples() -> dict[str, bytes]:
    """Every file that stands in this folder, by name."""
    files = {f"{name}.eml": compose(notice) for name, notice in notices().items()}
    return {**files, "letter.eml": ORIGINAL, "ledger-key.txt": f"{KEY.vkey}\n".encode()}


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, octets in samples().items():
        (folder / name).write_bytes(octets)
        print(f"{name}: {len(octets)} octets")
