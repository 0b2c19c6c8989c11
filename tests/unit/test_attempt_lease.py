"""A lease is that of an attempt: what is noted beside one that is under way neither ends nor repeats it."""

from __future__ import annotations

import pytest

from tests.records import HOUR, claim, letter, rows, sent
from tracker import schema
from tracker.attempt_lease import Lease, counter_s
from tracker.claims import Claim, Want, renew
from tracker.model import id_text, now_us
from tracker.noting import Note
from tracker.queue import Act, act
from tracker.record import Record
from tracker.states import Event, UnknownMove


def lease(length_us: int, *, waited_s: float = 0.0, now: int | None = None) -> Lease:
    """As a relay asked for it, so long ago."""
    asked = now_us() - int(waited_s * 1_000_000) if now is None else now
    return Lease(length_us=length_us, now_us=asked, asked_s=counter_s() - waited_s)


def begun(record: Record) -> Claim:
    record.accept(letter(record))
    (found,) = claim(record)
    return found


def do(record: Record, c: Claim, *acts: Act) -> None:
    for what in acts:
        (done,) = act(record, what, [id_text(c.delivery_id)], "ali", now_us() + 120 * HOUR)
        assert not done.error


def noted(record: Record, c: Claim, event: Event, source: str) -> None:
    record.note(Note(delivery_id=c.delivery_id, event=event, at_us=now_us(), source=source))


def state(record: Record) -> str:
    (row,) = rows(record, schema.delivery)
    return str(row.state)


@pytest.mark.parametrize("acts", [(Act.HOLD, Act.RELEASE), (Act.CANCEL, Act.REQUEUE)])
def test_what_people_do_meanwhile_sends_it_no_second_time(record: Record, acts: tuple[Act, ...]) -> None:
    first = begun(record)
    do(record, first, *acts)
    assert claim(record) == [] and claim(record, owner="1/b") == []
    sent(record, first)
    assert state(record) == "sent" and claim(record) == []


def test_it_goes_on_when_the_attempt_failed_or_its_process_died(record: Record) -> None:
    first = begun(record)
    do(record, first, Act.HOLD, Act.RELEASE)
    sent(record, first, Event.ATTEMPTED)
    (second,) = claim(record)
    assert not second.in_doubt
    do(record, second, Act.HOLD, Act.RELEASE)
    (third,) = claim(record, owner="0/next-life")
    assert third.in_doubt
    assert [row.result for row in rows(record, schema.attempt)] == ["attempted", "in-doubt", None]


def test_the_doubt_of_an_attempt_that_was_cancelled_is_kept(record: Record) -> None:
    first = begun(record)
    do(record, first, Act.CANCEL)
    sent(record, first, Event.IN_DOUBT)
    assert state(record) == "failed"
    do(record, first, Act.REQUEUE)
    (second,) = claim(record)
    assert second.in_doubt


@pytest.mark.parametrize("event", [Event.READ, Event.FETCHED, Event.PROCESSED])
@pytest.mark.parametrize("end", [Event.ATTEMPTED, Event.IN_DOUBT, Event.FAILED])
def test_what_arrived_while_it_was_tried_again_is_not_tried_a_third_time(
    record: Record, event: Event, end: Event
) -> None:
    first = begun(record)
    sent(record, first, Event.IN_DOUBT)
    (second,) = claim(record)
    noted(record, first, event, "mdn")
    sent(record, second, end)
    assert state(record) == "sent" and claim(record) == []
    assert {d.outcome for d in rows(record, schema.delivery)} <= {"open", "closed"}
    assert "failed" not in {row.kind for row in rows(record, schema.receipt)}, "nobody is told what is not so"


def test_a_second_copy_that_is_refused_is_no_failure_of_what_was_handed_on(record: Record) -> None:
    """The first attempt lost its lease, and was noted with its 250 while another node tried again."""
    first = begun(record)
    (second,) = claim(record, owner="1/b", at=now_us() + 2 * HOUR)
    assert second.in_doubt
    sent(record, first, Event.RELAYED)
    sent(record, second, Event.FAILED)
    assert state(record) == "sent" and {d.outcome for d in rows(record, schema.delivery)} == {"open"}
    assert "failed" not in {row.kind for row in rows(record, schema.receipt)}


