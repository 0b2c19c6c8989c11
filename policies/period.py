"""Spans of time as rules write them: ``48h``, ``30 minutes``, ``3 working days``, ``4 working hours``.

A plain span is a number of microseconds; a working one means something only on a calendar
(``policies/calendar.py``). Text that is no span raises ValueError with what would be one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_SPAN = re.compile(r"([1-9][0-9]{0,5}) ?(working )?(s|m|h|d|w|second|minute|hour|day|week)s?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MAX_SECONDS = 3 * 366 * 86_400
MAX_WORKING_DAYS = 750


class Unit(StrEnum):
    TIME = "time"  # amount in microseconds
    WORKING_DAYS = "working days"
    WORKING_HOURS = "working hours"


@dataclass(frozen=True, slots=True)
class Period:
    """A span: ``amount`` microseconds, working days or working hours."""

    amount: int
    unit: Unit = Unit.TIME


def period(text: object, *, working: bool = True) -> Period:
    """Read a span; ``working``: working days and hours are allowed. Raises ValueError."""
    example = "3 working days, 4 working hours or 48h" if working else "90s, 15m, 48h or 7d"
    match = _SPAN.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be a span of time such as {example}")
    amount, office, unit = int(match[1]), match[2] is not None, match[3][0]
    if office:
        if not working or unit not in "hd":
            raise ValueError(f"must be a span of time such as {example}")
        if amount > (MAX_WORKING_DAYS if unit == "d" else MAX_WORKING_DAYS * 8):
            raise ValueError("is longer than three years")
        return Period(amount, Unit.WORKING_DAYS if unit == "d" else Unit.WORKING_HOURS)
    seconds = amount * _SECONDS[unit]
    if seconds > MAX_SECONDS:
        raise ValueError("is longer than three years")
    return Period(seconds * 1_000_000)
