"""Counts at the viewer's ends of the line, each of them the length of a list that can be asked for.

Counts are cheap by construction: each looks at the newest ``COUNT_ROWS`` rows of an index at most
and says so when there is more behind. They take the viewer's condition as lists do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import (
    Connection,
    Select,
    and_,
    case,
    distinct,
    func,
    or_,
    select,
)

from tracker.access import (
    SHOWN_LETTERS,
    Viewer,
    row_with_evidence,
)
from tracker.model import now_us
from tracker.question import day_us, first_id, in_queue, late_row
from tracker.schema import delivery, letter
from tracker.states import Grade, Outcome

COUNT_LIMIT = 1_000  # counts stop here: "more than 999"
COUNT_ROWS = 5_000  # newest rows of an arm that a count looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number above the list; ``more`` when there is more than was counted."""

    value: int
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Letters, not deliveries: what the list would show."""

    waiting: Count  # queued or being sent to somebody, now: `is:waiting`
    late: Count  # warned about or past due, accepted since `since_us`: `is:late after:…`
    failed: Count  # could not be delivered, likewise: `is:failed after:…`
    relayed_today: Count  # of today's letters: at an agency's server at least: `grade:E2+ after:…`
    days: int  # calendar days, today among them
    since_us: int  # midnight at the beginning of the first of them


def overview(
    conn: Connection, viewer: Viewer, *, zone: ZoneInfo, days: int = 7, at_us: int | None = None
) -> Overview:
    """The counts above the list. Each looks at no more than the newest ``COUNT_ROWS`` rows of an arm."""
    at = now_us() if at_us is None else at_us
    today = datetime.fromtimestamp(at / 1_000_000, zone).date()
    midnight, since_us = day_us(today, zone), day_us(today - timedelta(days=days - 1), zone)
    failed, late, arrived, seen = 0, 0, 0, 0
    for rows in _recent_rows(viewer, first_id(since_us)):
        recent = rows.subquery()
        row = delivery.alias()
        of_today = and_(row.c.grade >= Grade.RELAYED, letter.c.accepted_us >= midnight)
        total, bad, behind, there = conn.execute(
            select(
                func.count(),
                func.count(distinct(case((row.c.outcome == Outcome.FAILED.value, row.c.letter_id)))),
                func.count(distinct(case((late_row(row, at), row.c.letter_id)))),
                func.count(distinct(case((of_today, row.c.letter_id)))),
            )
            .select_from(recent)
            .join(row, row.c.id == recent.c.id)
            .join(letter, letter.c.id == row.c.letter_id)
            .where(
                letter.c.kind.in_(SHOWN_LETTERS),
                letter.c.accepted_us >= since_us,
                row_with_evidence(viewer, row),
            )
        ).one()
        seen = max(seen, total)
        failed, late, arrived = failed + bad, late + behind, arrived + there
    more = seen >= COUNT_ROWS
    return Overview(
        waiting=_waiting(conn, viewer),
        late=Count(value=late, more=more),
        failed=Count(value=failed, more=more),
        relayed_today=Count(value=arrived, more=more),
        days=days,
        since_us=since_us,
    )


def _recent_rows(viewer: Viewer, since: int) -> list[Select[int]]:
    """The ids of the newest deliveries at the viewer's ends, an arm for each end."""
    newest = select(delivery.c.id)
    if viewer.sees_all:
        return [newest.where(delivery.c.id >= since).order_by(delivery.c.id.desc()).limit(COUNT_ROWS)]
    if viewer.agency is None:
        return []
    sent = (
        newest.join(letter, letter.c.id == delivery.c.letter_id)
        .where(letter.c.agency == viewer.agency, letter.c.id >= since)
        .order_by(letter.c.id.desc())
    )
    received = (
        newest.join(letter, letter.c.id == delivery.c.letter_id)
        .where(
            delivery.c.agency == viewer.agency,
            delivery.c.letter_id >= since,
            or_(letter.c.agency.is_(None), letter.c.agency != viewer.agency),
        )
        .order_by(delivery.c.letter_id.desc())
    )
    return [sent.limit(COUNT_ROWS), received.limit(COUNT_ROWS)]


def _waiting(conn: Connection, viewer: Viewer) -> Count:
    queued = select(delivery.c.id, delivery.c.letter_id).where(in_queue()).limit(COUNT_ROWS).subquery()
    row = delivery.alias()
    looked = (
        select(row.c.letter_id)
        .select_from(queued)
        .join(row, row.c.id == queued.c.id)
        .join(letter, letter.c.id == row.c.letter_id)
        .where(letter.c.kind.in_(SHOWN_LETTERS), row_with_evidence(viewer, row))
        .distinct()
        .limit(COUNT_LIMIT)
        .subquery()
    )
    return _count(conn.scalar(select(func.count()).select_from(looked)) or 0)


def _count(value: int) -> Count:
    return Count(value=min(value, COUNT_LIMIT - 1), more=value >= COUNT_LIMIT)
