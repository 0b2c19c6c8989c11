"""A search line made into SQL: the index that drives it, and the conditions upon each letter.

The narrowest index that the question offers drives the query: the number's, ``(agency, id)`` of
the sender, ``(agency, letter_id)`` of the recipient, the partial index of what waits, or the
primary key; an agency's people have an arm for each end. Days become bounds of ids, which are in
the order of time. What remains is looked for in windows of ``WINDOW`` letters (``Question.floor``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as clock
from zoneinfo import ZoneInfo

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    union,
)
from sqlalchemy.sql.selectable import FromClause

from tracker.access import (
    SHOWN_LETTERS,
    Viewer,
    letter_seen,
    row_by_name,
    row_of_own,
    row_with_evidence,
)
from tracker.model import IdSource, id_value
from tracker.schema import delivery, evidence, letter
from tracker.search import Condition, Query
from tracker.states import Event, Grade, Outcome, State

WINDOW = 20_000  # letters looked at in one step when no index answers
SLACK_US = 2 * 86_400 * 1_000_000  # ids run ahead of the clock when it was set back

QUEUED = (State.QUEUED.value, State.SENDING.value)
LIVING = (Outcome.OPEN.value, Outcome.REOPENED.value)


def first_id(at_us: int) -> int:
    """The lowest id that an :class:`IdSource` can give at that time."""
    return max(0, at_us // 1000 - IdSource.EPOCH_MS) << 22


def id_us(row_id: int) -> int:
    """The time in an id, microseconds UTC."""
    return ((row_id >> 22) + IdSource.EPOCH_MS) * 1000


def day_us(day: date, zone: ZoneInfo) -> int:
    """Midnight at the beginning of a day in the zone, microseconds UTC."""
    return int(datetime.combine(day, clock(), zone).timestamp()) * 1_000_000


def is_late(
    *, state: str, outcome: str, grade: int, warned_us: int | None, due_us: int | None, at_us: int
) -> bool:
    """Late on its way (the author was warned), or not processed by the day that an answer was due."""
    if outcome not in LIVING:
        return False
    if warned_us is not None and state in (*QUEUED, State.HELD.value):
        return True
    unanswered = grade < Grade.PROCESSED or outcome == Outcome.REOPENED.value
    return due_us is not None and due_us < at_us and unanswered and state != State.REFUSED.value


@dataclass(frozen=True, slots=True)
class Arm:
    """One driving index: its id column, the terms that it answers, the rest of the conditions."""

    key: ColumnElement[int]
    answered: tuple[ColumnElement[bool], ...]
    rest: tuple[ColumnElement[bool], ...]

    def ids(self, low: int, top: int, limit: int) -> Select[int]:
        chosen = select(self.key.label("id"))
        if self.key is delivery.c.letter_id:
            chosen = chosen.join(letter, letter.c.id == delivery.c.letter_id).distinct()
        return (
            chosen.where(self.key < top, self.key >= low, *self.answered, *self.rest)
            .order_by(self.key.desc())
            .limit(limit)
        )

    def floor(self, low: int, top: int) -> Select[int]:
        """The id of the last letter in a window; answered by the index alone."""
        return (
            select(self.key)
            .where(self.key < top, self.key >= low, *self.answered)
            .order_by(self.key.desc())
            .limit(1)
            .offset(WINDOW - 1)
        )


class Question:
    """One question, made into SQL."""

    def __init__(self, viewer: Viewer, query: Query, zone: ZoneInfo, at_us: int) -> None:
        self.lowest, self.highest = 0, 1 << 62
        where: list[ColumnElement[bool]] = [letter.c.kind.in_(SHOWN_LETTERS)]
        if query.after is not None:
            us = day_us(query.after, zone)
            self.lowest = first_id(us)
            where.append(letter.c.accepted_us >= us)
        if query.before is not None:
            us = day_us(query.before, zone)
            self.highest = first_id(us + SLACK_US)
            where.append(letter.c.accepted_us < us)
        senders = query.sender
        number, register = _number(query.number)
        if number is not None:
            where.append(number)
        if register is not None:
            senders = (register[0],) if not senders or register[0] in senders else ("",)
            where.append(letter.c.year == register[1])
        if query.ids:
            where.append(_by_id(query.ids))
        if senders:
            where.append(letter.c.agency.in_(senders))
        if query.asks_of_delivery:
            where.append(_asked_of_delivery(viewer, query, at_us))
        where += [_word(viewer, word) for word in query.words]
        # Without these the driving index answers, or its answers are dense enough.
        self.windowed = bool(query.words or query.asks_of_delivery or senders)
        self.arms = self._arms(viewer, query, senders, tuple(where), number is not None or bool(query.ids))

    def _arms(
        self,
        viewer: Viewer,
        query: Query,
        senders: tuple[str, ...],
        where: tuple[ColumnElement[bool], ...],
        pointed: bool,
    ) -> list[Arm]:
        waiting_only = Condition.WAITING in query.conditions or (
            bool(query.states) and query.states <= {State.QUEUED, State.SENDING}
        )
        if pointed or waiting_only:
            self.windowed = False  # a unique index or the queue's own: few rows
            seen = (*where, letter_seen(viewer))
            return [Arm(letter.c.id, (), seen) if pointed else Arm(delivery.c.letter_id, (in_queue(),), seen)]
        if viewer.sees_all:
            if len(senders) == 1:
                self.windowed = bool(query.words or query.asks_of_delivery)
                return [Arm(letter.c.id, (letter.c.agency == senders[0],), where)]
            if len(query.to) == 1:
                return [Arm(delivery.c.letter_id, (delivery.c.agency == query.to[0],), where)]
            return [Arm(letter.c.id, (), where)]
        if viewer.agency is None:
            return []
        arms = []
        if not senders or viewer.agency in senders:
            arms.append(Arm(letter.c.id, (letter.c.agency == viewer.agency,), where))
        if senders != (viewer.agency,):
            own = (*where, row_of_own(viewer))
            arms.append(Arm(delivery.c.letter_id, (delivery.c.agency == viewer.agency,), own))
        return arms

    def floor(self, conn: Connection, top: int) -> int | None:
        """The id down to which one step looks; None when the step reaches the end."""
        if not self.windowed:
            return None
        floors = [conn.scalar(arm.floor(self.lowest, top)) for arm in self.arms]
        return max((floor for floor in floors if floor is not None), default=None)

    def ids(self, conn: Connection, top: int, floor: int | None, limit: int) -> list[int]:
        """The matching ids from below ``top`` down to ``floor``, newest first."""
        low = max(self.lowest, floor or 0)
        parts = [arm.ids(low, top, limit) for arm in self.arms]
        if not parts:
            return []
        if len(parts) == 1:
            return list(conn.scalars(parts[0]))
        both = union(*[select(part.subquery().c.id) for part in parts]).subquery()
        return list(conn.scalars(select(both.c.id).order_by(both.c.id.desc()).limit(limit)))


def in_queue() -> ColumnElement[bool]:
    """Queued or being sent, written as the partial index has it: SQLite compares the text."""
    return delivery.c.state.in_(bindparam("queue_states", QUEUED, expanding=True, literal_execute=True))


def _number(text: str | None) -> tuple[ColumnElement[bool] | None, tuple[str, int] | None]:
    """A condition for one number, or agency and year of a register for its beginning."""
    if text is None:
        return None, None
    parts = text.split("/")
    if 2 <= len(parts) <= 3 and parts[1].isdecimal() and (len(parts) == 2 or not parts[2]):
        return None, (parts[0], min(int(parts[1]), 9999))
    if len(parts) == 3 and parts[2].isdecimal():
        # people leave the zeros out
        padded = {text} | {
            f"{parts[0]}/{parts[1]}/{parts[2].lstrip('0').zfill(width)}" for width in range(1, 10)
        }
        return letter.c.number.in_(sorted(padded)), None
    return letter.c.number == text, None


def _by_id(ids: Sequence[str]) -> ColumnElement[bool]:
    terms: list[ColumnElement[bool]] = []
    for text in ids:
        try:
            terms.append(letter.c.id == id_value(text))
        except ValueError:
            terms.append(letter.c.message_id == text)
    return or_(*terms)


def _word(viewer: Viewer, word: str) -> ColumnElement[bool]:
    terms: list[ColumnElement[bool]] = [
        letter.c.subject_fold.contains(word, autoescape=True),
        letter.c.number.contains(word.upper(), autoescape=True),
        func.lower(letter.c.author).contains(word, autoescape=True),
    ]
    if "@" in word:
        row = delivery.alias()
        terms.append(
            select(row.c.id)
            .where(
                row.c.letter_id == letter.c.id,
                row.c.recipient_key.contains(word, autoescape=True),
                row_by_name(viewer, row),
            )
            .exists()
        )
    return or_(*terms)


def _asked_of_delivery(viewer: Viewer, query: Query, at_us: int) -> ColumnElement[bool]:
    """Some one recipient's row fulfils all that is asked, and the viewer may know that it does."""
    row = delivery.alias()
    terms = [_CONDITIONS[condition](row, at_us) for condition in sorted(query.conditions)]
    if query.states:
        terms.append(row.c.state.in_(sorted(query.states)))
    if query.grade is not None:
        terms.append(row.c.grade >= query.grade if query.at_least else row.c.grade == query.grade)
    known = row_with_evidence(viewer, row) if terms else row_by_name(viewer, row)
    if query.to:
        terms.append(row.c.agency.in_(query.to))
    return select(row.c.id).where(row.c.letter_id == letter.c.id, known, *terms).exists()


