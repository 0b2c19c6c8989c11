"""The record: what the gateway knows of each letter, and the few doors through which it is written.

``accept``, ``note``, ``decide`` (a person's act on a held letter) and ``file`` (a registry's act on a letter
that its agency received; both are written as notes) are the only doors that change a letter's evidence;
``claim`` takes what is due; ``write`` is for what is no evidence (accounts, sessions, audit, policy
versions). A writer commits in groups (:mod:`tracker.writer`); a running gateway has its letters written by
a process of their own (:mod:`tracker.record_room`). Reading has its own connections and never waits for a
write. Plain synchronous code: the asynchronous wire crosses over at ``gateway.crossing``.

Fails: :class:`tracker.archive.ArchiveError` (OSError) when the octets cannot be made durable,
SQLAlchemy's errors when the database cannot; in both cases nothing was promised.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, func, select

from tracker import schema, sweep
from tracker.accept_desk import AcceptDesk
from tracker.acceptance import Acceptance, Accepted
from tracker.accounts import AccountError
from tracker.claims import Claim, ClaimDesk, Want
from tracker.doubtful import DoubtfulAttempts
from tracker.evidence import EvidenceBook
from tracker.filing import Filed, Filing
from tracker.followups import Claimed, FollowUpDesk, Lot, StepClaim
from tracker.hold_desk import Decided, Decision, HoldDesk
from tracker.ledger import Checkpoint, Ledger, LedgerKey
from tracker.link_work import AnswersDue, Linked, LinkJudgement
from tracker.model import IdSource, LetterKind, now_us
from tracker.noting import NoSuchDelivery, Note, Noted, NoteDesk, forget_empty
from tracker.object_store import ObjectStore, remove
from tracker.policy_store import PolicyStoreError
from tracker.record_room import Furnishing, Loop, RecordRoom
from tracker.registers import Registers
from tracker.registry_desk import RegistryDesk
from tracker.states import FINAL_STATES, UnknownMove
from tracker.store import Store
from tracker.writer import Desk, Errand, FutureHub, Hub, Writer

T = TypeVar("T")
OnFailure = Callable[[BaseException], None]

# What an act is answered that makes no sense: whoever asked is told, and the record has not failed.
REFUSALS = (UnknownMove, NoSuchDelivery, AccountError, PolicyStoreError)


class Record:
    """One process's hold on the record. ``node`` (0 to 1023) is its own among those on one database.

    ``room``: this is the record room's own hold, beside that of the process it serves. ``on_failure`` is
    told of each group that could not be written, but not of :data:`REFUSALS`.
    """

    def __init__(
        self,
        store: Store,
        archive: ObjectStore,
        key: LedgerKey,
        *,
        zone: str = "UTC",
        node: int = 0,
        sequenced: bool | None = None,
        on_failure: OnFailure | None = None,
        room: bool = False,
    ) -> None:
        self.store = store
        self.archive = archive
        self._sweep = sweep.Sweep(archive)
        self.ledger = Ledger(key)  # the writer's
        self.ledger_reader = Ledger(key)
        self.node = node
        self.sequenced = store.dialect == "sqlite" if sequenced is None else sequenced
        self._listeners: list[queue.SimpleQueue[int]] = []
        self._listeners_lock = threading.Lock()
        self.registers = Registers(zone)
        self.ids = IdSource(node=node, floor=self._highest_id(), lane=int(room))
        with store.reader.connect() as conn:
            self.registers.open(conn)
        book = EvidenceBook(self.ledger, self.sequenced)
        doubtful = DoubtfulAttempts()
        self.accept_desk = AcceptDesk(archive, book, self.ids, self.registers, self._tell, doubtful)
        self.note_desk = NoteDesk(archive, book, self.ids)
        self.claim_desk = ClaimDesk(book, self.ids, doubtful)
        self.hold_desk = HoldDesk(archive, book, self.ids)
        self.registry_desk = RegistryDesk(archive, book, self.ids, self.registers)
        self.followup_desk = FollowUpDesk(archive, book, self.ids)
        self.desks: dict[Desk, str] = {
            self.accept_desk: "accept",
            self.note_desk: "note",
            self.claim_desk: "claim",
            self.hold_desk: "hold",
            self.registry_desk: "registry",
            self.followup_desk: "followup",
        }
        self.writer: Writer | RecordRoom = Writer(
            store, _of_failures(on_failure), book.flush, threaded=not room
        )

    def open_room(self, furnishing: Furnishing, on_gone: Callable[[], None]) -> None:
        """From now on letters are written by a process of their own (:mod:`tracker.record_room`).

        ``on_gone`` is told when that process dies: nothing may be promised after it. Raises
        :class:`tracker.record_room.RoomGone` when it cannot be opened.
        """
        assert isinstance(self.writer, Writer)
        self.writer = RecordRoom(self.writer, self.archive, furnishing, self.desks, on_gone, self._tell)

    def await_room(self) -> None:
        """Wait until the room is ready; what it raised is raised here."""
        if isinstance(self.writer, RecordRoom):
            self.writer.await_ready()

    def drive(self, loop: Loop) -> None:
        """Have an event loop carry what goes to the record room and back; call it in its own thread."""
        if isinstance(self.writer, RecordRoom):
            self.writer.drive(loop)

    def let_go(self) -> None:
        """The loop is about to end."""
        if isinstance(self.writer, RecordRoom):
            self.writer.let_go()

    # The doors.

    def accept(self, acceptance: Acceptance) -> Accepted:
        """Record one mail transaction; on return it is on stable storage."""
        result: Accepted = self.writer.call(self.accept_desk, acceptance)
        return result

    def note(self, note: Note) -> Noted:
        """Record one event of a delivery; on return it is on stable storage."""
        result: Noted = self.writer.call(self.note_desk, note)
        self._tell([result])
        return result

    def claim(self, want: Want) -> list[Claim]:
        """Take what is due, its attempts registered."""
        result: list[Claim] = self.writer.call(self.claim_desk, want)
        return result

    def decide(self, decisions: Sequence[Decision], timeout: float = 60) -> list[Decided]:
        """Record what persons decide about held letters; on return it is on stable storage."""
        hub, futures = FutureHub(), [Future[Decided]() for _ in decisions]
        for decision, future in zip(decisions, futures, strict=True):
            self.hand_in(self.hold_desk, decision, hub, future)
        results = [future.result(timeout) for future in futures]
        self._tell([r for r in results if r.bar is None])
        return results

    def file(self, filings: Sequence[Filing], timeout: float = 60) -> list[Filed]:
        """Record what registries do with letters; on return it is on stable storage."""
        hub, futures = FutureHub(), [Future[Filed]() for _ in filings]
        for filing, future in zip(filings, futures, strict=True):
            self.hand_in(self.registry_desk, filing, hub, future)
        results = [future.result(timeout) for future in futures]
        self._tell([r for r in results if r.bar is None])
        return results

    def answer(self, due: AnswersDue) -> list[Filed]:
        """Do what answers do that have passed through."""
        results: list[Filed] = self.writer.call(self.registry_desk, due)
        self._tell(results)
        return results

    def judge(self, judgement: LinkJudgement) -> Linked:
        """Record what a person says of a proposed link."""
        result: Linked = self.writer.call(self.registry_desk, judgement)
        self._tell([result])
        return result

    def follow_up(self, lot: Lot) -> Claimed:
        """Claim steps of follow-up, with their evidence."""
        results: Claimed = self.writer.call(self.followup_desk, lot)
        self._tell(results.steps)
        return results

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn(conn)`` in the writer's next transaction; for what is no evidence."""
        return self.writer.run(fn)

    def hand_in(self, desk: Desk, payload: Any, hub: Hub, token: Any) -> None:
        """The same doors without waiting: ``hub`` is told of the whole group at once."""
        self.writer.hand_in(Errand(desk, payload, hub, token))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A reading connection."""
        with self.store.reader.connect() as conn:
            yield conn

    # Upkeep, called by the supervisor.

    def sign_head(self, conn: Connection) -> Checkpoint | None:
        """Inside :meth:`write`: sign the head of the ledger if it has grown; of several nodes, sequence."""
        if not self.sequenced:
            self.ledger.sequence(conn, 5000)
        return self.ledger.checkpoint(conn, now_us())

    def checkpoint(self) -> Checkpoint | None:
        """Sign the present head of the ledger if it has grown."""
        return self.write(self.sign_head)

    def hand_ledger_to(self, key: LedgerKey) -> Checkpoint | None:
        """Have the ledger's head signed by its present key and by a new one, before that one takes over."""

        def hand(conn: Connection) -> Checkpoint | None:
            if not self.sequenced:
                self.ledger.sequence(conn, 5000)
            return self.ledger.hand_to(conn, key, now_us())

        return self.write(hand)

    def sign_with(self, key: LedgerKey) -> None:
        """From now on this key signs checkpoints and evidence; raises ValueError for another log's."""
        if key.origin != self.ledger.key.origin:
            raise ValueError(f"a key of {key.origin} cannot sign for {self.ledger.key.origin}")
        self.ledger.key = self.ledger_reader.key = key

    def forget_done(self, limit: int = 500) -> int:
        """Forget pass-through that was delivered or returned and whose notices are out; returns how many."""
        doomed: list[str] = []

        def sweep(conn: Connection) -> None:
            d, r = schema.delivery.c, schema.receipt.c
            done = (
                select(d.id, d.letter_id)
                .join(schema.letter, schema.letter.c.id == d.letter_id)
                .where(
                    schema.letter.c.kind == LetterKind.PASS.value,
                    d.state.in_([state.value for state in FINAL_STATES]),
                    ~select(r.id).where(r.letter_id == d.letter_id, r.state == "due").exists(),
                )
                .limit(limit)
            )
            rows = conn.execute(done).all()
            if not rows:
                return
            ids = [row.id for row in rows]
            conn.execute(delete(schema.attempt).where(schema.attempt.c.delivery_id.in_(ids)))
            conn.execute(delete(schema.delivery).where(d.id.in_(ids)))
            doomed.extend(forget_empty(conn, sorted({row.letter_id for row in rows})))

        self.write(sweep)
        for key in doomed:
            remove(self.archive, key)
        return len(doomed)

    def sweep(self, limit: int = 500) -> int:
        """Look for archive objects that no row names (:mod:`tracker.sweep`); how many were removed."""
        with self.read() as conn:
            removed, mark = self._sweep.turn(conn, now_us(), limit)
        if mark is not None:
            reached = mark
            self.write(lambda conn: sweep.keep(conn, reached))
        return removed

    def healthy(self) -> None:
        """Write and read nothing much; raises what is wrong."""
        self.writer.run(lambda conn: conn.execute(select(1)), timeout=5)
        with self.read() as conn:
            conn.execute(select(1))

    # Who wants to know of changes (the dashboard's live pages).

    def subscribe(self) -> queue.SimpleQueue[int]:
        """A queue that gets the id of each letter that changes in this process."""
        listener: queue.SimpleQueue[int] = queue.SimpleQueue()
        with self._listeners_lock:
            self._listeners.append(listener)
        return listener

    def unsubscribe(self, listener: queue.SimpleQueue[int]) -> None:
        with self._listeners_lock:
            self._listeners.remove(listener)

    def announce(self, results: Sequence[Noted | Decided | Filed | StepClaim]) -> None:
        """Tell the subscribers what came of what was handed in without waiting."""
        self._tell(results)

    def _tell(self, results: Sequence[Accepted | Noted | Decided | Filed | Linked | StepClaim]) -> None:
        if self._listeners:
            with self._listeners_lock:
                for listener in self._listeners:
                    for result in results:
                        listener.put(result.letter_id)

    def close(self) -> None:
        """Finish what was handed in and let go of the database."""
        self.writer.stop()
        self.store.close()

    def _highest_id(self) -> int:
        with self.store.reader.connect() as conn:
            highest = [
                conn.execute(select(func.max(table.c.id))).scalar() or 0
                for table in (schema.letter, schema.evidence, schema.attempt, schema.receipt)
            ]
        return max(highest)


def _of_failures(on_failure: OnFailure | None) -> OnFailure | None:
    """The same, told of nothing in :data:`REFUSALS`."""
    if on_failure is None:
        return None

    def tell(error: BaseException) -> None:
        if not isinstance(error, REFUSALS):
            on_failure(error)

    return tell
