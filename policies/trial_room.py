"""The trial room: a process of its own in which policies are compiled and led past recorded letters.

A folder of a thousand rules takes a second of processor to compile, a replay minutes. Beside the mail, in
the same interpreter, every letter would wait for that; here nothing does, and the room works with lower
priority. :class:`TrialRoom` checks drafts one after the other in a room that stays open while somebody types
and closes by itself after five minutes; :func:`replay` opens a room for one run.

Orders and answers are pickled frames over a socket pair whose two ends are this program's own. A room ends
when the other end is closed, so it does not outlive the gateway. One that dies, or takes longer than a
minute over a check, raises :class:`RoomClosed`; the next order opens a new one. Faults of a draft are
:class:`policies.faults.ConfigFaults`, as everywhere. Run as ``python -m policies.trial_room FD``.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from policies.faults import ConfigFaults
from policies.replay_report import Report, run
from policies.versions import Draft
from tracker.store import Store

_FRAME = struct.Struct("!I")
CHECK_S = 60.0  # for a check; a folder of 5,000 rules takes some ten seconds of processor
IDLE_S = 300.0  # without an order a room closes
_LOOK_S = 0.2  # between two looks whether a run is to stop
_TELL_S = 0.5  # between two reports of a run
_NICE = 5


class RoomClosed(Exception):
    """The room is gone, or was too slow; what was asked of it was not done."""


class Stopped(Exception):
    """The run was told to stop."""


class RunOrder(NamedTuple):
    """What to lead past which letters: of ``agency``, from ``since_us`` on (microseconds UTC)."""

    draft: Draft
    url: str  # of the database
    since_us: int
    agency: str | None
    examples: int


class _Door:
    """Our end: a child and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "policies.trial_room", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
        except OSError:
            ours.close()
            raise
        self._sock = ours

    @property
    def pid(self) -> int:
        return self._child.pid

    def ask(self, order: object) -> None:
        try:
            _send(self._sock, order)
        except OSError as e:
            raise RoomClosed(f"the trial room is gone: {e}") from e

    def answer(self, patience_s: float, stop: threading.Event | None = None) -> Any:
        """The next answer; raises :class:`RoomClosed` and, when told to stop, :class:`Stopped`."""
        until = time.monotonic() + patience_s
        ready = select.poll()  # a gateway has more descriptors than select() knows
        ready.register(self._sock, select.POLLIN)
        while not ready.poll(_LOOK_S * 1000):
            if stop is not None and stop.is_set():
                raise Stopped
            if time.monotonic() > until:
                raise RoomClosed(f"no answer from the trial room within {patience_s:.0f} seconds")
        self._sock.settimeout(patience_s)
        try:
            answer = _receive(self._sock)
        except (OSError, EOFError, pickle.UnpicklingError) as e:
            raise RoomClosed(f"the trial room is gone: {e}") from e
        return answer

    def end(self) -> None:
        """End the child; whoever waits for its answer learns so."""
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        self.end()
        self._sock.close()


class TrialRoom:
    """Compiles drafts to see what is wrong with them. May be called from any thread; one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._door: _Door | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The room's process, while it is open."""
        return self._door.pid if self._door is not None else None

    def check(self, draft: Draft) -> str:
        """The version that a draft would be; raises ConfigFaults, :class:`RoomClosed` and OSError."""
        with self._lock:
            answer = self._asked(draft)
        if isinstance(answer, str):
            return answer
        raise ConfigFaults(answer)

    def _asked(self, draft: Draft) -> Any:
        began = time.monotonic()
        fresh = self._door is None
        try:
            return self._once(draft)
        except RoomClosed:
            # One that has closed by itself meanwhile is opened again; one that gave up is not asked twice.
            if fresh or self._closed or time.monotonic() - began > CHECK_S / 2:
                raise
            return self._once(draft)

    def _once(self, draft: Draft) -> Any:
        if self._closed:
            raise RoomClosed("the trial room is closed")
        door = self._door = self._door or _Door()
        try:
            door.ask(draft)
            return door.answer(CHECK_S)
        except RoomClosed:
            self._door = None
            door.close()
            raise

    def close(self) -> None:
        """End the room for good; a check under way ends with :class:`RoomClosed`."""
        self._closed = True
        door = self._door
        if door is not None:
            door.end()
        with self._lock:
            if self._door is not None:
                self._door.close()
            self._door = None


def replay(
    order: RunOrder,
    told: Callable[[int, int, Report], None],
    stop: threading.Event,
    *,
    patience_s: float = 600.0,
) -> Report:
    """Lead a draft past the letters in a room of its own; ``told`` hears of it every half second.

    Raises ConfigFaults, :class:`Stopped`, :class:`RoomClosed` and OSError; the room is gone on return.
    """
    door = _Door()
    try:
        door.ask(order)
        while True:
            answer = door.answer(patience_s, stop)
            if isinstance(answer, Report):
                return answer
            if isinstance(answer, str):
                raise RoomClosed(answer)
            done, total, report = answer
            if report is None:
                raise ConfigFaults(done)
            told(done, total, report)
    finally:
        door.close()


# The other end.


def _check(draft: Draft) -> Any:
    try:
        return draft.compile().version
    except ConfigFaults as e:
        return e.faults


def _run(order: RunOrder, sock: socket.socket) -> Any:
    try:
        candidate = order.draft.compile()
    except ConfigFaults as e:
        return e.faults, 0, None
    store = Store(order.url)
    last = 0.0

    def told(done: int, total: int, report: Callable[[], Report]) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL_S:
            _send(sock, (done, total, report()))
            last = time.monotonic()

    try:
        return run(
            store.reader.connect,
            candidate,
            since_us=order.since_us,
            agency=order.agency,
            examples=order.examples,
            so_far=told,
        )
    finally:
        store.close()


def work(sock: socket.socket) -> None:
    """Answer orders until the other end is closed or none has come for a while."""
    sock.settimeout(None)
    while select.select([sock], [], [], IDLE_S)[0]:
        try:
            order = _receive(sock)
        except EOFError:
            return
        try:
            answer = _run(cast(RunOrder, order), sock) if isinstance(order, tuple) else _check(order)
        except BrokenPipeError:
            return
        except Exception as error:
            if isinstance(order, tuple):
                answer = f"{type(error).__name__}: {error}"
            else:
                raise
        with contextlib.suppress(BrokenPipeError):
            _send(sock, answer)


def _send(sock: socket.socket, value: object) -> None:
    frame = pickle.dumps(value, protocol=5)
    sock.sendall(_FRAME.pack(len(frame)) + frame)


def _receive(sock: socket.socket) -> Any:
    (length,) = _FRAME.unpack(_exactly(sock, _FRAME.size))
    return pickle.loads(_exactly(sock, length))


def _exactly(sock: socket.socket, length: int) -> bytes:
    out = bytearray()
    while len(out) < length:
        piece = sock.recv(min(length - len(out), 1 << 20))
        if not piece:
            raise EOFError("closed")
        out += piece
    return bytes(out)


def main() -> None:
    """The room's own process: a terminal's signals and a reload are not meant for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.environ.pop("NOTIFY_SOCKET", None)
    with contextlib.suppress(OSError):  # where a service may not even be nicer than it is
        os.nice(_NICE)
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        work(sock)


if __name__ == "__main__":
    main()
