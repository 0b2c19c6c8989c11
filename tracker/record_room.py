"""The record room: the writer in a process of its own, so that it does not share the wire's interpreter.

:class:`RecordRoom` stands where a :class:`tracker.writer.Writer` stands and is used in the same way.
Acceptances, notes and claims go to the room over a socket pair, as frames of packed errands, and come
back a group at a time; everything else (accounts, checkpoints, upkeep) is written by a small writer in
this process. A letter that was spooled to a file is put into the archive here, by who holds its
descriptor; what is in memory is put there by the room. Both ends are this program, so pickle is safe.
An event loop may :meth:`RecordRoom.drive` the socket, which saves a change of threads each way: what its
own thread hands in during one turn goes out in one frame.

How it fails: what the room's writer raises is raised here. If the room dies, nothing that it was
asked may be promised: every errand fails with :class:`RoomGone` and ``on_gone`` is told, which ends the
gateway as a kill would. If this process dies, the kernel ends the room.
Run as ``python -m tracker.room_work FD PID``.
"""

from __future__ import annotations

import logging
import os
import pickle
import select
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from tracker.acceptance import Acceptance, Accepted
from tracker.handing_over import claim_of, parcel_of
from tracker.object_store import ObjectStore
from tracker.packing import pack, unpack
from tracker.spool import MEMORY_LIMIT, Octets
from tracker.store import Connection
from tracker.writer import MAX_GROUP, Desk, Errand, Hub, Writer, WriterStopped

_log = logging.getLogger("wasl.record")

T = TypeVar("T")

_FRAME = struct.Struct("!I")
_READ = 1 << 18
_BY_VALUE = MEMORY_LIMIT  # octets of a letter that cross to the room: a copy costs less than a thread here
_STORERS = 8
NUDGE = ""  # a word to the room that asks for nothing but an answer

DONE, FAILED, HANDED = range(3)
Settled = tuple[int, int, Any]  # number of the errand; done: result, failed: error, handed: _Handed
_Handed = tuple[int, str | None, bool, tuple[tuple[int, int, int], ...]]  # of an Accepted with claims
Lot = list[tuple[int, str, Any]]


