"""Runs of a candidate policy over recorded letters: one at a time, in a thread of its own, gently.

A run is kept in this process's memory with its counts and examples until newer ones push it out; nothing of
it is written. The thread rests between handfuls of letters, so that the mail loop beside it is served
first, and it can be told to stop. What goes wrong in a run is told on its page; the trace goes to the log.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

from policies.chain import Policy
from policies.replay import Replay
from policies.replay_report import needs_of, warm_us
from tracker import recorded
from tracker.model import now_us
from tracker.store import Engine

log = logging.getLogger("wasl.dashboard.replay")

HANDFUL = 25  # letters between two rests
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
    replay: Replay
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
        self._queue: queue.SimpleQueue[tuple[Run, Engine]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(
        self,
        engine: Engine,
        policy: Policy,
        *,
        by: str,
        title: str,
        days: int,
        agency: str | None = None,
    ) -> Run:
        """Put a run in the queue; raises :class:`TooManyRuns`."""
        at = now_us()
        since = at - days * 86_400 * 1_000_000
        run = Run(
            id=secrets.token_hex(8),
            by=by,
            title=title,
            candidate=policy.version,
            days=days,
            agency=agency,
            replay=Replay(
                policy, since_us=since, agency=agency, examples=EXAMPLES, needs_of=needs_of(engine.connect)
            ),
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
        self._queue.put((run, engine))
        return run

    def get(self, run_id: str) -> Run | None:
        with self._lock:
            return self._runs.get(run_id)

    def recent(self) -> list[Run]:
        """Newest first."""
        with self._lock:
            return list(reversed(self._runs.values()))

    def stop_all(self) -> None:
        """The house closes: what runs ends at the next handful."""
        for run in self.recent():
            run.stop.set()

    def _work(self) -> None:
        while True:
            run, engine = self._queue.get()
            try:
                self._one(run, engine)
            except Exception:
                log.exception("a trial of policy %s failed", run.candidate)
                run.state = RunState.FAILED
            run.ended_us = now_us()

    def _one(self, run: Run, engine: Engine) -> None:
        if run.stop.is_set():
            run.state = RunState.STOPPED
            return
        run.state = RunState.RUNNING

        begin = run.since_us - warm_us(run.replay.candidate)  # rate limits count from before
        with engine.connect() as conn:
            run.total = recorded.count(conn, begin)
        for page in recorded.recorded(engine.connect, begin, page=500):
            for start in range(0, len(page), HANDFUL):
                began = time.thread_time()
                some = page[start : start + HANDFUL]
                for _changed in run.replay.feed(some):
                    pass  # the replay keeps counts and examples itself
                run.done += len(some)
                # As long a rest as half the work: two thirds of a core at most, and the lock is given up.
                if run.stop.wait(max(0.001, (time.thread_time() - began) / 2)):
                    run.state = RunState.STOPPED
                    return
        run.state = RunState.DONE
