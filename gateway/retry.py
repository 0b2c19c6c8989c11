"""When to try again: the waits of the settings, with jitter, and the two moments that end waiting."""

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

    def next_us(self, attempts: int, now_us: int) -> int:
        """When the attempt after the ``attempts``-th is due."""
        wait = self.waits[min(max(attempts, 1), len(self.waits)) - 1]
        share = 1 + random.uniform(-self.jitter, self.jitter)
        return now_us + int(wait / timedelta(microseconds=1) * share)

    def latest_us(self, now_us: int) -> int:
        """No attempt that was put off by now is due later than this."""
        return now_us + int(max(self.waits) / timedelta(microseconds=1) * (1 + self.jitter))

    def expires_us(self, at_us: int) -> int:
        """When a delivery accepted at ``at_us`` is given up."""
        return at_us + self.give_up_after // timedelta(microseconds=1)

    def is_late(self, at_us: int, now_us: int) -> bool:
        """True once the author should be told that it is late."""
        return now_us - at_us >= self.warn_after // timedelta(microseconds=1)
