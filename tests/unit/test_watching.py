"""What a watched mailbox may claim of a letter, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tracker.acceptance import Acceptance, DeliveryDraft
from tracker.archive import Archive, Octets
from tracker.claims import Want
from tracker.ledger import LedgerKey
from tracker.model import Address, Connection, DeliveryKind, Door, Envelope, LetterKind, Recipient, now_us
from tracker.record import Record
from tracker.store import Store
from tracker.watching import Found, find_delivery

HOUR = 3600 * 1_000_000
ID = "<1@mof.gov.example>"


@pytest.fixture
def record(db_url: str, tmp_path: Path) -> Iterator[Record]:
    store = Store(db_url)
    store.create()
    with Archive(tmp_path / "archive") as archive:
        made = Record(store, archive, LedgerKey.make("wasl.test/ledger"), zone="Asia/Amman")
        try:
            yield made
        finally:
            made.close()


def letter(record: Record, *to: str, message_id: str = ID, sent: bool = True, **changes: Any) -> str:
    """Accept a letter from MOF and have it claimed; returns its number."""
    octets = Octets.of(f"From: a@mof.gov.example\r\nMessage-ID: {message_id}\r\n\r\nhello\r\n".encode())
    recipients = tuple(Recipient(address=Address.parse(t)) for t in to)
    at = now_us()
    acceptance = Acceptance(
        submission_id=record.ids.next(),
        kind=LetterKind.LETTER,
        peer=Connection(door=Door.RELAY, peer="192.0.2.1", agency="MOF"),
        envelope=Envelope(sender=Address.parse("a@mof.gov.example"), recipients=recipients),
        octets=octets,
        at_us=at,
        expires_us=at + 120 * HOUR,
        agency="MOF",
        author="a@mof.gov.example",
        message_id=message_id,
        digest=octets.sha256,
        number_shape="{agency}/{year}/{seq:06d}",
        deliveries=tuple(
            DeliveryDraft(
                recipient=r,
                kind=DeliveryKind.LETTER,
                agency=r.address.host.split(".")[0].upper(),
                hop=r.address.host.split(".")[0].upper(),
            )
            for r in recipients
        ),
    )
    accepted = record.accept(replace(acceptance, **changes))
    if sent:
        record.claim(Want(owner="0/a", limit=100, now_us=now_us(), lease_us=now_us() + HOUR))
    assert accepted.number is not None
    return accepted.number


def found(record: Record, *claim: Any, **more: Any) -> Found | None:
    with record.read() as conn:
        return find_delivery(conn, *claim, **more)


def test_number_message_id_and_agency_must_all_agree(record: Record) -> None:
    number = letter(record, "registry@moh.gov.example", "b@moe.gov.example")
    other = letter(record, "registry@moh.gov.example", message_id="<2@mof.gov.example>")
    box = "Registry@MOH.gov.example"
    hit = found(record, "MOH", number, ID, box)
    assert hit is not None and hit.own and hit.recipient == "registry@moh.gov.example"
    assert hit.number == number
    assert found(record, "MOH", f" {number} ", f"{ID} ", box) == hit
    for claim in (
        ("MOH", number, "<2@mof.gov.example>", box),
        ("MOH", other, ID, box),
        ("MOJ", number, ID, box),
        ("MOF", number, ID, "a@mof.gov.example"),
        ("MOH", "", ID, box),
        ("MOH", number, "", box),
        ("MOH", number + "\x00", ID, box),
        ("MOH", number, "<\ud800@x>", box),
        ("MOH", number * 1000, ID, box),
    ):
        assert found(record, *claim) is None


def test_of_several_recipients_the_mailbox_says_which(record: Record) -> None:
    number = letter(record, "registry@moh.gov.example", "minister@moh.gov.example", "info@moh.gov.example")
    for box in ("registry@moh.gov.example", "minister@moh.gov.example"):
        hit = found(record, "MOH", number, ID, box)
        assert hit is not None and hit.recipient == box and hit.own
    assert found(record, "MOH", number, ID, "archive@moh.gov.example") is None
    assert found(record, "MOH", number, ID, None) is None
    hit = found(record, "MOH", number, ID, "archive@moh.gov.example", also=("info@moh.gov.example",))
    assert hit is not None and hit.recipient == "info@moh.gov.example" and hit.own


def test_a_single_recipient_elsewhere_in_the_agency_is_found_and_said_to_be_another(record: Record) -> None:
    number = letter(record, "ali@moh.gov.example")
    hit = found(record, "MOH", number, ID, "registry@moh.gov.example")
    assert hit is not None and not hit.own and hit.recipient == "ali@moh.gov.example"


def test_what_was_never_handed_over_is_in_no_mailbox(record: Record) -> None:
    number = letter(record, "registry@moh.gov.example", sent=False)
    assert found(record, "MOH", number, ID, "registry@moh.gov.example") is None
