"""Where a watched mailbox meets the record: what was seen is noted, then the position is kept.

In this order, so that a crash between the two costs a second look and loses nothing; what is already
noted is not noted again. One desk a mailbox; its folders take turns, so that a letter that moves between
two of them is judged once. Raises what the record raises: the mailbox is then read again after a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from gateway import metrics
from gateway.crossing import Crossing
from tracker import watch_positions
from tracker.filing import REGISTRY, Deed, Filed, Filing
from tracker.model import now_us
from tracker.noting import NoSuchDelivery, Note
from tracker.observing import arrivals, flag_changes
from tracker.sighting import Place, Seen, Sighting
from tracker.states import UnknownMove
from tracker.watch_positions import Position

_log = logging.getLogger("wasl.watch")


class WatchDesk:
    """The record as one mailbox's watch needs it."""

    def __init__(
        self,
        crossing: Crossing,
        executor: Executor,
        shape_of: Callable[[str], str | None] = lambda agency: None,
    ) -> None:
        """``shape_of``: how an agency's incoming numbers look where the gateway assigns them."""
        self._shape_of = shape_of
        self._crossing = crossing
        self._record = crossing.record
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()

    async def position(self, place: Place) -> Position | None:
        found: dict[str, Position] = await self._read(watch_positions.positions, place.mailbox)
        return found.get(place.folder)

    async def restart(self, place: Place) -> frozenset[int]:
        """The folder's numbering has changed: forget it; returns the deliveries that lay there."""
        lay: frozenset[int] = await self._read(watch_positions.deliveries_in, place.mailbox, place.folder)
        await self._crossing.write(lambda c: watch_positions.restart(c, place.mailbox, place.folder))
        return lay

    async def keep(self, place: Place, position: Position, sightings: Sequence[Sighting] = ()) -> None:
        at = now_us()
        await self._crossing.write(lambda c: watch_positions.keep(c, place, position, sightings, at))

    async def arrived(
        self, place: Place, seen: Sequence[Seen], here: Collection[int]
    ) -> tuple[list[Sighting], list[int]]:
        """Note what new messages prove; :meth:`keep` is the caller's. With the UIDs to look at again."""
        async with self._turn:
            sightings, later = await self._read(arrivals, place, seen, now_us(), here)
            await self._note(place, sightings)
        return sightings, later

    async def changed(self, place: Place, flags: Mapping[int, frozenset[str]]) -> list[Sighting]:
        """Note what changed flags prove; :meth:`keep` is the caller's."""
        async with self._turn:
            found: list[Sighting] = await self._read(flag_changes, place, flags, now_us())
            await self._note(place, found)
        return found

    async def vanished(self, place: Place, ranges: Sequence[tuple[int, int]]) -> None:
        await self._crossing.write(lambda c: watch_positions.vanished(c, place.mailbox, place.folder, ranges))

    async def page(self, place: Place, after: int, limit: int) -> list[int]:
        """UIDs of letters in the folder above ``after``."""
        found: list[int] = await self._read(watch_positions.page, place.mailbox, place.folder, after, limit)
        return found

    async def _note(self, place: Place, sightings: Sequence[Sighting]) -> None:
        notes: list[Note] = [note for one in sightings for note in one.notes]
        waiting = [self._noted(place, note) for note in notes]
        for note, answer in zip(notes, await asyncio.gather(*waiting, return_exceptions=True), strict=True):
            if isinstance(answer, Filed) and answer.bar is not None:
                _log.warning("%s seen in %s proves nothing now: %s", note.event, place.mailbox, answer.bar)
            elif isinstance(answer, UnknownMove | NoSuchDelivery):
                _log.warning("%s seen in %s proves nothing now: %s", note.event, place.mailbox, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self._record.announce([answer])
                metrics.WATCH_EVENTS.labels(note.event.value).inc()
                _log.info("%s: %s, folder %s", place.mailbox, note.event.value, place.folder)

    def _noted(self, place: Place, note: Note) -> asyncio.Future[Any]:
        """What the registry does with its folders and keywords is an act of it; all else is noted."""
        deed = Deed.of(note.event) if place.registry and note.source in ("folder", "keyword") else None
        if deed is None:
            return self._crossing.at_record(self._record.note_desk, note)
        filing = Filing(
            letter_id=0,
            agency=place.agency,
            deed=deed,
            at_us=note.at_us,
            person=REGISTRY,
            where=note.source,
            shape=self._shape_of(place.agency),
            observed=note,
        )
        return self._crossing.at_record(self._record.registry_desk, filing)

    async def _read(self, fn: Any, *args: Any) -> Any:
        def read() -> Any:
            with self._record.read() as conn:
                return fn(conn, *args)

        return await self._loop.run_in_executor(self._executor, read)