class Loop(Protocol):
    """What is asked of an event loop that drives the room."""

    def call_soon(self, callback: Callable[[], None], /) -> object: ...

    def call_soon_threadsafe(self, callback: Callable[[], None], /) -> object: ...

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> object: ...

    def remove_reader(self, fd: int, /) -> object: ...


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
        self._loop: Loop | None = None
        self._loop_thread = 0
        self._lot: Lot = []  # handed in by the loop's own thread in this turn
        self._sending = threading.Lock()  # who holds it may write to the socket
        self._rest: bytes | memoryview = b""  # of a frame that the socket took in part
        self._frames = _Frames()
        self._sock, self._child = _start()
        self._storers = ThreadPoolExecutor(_STORERS, thread_name_prefix="wasl-store")
        send(self._sock, furnishing)
        self._sender: threading.Thread | None = None
        self._reader: threading.Thread | None = None

    def await_ready(self) -> None:
        """Wait until the room has opened its record; before that nothing may be handed in.

        Raises what went wrong there, or :class:`RoomGone`.
        """
        ready = receive(self._sock)
        if ready != "ready":
            raise ready if isinstance(ready, Exception) else RoomGone("the record room did not open")
        self._sender = threading.Thread(target=self._send_all, name="wasl-record-out", daemon=True)
        self._sender.start()
        self._read_in_thread()

    @property
    def pid(self) -> int:
        """The room's process."""
        return self._child.pid

    @property
    def run_desk(self) -> Desk:
        return self._local.run_desk

    def drive(self, loop: Loop) -> None:
        """Have an event loop read and write the socket; call it in the loop's own thread.

        From then on that thread must not wait for the record (``call``), and must :meth:`let_go` in time.
        """
        with self._lock:
            self._loop, self._loop_thread = loop, threading.get_ident()
        # The reading thread hands over when the next answer has come; this asks the room for one.
        self._out.put((0, NUDGE, None))

    def let_go(self) -> None:
        """The loop ends: threads do its part again. Call it in the loop's own thread."""
        self._flush()
        with self._lock:
            loop, self._loop = self._loop, None
            looped = self._frames.looped
        if loop is not None and looped:
            loop.remove_reader(self._sock.fileno())
            self._sock.setblocking(True)  # a loop makes what it reads non-blocking
            self._read_in_thread()

    def hand_in(self, errand: Errand) -> None:
        """Queue an errand; its hub is told the outcome. Raises :class:`WriterStopped`."""
        name = self._names.get(id(errand.desk))
        if name is None:
            self._local.hand_in(errand)
            return
        payload = errand.payload
        if isinstance(payload, Acceptance) and (payload.octets.spooled or payload.octets.size > _BY_VALUE):
            self._storers.submit(self._store_first, errand, name)
            return
        self._forward(errand, name, payload)

    def call(self, desk: Desk, payload: Any, timeout: float | None = 60) -> Any:
        """Write one payload and wait until it is durable; raises what the desk raised."""
        if id(desk) not in self._names:
            return self._local.call(desk, payload, timeout)
        if self._loop is not None and threading.get_ident() == self._loop_thread:
            raise RuntimeError("the loop that drives the record room cannot wait for it")
        future: Future[Any] = Future()
        self.hand_in(Errand(desk, payload, self._local.future_hub, future))
        return future.result(timeout)

    def run(self, fn: Callable[[Connection], T], timeout: float | None = 60) -> T:
        """Run ``fn(conn)`` in the next transaction of this process's own writer."""
        return self._local.run(fn, timeout)

    def stop(self) -> None:
        """Finish what was handed in, then end the room."""
        self._storers.shutdown(wait=True)
        if self._loop is not None and threading.get_ident() == self._loop_thread:
            self.let_go()
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._out.put(None)
        if self._sender is not None:
            self._sender.join()
        if self._reader is not None:
            self._reader.join()
        self._sock.close()
        self._child.wait()
        self._local.stop()

    def _store_first(self, errand: Errand, name: str) -> None:
        """A larger letter goes into the archive from here: by its descriptor, or from memory."""
        a: Acceptance = errand.payload
        try:
            key = self._archive.key_for(a.submission_id, a.at_us)
            self._archive.store([(key, a.octets)])
            stored = Octets(path=a.octets.path or Path(key), size=a.octets.size, sha256=a.octets.sha256)
            self._forward(errand, name, replace(a, octets=stored))
        except Exception as error:
            errand.hub.settle([(errand.token, None, error)])

    def _forward(self, errand: Errand, name: str, payload: Any) -> None:
        with self._lock:
            if self._stopping:
                raise WriterStopped("the record is closed")
            self._count += 1
            number = self._count
            self._pending[number] = errand
            if self._loop is None or threading.get_ident() != self._loop_thread:
                self._out.put((number, name, payload))
                return
            self._lot.append((number, name, payload))
            if len(self._lot) == 1:
                self._loop.call_soon(self._flush)

    # Outward.

    def _flush(self) -> None:
        """In the loop: send what this turn handed in, or leave it to the sender when that would wait."""
        lot, self._lot = self._lot, []
        if not lot:
            return
        if self._out.empty() and self._sending.acquire(blocking=False):
            try:
                if not self._rest:
                    self._send_lot(lot, wait=False)
                    lot = []
            except OSError:
                lot = []  # the reader sees the end too, and tells
            finally:
                self._sending.release()
            if self._rest:
                self._out.put((0, NUDGE, None))
        for item in lot:
            self._out.put(item)

    def _send_all(self) -> None:
        last = False
        while not last:
            lot: Lot = []
            item = self._out.get()
            while item is not None:
                if item[0] or not self._frames.looped:
                    lot.append(item)
                if len(lot) >= MAX_GROUP:
                    break
                try:
                    item = self._out.get_nowait()
                except Empty:
                    break
            last = item is None
            try:
                with self._sending:
                    if self._rest:
                        rest, self._rest = self._rest, b""
                        _write(self._sock, rest)
                    if lot:
                        self._send_lot(lot)
                if last:
                    self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                return  # the reader sees the end too, and tells

    def _send_lot(self, lot: Lot, wait: bool = True) -> None:
        try:
            packed = pack(lot)
        except Exception as error:
            if len(lot) > 1:
                for item in lot:  # one that cannot cross takes no neighbour down
                    self._send_lot([item], wait)
                return
            with self._lock:
                errand = self._pending.pop(lot[0][0])
            errand.hub.settle([(errand.token, None, error)])
            return
        head = _FRAME.pack(len(packed))
        if not wait and not self._rest:
            try:
                sent = self._sock.sendmsg([head, packed], [], socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            if sent < len(head) + len(packed):
                self._rest = memoryview(head + packed)[sent:]
            return
        frame = head + packed
        if wait:
            _write(self._sock, frame)
            return
        self._rest = b"".join((self._rest, frame))

    # Inward.

    def _read_in_thread(self) -> None:
        self._frames.looped = False
        self._reader = threading.Thread(target=self._settle_all, name="wasl-record-in", daemon=True)
        self._reader.start()

    def _read_in_loop(self) -> None:
        """The loop takes over from the reading thread, which has ended or is about to."""
        if self._loop is not None:
            self._reader = None
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def _settle_all(self) -> None:
        """In a thread of its own: settle what comes, until the end or until a loop drives."""
        try:
            while True:
                data = self._sock.recv(_READ)
                for settled in self._frames.feed(data):
                    self._settle(settled)
                if not data:
                    break
                with self._lock:
                    loop = self._loop
                    if loop is not None and not self._stopping:
                        self._frames.looped = True
                        loop.call_soon_threadsafe(self._read_in_loop)
                        return
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            _log.error("the record room cannot be read: %s", error)
        self._ended()

    def _readable(self) -> None:
        """In the loop: the socket has something."""
        try:
            data = self._sock.recv(_READ, socket.MSG_DONTWAIT)
            for settled in self._frames.feed(data):
                self._settle(settled)
            if data:
                return
        except BlockingIOError:
            return
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            _log.error("the record room cannot be read: %s", error)
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
        self._ended()

    def _ended(self) -> None:
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
            errands = [self._pending.pop(number) for number, _, _ in settled if number]
        if len(errands) < len(settled):
            settled = [one for one in settled if one[0]]
        for errand, (_, how, result) in zip(errands, settled, strict=True):
            if how == HANDED:
                result = self._handed(errand.payload, result)
            if how != FAILED and not isinstance(result, list):
                told.append(result)
            lot = hubs.setdefault(id(errand.hub), (errand.hub, []))[1]
            lot.append((errand.token, None, result) if how == FAILED else (errand.token, result, None))
        for hub, batch in hubs.values():
            hub.settle(batch)
        if told:
            self._told(told)

    def _handed(self, a: Acceptance, handed: _Handed) -> Accepted:
        """The claims of a letter are made here, of what the room was given and the ids that it sends back."""
        letter_id, number, repeat, picks = handed
        parcel = parcel_of(a, letter_id, self._archive.key_for(a.submission_id, a.at_us), number)
        claims = [
            claim_of(a, a.deliveries[i], parcel, delivery_id, attempt_id)
            for i, delivery_id, attempt_id in picks
        ]
        return Accepted(letter_id=letter_id, number=number, repeat=repeat, claims=tuple(claims))


class _Frames:
    """Whole frames out of what the socket gives."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.looped = False  # a loop reads, or is about to

    def feed(self, data: bytes) -> deque[list[Settled]]:
        """What is complete now; raises EOFError when the end comes inside a frame."""
        out: deque[list[Settled]] = deque()
        buffer = self._buffer
        if not data:
            if buffer:
                raise EOFError("the end came inside a frame")
            return out
        buffer += data
        at = 0
        with memoryview(buffer) as view:
            while len(view) - at >= 4:
                (length,) = _FRAME.unpack_from(view, at)
                if len(view) - at - 4 < length:
                    break
                with view[at + 4 : at + 4 + length] as frame:
                    out.append(unpack(frame))
                at += 4 + length
        del buffer[:at]
        return out


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    try:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", "tracker.room_work", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
    except OSError:
        ours.close()
        raise
    return ours, child


def send(sock: socket.socket, value: Any) -> None:
    """One frame."""
    packed = pack(value)
    sock.sendall(_FRAME.pack(len(packed)) + packed)


def _write(sock: socket.socket, data: bytes | memoryview) -> None:
    """Send everything, also on a socket that a loop has made non-blocking."""
    left = memoryview(data)
    while left:
        try:
            left = left[sock.send(left) :]
        except BlockingIOError:
            select.select([], [sock], [])


def receive(sock: socket.socket) -> Any:
    """The next frame; None at the end."""
    head = _exactly(sock, 4)
    if head is None:
        return None
    body = _exactly(sock, _FRAME.unpack(head)[0])
    return None if body is None else unpack(body)


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
