"""How often one address may ask what needs no account: a bucket of asks that fills again with time.

IPv6 addresses count by their /64, which is what one customer has. In memory, per process and bounded: the
oldest are forgotten, never the process's memory. Nothing fails.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

KEPT = 20_000


class Turnstile:
    """``wait`` takes one ask and says how many seconds are to be waited before it; 0 lets it pass."""

    def __init__(
        self, asks: int = 30, per_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._asks = asks
        self._each_s = per_s / asks
        self._clock = clock
        self._lock = threading.Lock()
        self._books: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when

    def wait(self, peer: str) -> int:
        key, now = _key(peer), self._clock()
        with self._lock:
            left, at = self._books.pop(key, (float(self._asks), now))
            left = min(self._asks, left + (now - at) / self._each_s)
            passes = left >= 1
            self._books[key] = (left - 1 if passes else left, now)
            while len(self._books) > KEPT:
                self._books.popitem(last=False)
        return 0 if passes else int((1 - left) * self._each_s + 0.999)


def _key(peer: str) -> str:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if address.version == 4:
        return peer
    return str(ipaddress.ip_network((address, 64), strict=False))
