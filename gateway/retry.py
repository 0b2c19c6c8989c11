"""When to try again: the waits of the settings, with jitter, and the two moments that end waiting.

A letter is given up when two clocks agree: that of the day, and the time in which it was really tried, as its
attempts tell. One that jumps ahead by days returns nothing, and neither does a gateway that was switched off:
a silence between two attempts counts up to :attr:`RetrySchedule.silence_us`, and half of ``give_up_after``
must be made of what counts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """Waits between attempts; the last repeats. All results in microseconds of UTC."""

    waits: tuple[timedelta, ...]
    jitter: float
    warn_after: timedelta
    give_up_after: timedelta

    def next_us(self, attempts: int, now_us: int, *moments_us: int) -> int:
        """When the attempt after the ``attempts``-th is due, or one of ``moments_us`` if that comes before.

        Such a moment is when the delivery expires, or when the author is to be told that it is late: both are
        said of an attempt that fails.
        """
        wait = self.waits[min(max(attempts, 1), len(self.waits)) - 1]
        share = 1 + random.uniform(-self.jitter, self.jitter)
        due = now_us + int(wait / timedelta(microseconds=1) * share)
        return min([due, *(moment for moment in moments_us if moment > now_us)])

    def warns_us(self, at_us: int) -> int:
        """When the author of a letter accepted at ``at_us`` is told that it is late."""
        return at_us + self.warn_after // timedelta(microseconds=1)

    @property
    def silence_us(self) -> int:
        """What a time without an attempt counts at most: a tenth of ``give_up_after`` or the longest wait."""
        return max(self.expires_us(0) // 10, self.latest_us(0))

    def gives_up(self, expires_us: int, tried_us: int, now_us: int) -> bool:
        """True when a delivery that was tried for ``tried_us`` is returned."""
        return now_us >= expires_us and tried_us >= self.expires_us(0) // 2

    def latest_us(self, now_us: int) -> int:
        """No attempt that was put off by now is due later than this."""
        return now_us + int(max(self.waits) / timedelta(microseconds=1) * (1 + self.jitter))

    def expires_us(self, at_us: int) -> int:
        """When a delivery accepted at ``at_us`` is given up."""
        return at_us + self.give_up_after // timedelta(microseconds=1)

    def is_late(self, at_us: int, now_us: int) -> bool:
        """True once the author should be told that it is late."""
        return now_us >= self.warns_us(at_us)
