"""The one crossing from the asynchronous wire to the plain record.

``await crossing.at_record(desk, payload)`` hands a payload to the writer thread and resumes when its
group is durable. A whole group is settled by one wake-up of the loop, whatever its size.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tracker.record import Record
from tracker.writer import Desk


class Crossing:
    """A record as seen from one event loop. Make it inside that loop."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._loop = asyncio.get_running_loop()

    async def at_record(self, desk: Desk, payload: Any) -> Any:
        """Write ``payload`` at ``desk`` and return its result; raises what the record raises."""
        future = self._loop.create_future()
        self.record.hand_in(desk, payload, self, future)
        return await future

    async def write(self, fn: Any) -> Any:
        """Run ``fn(conn)`` in the writer's next transaction."""
        return await self.at_record(self.record.writer.run_desk, fn)

    def settle(self, batch: list[tuple[Any, Any, BaseException | None]]) -> None:
        """Called by the writer's thread, once a group."""
        self._loop.call_soon_threadsafe(_resolve, batch)


def _resolve(batch: list[tuple[Any, Any, BaseException | None]]) -> None:
    for future, result, error in batch:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
