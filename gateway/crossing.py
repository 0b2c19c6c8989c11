"""The one crossing from the asynchronous wire to the plain record.

``await crossing.at_record(desk, payload)`` hands a payload to the writer and resumes when its
group is durable. A whole group is settled by one wake-up of the loop, whatever its size.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tracker.record import Record
from tracker.writer import Desk


class Crossing:
    """A record as seen from one event loop. Make it inside that loop."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def at_record(self, desk: Desk, payload: Any) -> asyncio.Future[Any]:
        """Have ``payload`` written at ``desk``; await the result. Raises what the record raises."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.record.hand_in(desk, payload, self, future)
        return future

    def write(self, fn: Any) -> asyncio.Future[Any]:
        """Run ``fn(conn)`` in the writer's next transaction."""
        return self.at_record(self.record.writer.run_desk, fn)

    def settle(self, batch: list[tuple[Any, Any, BaseException | None]]) -> None:
        """Called once a group, from another thread or from the loop's own."""
        if threading.get_ident() == self._thread:
            _settle(batch)
        else:
            self._loop.call_soon_threadsafe(_settle, batch)


def _settle(batch: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    """In the loop: give each future its result or its error; who was cancelled is left alone."""
    for future, result, error in batch:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
