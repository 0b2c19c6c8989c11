"""Refusals in session, counted by agency, day and rule: numbers, no addresses (see ``gateway.refusals``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from tracker.access import Viewer
from tracker.prepared import Prepared
from tracker.schema import refusal

DAY_US = 86_400 * 1_000_000


@dataclass(slots=True)
class Count:
    """How often, and the reply that was given."""

    count: int = 0
    last_us: int = 0
    reply: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What one rule refused to one agency on one day (``day_us``: its beginning, UTC)."""

    agency: str
    day_us: int
    rule: str
    reply: str
    count: int
    last_us: int


def _upsert(module: object) -> Prepared:
    made = module.insert(refusal)  # type: ignore[attr-defined]
    return Prepared(
        made.on_conflict_do_update(
            index_elements=[refusal.c.agency, refusal.c.day, refusal.c.rule],
            set_={
                "count": refusal.c.count + made.excluded.count,
                "last_us": made.excluded.last_us,
                "reply": made.excluded.reply,
            },
        )
    )


_ADD = {"sqlite": _upsert(sqlite), "postgresql": _upsert(postgresql)}


def add(conn: Connection, counts: Mapping[tuple[str, int, str], Count]) -> None:
    """Add counts by (agency, day, rule) to what stands there."""
    _ADD[conn.dialect.name].many(
        conn,
        [
            {
                "agency": agency,
                "day": day,
                "rule": rule,
                "reply": c.reply,
                "count": c.count,
                "last_us": c.last_us,
            }
            for (agency, day, rule), c in sorted(counts.items())
        ],
    )


def refused(conn: Connection, viewer: Viewer, *, since_us: int, limit: int = 500) -> tuple[Refused, ...]:
    """What was refused since, newest first: to the viewer's agency, or to all for those who see all."""
    c = refusal.c
    asked = select(refusal).where(c.day >= since_us // DAY_US)
    if not viewer.sees_all:
        asked = asked.where(c.agency == (viewer.agency or ""))
    rows = conn.execute(asked.order_by(c.day.desc(), c.count.desc()).limit(limit))
    return tuple(
        Refused(
            agency=row.agency,
            day_us=row.day * DAY_US,
            rule=row.rule,
            reply=row.reply,
            count=row._mapping[c.count],
            last_us=row.last_us,
        )
        for row in rows
        if row.agency or viewer.sees_all
    )
