"""Slowing down guesses at passwords, in memory and per process.

Failures are counted by account name with the caller's address, by address, and by name. After the
free ones each further failure doubles the wait up to ``MAX_WAIT`` seconds; a success forgets the
count of its own pair. The books are bounded: the oldest are dropped, never the process's memory.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_WAIT = 900.0
KEPT = 10_000
FORGET = 3600.0  # seconds after which a failure no longer counts


@dataclass(slots=True)
class _Count:
    failures: int
    last: float


class Throttle:
    """``wait`` says how many seconds a caller still has to wait; 0 lets him try."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._books: OrderedDict[tuple[str, str], _Count] = OrderedDict()

    @staticmethod
    def _keys(name: str, peer: str) -> tuple[tuple[tuple[str, str], int], ...]:
        """Each key with its free failures: a pair is a person, an address an office, a name a target."""
        folded = name.strip().lower()[:100]
        return (((folded, peer), 5), (("", peer), 40), ((folded, ""), 100))

    def wait(self, name: str, peer: str) -> int:
        now = self._clock()
        longest = 0.0
        with self._lock:
            for key, free in self._keys(name, peer):
                count = self._books.get(key)
                if count is None or now - count.last > FORGET or count.failures < free:
                    continue
                pause = min(MAX_WAIT, 2.0 ** min(count.failures - free + 1, 10))
                longest = max(longest, count.last + pause - now)
        return int(longest + 0.999) if longest > 0 else 0

    def failed(self, name: str, peer: str) -> None:
        now = self._clock()
        with self._lock:
            for key, _ in self._keys(name, peer):
                count = self._books.pop(key, None)
                if count is None or now - count.last > FORGET:
                    count = _Count(0, now)
                count.failures += 1
                count.last = now
                self._books[key] = count
            while len(self._books) > KEPT:
                self._books.popitem(last=False)

    def succeeded(self, name: str, peer: str) -> None:
        with self._lock:
            self._books.pop(self._keys(name, peer)[0][0], None)
