"""A bar for each day, drawn on the server: no script, no foreign library, plain SVG in the page's colours.

Bars read in the direction of the language: the newest day stands where the reader's line ends. Heights are
of the largest day; a day on which something happened is never invisible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracker.rule_hits import DayUse

HEIGHT = 64
STEP = 10
BAR = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar in the units of the view box; ``shadow`` stands upon ``hits``."""

    x: int
    hits: int
    shadow: int
    day: DayUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Bars of days, and the box that holds them."""

    bars: tuple[Bar, ...]
    width: int
    height: int
    highest: int
    total: int
    more: bool


def chart(days: Sequence[DayUse], *, rtl: bool) -> Chart:
    """The bars of these days, oldest first."""
    highest = max((day.hits for day in days), default=0)
    bars = []
    for index, day in enumerate(days):
        place = len(days) - 1 - index if rtl else index
        whole = _height(day.hits, highest)
        shadow = min(whole, _height(day.shadow, highest))
        bars.append(Bar(x=place * STEP + (STEP - BAR) // 2, hits=whole - shadow, shadow=shadow, day=day))
    return Chart(
        bars=tuple(bars),
        width=len(days) * STEP,
        height=HEIGHT,
        highest=highest,
        total=sum(day.hits for day in days),
        more=any(day.more for day in days),
    )


def _height(count: int, highest: int) -> int:
    return max(2, round(count * HEIGHT / highest)) if count and highest else 0
