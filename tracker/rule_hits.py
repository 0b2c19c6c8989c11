"""How often each rule applied: counts for the list of rules, days for a rule's page.

``rule_hit`` has a row for each rule and recorded letter, in the order of letters; days become bounds of
letter ids. A count stops at ``COUNT_LIMIT`` and says so, so that a rule which every letter meets costs no
more than one that a few do. Counts are of the whole gateway: callers show them to those who see all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, case, func, select

from tracker.model import when
from tracker.question import day_us, first_id, id_us
from tracker.schema import rule_hit

COUNT_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUse:
    """How often a rule applied since a time; ``more`` when there is more than was counted."""

    hits: int = 0
    shadow: int = 0  # of these, letters to which it would have applied
    more: bool = False
    last_us: int | None = None  # of all time


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUse:
    """One day of a rule in the gateway's zone."""

    day: date
    hits: int
    shadow: int
    more: bool


def uses(
    conn: Connection, rules: Iterable[str], since_us: int, limit: int = COUNT_LIMIT
) -> dict[str, RuleUse]:
    """What each rule did since a time (microseconds UTC)."""
    floor = first_id(since_us)
    return {rule: _use(conn, rule, floor, limit) for rule in rules}


def _use(conn: Connection, rule: str, floor: int, limit: int) -> RuleUse:
    last = conn.scalar(select(func.max(rule_hit.c.letter_id)).where(rule_hit.c.rule == rule))
    if last is None:
        return RuleUse()
    hits, shadow = _count(conn, rule, floor, None, limit) if last >= floor else (0, 0)
    return RuleUse(hits=min(hits, limit), shadow=min(shadow, limit), more=hits > limit, last_us=id_us(last))


def _count(conn: Connection, rule: str, floor: int, below: int | None, limit: int) -> tuple[int, int]:
    """Hits and shadow hits among letters of these ids, the newest ``limit`` + 1 of them."""
    asked = select(rule_hit.c.shadow).where(rule_hit.c.rule == rule, rule_hit.c.letter_id >= floor)
    if below is not None:
        asked = asked.where(rule_hit.c.letter_id < below)
    newest = asked.order_by(rule_hit.c.letter_id.desc()).limit(limit + 1).subquery()
    row = conn.execute(
        select(func.count(), func.sum(case((newest.c.shadow, 1), else_=0))).select_from(newest)
    ).one()
    return int(row[0]), int(row[1] or 0)


def per_day(
    conn: Connection, rule: str, *, zone: ZoneInfo, at_us: int, days: int = 30, limit: int = COUNT_LIMIT
) -> tuple[DayUse, ...]:
    """The last ``days`` days of a rule with today, oldest first."""
    today = when(at_us).astimezone(zone).date()
    out = []
    for back in range(days - 1, -1, -1):
        day = today - timedelta(days=back)
        floor = first_id(day_us(day, zone))
        below = first_id(day_us(day + timedelta(days=1), zone)) if back else None
        hits, shadow = _count(conn, rule, floor, below, limit)
        out.append(DayUse(day=day, hits=min(hits, limit), shadow=min(shadow, limit), more=hits > limit))
    return tuple(out)
