"""The lists behind the numbers of the follow-up board, a page at a time.

They go forward by a keyset, what is due first or what waits longest first, along the partial indexes of
:mod:`tracker.awaiting`. Where a list is narrowed by what no index has, a page looks at ``SCAN`` rows and says
that there is more behind. The viewer's condition is that of every list. Raises what the database does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, false, func, or_, select
from sqlalchemy.sql.selectable import FromClause

from tracker.access import SHOWN_LETTERS, Viewer, row_with_evidence
from tracker.awaiting import answer_awaited, on_the_way, untaken
from tracker.board import CAP, DUE, Edges, Side, What, capped
from tracker.overview import Count
from tracker.question import first_id
from tracker.schema import attempt, delivery, letter
from tracker.states import Event, Grade, Outcome, State

PAGE = 50
SCAN = 20_000  # rows that a page looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One line of a list: a delivery with its letter."""

    delivery_id: int
    letter_id: int
    number: str | None
    subject: str
    classification: str
    urgency: str
    sender: str | None  # code of the sending agency
    author: str
    agency: str | None
    address: str
    accepted_us: int
    changed_us: int
    due_us: int | None
    state: State
    grade: Grade
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingList:
    """One page; ``next`` is the cursor of the one behind it."""

    lines: tuple[Waiting, ...]
    next: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which list. ``agency``: of the one that owes; ``sender``: of the one to which it is owed."""

    what: What
    side: Side = Side.IN
    agency: str | None = None
    sender: str | None = None
    urgency: str | None = None


def waiting(
    conn: Connection,
    viewer: Viewer,
    asked: Asked,
    edges: Edges,
    *,
    after: tuple[int, int] | None = None,
    limit: int = PAGE,
) -> WaitingList:
    """One page of a list, from behind a cursor."""
    if not viewer.sees_all and viewer.agency is None:
        return WaitingList(lines=(), next=None)
    if asked.what in DUE:
        return _due(conn, viewer, asked, edges, after, limit)
    return _scanned(conn, viewer, asked, edges, after, limit)


def all_waiting(conn: Connection, viewer: Viewer, asked: Asked, edges: Edges, most: int) -> Iterator[Waiting]:
    """The lines of a whole list, at most so many."""
    after: tuple[int, int] | None = None
    told = 0
    while told < most:
        page = waiting(conn, viewer, asked, edges, after=after, limit=min(500, most - told))
        yield from page.lines
        told += len(page.lines)
        after = page.next
        if after is None:
            return


def _due(
    conn: Connection,
    viewer: Viewer,
    asked: Asked,
    edges: Edges,
    after: tuple[int, int] | None,
    limit: int,
) -> WaitingList:
    d = delivery.c
    where: list[ColumnElement[bool]] = [*answer_awaited(), *_asked_of(viewer, asked)]
    if asked.what is What.LATE:
        where.append(d.due_us < edges.now_us)
    elif asked.what is What.TODAY:
        where += [d.due_us >= edges.now_us, d.due_us < edges.midnight_us]
    elif asked.what is What.WEEK:
        where += [d.due_us >= edges.midnight_us, d.due_us < edges.week_us]
    if after is not None:
        where += [d.due_us >= after[0], or_(d.due_us > after[0], d.id > after[1])]
    rows = conn.execute(_lines().where(*where).order_by(d.due_us, d.id).limit(limit + 1)).all()
    lines = tuple(_line(row) for row in rows[:limit])
    onward = (lines[-1].due_us or 0, lines[-1].delivery_id) if len(rows) > limit else None
    return WaitingList(lines=lines, next=onward)


def _scanned(
    conn: Connection,
    viewer: Viewer,
    asked: Asked,
    edges: Edges,
    after: tuple[int, int] | None,
    limit: int,
) -> WaitingList:
    """Along ids of letters, a bounded number of rows at a time."""
    looked = _look(viewer, asked, edges, after).subquery()
    d = delivery.c
    where = [*_asked_of(viewer, asked), *_terms(asked.what)]
    rows = conn.execute(
        _lines().join(looked, looked.c.id == d.id).where(*where).order_by(d.letter_id, d.id).limit(limit + 1)
    ).all()
    lines = tuple(_line(row) for row in rows[:limit])
    if len(rows) > limit:
        return WaitingList(lines=lines, next=(lines[-1].letter_id, lines[-1].delivery_id))
    last = conn.execute(_last(looked)).one()
    return WaitingList(lines=lines, next=(last[1], last[2]) if last[0] >= SCAN else None)


def _look(
    viewer: Viewer, asked: Asked, edges: Edges, after: tuple[int, int] | None
) -> Select[tuple[int, int]]:
    """Ids of the next rows of the index that drives the list."""
    d = delivery.c
    looked, along = select(d.id, d.letter_id), d.letter_id
    if asked.what in (What.UNDELIVERED, What.DOUBT):
        looked = looked.where(*on_the_way())
    else:
        looked = looked.where(*untaken(), d.letter_id >= edges.floor)
        receiver = asked.agency or (viewer.agency if asked.side is Side.IN and not viewer.sees_all else None)
        sender = asked.sender or (viewer.agency if asked.side is Side.OUT and not viewer.sees_all else None)
        if sender is not None:
            along = letter.c.id
            looked = looked.join(letter, letter.c.id == d.letter_id).where(
                letter.c.agency == sender, letter.c.id >= edges.floor
            )
        if receiver is not None:
            looked = looked.where(d.agency == receiver)
    if after is not None:
        looked = looked.where(along >= after[0], or_(along > after[0], d.id > after[1]))
    return looked.order_by(along, d.id).limit(SCAN)


def _last(looked: FromClause) -> Select[Any]:
    """How many rows were looked at, and the last of them."""
    last = select(looked.c.letter_id, looked.c.id).order_by(looked.c.letter_id.desc(), looked.c.id.desc())
    top = last.limit(1).subquery()
    return select(
        select(func.count()).select_from(looked).scalar_subquery(),
        select(top.c.letter_id).scalar_subquery(),
        select(top.c.id).scalar_subquery(),
    )


def _terms(what: What) -> tuple[ColumnElement[bool], ...]:
    d = delivery.c
    if what is What.READ:
        return (d.grade < Grade.READ,)
    if what is What.UNDELIVERED:
        return (d.warned_us.is_not(None),)
    if what is What.DOUBT:
        a = attempt.c
        last = (
            select(a.result)
            .where(a.delivery_id == d.id, a.ended_us.is_not(None))
            .order_by(a.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        return (last == Event.IN_DOUBT.value,)
    return ()


def _asked_of(viewer: Viewer, asked: Asked) -> list[ColumnElement[bool]]:
    """What the list is narrowed to, and what of it the viewer may see."""
    d = delivery.c
    where: list[ColumnElement[bool]] = [letter.c.kind.in_(SHOWN_LETTERS), row_with_evidence(viewer)]
    sender = asked.sender
    if not viewer.sees_all:
        if asked.side is Side.IN:
            where.append(d.agency == viewer.agency)
        elif sender is not None and sender != viewer.agency:
            where.append(false())
        else:
            sender = viewer.agency
    if asked.agency is not None:
        where.append(d.agency == asked.agency)
    if sender is not None:
        where.append(letter.c.agency == sender)
        if asked.what in DUE:
            where.append(d.from_agency == sender)  # an index has it so
    if asked.urgency is not None:
        where.append(letter.c.urgency == asked.urgency)
    return where


def _lines() -> Select[Any]:
    d, le = delivery.c, letter.c
    return select(
        d.id, d.letter_id, d.agency, d.recipient, d.changed_us, d.due_us, d.state, d.grade, d.outcome,
        le.number, le.subject, le.classification, le.urgency, le.agency.label("sender"), le.author,
        le.accepted_us,
    ).join(letter, le.id == d.letter_id)  # fmt: skip


def _line(row: Row[Any]) -> Waiting:
    return Waiting(
        delivery_id=row.id,
        letter_id=row.letter_id,
        number=row.number,
        subject=row.subject,
        classification=row.classification,
        urgency=row.urgency,
        sender=row.sender,
        author=row.author,
        agency=row.agency,
        address=row.recipient,
        accepted_us=row.accepted_us,
        changed_us=row.changed_us,
        due_us=row.due_us,
        state=State(row.state),
        grade=Grade(row.grade),
        outcome=Outcome(row.outcome),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What came to an agency in a stretch of time."""

    count: Count
    lines: tuple[Waiting, ...]


def arrived(
    conn: Connection, agency: str, since_us: int, before_us: int, concerns: int, viewer: Viewer
) -> Arrived:
    """Letters that the agency's server took, accepted in the stretch; the first ``concerns`` rows of them."""
    d = delivery.c
    of = (
        d.agency == agency,
        d.letter_id >= first_id(since_us),
        d.letter_id < first_id(before_us),
        d.grade >= Grade.RELAYED,
        letter.c.kind.in_(SHOWN_LETTERS),
        row_with_evidence(viewer),
    )
    each = select(d.letter_id).join(letter, letter.c.id == d.letter_id).where(*of).distinct().limit(CAP)
    count = conn.scalar(select(func.count()).select_from(each.subquery())) or 0
    rows = conn.execute(_lines().where(*of).order_by(d.letter_id, d.id).limit(concerns))
    return Arrived(count=capped(count), lines=tuple(_line(row) for row in rows))