@pytest.mark.parametrize("end", [Event.ATTEMPTED, Event.FAILED])
def test_what_a_person_ended_meanwhile_stays_ended(record: Record, end: Event) -> None:
    first = begun(record)
    sent(record, first, Event.IN_DOUBT)
    (second,) = claim(record)
    do(record, second, Act.CANCEL)
    noted(record, first, Event.READ, "mdn")
    sent(record, second, end)
    assert state(record) == "failed" and claim(record) == []


def test_what_was_refused_before_it_arrived_anywhere_has_failed(record: Record) -> None:
    first = begun(record)
    sent(record, first, Event.IN_DOUBT)
    (second,) = claim(record)
    sent(record, second, Event.FAILED)
    assert state(record) == "failed"
    assert "failed" in {row.kind for row in rows(record, schema.receipt)}


def test_a_person_who_has_it_sent_again_is_obeyed(record: Record) -> None:
    first = begun(record)
    sent(record, first)
    noted(record, first, Event.READ, "mdn")
    do(record, first, Act.REQUEUE)
    (second,) = claim(record)
    sent(record, second, Event.ATTEMPTED)
    assert len(claim(record)) == 1


def test_who_registers_a_letter_that_came_on_paper_does_not_stop_it(record: Record) -> None:
    first = begun(record)
    noted(record, first, Event.REGISTERED, "person")
    sent(record, first, Event.ATTEMPTED)
    assert len(claim(record)) == 1


def test_an_end_that_comes_after_the_lease_disturbs_nobody(record: Record) -> None:
    first = begun(record)
    (second,) = claim(record, owner="1/b", at=now_us() + 2 * HOUR)
    sent(record, first, Event.ATTEMPTED)
    assert claim(record, owner="1/b", at=now_us() + 2 * HOUR) == []
    sent(record, second)
    assert [row.result for row in rows(record, schema.attempt)] == ["attempted", "relayed"]


def test_a_lease_is_prolonged_by_who_holds_it(record: Record) -> None:
    first = begun(record)
    longer = lease(5 * HOUR)
    ids = [first.delivery_id]
    assert record.write(lambda conn: renew(conn, "1/b", ids, longer)) == 0
    assert record.write(lambda conn: renew(conn, "0/a", ids, longer)) == 1
    assert claim(record, at=now_us() + 2 * HOUR) == []
    assert len(claim(record, at=now_us() + 6 * HOUR)) == 1


@pytest.mark.parametrize("handed", [True, False])
def test_a_lease_is_as_long_as_it_was_asked_for_when_the_writer_was_held_up(
    record: Record, handed: bool
) -> None:
    """The database stood still for longer than a lease lasts: what it grants then is not over already."""
    asked = lease(HOUR, waited_s=2 * 3600)
    if handed:
        (first,) = record.accept(letter(record, hand_to="0/a", lease=asked)).claims
    else:
        record.accept(letter(record))
        (first,) = record.claim(Want(owner="0/a", limit=9, now_us=now_us(), lease=asked))
    soon = Want(owner="0/a", limit=9, now_us=now_us(), lease=lease(HOUR))
    assert record.claim(soon) == []
    sent(record, first)
    assert [row.result for row in rows(record, schema.attempt)] == ["relayed"]


def test_nodes_whose_clocks_differ_take_nothing_from_each_other(record: Record) -> None:
    """On PostgreSQL; there is no second node on SQLite, and what is lost there follows its one clock."""
    record.accept(letter(record))
    behind, ahead = now_us() - 3 * HOUR, now_us() + 3 * HOUR
    assert record.claim(Want(owner="0/a", limit=9, now_us=now_us(), lease=lease(HOUR, now=behind)))
    other = record.claim(Want(owner="1/b", limit=9, now_us=ahead, lease=lease(HOUR, now=ahead)))
    assert len(other) == (1 if record.store.dialect == "sqlite" else 0)


def test_what_has_arrived_is_not_late(record: Record) -> None:
    first = begun(record)
    noted(record, first, Event.DELIVERED, "dsn")
    sent(record, first, Event.ATTEMPTED)
    with pytest.raises(UnknownMove):
        noted(record, first, Event.LATE, "timer")
    assert {row.kind for row in rows(record, schema.receipt)} == {"submitted", "delivered"}
