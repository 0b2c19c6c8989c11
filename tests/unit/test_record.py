"""The record through its doors, on both databases: numbers, repeats, halves, claims, notes, receipts."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.records import HOUR, claim, end, letter, rows, sent, whole
from tracker import schema
from tracker.acceptance import Acceptance
from tracker.archive import Octets
from tracker.model import (
    DeliveryKind,
    LetterKind,
    id_text,
    now_us,
)
from tracker.noting import NoSuchDelivery, Note
from tracker.queue import Act, act
from tracker.record import Record
from tracker.states import Event, Grade, Outcome, State, UnknownMove


def test_a_letter_takes_a_number_and_its_octets_are_kept(record: Record) -> None:
    a = letter(record, "b@moh.gov.example", "c@moe.gov.example")
    accepted = record.accept(a)
    assert accepted.number is not None and accepted.number.endswith("/000001")
    key = record.archive.key_for(a.submission_id, a.at_us)
    assert bytes(record.archive.open(key).view()) == bytes(a.octets.view())
    grades = {(d.recipient, d.grade, d.state) for d in rows(record, schema.delivery)}
    assert grades == {("b@moh.gov.example", 1, "queued"), ("c@moe.gov.example", 1, "queued")}
    assert [e.event for e in rows(record, schema.evidence)] == ["submitted"]
    whole(record)


def test_numbers_have_no_gap_and_no_double_under_many_threads(record: Record) -> None:
    results: list[str] = []
    lock = threading.Lock()

    def work(n: int) -> None:
        for i in range(15):
            text = f"From: a@mof.gov.example\r\n\r\n{n} {i}\r\n".encode()
            accepted = record.accept(letter(record, text=text, message_id=f"<{n}.{i}@mof>"))
            with lock:
                results.append(str(accepted.number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(int(n.rsplit("/")[-1]) for n in results) == list(range(1, 91))
    whole(record)


def test_a_failed_letter_gives_its_number_back_and_takes_nobody_down(record: Record) -> None:
    bad = letter(record, message_id="<bad@mof>", text=b"x\r\n", facts={"not json": object()})
    good = letter(record, message_id="<good@mof>", text=b"y\r\n")
    outcome: dict[str, Any] = {}

    def hand(name: str, a: Acceptance) -> None:
        try:
            outcome[name] = record.accept(a)
        except Exception as error:
            outcome[name] = error

    with record.store.writer.connect() as held:  # both wait for the writer's connection: one group
        held.exec_driver_sql("SELECT 1")
        threads = [threading.Thread(target=hand, args=p) for p in (("bad", bad), ("good", good))]
        for t in threads:
            t.start()
        threading.Event().wait(0.2)
        held.rollback()
    for t in threads:
        t.join()
    assert isinstance(outcome["bad"], Exception)
    assert outcome["good"].number.endswith("/000001")
    whole(record)


def test_the_same_transaction_again_is_answered_with_the_first_number(record: Record) -> None:
    first = record.accept(letter(record))
    again = record.accept(letter(record))
    assert again.repeat and again.number == first.number and again.letter_id == first.letter_id
    assert len(rows(record, schema.submission)) == 1
    assert len(list(record.archive.keys())) == 1
    whole(record)


def test_a_letter_that_its_server_splits_is_one_letter(record: Record) -> None:
    text = b"From: a@mof.gov.example\r\n\r\nhello\r\n"
    digest = Octets.of(text).sha256
    first = record.accept(letter(record, "b@moh.gov.example", text=text, digest=digest))
    traced = b"Received: from elsewhere\r\n" + text
    second = record.accept(
        letter(record, "b@moh.gov.example", "c@moe.gov.example", text=traced, digest=digest)
    )
    assert (second.number, second.letter_id, second.repeat) == (first.number, first.letter_id, False)
    assert [d.recipient for d in rows(record, schema.delivery)] == ["b@moh.gov.example", "c@moe.gov.example"]
    assert len(rows(record, schema.letter)) == 1
    whole(record)


def test_another_days_letter_with_the_same_content_is_another_letter(record: Record) -> None:
    before = now_us() - 25 * HOUR
    first = record.accept(letter(record, at_us=before))
    second = record.accept(letter(record))
    assert first.number != second.number


@pytest.mark.parametrize(
    "change",
    [{"message_id": "<2@mof>"}, {"author": "z@mof.gov.example"}, {"agency": "MOE"}, {"message_id": None}],
)
def test_what_is_not_the_same_letter_gets_a_number_of_its_own(record: Record, change: dict[str, Any]) -> None:
    first = record.accept(letter(record, "b@moh.gov.example"))
    second = record.accept(letter(record, "c@moe.gov.example", **change))
    assert first.letter_id != second.letter_id and first.number != second.number


def test_the_year_is_the_zones_and_never_goes_back(record: Record) -> None:
    new_year = 1_798_750_800_000_000 + 1  # 2027-01-01 00:00 in Amman (UTC+3)
    first = record.accept(letter(record, at_us=new_year, message_id="<n@mof>"))
    assert first.number == "MOF/2027/000001"
    clock_set_back = record.accept(
        letter(record, at_us=new_year - 48 * HOUR, message_id="<m@mof>", text=b"m\r\n")
    )
    assert clock_set_back.number == "MOF/2027/000002"


def test_threads_are_found_by_references_and_by_the_subjects_number(record: Record) -> None:
    first = record.accept(letter(record, message_id="<1@mof>"))
    back: dict[str, Any] = {"agency": "MOH", "author": "b@moh.gov.example"}
    answer = letter(
        record,
        "a@mof.gov.example",
        message_id="<2@moh>",
        text=b"2\r\n",
        references=("<0@x>", "<1@mof>"),
        **back,
    )
    by_number = letter(
        record, "a@mof.gov.example", message_id="<3@moh>", text=b"3\r\n", subject_number=first.number, **back
    )
    record.accept(answer)
    record.accept(by_number)
    found = {r.message_id: (r.thread_id, r.answers) for r in rows(record, schema.letter)}
    assert found["<2@moh>"] == found["<3@moh>"] == (first.letter_id, first.letter_id)


def test_a_claim_registers_its_attempt_and_is_not_given_twice(record: Record) -> None:
    record.accept(letter(record, "b@moh.gov.example", "c@moe.gov.example"))
    claims = claim(record)
    assert [str(c.recipient) for c in claims] == ["b@moh.gov.example", "c@moe.gov.example"]
    assert claim(record) == []
    assert {a.owner for a in rows(record, schema.attempt)} == {"0/a"}
    assert all(a.ended_us is None for a in rows(record, schema.attempt))


def test_full_hops_are_left_alone(record: Record) -> None:
    record.accept(letter(record, "b@moh.gov.example", "c@moe.gov.example"))
    assert [c.hop for c in claim(record, full_hops=("MOH",))] == ["MOE"]


@pytest.mark.parametrize(("owner", "later"), [("0/b", 0), ("1/x", 2 * HOUR)])
def test_a_lost_lease_is_claimed_again_and_recorded_as_in_doubt(
    record: Record, owner: str, later: int
) -> None:
    record.accept(letter(record))
    claim(record, "0/a")
    assert claim(record, "1/x") == []  # another node waits until the lease is over
    again = claim(record, owner, now_us() + later)
    assert [c.in_doubt for c in again] == [True]
    assert [e.event for e in rows(record, schema.evidence)] == ["submitted", "in-doubt"]
    first, second = rows(record, schema.attempt)
    assert first.result == "in-doubt" and second.ended_us is None
    whole(record)


@pytest.mark.parametrize("event", [Event.LATE, Event.AUTO_REPLY, Event.SEEN, Event.READ])
def test_what_is_noted_beside_an_attempt_leaves_it_its_lease(record: Record, event: Event) -> None:
    record.accept(letter(record))
    (taken,) = claim(record, "0/a")
    record.note(Note(delivery_id=taken.delivery_id, event=event, at_us=now_us(), source="test"))
    assert claim(record, "0/a") == []
    (again,) = claim(record, "0/b")  # the process died, and this is the node's next life
    assert again.delivery_id == taken.delivery_id and again.in_doubt


def test_notes_raise_the_grade_and_earn_receipts(record: Record) -> None:
    record.accept(letter(record))
    (c,) = claim(record)
    sent(record, c, hop_dsn=False)
    (d,) = rows(record, schema.delivery)
    assert (d.state, d.grade, d.outcome, d.lease_owner) == (State.SENT, Grade.RELAYED, Outcome.OPEN, None)
    assert [r.kind for r in rows(record, schema.receipt)] == ["submitted", "relayed"]
    (a,) = rows(record, schema.attempt)
    assert a.reply == "250 2.0.0 ok" and a.edit == {"v": 1} and a.ended_us is not None
    sent(record, c, Event.DELIVERED)
    (d,) = rows(record, schema.delivery)
    assert d.grade == Grade.DELIVERED
    whole(record)


def test_a_hop_that_reports_success_itself_makes_no_relay_receipt(record: Record) -> None:
    record.accept(letter(record))
    (c,) = claim(record)
    sent(record, c, hop_dsn=True)
    assert [r.kind for r in rows(record, schema.receipt)] == ["submitted"]


def test_late_lower_and_repeated_evidence_is_recorded_and_changes_nothing(record: Record) -> None:
    record.accept(letter(record))
    (c,) = claim(record)
    sent(record, c, Event.DELIVERED)
    before = rows(record, schema.delivery)[0]
    for event in (Event.RELAYED, Event.DELIVERED):
        sent(record, c, event)
    after = rows(record, schema.delivery)[0]
    assert (after.state, after.grade, after.outcome) == (before.state, before.grade, before.outcome)
    assert len(rows(record, schema.evidence)) == 4
    assert len([r for r in rows(record, schema.receipt) if r.kind == "delivered"]) == 1
    whole(record)


def test_a_failure_after_a_success_sets_the_outcome_and_leaves_the_grade(record: Record) -> None:
    record.accept(letter(record))
    (c,) = claim(record)
    sent(record, c)
    record.note(Note(delivery_id=c.delivery_id, event=Event.FAILED, at_us=now_us(), source="dsn"))
    (d,) = rows(record, schema.delivery)
    assert (d.state, d.grade, d.outcome) == (State.FAILED, Grade.RELAYED, Outcome.FAILED)


def test_an_impossible_event_is_refused_and_leaves_no_trace(record: Record) -> None:
    record.accept(letter(record))
    (c,) = claim(record)
    sent(record, c)
    with pytest.raises(UnknownMove):
        record.note(Note(delivery_id=c.delivery_id, event=Event.HELD, at_us=now_us()))
    with pytest.raises(NoSuchDelivery):
        record.note(Note(delivery_id=12345, event=Event.RELAYED, at_us=now_us()))
    assert len(rows(record, schema.evidence)) == 2
    whole(record)


def test_a_retry_waits_for_its_time(record: Record) -> None:
    record.accept(letter(record))
    (c,) = claim(record)
    later = now_us() + HOUR
    record.note(
        Note(
            delivery_id=c.delivery_id,
            event=Event.ATTEMPTED,
            at_us=now_us(),
            attempt=end(c, "450 busy"),
            next_us=later,
        )
    )
    assert claim(record) == []
    (again,) = claim(record, at=later + 1)
    assert again.attempts == 2


def test_handed_over_deliveries_are_already_claimed(record: Record) -> None:
    accepted = record.accept(letter(record, hand_to="0/a", lease_us=now_us() + HOUR))
    (c,) = accepted.claims
    assert claim(record) == []
    sent(record, c)
    assert rows(record, schema.delivery)[0].state == State.SENT


def pass_through(record: Record, **more: Any) -> Acceptance:
    a = letter(record, kind=LetterKind.PASS, number_shape=None, digest=None, message_id=None, **more)
    drafts = tuple(replace(d, kind=DeliveryKind.PASS, asks=("failed",)) for d in a.deliveries)
    return replace(a, deliveries=drafts)


def test_pass_through_is_forgotten_once_it_is_delivered(record: Record) -> None:
    record.accept(pass_through(record))
    assert len(list(record.archive.keys())) == 1
    (c,) = claim(record)
    sent(record, c)
    for table in (schema.letter, schema.submission, schema.delivery, schema.attempt, schema.evidence):
        assert rows(record, table) == []
    assert list(record.archive.keys()) == []


def test_pass_through_that_fails_is_kept_until_its_notice_is_out(record: Record) -> None:
    record.accept(pass_through(record))
    (c,) = claim(record)
    sent(record, c, Event.FAILED)
    (due,) = rows(record, schema.receipt)
    assert record.forget_done() == 0
    record.accept(
        letter(
            record,
            kind=LetterKind.RECEIPT,
            number_shape=None,
            digest=None,
            text=b"receipt\r\n",
            receipt_ids=(due.id,),
            deliveries=(),
        )
    )
    assert record.forget_done() == 1
    assert [r.kind for r in rows(record, schema.letter)] == ["receipt"]
    assert len(list(record.archive.keys())) == 1


ACTS = [
    (Act.HOLD, "held", "letter"),
    (Act.CANCEL, "failed", "number"),
    (Act.RETRY, "queued", "delivery"),
    (Act.HOLD, "held", "submission"),
]


@pytest.mark.parametrize(("what", "state", "by"), ACTS)
def test_acts_on_the_queue(record: Record, what: Act, state: str, by: str) -> None:
    a = letter(record)
    accepted = record.accept(a)
    (d,) = rows(record, schema.delivery)
    names: dict[str, str] = {
        "letter": id_text(accepted.letter_id),
        "number": str(accepted.number),
        "delivery": id_text(d.id),
        "submission": id_text(a.submission_id),
    }
    (done,) = act(record, what, [names[by]], "root", now_us() + HOUR)
    assert (done.state, done.error) == (state, "")
    assert rows(record, schema.delivery)[0].state == state
    whole(record)


def test_acts_that_cannot_be_done_say_so(record: Record) -> None:
    accepted = record.accept(letter(record))
    (c,) = claim(record)
    sent(record, c)
    held, released, none = (
        act(record, Act.HOLD, [str(accepted.number)], "root", 0)[0],
        act(record, Act.RELEASE, [str(accepted.number)], "root", 0)[0],
        act(record, Act.CANCEL, ["MOF/1999/000001"], "root", 0)[0],
    )
    assert held.error and released.error and "no delivery" in none.error
    (again,) = act(record, Act.REQUEUE, [str(accepted.number)], "root", now_us() + HOUR)
    assert again.state == "queued"
    assert rows(record, schema.delivery)[0].grade == Grade.RELAYED


def test_ids_go_on_after_the_clock_was_set_back(record: Record) -> None:
    record.accept(letter(record))
    with record.read() as conn:
        highest = conn.execute(select(func.max(schema.evidence.c.id))).scalar_one()
    ahead = highest + (86_400_000 << 22)
    record.write(lambda conn: conn.execute(update(schema.evidence).values(id=ahead)))
    again = Record(record.store, record.archive, record.ledger.key)
    try:
        assert again.ids.next() > ahead
    finally:
        again.writer.stop()


def test_changes_are_told_to_who_listens(record: Record) -> None:
    listener = record.subscribe()
    accepted = record.accept(letter(record))
    assert listener.get(timeout=60) == accepted.letter_id
    record.unsubscribe(listener)


@pytest.mark.parametrize("ended", [Event.FAILED, Event.CANCELLED])
def test_a_letter_that_was_returned_and_is_sent_again_is_delivered(record: Record, ended: Event) -> None:
    first = letter(record, "b@moh.gov.example", "c@moj.gov.example")
    number = record.accept(first).number
    one, other = claim(record)
    sent(record, one)
    sent(record, other, ended)
    text = b"Received: from elsewhere\r\nFrom: a@mof.gov.example\r\n\r\nhello\r\n"
    again = letter(record, "b@moh.gov.example", "c@moj.gov.example", text=text, digest=first.digest)
    accepted = record.accept(again)
    assert accepted.number == number and not accepted.repeat
    assert [c.recipient for c in claim(record)] == [other.recipient]
    assert record.accept(replace(again, submission_id=record.ids.next())).repeat
    whole(record)


def test_an_address_of_earlier_rules_stands_in_nobodys_way(record: Record) -> None:
    """What would be refused today was accepted once, and is delivered."""
    record.accept(letter(record))
    record.write(
        lambda conn: conn.execute(update(schema.delivery).values(recipient="b\u200b@moh.gov.example"))
    )
    record.write(lambda conn: conn.execute(update(schema.submission).values(sender="")))
    (found,) = claim(record)
    assert str(found.recipient) == "b\u200b@moh.gov.example" and found.parcel.sender.is_null
