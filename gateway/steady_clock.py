"""The time of day as one should believe it: a clock that jumps ahead is believed after a day.

Some acts cannot be taken back (a hold that is decided because its time ran out, a lease that is lost), so
they follow this clock: it goes on from the last time that was believed by a clock that only counts on, and
takes a step ahead only once it has stood for :data:`BELIEVED_S`. A step back or a small one is taken at once.
Times are microseconds of UTC; nothing fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tracker.model import now_us

BELIEVED_S = 86_400.0
SMALL_US = 600_000_000


class SteadyClock:
    """One process's; ask it often."""

    def __init__(
        self,
        wall: Callable[[], int] = now_us,
        counter: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._wall = wall
        self._counter = counter
        self._believed = wall()
        self._at = counter()
        self._doubted: float | None = None  # when the clock was first seen ahead

    def now_us(self) -> int:
        """The time that is believed."""
        wall, at = self._wall(), self._counter()
        expected = self._believed + int((at - self._at) * 1_000_000)
        if wall - expected > SMALL_US:
            if self._doubted is None:
                self._doubted = at
            if at - self._doubted < BELIEVED_S:
                return expected
        self._believed, self._at, self._doubted = wall, at, None
        return wall
