"""Carries what the observers of IMAP sessions saw to the record, a few at a time, off the sessions' way.

A session hands in and goes on; one task asks the record which deliveries are meant and notes what is new
(:mod:`tracker.mailbox_visit`). What was noted for an account is remembered for a while, so that a client that
fetches everything every day asks the record once.

Fails: a database that is away is tried again; at most :data:`WAITING` sights wait meanwhile, then the newest
are dropped and counted, because no mail session may suffer from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor

from gateway import metrics
from gateway.crossing import Crossing
from tracker.mailbox_visit import Visit, notes_of
from tracker.noting import NoSuchDelivery, Note
from tracker.states import UnknownMove

log = logging.getLogger("wasl.imap")

WAITING = 20_000
_AT_ONCE = 100
_REMEMBERED = 20_000
_PAUSE_S = 5.0

_Same = tuple[str, str, str, str, str]


class Witness:
    """One per process. :meth:`run` is its role's task."""

    def __init__(self, crossing: Crossing, executor: Executor) -> None:
        self._crossing = crossing
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Visit] = []
        self._wake = asyncio.Event()
        self._told: OrderedDict[_Same, None] = OrderedDict()
        self._stopping = False

    def saw(self, visit: Visit) -> None:
        """Take a sight. Never waits, never raises."""
        same = (visit.account, visit.number, visit.message_id, visit.what, visit.value)
        if same in self._told:
            self._told.move_to_end(same)
            return
        if len(self._waiting) >= WAITING:
            metrics.IMAP_SIGHTS.labels("dropped").inc()
            return
        self._told[same] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        self._waiting.append(visit)
        self._wake.set()

    async def run(self) -> None:
        """Note what comes until stopped."""
        while not (self._stopping and not self._waiting):
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = self._waiting[:_AT_ONCE]
                try:
                    await self._note(batch)
                except Exception as error:
                    log.error("what clients did with letters could not be noted, trying again: %s", error)
                    if self._stopping:
                        return
                    await asyncio.sleep(_PAUSE_S)
                    continue
                del self._waiting[: len(batch)]

    async def _note(self, batch: Sequence[Visit]) -> None:
        notes: list[Note] = await self._loop.run_in_executor(self._executor, self._read, batch)
        metrics.IMAP_SIGHTS.labels("known or foreign").inc(len(batch) - len(notes))
        for note in notes:
            try:
                await self._crossing.at_record(self._crossing.record.note_desk, note)
                metrics.IMAP_SIGHTS.labels(note.event.value).inc()
            except (NoSuchDelivery, UnknownMove) as error:
                log.info("not noted: %s", error)

    def _read(self, batch: Sequence[Visit]) -> list[Note]:
        with self._crossing.record.read() as conn:
            return notes_of(conn, batch)

    async def stop(self, task: asyncio.Task[None], grace_s: float) -> None:
        """Note what waits, for so long at most."""
        self._stopping = True
        self._wake.set()
        await asyncio.wait({task}, timeout=grace_s)
