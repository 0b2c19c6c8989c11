"""Which receipts are due now: the acceptance first, whatever the clock says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.records import HOUR, claim, letter, sent
from tracker import due_receipts
from tracker.acceptance import Acceptance, DeliveryDraft
from tracker.due_receipts import FIRST_US
from tracker.model import NULL_PATH, Address, DeliveryKind, Door, Envelope, LetterKind, Recipient, now_us
from tracker.model import Connection as Peer
from tracker.receipt_due import ReceiptSettings
from tracker.record import Record
from tracker.states import Event

AUTHOR = Recipient(address=Address.parse("a@mof.gov.example"))


def due(record: Record, at: int | None = None, gather: int = 5, limit: int = 100) -> list[list[str]]:
    record.checkpoint()
    with record.read() as conn:
        bundles = due_receipts.due(
            conn,
            at or now_us(),
            settings=ReceiptSettings(gather_above=gather),
            digest_us=HOUR,
            limit=limit,
        )
    return [[one.kind for one in bundle.receipts] for bundle in bundles]


def send(record: Record) -> None:
    """What the notices do with what is due."""
    with record.read() as conn:
        bundles = due_receipts.due(conn, now_us(), settings=ReceiptSettings(), digest_us=HOUR)
    for bundle in bundles:
        record.accept(
            letter(
                record,
                kind=LetterKind.RECEIPT,
                peer=Peer(door=Door.SELF, peer="127.0.0.1"),
                envelope=Envelope(sender=NULL_PATH, recipients=(AUTHOR,)),
                message_id=f"<r{bundle.receipts[0].id}@wasl>",
                text=b"From: wasl\r\n\r\n%d\r\n" % bundle.receipts[0].id,
                agency=None,
                number_shape=None,
                deliveries=(
                    DeliveryDraft(recipient=AUTHOR, kind=DeliveryKind.RECEIPT, agency="MOF", hop="MOF"),
                ),
                receipt_for=bundle.letter.id,
                receipt_ids=tuple(one.id for one in bundle.receipts),
            )
        )


def delivered(record: Record) -> None:
    """A letter that is in its mailbox before anybody told its author that it was accepted."""
    record.accept(letter(record))
    (found,) = claim(record)
    sent(record, found, Event.DELIVERED)


def test_the_acceptance_goes_first_and_the_others_wait_until_its_server_has_it(record: Record) -> None:
    delivered(record)
    assert due(record) == [["submitted"]]
    send(record)
    assert due(record) == []  # it is queued
    (out,) = claim(record)
    assert due(record) == []  # it is being sent
    sent(record, out, Event.RELAYED)
    assert due(record) == [["delivered"]]
    send(record)
    assert due(record) == []


def test_a_server_that_does_not_take_the_acceptance_keeps_the_others_a_minute_only(record: Record) -> None:
    delivered(record)
    assert due(record, now_us() + FIRST_US + 1_000_000) == [["submitted"], ["delivered"]]
    send(record)
    assert due(record) == []
    assert due(record, now_us() + FIRST_US + 1_000_000) == [["delivered"]]


@pytest.mark.parametrize("gather", [5, 0])
def test_a_clock_that_was_set_back_keeps_no_receipt_waiting(record: Record, gather: int) -> None:
    delivered(record)
    lots = due(record, now_us() - 72 * HOUR, gather)
    assert [kind for lot in lots for kind in lot] == ["submitted", "delivered"]


def test_a_digest_gathers_for_its_time(record: Record) -> None:
    record.accept(letter(record, "b@moh.gov.example", "c@moh.gov.example"))
    send_first(record)
    for found in claim(record)[:1]:
        sent(record, found, Event.DELIVERED)
    assert due(record, gather=1) == []
    assert due(record, now_us() + HOUR + 1_000_000, gather=1) == [["delivered"]]


def send_first(record: Record) -> None:
    assert due(record) == [["submitted"]]
    send(record)
    for out in claim(record):
        if out.kind is DeliveryKind.RECEIPT:
            sent(record, out, Event.RELAYED)
        else:
            sent(record, out, Event.ATTEMPTED)


def test_what_a_large_letter_gathers_keeps_no_other_receipt_waiting(record: Record) -> None:
    def asking(a: Acceptance, *events: str) -> Acceptance:
        return replace(a, deliveries=tuple([replace(d, asks=events) for d in a.deliveries]))

    record.accept(
        asking(letter(record, *[f"u{n}@moh.gov.example" for n in range(12)]), "delivered", "failed")
    )
    several = claim(record)
    for found in several[:10]:
        sent(record, found, Event.DELIVERED)
    small = letter(record, message_id="<2@mof>", text=b"From: a@mof.gov.example\r\n\r\nsmall\r\n")
    record.accept(asking(small, "failed"))
    for found in [several[10], *claim(record)]:
        sent(record, found, Event.FAILED)
    assert due(record, limit=5) == [["failed"], ["failed"]]
    assert due(record, now_us() + HOUR + 1_000_000, limit=5) == [["delivered"] * 5]
