"""What waits in the queue, as lists and single deliveries, for the command line.

Read only; every list is bounded and walks the index of what is due (state, next attempt) or the
delivery's own id. Pass-through mail shows as its addresses and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, Select, func, select

from tracker.question import in_queue
from tracker.schema import attempt, delivery, letter, submission
from tracker.states import State

WAITING = (State.QUEUED, State.SENDING, State.HELD)


def depth(conn: Connection) -> dict[State, int]:
    """How many deliveries wait to go out or are going, by the index of what is due; 0 stands there too."""
    d = delivery.c
    wanted = (State.QUEUED, State.SENDING)
    rows = conn.execute(select(d.state, func.count()).where(in_queue()).group_by(d.state))
    found = {State(row[0]): int(row[1]) for row in rows}
    return {state: found.get(state, 0) for state in wanted}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One delivery. Times in microseconds of UTC."""

    id: int
    letter_id: int
    submission_id: int
    number: str | None
    kind: str
    sender: str
    recipient: str
    agency: str | None
    hop: str
    state: State
    attempts: int
    accepted_us: int
    next_us: int
    expires_us: int
    last_reply: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One attempt of a delivery; without ``ended_us`` it is under way or in doubt."""

    started_us: int
    ended_us: int | None
    hop: str
    peer: str | None
    tls: str | None
    reply: str | None
    result: str | None


def waiting(
    conn: Connection,
    *,
    agency: str | None = None,
    hop: str | None = None,
    state: str | None = None,
    limit: int = 1000,
) -> list[Waiting]:
    """Queued, sending and held deliveries, the oldest first; raises ValueError for another state."""
    d = delivery.c
    states = [s.value for s in WAITING]
    if state is not None:
        if state not in states:
            raise ValueError(f"a delivery waits as {', '.join(states)}; not {state!r}")
        states = [state]
    wanted = _deliveries().where(d.state.in_(states)).order_by(d.id).limit(limit)
    if agency is not None:
        wanted = wanted.where(d.agency == agency.upper())
    if hop is not None:
        wanted = wanted.where(d.hop == hop)
    return [_waiting(row) for row in conn.execute(wanted)]


def one_delivery(conn: Connection, delivery_id: int) -> tuple[Waiting, Sequence[Try]]:
    """A delivery in whatever state, with its attempts; raises LookupError when it is not there."""
    row = conn.execute(_deliveries().where(delivery.c.id == delivery_id)).one_or_none()
    if row is None:
        raise LookupError(f"no delivery {delivery_id}")
    tries = conn.execute(
        select(attempt).where(attempt.c.delivery_id == delivery_id).order_by(attempt.c.started_us)
    )
    return _waiting(row), [
        Try(
            started_us=a.started_us,
            ended_us=a.ended_us,
            hop=a.hop,
            peer=a.peer,
            tls=a.tls,
            reply=a.reply,
            result=a.result,
        )
        for a in tries
    ]


def _deliveries() -> Select[tuple[object, ...]]:
    return (
        select(delivery, letter.c.number, letter.c.accepted_us, submission.c.sender)
        .join(letter, letter.c.id == delivery.c.letter_id)
        .join(submission, submission.c.id == delivery.c.submission_id)
    )


def _waiting(row: Row[tuple[object, ...]]) -> Waiting:
    return Waiting(
        id=row.id,
        letter_id=row.letter_id,
        submission_id=row.submission_id,
        number=row.number,
        kind=row.kind,
        sender=row.sender,
        recipient=row.recipient,
        agency=row.agency,
        hop=row.hop,
        state=State(row.state),
        attempts=row.attempts,
        accepted_us=row.accepted_us,
        next_us=row.next_us,
        expires_us=row.expires_us,
        last_reply=row.last_reply,
    )
