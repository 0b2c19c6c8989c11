"""The next hops of the directory, each with its pool of connections.

A pool is made when a hop is first used and replaced when the directory says something else of it; the old
one ends what it began, and what still waits there goes by the new one. Raises nothing:
:meth:`NextHops.send` always has a result per recipient.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.hop_pool import Pool, Retired
from gateway.outgoing import Outcome, Outgoing, Timeouts
from policies.directory import NextHop


class NextHops:
    """All pools of one event loop."""

    def __init__(
        self, *, hostname: str, times: Timeouts, connections: int, letters: int, idle_s: float
    ) -> None:
        self._hostname = hostname
        self._times = times
        self._connections = connections
        self._letters = letters
        self._idle_s = idle_s
        self._pools: dict[str, tuple[NextHop, Pool]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, hop: NextHop, mail: Outgoing) -> Outcome:
        """Hand one mail transaction to a hop; waits for a free connection."""
        pool = self._pool(hop)
        while True:
            try:
                return await pool.send(mail)
            except Retired:  # what waited goes where the directory leads by now
                known = self._pools.get(hop.name)
                pool = known[1] if known is not None else self._pool(hop)

    async def close(self) -> None:
        """Say QUIT everywhere."""
        pools = [pool for _, pool in self._pools.values()]
        self._pools.clear()
        await asyncio.gather(*(pool.close() for pool in pools), *self._closing)

    def _pool(self, hop: NextHop) -> Pool:
        known = self._pools.get(hop.name)
        if known is not None and known[0] == hop:
            return known[1]
        if known is not None:
            task = asyncio.get_running_loop().create_task(known[1].close(self._times.final))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        bounded = replace(hop, max_connections=min(hop.max_connections, self._connections))
        pool = Pool(
            bounded,
            hostname=self._hostname,
            times=self._times,
            max_idle_s=self._idle_s,
            max_messages=self._letters,
        )
        self._pools[hop.name] = hop, pool
        return pool
