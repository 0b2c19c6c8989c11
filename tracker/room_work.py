"""What the record room's own process does: takes errands, writes them a group at a time, answers.

One thread writes, and what came meanwhile is the next group. Where the archive is far away there are two, so
that the objects of the next group are made durable while the group before is committed, and no lock of the
database waits for them.

How it fails: an error of the archive or the database is the answer to the errands that it struck. The
process ends when the gateway closes the socket, or at once when that dies (:mod:`tracker.record_room`).
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from tracker import lasting
from tracker.acceptance import Acceptance, Accepted
from tracker.object_store import ObjectStore
from tracker.outage import Outage
from tracker.packing import pack, unpack
from tracker.record import Record
from tracker.record_room import DONE, FAILED, HANDED, NUDGE, Furnishing, Lot, Settled, receive, send
from tracker.states import State
from tracker.store import Store
from tracker.writer import MAX_GROUP, Desk, Errand, Writer

_log = logging.getLogger("wasl.record")

_PR_SET_PDEATHSIG = 1
_NOTE_WAITS_S = 0.01
_FEW = 2  # errands: a letter, and the note of the one before


class _Answers:
    """The room's hub: a group's results in one frame. A token is the errand's number and payload."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def settle(self, batch: list[tuple[Any, Any, BaseException | None]]) -> None:
        self.send([_settled(n, payload, result, error) for (n, payload), result, error in batch])

    def send(self, value: Any) -> None:
        """One frame, whole."""
        with self._lock:
            send(self._sock, value)


def _settled(number: int, payload: Any, result: Any, error: BaseException | None) -> Settled:
    if error is None:
        if isinstance(result, Accepted) and result.claims:
            picks = _picks(payload, result)
            return number, HANDED, (result.letter_id, result.number, result.repeat, picks)
        return number, DONE, result
    try:
        unpack(pack(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return number, FAILED, error


def _picks(a: Acceptance, accepted: Accepted) -> tuple[tuple[int, int, int], ...]:
    """For each claim, in the order of the drafts: which draft it is on, and its ids."""
    picks = []
    at = 0
    for claim in accepted.claims:
        while (draft := a.deliveries[at]).state is not State.QUEUED or (
            draft.recipient.address != claim.recipient or draft.hop != claim.hop
        ):
            at += 1  # one mailbox may stand twice: a copy that is held, and another recipient's routed there
        picks.append((at, claim.delivery_id, claim.attempt_id))
        at += 1
    return tuple(picks)


class _Press:
    """Writes groups: in the caller's thread, or staged, in a thread of its own behind the archive."""

    def __init__(
        self,
        writer: Writer,
        accept_desk: Desk,
        archive: ObjectStore,
        answers: _Answers,
        complain: Callable[[BaseException], None],
    ) -> None:
        self._writer = writer
        self._accept_desk = accept_desk
        self._archive = archive
        self._answers = answers
        self._complain = complain
        self._writing = threading.Lock()
        self._staged: SimpleQueue[list[Errand] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, errands: list[Errand]) -> None:
        """Write these, now or soon."""
        if self._archive.slow:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_staged, name="wasl-press", daemon=True)
                self._thread.start()
            self._stage(errands)
        else:
            with self._writing:
                self._writer.commit_now(errands)

    def stop(self) -> None:
        """Finish what was taken."""
        if self._thread is not None:
            self._staged.put(None)
            self._thread.join()

    def _stage(self, errands: list[Errand]) -> None:
        """Make the objects of acceptances durable, then let the other thread commit them."""
        letters = [e for e in errands if e.desk is self._accept_desk]
        others = [e for e in errands if e.desk is not self._accept_desk]
        if letters:
            try:
                self._make_durable(letters)
            except Exception:
                letters = [e for e in letters if self._stored(e)]  # one bad letter takes no neighbour down
        if letters or others:
            self._staged.put(letters + others)

    def _stored(self, errand: Errand) -> bool:
        try:
            self._make_durable([errand])
        except Exception as error:
            self._complain(error)
            self._answers.settle([(errand.token, None, error)])
            return False
        return True

    def _make_durable(self, letters: list[Errand]) -> None:
        under_way = self._accept_desk.before([e.payload for e in letters])
        if under_way is not None:
            under_way()

    def _write_staged(self) -> None:
        last = False
        while not last:
            group: list[Errand] = []
            lot = self._staged.get()
            while lot is not None:
                group += lot
                if len(group) >= MAX_GROUP:
                    break
                try:
                    lot = self._staged.get_nowait()
                except Empty:
                    break
            last = lot is None
            if group:
                with self._writing:
                    self._writer.commit_now(group)


def work(sock: socket.socket) -> None:
    """Open the record, then write what comes until the other end is closed."""
    furnishing: Furnishing = receive(sock)
    complain = Outage(_log, "a write to the record failed").failed
    try:
        archive = _archive(furnishing)
        record = _record(furnishing, archive, complain)
    except Exception as error:
        send(sock, RuntimeError(f"{type(error).__name__}: {error}"))
        return
    by_name = {name: desk for desk, name in record.desks.items()}
    answers = _Answers(sock)
    assert isinstance(record.writer, Writer)
    press = _Press(record.writer, record.accept_desk, archive, answers, complain)
    lasting.settle()
    try:
        answers.send("ready")
    except OSError:  # the gateway ends already; it has said why
        record.close()
        return
    crowd = 0  # errands of the largest group of late
    while (lot := receive(sock)) is not None:
        # Whatever has come while the last group was written makes the next one. Nobody waits for a note:
        # where letters are many or a sync takes long, it waits a moment for one that comes anyway, so that
        # both take one sync. A lone letter would only wait for the note.
        patient = (crowd > _FEW or archive.slow_sync) and _only_notes(lot)
        until = time.monotonic() + _NOTE_WAITS_S if patient else 0.0
        while len(lot) < MAX_GROUP:
            patience = max(until - time.monotonic(), 0.0) if until else 0.0
            if not select.select([sock], [], [], patience)[0]:
                break
            more = receive(sock)
            if more is None:
                break
            lot += more
            if until and not _only_notes(more):
                until = 0.0
        errands = []
        for number, name, payload in lot:
            if name == NUDGE:
                answers.send([(0, DONE, None)])
            else:
                errands.append(Errand(by_name[name], payload, answers, (number, payload)))
        if errands:
            crowd = max(len(errands), crowd - 1)
            press.take(errands)
    press.stop()
    record.close()


def _only_notes(lot: Lot) -> bool:
    return all(name == "note" for _, name, _ in lot)


def _archive(furnishing: Furnishing) -> ObjectStore:
    if furnishing.s3 is not None:
        from tracker.s3_archive import S3Archive

        return S3Archive(**furnishing.s3)
    from tracker.archive import Archive

    assert furnishing.archive_root is not None
    return Archive(furnishing.archive_root)


def _record(
    furnishing: Furnishing, archive: ObjectStore, complain: Callable[[BaseException], None]
) -> Record:
    from tracker.ledger import LedgerKey

    return Record(
        Store(furnishing.url),
        archive,
        LedgerKey.from_pem(furnishing.origin, furnishing.key),
        zone=furnishing.zone,
        node=furnishing.node,
        sequenced=furnishing.sequenced,
        on_failure=complain,
        room=True,
    )


def main() -> None:
    """The room's own process: ends when the gateway closes the socket, or at once when that dies."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the gateway stops in order and then closes the socket
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        return  # it died before the kernel was asked
    os.environ.pop("NOTIFY_SOCKET", None)
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        work(sock)


if __name__ == "__main__":
    main()
