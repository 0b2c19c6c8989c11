"""Times of failed sign-ins by key: who has failed too often has to wait until the oldest have aged.

A key is an account with an address, or an address alone. An attempt is added at its start and taken back
when it was none, so that many at once are no way around. Bounded: beyond :data:`MOST_KEPT` keys the one that
failed longest ago is forgotten. Runs in one event loop; raises nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque

MOST_KEPT = 100_000


class Failures:
    """The latest ``limit`` failures of each key, forgotten after ``window_s`` seconds."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._at: OrderedDict[str, deque[float]] = OrderedDict()

    def too_many(self, key: str, now: float) -> bool:
        times = self._at.get(key)
        return times is not None and len(times) == self._limit and times[0] > now - self._window_s

    def add(self, key: str, now: float) -> None:
        times = self._at.pop(key, None) or deque(maxlen=self._limit)
        times.append(now)
        self._at[key] = times
        while len(self._at) > MOST_KEPT or next(iter(self._at.values()))[-1] < now - self._window_s:
            self._at.popitem(last=False)

    def take_back(self, key: str, at: float) -> None:
        times = self._at.get(key)
        if times is not None and at in times:
            times.remove(at)
            if not times:
                del self._at[key]

    def clear(self, key: str) -> None:
        self._at.pop(key, None)
