"""One watched mailbox: its connections, each with its folders, kept open and opened again.

Each folder has a connection of its own as far as the settings allow; the last connection takes turns at
what is left. IDLE (RFC 2177) is only a wake-up: what happened is read from the folder. Where the server
has no IDLE, or several folders share a connection, folders are read again at an interval.

How it fails: whatever goes wrong closes that connection, is said in the log once, and is tried again
after a pause that doubles up to five minutes, with jitter; a refused password waits a minute at least, for
all connections of the mailbox, so that the account is not locked.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway import metrics
from gateway.imap_watch_client import Denied, Unwilling, WatchClient, WatchError, connect
from gateway.imap_watch_desk import WatchDesk
from gateway.imap_watch_folder import FolderReader
from policies.watch import Watch
from tracker.model import now_us
from tracker.sighting import Place
from tracker.store_errors import unavailable

_log = logging.getLogger("wasl.watch")

FIRST_PAUSE_S, LONGEST_PAUSE_S, DENIED_PAUSE_S = 1.0, 300.0, 120.0
AGAIN_S = 1.0  # until a message whose delivery is still under way is looked at again
STEADY_S = 60.0  # a connection that held so long forgives earlier failures
GATHER_S = 0.05  # changes that come together are read together


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a mailbox is watched."""

    idle_s: float
    poll_s: float
    connections: int


@dataclass(slots=True)
class Lane:
    """One connection and its folders."""

    places: tuple[Place, ...]
    state: str = "connecting"
    note: str = ""
    changed_us: int = 0
    seen_us: int = 0


def places_of(agency: str, watch: Watch) -> tuple[Place, ...]:
    """The folders of a watch as the record knows them."""
    return tuple(
        Place(
            agency=agency,
            mailbox=watch.key,
            also=tuple(a.key for a in watch.also),
            registry=watch.registry,
            server=watch.host,
            folder=folder,
            event=meaning.event,
            keywords=tuple((word, event) for word, m in watch.keywords if (event := m.event) is not None),
        )
        for folder, meaning in watch.folders
    )


class WatchedMailbox:
    """Watches one mailbox until :meth:`stop`."""

    def __init__(
        self,
        agency: str,
        watch: Watch,
        desk: WatchDesk,
        pace: Pace,
        context: Callable[[Watch], ssl.SSLContext],
        gate: asyncio.Semaphore,
        told: Callable[[], None],
    ) -> None:
        self.agency = agency
        self.watch = watch
        self._desk = desk
        self._pace = pace
        self._context = context
        self._gate = gate  # how many mailboxes read what is unread at a time
        self._entry = asyncio.Lock()  # one connection signs in at a time
        self._denied = 0.0  # until when none does
        self._reading = asyncio.Lock()
        self._told = told
        places = places_of(agency, watch)
        own, rest = places[: pace.connections - 1], places[pace.connections - 1 :]
        self.lanes = [Lane((p,)) for p in own] + ([Lane(rest)] if rest else [])
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(lane)) for lane in self.lanes]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def state(self) -> str:
        """The worst of its connections' states."""
        states = {lane.state for lane in self.lanes}
        return next((s for s in ("waiting", "connecting") if s in states), "watching")

    @property
    def note(self) -> str:
        return "; ".join(dict.fromkeys(lane.note for lane in self.lanes if lane.note))

    @property
    def changed_us(self) -> int:
        return max(lane.changed_us for lane in self.lanes)

    @property
    def seen_us(self) -> int:
        """When all of its folders were last read, at the earliest of them."""
        return min(lane.seen_us for lane in self.lanes)

    async def _run(self, lane: Lane) -> None:
        pause = 0.0
        while True:
            began = time.monotonic()
            try:
                await self._session(lane)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if time.monotonic() - began > STEADY_S:
                    pause = 0.0
                pause = min(max(pause * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                if isinstance(error, Denied):
                    pause = max(pause, DENIED_PAUSE_S)
                self._failed(lane, error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    def _failed(self, lane: Lane, error: Exception) -> None:
        if isinstance(error, WatchError):
            words, reason = str(error), type(error).__name__.lower()
        elif unavailable(error):
            words, reason = "the record cannot be written now", "record"
        else:
            words, reason = f"fault of the watch: {type(error).__name__}", "fault"
            _log.exception("%s: the watch failed", self.watch.key)
        metrics.WATCH_FAILURES.labels(reason).inc()
        if words != lane.note:
            _log.warning("%s at %s: %s", self.watch.key, self.watch.host, words)
        self._say(lane, "waiting", words)

    def _say(self, lane: Lane, state: str, note: str = "") -> None:
        if (state, note) != (lane.state, lane.note):
            lane.state, lane.note, lane.changed_us = state, note, now_us()
            self._told()

    async def _session(self, lane: Lane) -> None:
        if lane.state != "waiting":
            self._say(lane, "connecting")
        client: WatchClient | None = None
        try:
            async with self._entry:
                await asyncio.sleep(self._denied - time.monotonic())
                try:
                    client = await connect(self.watch, self._context(self.watch))
                except Denied:
                    self._denied = time.monotonic() + DENIED_PAUSE_S / 2
                    raise
            if len(lane.places) == 1:
                await self._attend(lane, client, lane.places[0])
            else:
                await self._take_turns(lane, client)
        finally:
            if client is not None:
                client.close()

    async def _attend(self, lane: Lane, client: WatchClient, place: Place) -> None:
        """One folder, always open."""
        reader = FolderReader(client, self._desk, place)
        await reader.open()
        async with self._reading, self._gate:
            await reader.catch_up()
        while True:
            self._seen(lane)
            await self._rest(client, AGAIN_S if reader.waits else None)
            if not (client.stirred.is_set() or reader.waits):
                await reader.open()  # now and then, so that the count of changes does not fall behind
            await reader.catch_up()

    async def _take_turns(self, lane: Lane, client: WatchClient) -> None:
        """Several folders, one after the other; the first stays open between the rounds."""
        readers = [FolderReader(client, self._desk, place) for place in lane.places]
        while True:
            missing: list[str] = []
            for reader in (*readers[1:], readers[0]):
                try:
                    await reader.open()
                    async with self._reading, self._gate:
                        await reader.catch_up()
                except Unwilling as error:
                    missing.append(f"folder {reader.place.folder}: {error}")
            if len(missing) == len(readers):
                raise Unwilling(missing[0])
            self._seen(lane, "; ".join(missing))
            soon = AGAIN_S if any(r.waits for r in readers) else self._pace.poll_s
            await self._rest(client, min(soon, self._pace.poll_s))

    def _seen(self, lane: Lane, note: str = "") -> None:
        lane.seen_us = now_us()
        if note and note != lane.note:
            _log.warning("%s at %s: %s", self.watch.key, self.watch.host, note)
        self._say(lane, "watching", note)

    async def _rest(self, client: WatchClient, at_most: float | None) -> None:
        """Until something stirs, or it is time to look."""
        if client.stirred.is_set():
            await asyncio.sleep(GATHER_S)
        elif at_most is not None and at_most <= AGAIN_S:
            await asyncio.sleep(at_most)
        elif "IDLE" in client.capabilities:
            await client.rest(at_most if at_most is not None else self._pace.idle_s)
            await asyncio.sleep(GATHER_S)
        else:
            await asyncio.sleep(min(at_most or self._pace.poll_s, self._pace.poll_s))
