"""The record room: the writer in a process of its own, so that it does not share the wire's interpreter.

:class:`RecordRoom` stands where a :class:`tracker.writer.Writer` stands and is used in the same way.
Acceptances, notes and claims go to the room over a socket pair, as frames of pickled errands, and come
back a group at a time; everything else (accounts, checkpoints, upkeep) is written by a small writer in
this process. A letter that was spooled to a file is put into the archive here, by who holds its
descriptor; what is in memory is put there by the room. Both ends are this program, so pickle is safe.

How it fails: what the room's writer raises is raised here. If the room dies, nothing that it was
asked may be promised: every errand fails with :class:`RoomGone` and ``on_gone`` is told, which ends the
gateway as a kill would. If this process dies, the kernel ends the room.
Run as ``python -m tracker.record_room FD``.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tracker.acceptance import Acceptance, Accepted
from tracker.object_store import ObjectStore
from tracker.store import Connection, Store
from tracker.writer import MAX_GROUP, Desk, Errand, Hub, Writer, WriterStopped

_log = logging.getLogger("wasl.record")

T = TypeVar("T")

_FRAME = struct.Struct("!I")
_PR_SET_PDEATHSIG = 1

Settled = tuple[int, bool, Any]  # number of the errand, done or not, result or error


class RoomGone(RuntimeError):
    """The record room died; whether what it was asked is on disk is unknown."""


@dataclass(frozen=True, kw_only=True)
class Furnishing:
    """What the room needs to open the same record."""

    url: str
    origin: str
    key: bytes  # the ledger's private key, PEM
    zone: str
    node: int
    sequenced: bool
    archive_root: Path | None = None  # a local archive; else:
    s3: dict[str, Any] | None = None


class RecordRoom:
    """This process's end; ``local`` writes what is no letter."""

    def __init__(
        self,
        local: Writer,
        archive: ObjectStore,
        furnishing: Furnishing,
        names: dict[Desk, str],
        on_gone: Callable[[], None],
        told: Callable[[Sequence[Any]], None],
    ) -> None:
        self._local = local
        self._archive = archive
        self._names = {id(desk): name for desk, name in names.items()}
        self._on_gone = on_gone
        self._told = told
        self._pending: dict[int, Errand] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._stopping = False
        self._out: SimpleQueue[tuple[int, str, Any] | None] = SimpleQueue()
        self._sock, self._child = _start()
        self._storers = ThreadPoolExecutor(2, thread_name_prefix="wasl-store")
        _send(self._sock, furnishing)
        ready = _receive(self._sock)
        if ready != "ready":
            self._sock.close()
            self._child.wait()
            raise ready if isinstance(ready, Exception) else RoomGone("the record room did not open")
        self._sender = threading.Thread(target=self._send_all, name="wasl-record-out", daemon=True)
        self._reader = threading.Thread(target=self._settle_all, name="wasl-record-in", daemon=True)
        self._sender.start()
        self._reader.start()

    @property
    def pid(self) -> int:
        """The room's process."""
        return self._child.pid

    @property
    def run_desk(self) -> Desk:
        return self._local.run_desk

    def hand_in(self, errand: Errand) -> None:
        """Queue an errand; its hub is told the outcome. Raises :class:`WriterStopped`."""
        name = self._names.get(id(errand.desk))
        if name is None:
            self._local.hand_in(errand)
            return
        payload = errand.payload
        if isinstance(payload, Acceptance) and payload.octets.spooled:
            self._storers.submit(self._store_first, errand, name)
            return
        self._forward(errand, name)

    def call(self, desk: Desk, payload: Any, timeout: float | None = 60) -> Any:
        """Write one payload and wait until it is durable; raises what the desk raised."""
        if id(desk) not in self._names:
            return self._local.call(desk, payload, timeout)
        future: Future[Any] = Future()
        self.hand_in(Errand(desk, payload, self._local.future_hub, future))
        return future.result(timeout)

    def run(self, fn: Callable[[Connection], T], timeout: float | None = 60) -> T:
        """Run ``fn(conn)`` in the next transaction of this process's own writer."""
        return self._local.run(fn, timeout)

    def stop(self) -> None:
        """Finish what was handed in, then end the room."""
        self._storers.shutdown(wait=True)
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._out.put(None)
        self._sender.join()
        self._reader.join()
        self._sock.close()
        self._child.wait()
        self._local.stop()

    def _store_first(self, errand: Errand, name: str) -> None:
        """A spooled letter goes into the archive by the descriptor that wrote it."""
        a: Acceptance = errand.payload
        try:
            self._archive.store([(self._archive.key_for(a.submission_id, a.at_us), a.octets)])
            self._forward(errand, name)
        except Exception as error:
            errand.hub.settle([(errand.token, None, error)])

    def _forward(self, errand: Errand, name: str) -> None:
        with self._lock:
            if self._stopping:
                raise WriterStopped("the record is closed")
            self._count += 1
            number = self._count
            self._pending[number] = errand
            self._out.put((number, name, errand.payload))

    def _send_all(self) -> None:
        last = False
        while not last:
            lot: list[tuple[int, str, Any]] = []
            item = self._out.get()
            while item is not None:
                lot.append(item)
                if len(lot) >= MAX_GROUP:
                    break
                try:
                    item = self._out.get_nowait()
                except Empty:
                    break
            last = item is None
            try:
                if lot:
                    self._send_lot(lot)
                if last:
                    self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                return  # the reader sees the end too, and tells

    def _send_lot(self, lot: list[tuple[int, str, Any]]) -> None:
        try:
            packed = pickle.dumps(lot, protocol=5)
        except Exception as error:
            if len(lot) > 1:
                for item in lot:  # one that cannot cross takes no neighbour down
                    self._send_lot([item])
                return
            with self._lock:
                errand = self._pending.pop(lot[0][0])
            errand.hub.settle([(errand.token, None, error)])
            return
        self._sock.sendall(_FRAME.pack(len(packed)) + packed)

    def _settle_all(self) -> None:
        try:
            while (settled := _receive(self._sock)) is not None:
                self._settle(settled)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            _log.error("the record room cannot be read: %s", error)
        with self._lock:
            left, self._pending = list(self._pending.values()), {}
            stopping = self._stopping
        for errand in left:
            errand.hub.settle([(errand.token, None, RoomGone("the record room is gone"))])
        if not stopping:
            self._on_gone()

    def _settle(self, settled: list[Settled]) -> None:
        hubs: dict[int, tuple[Hub, list[tuple[Any, Any, BaseException | None]]]] = {}
        told: list[Any] = []
        with self._lock:
            errands = [self._pending.pop(number) for number, _, _ in settled]
        for errand, (_, done, result) in zip(errands, settled, strict=True):
            if done and isinstance(result, Accepted):
                self._give_back(errand.payload, result)
            if done and not isinstance(result, list):
                told.append(result)
            lot = hubs.setdefault(id(errand.hub), (errand.hub, []))[1]
            lot.append((errand.token, result, None) if done else (errand.token, None, result))
        for hub, batch in hubs.values():
            hub.settle(batch)
        self._told(told)

    def _give_back(self, acceptance: Acceptance, accepted: Accepted) -> None:
        """The claims of a letter that is still in memory get its octets again."""
        if accepted.claims and acceptance.octets.memory is not None:
            # One parcel for all of them, frozen for everybody else.
            object.__setattr__(accepted.claims[0].parcel, "octets", acceptance.octets)


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    try:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", "tracker.record_room", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
    except OSError:
        ours.close()
        raise
    return ours, child


