"""The follow-up board: how much is late, due and waited for, per agency.

Every count stops at ``CAP`` and says so; what waits without a due date is counted for ``WINDOW_DAYS``,
because an agency that registers nothing would otherwise owe every letter of years. Each cell is a bounded
look along a partial index, written in the words of the index (:mod:`tracker.awaiting`).
:mod:`tracker.waiting_list` has the lists behind the numbers. Whoever looks sees his own two ends only: at the
receiving end what his agency owes, at the sending end what others owe to it. Raises what the database does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

from tracker.access import Viewer
from tracker.overview import Count
from tracker.question import first_id

CAP = 1_000
NEWEST = 5_000  # letters of a sender that a count of what waits looks at
WINDOW_DAYS = 90
DAY_US = 86_400_000_000


class What(StrEnum):
    """A column of the board."""

    LATE = "late"  # the day that an answer was due has passed
    TODAY = "today"
    WEEK = "week"  # within seven days, today not counted
    ANSWER = "answer"  # all that have a due date and no answer
    REGISTRATION = "registration"  # there, and nobody has taken it in
    READ = "read"  # there, and nothing says that it was read
    UNDELIVERED = "undelivered"  # on its way, and the author was warned
    DOUBT = "doubt"  # handed over, and nobody knows with what answer


DUE = (What.LATE, What.TODAY, What.WEEK, What.ANSWER)
WAITING = (What.REGISTRATION, What.READ)


class Side(StrEnum):
    """At which end the viewer's agency stands."""

    IN = "in"  # the agency owes it
    OUT = "out"  # it is owed to the agency


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The times that the columns hang on."""

    now_us: int
    midnight_us: int  # when today ends
    week_us: int  # when the seven days after today end

    @property
    def floor(self) -> int:
        """The lowest id of the window of what waits without a due date."""
        return first_id(self.now_us - WINDOW_DAYS * DAY_US)


Counts = Mapping[What, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Counts by agency: of those that owe (``Side.IN`` of one agency: its own row only)."""

    side: Side
    rows: Mapping[str, Counts] = field(default_factory=dict)

    def total(self, what: What) -> Count:
        counts = [row[what] for row in self.rows.values()]
        return Count(value=sum(c.value for c in counts), more=any(c.more for c in counts))


_AWAITED = "d.due_us IS NOT NULL AND d.outcome IN ('open', 'reopened') AND d.state <> 'held'"
_UNTAKEN = "d.state = 'sent' AND d.grade < 6 AND d.outcome = 'open' AND d.kind IN ('letter', 'shadow')"
_CELLS = {
    What.LATE: f"{_AWAITED} AND d.due_us < :now",
    What.TODAY: f"{_AWAITED} AND d.due_us >= :now AND d.due_us < :midnight",
    What.WEEK: f"{_AWAITED} AND d.due_us >= :midnight AND d.due_us < :week",
    What.ANSWER: _AWAITED,
    What.REGISTRATION: f"{_UNTAKEN} AND d.letter_id >= :floor",
    What.READ: f"{_UNTAKEN} AND d.letter_id >= :floor AND d.grade < 5",
}
_LAST_ATTEMPT = (
    "(SELECT a.result FROM attempt a WHERE a.delivery_id = d.id AND a.ended_us IS NOT NULL "
    "ORDER BY a.id DESC LIMIT 1)"
)


def board(
    conn: Connection,
    viewer: Viewer,
    side: Side,
    agencies: Sequence[str],
    edges: Edges,
    *,
    letters: bool = False,
) -> Board:
    """The counts of one side. ``agencies``: whose rows are wanted by one who sees all.

    Counted are recipients, as the lists show them; ``letters``: each letter once at an agency.
    """
    values = _times(edges)
    found: dict[str, dict[What, Count]]
    if viewer.sees_all:
        found = _at_agencies(conn, agencies, values, letters)
    elif viewer.agency is None:
        return Board(side=side)
    elif side is Side.IN:
        found = _at_agencies(conn, [viewer.agency], values, letters)
    else:
        found = _owed_to(conn, viewer.agency, values, letters)
    own = None if viewer.sees_all else viewer.agency
    for code, counts in _queued(conn, side, own, letters).items():
        if viewer.sees_all and code not in found:
            continue
        found.setdefault(code, {}).update(counts)
    nought = Count(value=0)
    return Board(
        side=side,
        rows={
            code: {what: counts.get(what, nought) for what in What} for code, counts in sorted(found.items())
        },
    )


def late_at(conn: Connection, agency: str, now_us: int) -> int:
    """How many answers an agency owes whose day has passed; at most ``CAP``."""
    asked = text(
        f"SELECT count(*) FROM (SELECT 1 FROM delivery d WHERE d.agency = :own AND {_CELLS[What.LATE]} "
        "LIMIT :cap) x"
    )
    return conn.scalar(asked, {"own": agency, "now": now_us, "cap": CAP}) or 0


