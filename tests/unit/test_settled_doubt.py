"""A delivery in doubt of which reader, server or mailbox speak: it has arrived and is not sent again."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from tests.records import HOUR
from tests.unit.test_watching import ID, post
from tracker import matching, schema
from tracker.claims import Claim, Want
from tracker.dsn import Report
from tracker.mailbox_visit import Visit, notes_of
from tracker.mdn import Disposition
from tracker.model import now_us
from tracker.noting import Note
from tracker.record import Record
from tracker.states import Event

BOX = "ali@moh.gov.example"
ORIGIN = matching.Origin(
    agencies=("MOH",), peer="192.0.2.1", at_us=1, sha256="", author=BOX, author_agency="MOH"
)
DISPLAYED = Disposition(final_recipient=BOX, mode="manual-action", type="displayed")
DELETED = Disposition(final_recipient=BOX, mode="automatic-action", type="deleted")


class Doubtful:
    """A letter whose first attempt ended ``how``; it waits for the next."""

    def __init__(self, record: Record, how: Event = Event.IN_DOUBT) -> None:
        self.record = record
        self.number = post(record, BOX, sent=False)
        (claim,) = self.claim()
        self.id = claim.delivery_id
        record.note(
            Note(
                delivery_id=self.id,
                event=how,
                at_us=now_us(),
                source="smtp",
                attempt=_end(claim),
                next_us=now_us(),
            )
        )

    def claim(self) -> list[Claim]:
        return self.record.claim(Want(owner="0/a", limit=9, now_us=now_us(), lease_us=now_us() + HOUR))

    def sent(self) -> list[matching.Sent]:
        with self.record.read() as conn:
            return matching.by_delivery(conn, self.id)

    def take(self, notes: list[Note]) -> list[str]:
        for note in notes:
            self.record.note(note)
        return [f"{note.event.value}/{note.source}" for note in notes]

    def standing(self) -> tuple[str, int]:
        d = schema.delivery.c
        with self.record.read() as conn:
            row: Any = conn.execute(select(d.state, d.grade).where(d.id == self.id)).one()
        return row.state, row.grade

    def visit(self, what: str, mailbox: str = BOX) -> list[str]:
        visit = Visit(
            agency="MOH",
            account=mailbox,
            mailbox=mailbox,
            client="",
            peer="192.0.2.7",
            server="192.0.2.1:143",
            number=self.number,
            message_id=ID,
            what=what,
            folder="INBOX",
            at_us=now_us(),
        )
        with self.record.read() as conn:
            notes = notes_of(conn, [visit, visit])
        return self.take(notes)


def _end(claim: Claim) -> Any:
    from tracker.noting import AttemptEnd

    return AttemptEnd(attempt_id=claim.attempt_id)


def test_who_has_read_it_has_it(record: Record) -> None:
    letter_ = Doubtful(record)
    notes, strays = matching.from_dispositions(letter_.sent(), [DISPLAYED], ORIGIN, frozenset({BOX}))
    assert strays == []
    assert letter_.take(notes) == ["read/mdn"]
    assert letter_.standing() == ("sent", 5)
    assert letter_.claim() == [], "it is not sent again"


@pytest.mark.parametrize(("action", "standing"), [("delivered", ("sent", 3)), ("relayed", ("sent", 2))])
def test_its_server_has_reported_it(record: Record, action: str, standing: tuple[str, int]) -> None:
    letter_ = Doubtful(record)
    report = Report(final_recipient=BOX, action=action, status="2.0.0")
    notes, strays = matching.from_reports(letter_.sent(), [report], ORIGIN)
    assert strays == []
    letter_.take(notes)
    assert letter_.standing() == standing and letter_.claim() == []


def test_a_bounce_of_what_was_in_doubt_ends_it(record: Record) -> None:
    letter_ = Doubtful(record)
    report = Report(final_recipient=BOX, action="failed", status="5.1.1")
    notes, strays = matching.from_reports(letter_.sent(), [report], ORIGIN)
    letter_.take(notes)
    assert strays == [] and letter_.standing() == ("failed", 1) and letter_.claim() == []


def test_what_is_not_read_settles_nothing(record: Record) -> None:
    letter_ = Doubtful(record)
    notes, _ = matching.from_dispositions(letter_.sent(), [DELETED], ORIGIN, frozenset({BOX}))
    assert letter_.take(notes) == ["auto-reply/mdn"]
    assert letter_.standing() == ("queued", 1) and len(letter_.claim()) == 1


def test_what_was_put_off_in_so_many_words_is_not_in_doubt(record: Record) -> None:
    letter_ = Doubtful(record, Event.ATTEMPTED)
    notes, (stray,) = matching.from_dispositions(letter_.sent(), [DISPLAYED], ORIGIN, frozenset({BOX}))
    assert notes == [] and stray.reason == "speaks of a letter that has not been sent there"


@pytest.mark.parametrize(
    ("what", "noted", "grade"), [("fetched", "fetched", 4), ("seen", "seen", 3), ("moved", "noticed", 3)]
)
def test_what_is_handled_through_the_proxy_lies_in_the_mailbox(
    record: Record, what: str, noted: str, grade: int
) -> None:
    letter_ = Doubtful(record)
    assert letter_.visit(what) == ["delivered/imap-proxy", f"{noted}/imap-proxy"]
    assert letter_.standing() == ("sent", grade) and letter_.claim() == []
    assert letter_.visit("answered") == ["seen/imap-proxy"], "that it is there is said once"


def test_another_mailbox_says_nothing_of_this_one(record: Record) -> None:
    letter_ = Doubtful(record)
    assert letter_.visit("seen", "omar@moh.gov.example") == ["seen/imap-proxy"]
    assert letter_.standing() == ("queued", 1) and len(letter_.claim()) == 1


def test_while_an_attempt_is_under_way_its_end_is_waited_for(record: Record) -> None:
    letter_ = Doubtful(record)
    assert len(letter_.claim()) == 1
    assert letter_.visit("seen") == ["seen/imap-proxy"]
    assert letter_.standing() == ("sending", 1)
