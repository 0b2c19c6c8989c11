"""What a running gateway does for itself: signs the ledger's head, forgets what is done, keeps its marks.

:class:`Upkeep` works every ``ledger.checkpoint_every``: a checkpoint, pass-through that is done, the
high-water marks and the numbers for the monitoring; each minute also a bounded look for archive objects that
no row names. :class:`NodeKeeper` holds this node's number on a database that several nodes share.

Failures are said now and then and tried again; only a node number that another process took ends the
gateway (:class:`tracker.store.NodeTaken`).
"""

from __future__ import annotations

import asyncio
import logging
import time

from gateway import high_water, metrics
from gateway.settings import Settings
from tracker.outage import Outage
from tracker.queue_list import depth
from tracker.record import Record
from tracker.store_errors import NodeTaken

_log = logging.getLogger("wasl.serve")

SWEEP_S = 60.0  # between two looks for objects without a row
NODE_S = 5.0  # between two looks at the node's lock


class Upkeep:
    """The upkeep of one gateway process."""

    def __init__(self, settings: Settings, record: Record) -> None:
        self._settings = settings
        self._record = record
        self._disk_low = False
        self._outage = Outage(_log, "upkeep failed")
        self._unmarked = Outage(_log, "the high-water marks cannot be written")
        self._unswept = Outage(_log, "the archive cannot be looked through")

    async def run(self) -> None:
        """Until cancelled."""
        every = self._settings.ledger.checkpoint_every.total_seconds()
        loop = asyncio.get_running_loop()
        signed = 0.0
        swept = time.monotonic()
        while True:
            await asyncio.sleep(min(1.0, every))
            now = time.monotonic()
            if now - signed < every:
                continue
            signed = now
            try:
                await loop.run_in_executor(None, self._record.checkpoint)
                await loop.run_in_executor(None, self._record.forget_done)
                self._outage.over()
            except Exception as error:
                self._outage.failed(error)
            await loop.run_in_executor(None, self.mark)
            if now - swept >= SWEEP_S:
                swept = now
                try:
                    await loop.run_in_executor(None, self._record.sweep)
                    self._unswept.over()
                except Exception as error:
                    self._unswept.failed(error)

    def mark(self) -> None:
        """Write the high-water marks and what the monitoring counts."""
        record = self._record
        try:
            high_water.write(self._settings.gateway.data_dir, record)
            with record.read() as conn:
                latest = record.ledger_reader.latest(conn)
                metrics.LEDGER_SIZE.set(record.ledger_reader.head(conn).size)
                for state, count in depth(conn).items():
                    metrics.QUEUE.labels(state.value).set(count)
            if latest is not None:
                metrics.CHECKPOINT_SIZE.set(latest.size)
            self._look_at_disk()
            self._unmarked.over()
        except Exception as error:
            self._unmarked.failed(error)

    def _look_at_disk(self) -> None:
        """Say that the disk fills before letters are put off (archive.warn_free); once each time."""
        free, section = self._record.archive.free_bytes(), self._settings.archive
        metrics.FREE_BYTES.set(free)
        if free >= section.warn_free:
            self._disk_low = False
        elif not self._disk_low:
            self._disk_low = True
            text = "only %.1f GB are free where the archive is; below %.1f GB letters are put off"
            _log.warning(text, free / 1e9, section.keep_free / 1e9)


class NodeKeeper:
    """Takes this node's lock again when the database was restarted; see :meth:`Store.keep_node`."""

    def __init__(self, record: Record) -> None:
        self._store = record.store
        self._outage = Outage(_log, "this node's lock on the database cannot be looked at")

    async def run(self) -> None:
        """Until cancelled; raises :class:`NodeTaken` when another process works under this number."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(NODE_S)
            try:
                if await loop.run_in_executor(None, self._store.keep_node):
                    _log.warning("the database let go of this node's lock; it is taken again")
                self._outage.over()
            except NodeTaken:
                raise
            except Exception as error:
                self._outage.failed(error)
