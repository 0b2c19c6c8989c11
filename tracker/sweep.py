"""Archive objects that no row names: found some time after their hour, and removed.

A crash between an object and its row, or a COMMIT of which nobody heard, leaves one (DESIGN §4). The sweep
walks the archive once, in the order of its keys, a bounded number of objects a turn, up to a day before now;
how far it has come stands in ``meta``. An object whose row is not there is looked at again an hour later by
a clock that only counts on, and only then removed: neither a letter that is just being accepted, on whatever
node and by whatever clock, nor one whose transaction becomes visible late can be hit.

Where more than half of an hour's objects, and more than a few, have no row, the archive is newer than the
database, or another gateway's: nothing of that hour is removed, which is said once.

How it fails: as the database and the archive do; the next turn begins where the last good one ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

from sqlalchemy import Connection, select

from tracker import schema
from tracker.model import id_value
from tracker.object_store import ObjectStore, remove
from tracker.store import meta, set_meta

_log = logging.getLogger("wasl.archive")

AGE_US = 25 * 3_600_000_000  # an hour's folder is looked at when its end is a day ago
AGAIN_S = 3600.0  # between the two looks
FEW = 20  # objects without a row, below which no hour is suspicious
MARK = "archive-swept"  # in meta: the key up to which all is decided

_LOT = 500  # ids in one statement


@dataclass(slots=True)
class _Loose:
    """An object without a row, and what the sweep had passed before it."""

    key: str
    since: float  # seconds of the clock that only counts on
    before: str


@dataclass(slots=True)
class Sweep:
    """The walk of one process. ``turn`` does a bounded part of it; one thread at a time."""

    archive: ObjectStore
    clock: Callable[[], float] = time.monotonic
    _passed: str | None = None  # the last key that was looked at
    _loose: list[_Loose] = field(default_factory=list)

    def turn(self, conn: Connection, now_us: int, limit: int = 500) -> tuple[int, str | None]:
        """Look at up to ``limit`` more objects; how many were removed, and the mark to be kept, if it moved.

        ``conn`` reads. Raises OSError where the archive cannot be listed.
        """
        kept = meta(conn, MARK) or ""
        if self._passed is None or self._passed < kept:
            self._passed = kept
        removed = self._second_look(conn)
        end = self.archive.key_for(0, max(now_us - AGE_US, 0)).rpartition("/")[0]
        keys = list(islice(self._before(end), limit))
        for hour, group in groupby(keys, lambda key: key.rpartition("/")[0]):
            found = list(group)
            loose = unnamed(conn, found)
            if len(loose) > FEW and len(loose) * 2 > len(found):
                _log.error(
                    "%d of %d objects in %s have no row: is the archive newer than the database, or another "
                    "gateway's? Nothing there is removed",
                    len(loose),
                    len(found),
                    hour,
                )
                loose = set()
            for key in found:
                if key in loose:
                    self._loose.append(_Loose(key, self.clock(), self._passed))
                self._passed = key
        mark = self._loose[0].before if self._loose else self._passed
        return removed, mark if mark > kept else None

    def _before(self, end: str) -> Iterator[str]:
        for key in self.archive.keys(after=self._passed or ""):
            if key >= end:
                return
            yield key

    def _second_look(self, conn: Connection) -> int:
        due = [one for one in self._loose if self.clock() - one.since >= AGAIN_S]
        if not due:
            return 0
        doomed = unnamed(conn, [one.key for one in due])
        for key in sorted(doomed):
            remove(self.archive, key)
            _log.info("the object %s was named by no row and is removed", key)
        self._loose = self._loose[len(due) :]
        return len(doomed)


def keep(conn: Connection, mark: str) -> None:
    """Inside the writer: how far the sweep has come."""
    if mark > (meta(conn, MARK) or ""):
        set_meta(conn, MARK, mark)


def unnamed(conn: Connection, keys: Sequence[str]) -> set[str]:
    """Those of the keys that no row names."""
    named: set[str] = set()
    s, w = schema.submission.c, schema.worklist.c
    for at in range(0, len(keys), _LOT):
        lot = keys[at : at + _LOT]
        ids = [found for key in lot if (found := _submission_id(key)) is not None]
        named |= set(conn.execute(select(s.archive_key).where(s.id.in_(ids))).scalars())
        named |= set(conn.execute(select(w.archive_key).where(w.archive_key.in_(lot))).scalars())
    return set(keys) - named


def _submission_id(key: str) -> int | None:
    """A key is made of its submission's id (``tracker.archive.key_for``)."""
    try:
        return id_value(key.rpartition("/")[2].partition(".")[0])
    except ValueError:
        return None
