"""Attempts that may have been registered: the answer to their COMMIT was lost with the connection.

An acceptance that is handed over, and a claim, register attempts and lease the deliveries to whoever asked.
When COMMIT fails nobody is given those claims, but the rows may be there: the deliveries would rest until the
lease ends. So their ids are kept here, and :meth:`DoubtfulAttempts.give_back`, called by the next claim that
reaches the database, undoes what it finds: the delivery is queued as if it had never been handed over, and
the attempt, which nobody made, is taken out. A transaction may still become visible a while after its
connection is gone; its ids are looked for until :data:`KEPT_S` have passed.

One writer uses it, in one thread. Fails as the database does; what was not given back is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection, bindparam, delete, select, update

from tracker import schema
from tracker.states import State

KEPT_S = 900.0  # seconds; the lease of a relay is about as long, and then another claim finds the delivery

_LOT = 500  # ids in one statement


class DoubtfulAttempts:
    """What a writer's desks have registered and do not know of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written: list[int] = []  # by the transaction under way
        self._found: list[int] = []  # by it, of those in doubt
        self._doubtful: dict[int, float] = {}  # id of the attempt -> forgotten when

    def __len__(self) -> int:
        return len(self._doubtful)

    def wrote(self, attempt_ids: Iterable[int]) -> None:
        """The transaction under way registers these."""
        self._written += attempt_ids

    def committed(self) -> None:
        """It is durable."""
        for attempt_id in self._found:
            self._doubtful.pop(attempt_id, None)
        self._written.clear()
        self._found.clear()

    def doubted(self) -> None:
        """Its COMMIT failed: it may be durable or not."""
        end = self._clock() + KEPT_S
        self._doubtful |= dict.fromkeys(self._written, end)
        self.rolled_back()

    def rolled_back(self) -> None:
        """It left nothing."""
        self._written.clear()
        self._found.clear()

    def give_back(self, conn: Connection) -> int:
        """Queue again what was committed after all; returns how many deliveries that were."""
        if not self._doubtful:
            return 0
        now = self._clock()
        self._doubtful = {one: end for one, end in self._doubtful.items() if end > now}
        found, given = give_back(conn, list(self._doubtful))
        self._found += found
        return given


def give_back(conn: Connection, attempt_ids: Sequence[int]) -> tuple[list[int], int]:
    """Queue again the deliveries of attempts that nobody made, and take those attempts out.

    Returns the attempts that were found, and how many deliveries are queued again: an attempt that has an
    end, or whose delivery somebody else holds by now, is left as it is.
    """
    a, d = schema.attempt.c, schema.delivery.c
    found: list[int] = []
    given = 0
    for at in range(0, len(attempt_ids), _LOT):
        rows = conn.execute(
            select(a.id, d.id.label("delivery_id"), a.ended_us, a.owner, d.state, d.lease_owner)
            .join(schema.delivery, d.id == a.delivery_id)
            .where(a.id.in_(attempt_ids[at : at + _LOT]))
        ).all()
        found += [row.id for row in rows]
        lost = [
            row
            for row in rows
            if row.ended_us is None and row.state == State.SENDING.value and row.lease_owner == row.owner
        ]
        if not lost:
            continue
        conn.execute(
            update(schema.delivery)
            .where(
                d.id == bindparam("b_id"),
                d.state == State.SENDING.value,
                d.lease_owner == bindparam("b_owner"),
            )
            .values(state=State.QUEUED.value, lease_owner=None, lease_us=None, attempts=d.attempts - 1),
            [{"b_id": row.delivery_id, "b_owner": row.owner} for row in lost],
        )
        conn.execute(delete(schema.attempt).where(a.id.in_([row.id for row in lost])))
        given += len(lost)
    return found, given
