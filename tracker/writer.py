"""A writer gathers what waits and commits it in one transaction: a thread, or the record room's own loop.

Callers hand in an :class:`Errand` and are told when its group is on stable storage; a group is
whatever waits when the last commit ended, so that under load one sync serves many letters. If a
group fails, every errand is tried again in a transaction of its own, so that one bad errand
cannot take its neighbours down, and what it fails with is told too unless the group was said to
fail with the same; if the database is away, all fail with its error and the
callers answer 4xx. No errand is ever retried after its transaction may have been committed:
a commit that fails is reported as failed and the caller must not say 250.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from tracker.store import Store
from tracker.store_errors import lost_connection

_log = logging.getLogger("wasl.writer")

MAX_GROUP = 512

T = TypeVar("T")


class Hub(Protocol):
    """Where the results of a group go; called once a group, from the thread that wrote it."""

    def settle(self, batch: list[tuple[Any, Any, BaseException | None]]) -> None: ...


class FutureHub:
    """For plain threads: the token is a :class:`concurrent.futures.Future`."""

    def settle(self, batch: list[tuple[Any, Any, BaseException | None]]) -> None:
        for token, result, error in batch:
            if error is None:
                token.set_result(result)
            else:
                token.set_exception(error)


@dataclass(slots=True)
class Errand:
    """One thing to be written.

    ``desk`` takes all payloads of the group that are meant for it and returns one result for
    each; ``before`` is begun for all of them ahead of the transaction (the archive's syncs).
    """

    desk: Desk
    payload: Any
    hub: Hub
    token: Any


class Desk(ABC):
    """A kind of errand: what must be done before the transaction, inside it, and after it."""

    order = 5

    def before(self, payloads: Sequence[Any]) -> Callable[[], None] | None:
        """Make durable what the rows will point to, or begin to; raises OSError.

        What is returned is called before COMMIT, once the rows are written, and must return only when all
        is durable; it raises OSError, and may be called again.
        """
        return None

    @abstractmethod
    def inside(self, conn: Connection, payloads: Sequence[Any]) -> list[Any]:
        """Write the rows; one result for each payload."""

    def after(self, payloads: Sequence[Any], results: list[Any]) -> None:  # noqa: B027
        """What may be done once the group is durable (tell others, remove objects)."""

    def failed(self) -> None:  # noqa: B027
        """The transaction was rolled back: forget what was cached of it."""

    def doubted(self) -> None:  # noqa: B027
        """Before :meth:`failed`: COMMIT itself failed, so that the group may be durable after all."""

    def abandoned(self, payload: Any, certain: bool) -> None:  # noqa: B027
        """A payload failed for good; ``certain``: nothing of it is in the record."""


class RunDesk(Desk):
    """Any other small write: the payload is a function of the connection."""

    order = 9

    def inside(self, conn: Connection, payloads: Sequence[Any]) -> list[Any]:
        return [fn(conn) for fn in payloads]


class WriterStopped(RuntimeError):
    """The record is closed; the gateway is stopping."""


class Writer:
    """The writing thread. ``hand_in`` from any thread; ``call`` waits for the result.

    ``threaded=False``: no thread, the caller gathers groups itself and gives them to ``commit_now``.
    """

    def __init__(
        self,
        store: Store,
        on_failure: Callable[[BaseException], None] | None = None,
        before_commit: Callable[[Connection], None] | None = None,
        threaded: bool = True,
    ) -> None:
        self._before_commit = before_commit
        self._store = store
        self._on_failure = on_failure
        self._waiting: SimpleQueue[Errand | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._stopping = False
        self._conn: Connection | None = None
        self._future_hub = FutureHub()
        self._run_desk = RunDesk()
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._work, name="wasl-writer", daemon=True)
            self._thread.start()

    def hand_in(self, errand: Errand) -> None:
        """Queue an errand; its hub is told the outcome. Raises :class:`WriterStopped`."""
        with self._lock:
            if self._stopping:
                raise WriterStopped("the record is closed")
            self._waiting.put(errand)

    def call(self, desk: Desk, payload: Any, timeout: float | None = 60) -> Any:
        """Write one payload and wait until it is durable; raises what the desk raised."""
        future: Future[Any] = Future()
        self.hand_in(Errand(desk, payload, self._future_hub, future))
        return future.result(timeout)

    def run(self, fn: Callable[[Connection], T], timeout: float | None = 60) -> T:
        """Run ``fn(conn)`` inside the writer's next transaction and wait for its result."""
        result: T = self.call(self._run_desk, fn, timeout)
        return result

    @property
    def future_hub(self) -> FutureHub:
        """For those who wait in plain threads."""
        return self._future_hub

    @property
    def run_desk(self) -> RunDesk:
        return self._run_desk

    def stop(self) -> None:
        """Finish what waits, then end the thread."""
        with self._lock:
            if not self._stopping:
                self._stopping = True
                self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def commit_now(self, group: list[Errand]) -> None:
        """Write a group in the caller's thread; for a writer that has none of its own."""
        self._settle(self._commit(group))

    def _work(self) -> None:
        last = False
        while not last:
            group: list[Errand] = []
            errand = self._waiting.get()
            while errand is not None:
                group.append(errand)
                if len(group) >= MAX_GROUP:
                    break
                try:
                    errand = self._waiting.get_nowait()
                except Empty:
                    break
            last = errand is None
            if group:
                self._settle(self._commit(group))

    def _commit(self, group: list[Errand]) -> list[tuple[Errand, Any, BaseException | None]]:
        try:
            try:
                return self._transaction(group)
            except Exception as error:
                # The database went away before COMMIT was said: once more, over a new connection.
                if isinstance(error, CommitFailed) or not lost_connection(error):
                    raise
                return self._transaction(group)
        except Exception as error:
            self._complain(error)
            told = type(error)
            if len(group) == 1 or isinstance(error, CommitFailed) or lost_connection(error):
                return [_abandoned(errand, error) for errand in group]
        settled: list[tuple[Errand, Any, BaseException | None]] = []
        for errand in group:
            try:
                settled += self._transaction([errand])
            except Exception as error:
                if type(error) is not told:
                    self._complain(error)
                settled.append(_abandoned(errand, error))
        return settled

    def _complain(self, error: Exception) -> None:
        if self._on_failure is not None:
            self._on_failure(error)

    def _transaction(self, group: list[Errand]) -> list[tuple[Errand, Any, BaseException | None]]:
        desks: dict[int, tuple[Desk, list[Errand]]] = {}
        for errand in group:
            desks.setdefault(id(errand.desk), (errand.desk, []))[1].append(errand)
        lots = sorted(desks.values(), key=lambda lot: lot[0].order)
        done: list[tuple[Desk, list[Errand], list[Any]]] = []
        under_way: list[Callable[[], None]] = []
        try:
            for desk, errands in lots:
                begun = desk.before([e.payload for e in errands])
                if begun is not None:
                    under_way.append(begun)
            conn = self._connection()
            with conn.begin() as transaction:
                for desk, errands in lots:
                    done.append((desk, errands, desk.inside(conn, [e.payload for e in errands])))
                if self._before_commit is not None:
                    self._before_commit(conn)
                for durable in under_way:
                    durable()
                try:
                    transaction.commit()
                except Exception as error:
                    raise CommitFailed(f"the commit failed: {error}") from error
        except BaseException as error:
            for durable in under_way:
                with suppress(Exception):
                    durable()  # nothing goes on behind the back of the next try
            for desk, _ in lots:
                if isinstance(error, CommitFailed):
                    desk.doubted()
                desk.failed()
            if isinstance(error, CommitFailed) or lost_connection(error):
                # After a failed sync the pages of this connection are not to be trusted.
                self._let_go()
            raise
        settled: list[tuple[Errand, Any, BaseException | None]] = []
        for desk, errands, results in done:
            try:
                desk.after([e.payload for e in errands], results)
            except Exception:
                # The group is durable: an error now must not have it written again as if it were not.
                _log.exception("what follows a commit failed")
            settled += [(errand, result, None) for errand, result in zip(errands, results, strict=True)]
        return settled

    def _connection(self) -> Connection:
        """The writer's own connection, kept open between groups."""
        if self._conn is None:
            self._conn = self._store.writer.connect()
        return self._conn

    def _let_go(self) -> None:
        """Drop the connection, whatever state it is in; the next group opens another."""
        conn, self._conn = self._conn, None
        if conn is not None:
            try:
                conn.invalidate()
                conn.close()
            except Exception:
                pass  # it was broken: that is why it is dropped
        self._store.writer.dispose()

    def _settle(self, settled: list[tuple[Errand, Any, BaseException | None]]) -> None:
        hubs: dict[int, tuple[Hub, list[tuple[Any, Any, BaseException | None]]]] = {}
        for errand, result, error in settled:
            hubs.setdefault(id(errand.hub), (errand.hub, []))[1].append((errand.token, result, error))
        for hub, batch in hubs.values():
            hub.settle(batch)


def _abandoned(errand: Errand, error: Exception) -> tuple[Errand, None, Exception]:
    """Tell the desk that this errand failed for good."""
    try:
        errand.desk.abandoned(errand.payload, certain=not isinstance(error, CommitFailed))
    except Exception:
        _log.exception("what follows a failure failed")
    return errand, None, error


class CommitFailed(Exception):
    """COMMIT itself raised: whether the group is on disk is unknown, so nothing may be promised."""
