"""Runs of a candidate policy over recorded letters: one at a time, each in a process of its own.

A run's counts and examples are kept in this process's memory until newer runs push it out; nothing of it is
written. The work is done in a room beside the mail (``policies.trial_room``), with lower priority; a thread
here waits for what it tells, and ends the room when the run is told to stop. What goes wrong in a run is told
on its page, and the reason goes to the log.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

from policies import trial_room
from policies.replay_report import Report
from policies.trial_room import RunOrder
from policies.versions import Draft
from tracker.model import now_us
from tracker.store import Engine

log = logging.getLogger("wasl.dashboard.replay")

KEPT = 20
WAITING = 5  # runs that may wait their turn
EXAMPLES = 5  # of each difference


class RunState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True, kw_only=True)
class Run:
    """One trial. ``title`` says of what, in the words of the one who began it."""

    id: str
    by: str
    title: str
    candidate: str  # its version
    days: int
    agency: str | None
    report: Report  # what was found so far
    since_us: int
    begun_us: int
    state: RunState = RunState.WAITING
    total: int = 0
    done: int = 0
    ended_us: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        return self.state in (RunState.DONE, RunState.STOPPED, RunState.FAILED)

    @property
    def percent(self) -> int:
        if self.state is RunState.DONE:
            return 100
        return min(99, self.done * 100 // self.total) if self.total else 0


class TooManyRuns(Exception):
    """Enough are waiting."""


class ReplayRuns:
    """The book of runs and the thread that works on them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._queue: queue.SimpleQueue[tuple[Run, RunOrder]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(
        self,
        engine: Engine,
        draft: Draft,
        version: str,
        *,
        by: str,
        title: str,
        days: int,
        agency: str | None = None,
    ) -> Run:
        """Put a run of a draft, which would be ``version``, in the queue; raises :class:`TooManyRuns`."""
        at = now_us()
        since = at - days * 86_400 * 1_000_000
        run = Run(
            id=secrets.token_hex(8),
            by=by,
            title=title,
            candidate=version,
            days=days,
            agency=agency,
            report=Report.empty(version, since, at, agency),
            since_us=since,
            begun_us=at,
        )
        with self._lock:
            if sum(not other.over for other in self._runs.values()) >= WAITING:
                raise TooManyRuns
            self._runs[run.id] = run
            for old in [key for key, kept in self._runs.items() if kept.over][
                : max(0, len(self._runs) - KEPT)
            ]:
                del self._runs[old]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="policy-replay", daemon=True)
                self._thread.start()
        url = engine.url.render_as_string(hide_password=False)
        self._queue.put((run, RunOrder(draft, url, since, agency, EXAMPLES)))
        return run

    def get(self, run_id: str) -> Run | None:
        with self._lock:
            return self._runs.get(run_id)

    def recent(self) -> list[Run]:
        """Newest first."""
        with self._lock:
            return list(reversed(self._runs.values()))

    def stop_all(self) -> None:
        """The house closes: what runs ends with its room."""
        for run in self.recent():
            run.stop.set()

    def _work(self) -> None:
        while True:
            run, order = self._queue.get()
            try:
                self._one(run, order)
            except trial_room.Stopped:
                run.state = RunState.STOPPED
            except Exception:
                log.exception("a trial of policy %s failed", run.candidate)
                run.state = RunState.FAILED
            run.ended_us = now_us()

    def _one(self, run: Run, order: RunOrder) -> None:
        if run.stop.is_set():
            raise trial_room.Stopped
        run.state = RunState.RUNNING

        def told(done: int, total: int, report: Report) -> None:
            run.done, run.total, run.report = done, total, report

        run.report = trial_room.replay(order, told, run.stop)
        run.done = run.total
        run.state = RunState.DONE
