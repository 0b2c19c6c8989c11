"""What an administrator does to the queue: retry, hold, release, cancel, requeue.

Each act names deliveries by any of the ids that people have in hand: a delivery's, a letter's or a
transaction's id as logs and lists show it, or a letter number. Holding, releasing, cancelling and
requeueing are evidence and enter by ``Record.note`` with the person's name; a retry only moves the
next attempt to now. What a rule holds for approval is decided by whom the rule names
(:mod:`tracker.hold_desk`), not here. What cannot be done is said per delivery and stops nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, select, update

from tracker import holds, schema
from tracker.model import id_text, id_value, now_us
from tracker.noting import NoSuchDelivery, Note
from tracker.record import Record
from tracker.states import Event, State, UnknownMove


class Act(StrEnum):
    RETRY = "retry"  # try again now
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"  # give up; the author is told
    REQUEUE = "requeue"  # send again what was sent, failed or cancelled


_EVENTS = {
    Act.HOLD: Event.HELD,
    Act.RELEASE: Event.RELEASED,
    Act.CANCEL: Event.CANCELLED,
    Act.REQUEUE: Event.REQUEUED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of an act on one delivery; ``error`` is empty when it was done."""

    delivery: str
    recipient: str = ""
    state: str = ""
    error: str = ""


def find(conn: Connection, name: str) -> list[tuple[int, str]]:
    """(delivery id, recipient) of what ``name`` means: an id of 13 characters or a letter number."""
    d = schema.delivery.c
    wanted = select(d.id, d.recipient).order_by(d.id)
    try:
        number = id_value(name)
    except ValueError:
        letters = select(schema.letter.c.id).where(schema.letter.c.number == name)
        return [(r.id, r.recipient) for r in conn.execute(wanted.where(d.letter_id.in_(letters)))]
    of_letter = select(schema.submission.c.letter_id).where(schema.submission.c.id == number)
    for meant in (
        d.id == number,
        d.letter_id == number,
        d.letter_id.in_(of_letter) & (d.submission_id == number),
    ):
        rows = [(r.id, r.recipient) for r in conn.execute(wanted.where(meant))]
        if rows:
            return rows
    return []


def letters(conn: Connection, ref: str) -> list[int]:
    """Ids of the letters meant by a Message-ID, with or without brackets, or by what :func:`find` knows."""
    c = schema.letter.c
    if "@" in ref:
        bare = ref.strip("<> ")
        wanted = select(c.id).where(c.message_id.in_((ref, f"<{bare}>", bare)))
        return list(conn.scalars(wanted.order_by(c.id).limit(100)))
    rows = [i for i, _ in find(conn, ref)][:500]
    d = schema.delivery.c
    return sorted(set(conn.scalars(select(d.letter_id).where(d.id.in_(rows)))))


def act(record: Record, what: Act, names: Sequence[str], person: str, extend_us: int) -> list[Done]:
    """Do ``what`` to the deliveries meant by ``names``; ``extend_us`` is the new expiry of a requeued one."""
    out: list[Done] = []
    for name in names:
        with record.read() as conn:
            found = find(conn, name)
        if not found:
            out.append(Done(delivery=name, error="no delivery of this id or number"))
        out += [_one(record, what, i, recipient, person, extend_us) for i, recipient in found]
    return out


def _one(record: Record, what: Act, delivery_id: int, recipient: str, person: str, extend_us: int) -> Done:
    text, at = id_text(delivery_id), now_us()
    if what is Act.RETRY:
        d = schema.delivery.c
        hit = record.write(
            lambda conn: (
                conn.execute(
                    update(schema.delivery)
                    .where(d.id == delivery_id, d.state == State.QUEUED.value)
                    .values(next_us=at)
                ).rowcount
            )
        )
        error = "" if hit else "not waiting: only a queued delivery can be retried (see release, requeue)"
        return Done(delivery=text, recipient=recipient, state="" if error else "queued", error=error)
    if what is not Act.HOLD:
        with record.read() as conn:
            rule = holds.waits(conn, delivery_id)
            state = conn.scalar(select(schema.delivery.c.state).where(schema.delivery.c.id == delivery_id))
        if rule is not None:  # no way around those whom the rule names
            error = f"held for approval by the rule {rule}: see `wasl hold release` and `wasl hold refuse`"
            return Done(delivery=text, recipient=recipient, state="held", error=error)
        if what is Act.RELEASE and state in (State.QUEUED, State.SENDING):
            return Done(delivery=text, recipient=recipient, error=f"not held: it is {state} already")
    note = Note(
        delivery_id=delivery_id,
        event=_EVENTS[what],
        at_us=at,
        source="person",
        reporter=person,
        detail={"person": person, "reply": f"{what.value} by {person}"},
        next_us=at if what in (Act.RELEASE, Act.REQUEUE) else None,
        extend_us=extend_us if what is Act.REQUEUE else None,
    )
    try:
        noted = record.note(note)
    except (UnknownMove, NoSuchDelivery) as error:
        return Done(delivery=text, recipient=recipient, error=str(error))
    return Done(delivery=text, recipient=recipient, state=noted.standing.state.value)
