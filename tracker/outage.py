"""Trouble that lasts is said in one line now and then, and once when it is over.

Workers that try again every second (relay, notices, clocks, watch) would fill the log while the database is
gone. :class:`Outage` says the first failure at once, repeats a line each minute with the count, and tells
when things work again. What is no such trouble but a fault of ours is said with its trace the first time.
Nothing here raises.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tracker.record_room import RoomGone
from tracker.store_errors import DatabaseError, lost_connection, unavailable
from tracker.writer import CommitFailed, WriterStopped

EVERY_S = 60.0
_LINE = 300  # characters of an error


class Outage:
    """The trouble of one worker. ``what`` begins the line: ``receipts cannot be sent``."""

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._what = what
        self._every_s = every_s
        self._clock = clock
        self._since: float | None = None
        self._said = self._last = 0.0
        self._kind: type[BaseException] | None = None
        self._count = 0

    def failed(self, error: BaseException) -> None:
        """It failed again."""
        now = self._clock()
        if self._since is not None and now - self._last > 2 * self._every_s:
            self._since, self._kind, self._count = None, None, 0  # an earlier one, whose end nobody told
        self._last = now
        self._count += 1
        foreseen = is_outage(error)
        if self._since is None:
            self._since = now
        elif now - self._said < self._every_s and (foreseen or type(error) is self._kind):
            return
        trace = error if not foreseen and type(error) is not self._kind else None
        self._said, self._kind = now, type(error)
        line = f"{self._what}, trying again: {in_a_line(error)}"
        if self._count > 1:
            line += f" ({self._count} times in {now - self._since:.0f} s)"
        self._log.error("%s", line, exc_info=trace)

    def over(self) -> None:
        """It works."""
        if self._since is None:
            return
        after = self._clock() - self._since
        count, self._since, self._kind, self._count = self._count, None, None, 0
        self._log.info("over after %d failures in %.0f s: %s", count, after, self._what)


def is_outage(error: BaseException) -> bool:
    """True for what the world does to us: the database or a disk is gone, an answer does not come."""
    known = (OSError, TimeoutError, CommitFailed, RoomGone, WriterStopped, DatabaseError)
    return isinstance(error, known) or lost_connection(error) or unavailable(error)


def in_a_line(error: BaseException) -> str:
    """The first line of what is wrong; of a database's error its own words, not the statement."""
    text = str(getattr(error, "orig", None) or error).strip()
    first = text.partition("\n")[0].strip()
    return (first or type(error).__name__)[:_LINE]