def _times(edges: Edges) -> dict[str, Any]:
    return {
        "now": edges.now_us,
        "midnight": edges.midnight_us,
        "week": edges.week_us,
        "floor": edges.floor,
        "cap": CAP,
        "newest": NEWEST,
    }


def _at_agencies(
    conn: Connection, agencies: Sequence[str], values: Mapping[str, Any], letters: bool
) -> dict[str, dict[What, Count]]:
    """What each agency owes: a bounded look at an index for each cell, in one statement."""
    if not agencies:
        return {}
    codes = ", ".join(f"(:c{i})" for i in range(len(agencies)))
    what = "DISTINCT d.letter_id" if letters else "1"
    cells = ", ".join(
        f"(SELECT count(*) FROM (SELECT {what} FROM delivery d "
        f"WHERE d.agency = w.code AND {where} LIMIT :cap) x)"
        for where in _CELLS.values()
    )
    asked = text(f"WITH w(code) AS (VALUES {codes}) SELECT w.code, {cells} FROM w")
    named = {f"c{i}": code for i, code in enumerate(agencies)}
    return {
        row[0]: {what: capped(row[n]) for n, what in enumerate(_CELLS, 1)}
        for row in conn.execute(asked, {**values, **named})
    }


def _owed_to(
    conn: Connection, agency: str, values: Mapping[str, Any], letters: bool
) -> dict[str, dict[What, Count]]:
    """What other agencies owe to one: its awaited answers by due date, and its newest letters."""
    late, today, week, all_due = (
        _tally(when, "x", letters)
        for when in (
            "x.due_us < :now",
            "x.due_us >= :now AND x.due_us < :midnight",
            "x.due_us >= :midnight AND x.due_us < :week",
            "1 = 1",
        )
    )
    found: dict[str, dict[What, Count]] = defaultdict(dict)
    due = conn.execute(
        text(
            f"SELECT x.agency, {late}, {today}, {week}, {all_due}, count(*) "
            "FROM (SELECT d.agency, d.due_us, d.letter_id FROM delivery d WHERE d.from_agency = :own "
            f"AND {_AWAITED} ORDER BY d.due_us, d.id LIMIT :newest) x GROUP BY x.agency"
        ),
        {**values, "own": agency},
    ).all()
    more = sum(row[5] for row in due) >= NEWEST
    for row in due:
        for what, value in zip(DUE, row[1:5], strict=True):
            found[row[0]][what] = Count(value=value, more=more)
    waiting = conn.execute(
        text(
            f"SELECT d.agency, {_tally('1 = 1', 'd', letters)}, {_tally('d.grade < 5', 'd', letters)} "
            "FROM (SELECT le.id FROM letter le WHERE le.agency = :own AND le.id >= :floor "
            "ORDER BY le.id DESC LIMIT :newest) x JOIN delivery d ON d.letter_id = x.id "
            f"WHERE {_UNTAKEN} GROUP BY d.agency"
        ),
        {**values, "own": agency},
    ).all()
    for row in waiting:
        for what, value in zip(WAITING, row[1:], strict=True):
            found[row[0]][what] = capped(value)
    found.pop(None, None)  # type: ignore[call-overload]
    return dict(found)


def _queued(conn: Connection, side: Side, own: str | None, letters: bool) -> dict[str, dict[What, Count]]:
    """What is on its way, late or in doubt: the queue is short, and looked at once."""
    column = "d.agency" if side is Side.IN else "d.from_agency"
    mine = f"AND {column} = :own" if own is not None else ""
    in_doubt = "'in-doubt'"
    rows = conn.execute(
        text(
            f"SELECT d.agency, {_tally('d.warned_us IS NOT NULL', 'd', letters)}, "
            f"{_tally(f'{_LAST_ATTEMPT} = {in_doubt}', 'd', letters)} FROM delivery d "
            "WHERE d.state IN ('queued', 'sending') AND d.kind IN ('letter', 'shadow') "
            f"{mine} GROUP BY d.agency"
        ),
        {} if own is None else {"own": own},
    )
    return {
        code: {What.UNDELIVERED: Count(value=warned or 0), What.DOUBT: Count(value=doubtful or 0)}
        for code, warned, doubtful in rows
        if code is not None and (warned or doubtful)
    }


def _tally(when: str, row: str, letters: bool) -> str:
    """How many rows, or how many letters, something holds of."""
    if letters:
        return f"count(DISTINCT CASE WHEN {when} THEN {row}.letter_id END)"
    return f"sum(CASE WHEN {when} THEN 1 ELSE 0 END)"


def capped(value: int | None) -> Count:
    value = value or 0
    return Count(value=min(value, CAP - 1), more=value >= CAP)
