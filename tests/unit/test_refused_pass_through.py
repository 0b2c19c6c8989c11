"""Mail that is no letter and that some recipient is refused: forgotten like any other once that is told."""

from __future__ import annotations

from dataclasses import replace

from tests.records import claim, letter, rows, sent
from tracker import schema
from tracker.model import DeliveryKind, LetterKind
from tracker.record import Record
from tracker.states import State


def test_a_refused_recipient_does_not_keep_private_mail_for_ever(record: Record) -> None:
    a = letter(
        record, "b@moh.gov.example", "c@moj.gov.example", kind=LetterKind.PASS, number_shape=None, digest=None
    )
    taken, other = [replace(d, kind=DeliveryKind.PASS, asks=()) for d in a.deliveries]
    refused = replace(other, state=State.REFUSED, reason={"reply": "550 5.7.1 no"}, asks=("refused",))
    record.accept(replace(a, deliveries=(taken, refused)))
    for found in claim(record):
        sent(record, found)
    assert record.forget_done() == 0, "the author is to be told first"
    (due,) = rows(record, schema.receipt)
    told = letter(record, kind=LetterKind.RECEIPT, text=b"x\r\n", receipt_ids=(due.id,), deliveries=())
    record.accept(replace(told, number_shape=None, digest=None))
    assert record.forget_done() == 1
    assert rows(record, schema.delivery) == []
    assert [row.kind for row in rows(record, schema.letter)] == ["receipt"]
