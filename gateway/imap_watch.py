"""The IMAP watch: Wasl looks into registries' mailboxes with service accounts and changes nothing in them.

One worker a process. It takes the leases of the mailboxes that the directory names, so that of several
nodes only one watches each, starts and stops :class:`gateway.imap_watch_mailbox.WatchedMailbox` as the
directory and the leases say, and writes how it goes into the record for ``wasl watch list``.
:meth:`ImapWatch.look_for` answers whether a delivery in doubt has arrived after all.

How it fails: raises nothing. Without the database leases run out and the watching stops; it goes on by
itself when the cause is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache
from pathlib import Path

from gateway import metrics
from gateway.crossing import Crossing
from gateway.hop_probe import context
from gateway.imap_watch_desk import WatchDesk
from gateway.imap_watch_mailbox import Pace, WatchedMailbox
from gateway.imap_watch_search import search
from gateway.mailbox_look import Look, Sought
from policies.agency import Mode
from policies.directory import Directory
from policies.watch import Watch
from tracker import watch_lease
from tracker.model import now_us
from tracker.outage import Outage
from tracker.watch_lease import WatchState

_log = logging.getLogger("wasl.watch")

AT_ONCE = 20  # mailboxes that read what is unread at the same time
LOOKS = 4  # deliveries in doubt that are looked for at the same time


class ImapWatch:
    """All watched mailboxes of one process."""

    def __init__(
        self,
        crossing: Crossing,
        directory: Callable[[], Directory],
        executor: Executor,
        *,
        owner: str,
        pace: Pace,
        lease_s: float,
        incoming: str = "{seq}/{year}",
    ) -> None:
        """``incoming``: how incoming numbers look where an agency has them assigned."""
        self._incoming = incoming
        self._crossing = crossing
        self._directory = directory
        self._executor = executor
        self._owner = owner  # node/incarnation
        self._pace = pace
        self._lease_s = lease_s
        self._boxes: dict[str, WatchedMailbox] = {}
        self._reported: dict[str, tuple[str, str, int]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._looking = asyncio.Semaphore(LOOKS)
        self._outage = Outage(_log, "the watch of mailboxes cannot reach the record")
        self._news = asyncio.Event()
        self._context = lru_cache(maxsize=64)(_context)

    async def run(self) -> None:
        """Watch until cancelled."""
        held_until = renewed = 0.0
        version = ""
        try:
            while True:
                directory = self._directory()
                now = time.monotonic()
                try:
                    if directory.version != version or now - renewed >= self._lease_s / 3:
                        if directory.version != version:
                            self._context.cache_clear()
                        wanted = watches(directory)
                        held = await self._lease(wanted)
                        held_until, renewed, version = now + self._lease_s, now, directory.version
                        await self._arrange({key: wanted[key] for key in held})
                    await self._report()
                    self._outage.over()
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    self._outage.failed(error)
                    if time.monotonic() > held_until and self._boxes:
                        _log.error("the leases of watched mailboxes ran out: watching stops")
                        await self._arrange({})
                    await asyncio.sleep(1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1 if self._boxes else min(2, self._lease_s / 3)):
                        await self._news.wait()
                    await asyncio.sleep(0.2)  # states that change together are written together
                self._news.clear()
        finally:
            await self._end()

    async def look_for(self, sought: Sought, seconds: float = 15.0) -> Look:
        """Whether a delivery lies in a mailbox that is watched; ``found`` is None where nobody can say."""
        agency = self._directory().agency(sought.agency)
        if agency is None or agency.mode is Mode.OFF:
            return Look(found=None, detail={"why": "the agency is not in the directory"})
        key = sought.recipient.key
        fitting = [w for w in agency.watches if key == w.key or key in [a.key for a in w.also]]
        if not fitting:
            return Look(found=None, detail={"why": "the mailbox is not watched"})
        async with self._looking:
            return await search(fitting, sought, self._context_of, seconds)

    def _shape_of(self, code: str) -> str | None:
        agency = self._directory().agency(code)
        return self._incoming if agency is not None and agency.incoming == "assigned" else None

    async def _lease(self, wanted: dict[str, tuple[str, Watch]]) -> frozenset[str]:
        now = now_us()
        until = now + int(self._lease_s * 1e6)
        names = {key: agency for key, (agency, _) in wanted.items()}
        held: frozenset[str] = await self._crossing.write(
            lambda conn: watch_lease.take(conn, names, self._owner, now, until)
        )
        return held

    async def _arrange(self, wanted: dict[str, tuple[str, Watch]]) -> None:
        """Watch exactly these."""
        ended = [key for key, box in self._boxes.items() if wanted.get(key) != (box.agency, box.watch)]
        await asyncio.gather(*(self._boxes.pop(key).stop() for key in ended))
        gone = [key for key in ended if key not in wanted]
        for key in ended:
            self._reported.pop(key, None)
        for key, (agency, watch) in wanted.items():
            if key not in self._boxes:
                desk = WatchDesk(self._crossing, self._executor, self._shape_of)
                self._boxes[key] = WatchedMailbox(
                    agency, watch, desk, self._pace, self._context_of, self._gate, self._news.set
                )
        if gone:
            await self._crossing.write(lambda conn: watch_lease.release(conn, gone, self._owner))
        if ended or len(self._boxes) != len(self._reported):
            _log.info("watching %d mailboxes", len(self._boxes))

    async def _report(self) -> None:
        changed: list[WatchState] = []
        counts = {"watching": 0, "connecting": 0, "waiting": 0}
        for key, box in self._boxes.items():
            counts[box.state] += 1
            now = (box.state, box.note, box.seen_us)
            before = self._reported.get(key)
            # That nothing happened is written once a minute.
            if before is None or before[:2] != now[:2] or now[2] - before[2] > 60_000_000:
                self._reported[key] = now
                changed.append(
                    WatchState(
                        mailbox=key,
                        agency=box.agency,
                        state=box.state,
                        note=box.note,
                        changed_us=box.changed_us,
                        seen_us=box.seen_us,
                    )
                )
        for state, count in counts.items():
            metrics.WATCHES.labels(state).set(count)
        if changed:
            await self._crossing.write(lambda conn: watch_lease.report(conn, changed, self._owner))

    async def _end(self) -> None:
        boxes, self._boxes = self._boxes, {}
        await asyncio.gather(*(box.stop() for box in boxes.values()), return_exceptions=True)
        with contextlib.suppress(Exception):
            names = list(boxes)
            await self._crossing.write(lambda conn: watch_lease.release(conn, names, self._owner))

    def _context_of(self, watch: Watch) -> ssl.SSLContext:
        return self._context(watch.verify, watch.ca)


def _context(verify: bool, ca: Path | None) -> ssl.SSLContext:
    return context(verify, ca)


def watches(directory: Directory) -> dict[str, tuple[str, Watch]]:
    """Every watched mailbox of the agencies that are not off: key → agency and watch."""
    return {w.key: (a.code, w) for a in directory if a.mode is not Mode.OFF for w in a.watches}
