"""A budget of octets: how much of large letters may be held in memory at one time.

``async with budget.take(size)`` waits until ``size`` octets fit. One letter larger than the whole budget
is let through alone. First come, first served, so that a large letter is not overtaken for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Shared by what runs in one event loop."""

    def __init__(self, octets: int) -> None:
        self._total = octets
        self._free = octets
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` octets of the budget inside the block."""
        share = min(size, self._total)
        if self._waiting or share > self._free:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((share, turn))
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self._give(share)
                else:
                    self._waiting = deque(w for w in self._waiting if w[1] is not turn)
                raise
        else:
            self._free -= share
        try:
            yield
        finally:
            self._give(share)

    def _give(self, share: int) -> None:
        self._free += share
        while self._waiting and self._waiting[0][0] <= self._free:
            next_share, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= next_share
                turn.set_result(None)