def late_row(row: FromClause, at_us: int) -> ColumnElement[bool]:
    """The condition of :func:`is_late`."""
    return and_(
        row.c.outcome.in_(LIVING),
        or_(
            and_(row.c.warned_us.is_not(None), row.c.state.in_((*QUEUED, State.HELD.value))),
            and_(
                row.c.due_us < at_us,
                or_(row.c.grade < Grade.PROCESSED, row.c.outcome == Outcome.REOPENED.value),
                row.c.state != State.REFUSED.value,
            ),
        ),
    )


def _read(row: FromClause, _at_us: int) -> ColumnElement[bool]:
    return (
        select(evidence.c.id)
        .where(evidence.c.delivery_id == row.c.id, evidence.c.event == Event.READ.value)
        .exists()
    )


_CONDITIONS: dict[Condition, Callable[[FromClause, int], ColumnElement[bool]]] = {
    Condition.WAITING: lambda row, _: row.c.state.in_(QUEUED),
    Condition.HELD: lambda row, _: row.c.state == State.HELD.value,
    Condition.LATE: late_row,
    Condition.FAILED: lambda row, _: row.c.outcome == Outcome.FAILED.value,
    Condition.RETURNED: lambda row, _: row.c.outcome == Outcome.RETURNED.value,
    Condition.RELAYED: lambda row, _: and_(row.c.grade == Grade.RELAYED, row.c.outcome.in_(LIVING)),
    Condition.DELIVERED: lambda row, _: row.c.grade >= Grade.DELIVERED,
    Condition.READ: _read,
    Condition.PROCESSED: lambda row, _: row.c.grade >= Grade.PROCESSED,
    Condition.OPEN: lambda row, _: and_(row.c.outcome.in_(LIVING), row.c.grade < Grade.PROCESSED),
}
