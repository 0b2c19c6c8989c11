"""Counts at the viewer's ends of the line, and the worklist of reports that matched no letter.

Counts are cheap by construction: each looks at the newest ``COUNT_ROWS`` rows of an index at most
and says so when there is more behind. They take the viewer's condition as lists do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import (
    Connection,
    Select,
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
from tracker.schema import delivery, evidence, letter
from tracker.states import Event, Outcome

COUNT_LIMIT = 1_000  # counts stop here: "more than 999"
COUNT_ROWS = 5_000  # newest rows of an arm that a count looks at

BAD = (Outcome.FAILED.value, Outcome.RETURNED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number above the list; ``more`` when there is more than was counted."""

    value: int
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Letters, not deliveries: what the list would show."""

    waiting: Count  # queued or being sent to somebody, now
    late: Count  # warned about or past due, of the last ``days``
    failed: Count  # failed or returned, of the last ``days``
    delivered_today: Count  # brought to the agency's server or mailbox since midnight
    days: int


def overview(
    conn: Connection, viewer: Viewer, *, zone: ZoneInfo, days: int = 7, at_us: int | None = None
) -> Overview:
    """The counts above the list. Each looks at no more than the newest ``COUNT_ROWS`` rows of an arm."""
    at = now_us() if at_us is None else at_us
    since = first_id(at - days * 86_400 * 1_000_000)
    midnight = day_us(datetime.fromtimestamp(at / 1_000_000, zone).date(), zone)
    failed, late, seen = 0, 0, 0
    for rows in _recent_rows(viewer, since):
        recent = rows.subquery()
        row = delivery.alias()
        total, bad, behind = conn.execute(
            select(
                func.count(),
                func.count(distinct(case((row.c.outcome.in_(BAD), row.c.letter_id)))),
                func.count(distinct(case((late_row(row, at), row.c.letter_id)))),
            )
            .select_from(recent)
            .join(row, row.c.id == recent.c.id)
            .join(letter, letter.c.id == row.c.letter_id)
            .where(letter.c.kind.in_(SHOWN_LETTERS), row_with_evidence(viewer, row))
        ).one()
        seen = max(seen, total)
        failed += bad or 0
        late += behind or 0
    more = seen >= COUNT_ROWS
    return Overview(
        waiting=_waiting(conn, viewer),
        late=Count(value=late, more=more),
        failed=Count(value=failed, more=more),
        delivered_today=_delivered(conn, viewer, midnight),
        days=days,
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


def _delivered(conn: Connection, viewer: Viewer, since_us: int) -> Count:
    """Deliveries with evidence of transfer or mailbox since then."""
    noted = (
        select(evidence.c.delivery_id)
        .where(
            evidence.c.id >= first_id(since_us),
            evidence.c.event.in_((Event.RELAYED.value, Event.DELIVERED.value)),
        )
        .order_by(evidence.c.id.desc())
        .limit(COUNT_ROWS)
        .subquery()
    )
    row = delivery.alias()
    looked = (
        select(row.c.letter_id)
        .select_from(noted)
        .join(row, row.c.id == noted.c.delivery_id)
        .join(letter, letter.c.id == row.c.letter_id)
        .where(letter.c.kind.in_(SHOWN_LETTERS), row_with_evidence(viewer, row))
        .distinct()
        .limit(COUNT_LIMIT)
        .subquery()
    )
    return _count(conn.scalar(select(func.count()).select_from(looked)) or 0)


def _count(value: int) -> Count:
    return Count(value=min(value, COUNT_LIMIT - 1), more=value >= COUNT_LIMIT)