def _send(sock: socket.socket, value: Any) -> None:
    packed = pickle.dumps(value, protocol=5)
    sock.sendall(_FRAME.pack(len(packed)) + packed)


def _receive(sock: socket.socket) -> Any:
    """The next frame; None at the end."""
    head = _exactly(sock, 4)
    if head is None:
        return None
    body = _exactly(sock, _FRAME.unpack(head)[0])
    return None if body is None else pickle.loads(body)


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    data = sock.recv(size, socket.MSG_WAITALL)
    if len(data) == size:
        return data
    parts = bytearray(data)
    while len(parts) < size:
        more = sock.recv(size - len(parts))
        if not more:
            return None
        parts += more
    return bytes(parts)


class _Answers:
    """The room's hub: a group's results in one frame."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def settle(self, batch: list[tuple[Any, Any, BaseException | None]]) -> None:
        _send(self._sock, [_settled(number, result, error) for number, result, error in batch])


def _settled(number: int, result: Any, error: BaseException | None) -> Settled:
    if error is None:
        if isinstance(result, Accepted) and result.claims:
            object.__setattr__(result.claims[0].parcel, "octets", None)
        return number, True, result
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return number, False, error


class _Complaint:
    """Says that a group failed, once a second at most."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, error: BaseException) -> None:
        now = time.monotonic()
        if now - self._last > 1:
            self._last = now
            _log.error("a write to the record failed: %s", error)


def _work(sock: socket.socket) -> None:
    from tracker.archive import Archive
    from tracker.ledger import LedgerKey
    from tracker.record import Record

    furnishing: Furnishing = _receive(sock)
    try:
        if furnishing.s3 is not None:
            from tracker.s3_archive import S3Archive

            archive: ObjectStore = S3Archive(**furnishing.s3)
        else:
            assert furnishing.archive_root is not None
            archive = Archive(furnishing.archive_root)
        record = Record(
            Store(furnishing.url),
            archive,
            LedgerKey.from_pem(furnishing.origin, furnishing.key),
            zone=furnishing.zone,
            node=furnishing.node,
            sequenced=furnishing.sequenced,
            on_failure=_Complaint(),
            room=True,
        )
    except Exception as error:
        _send(sock, RuntimeError(f"{type(error).__name__}: {error}"))
        return
    desks = record.desks
    by_name: dict[str, Desk] = {name: desk for desk, name in desks.items()}
    answers = _Answers(sock)
    _send(sock, "ready")
    assert isinstance(record.writer, Writer)
    while (lot := _receive(sock)) is not None:
        # Whatever has come while the last group was written makes the next one.
        while len(lot) < MAX_GROUP and select.select([sock], [], [], 0)[0]:
            more = _receive(sock)
            if more is None:
                break
            lot += more
        record.writer.commit_now(
            [Errand(by_name[name], payload, answers, number) for number, name, payload in lot]
        )
    record.close()


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
        _work(sock)


if __name__ == "__main__":
    main()
