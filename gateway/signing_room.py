"""The signing room: a process of its own that holds the private keys and makes edits and signatures.

The process that reads hostile octets never loads a key, and signing does not compete with it for one
interpreter. Orders go over a socket pair as frames (length, then a pickled tuple of plain values), each
answered in order; the room takes all that has arrived, works through it, and answers in one write.
Only this program's own two ends speak on that socket, so pickle is safe there.

How it fails: if the room dies its orders end in :class:`RoomClosed`, the caller does the work itself,
and the next order opens a new room. Run as ``python -m gateway.signing_room FD``.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

from gateway.sealing import KeyRing, Order, seal
from gateway.sign import body_hash
from gateway.tag import Cut, Edit
from tracker import lasting
from tracker.header import scan

_log = logging.getLogger("wasl.relay")

_FRAME = struct.Struct("!I")
_READ = 1 << 20
_REMEMBERED = 64  # body hashes of letters with several copies

Answer = tuple[bytes, list[tuple[int, bytes, bytes]], int]


class RoomClosed(Exception):
    """The signing room is gone; what was asked of it was not done."""


class SigningRoom(asyncio.Protocol):
    """This process's end. Make it inside the running loop; the room opens with the first order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._child: subprocess.Popen[bytes] | None = None
        self._orders: deque[asyncio.Future[Edit]] = deque()
        self._buffer = bytearray()
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The room's process, while it is open."""
        return self._child.pid if self._child is not None else None

    async def open(self) -> None:
        """Start the room; raises OSError when it cannot be started."""
        ours, self._child = _start()
        await self._loop.create_connection(lambda: self, sock=ours)

    async def seal(self, order: Order, octets: bytes | None, path: str | None) -> Edit:
        """Have a letter tagged and signed; its octets, or the file that holds them. :class:`RoomClosed`."""
        if self._transport is None:
            await self._reopen()
        future: asyncio.Future[Edit] = self._loop.create_future()
        self._orders.append(future)
        frame = pickle.dumps((tuple(order), octets, path), protocol=5)
        self._transport.write(_FRAME.pack(len(frame)) + frame)
        return await future

    async def close(self) -> None:
        """End the room."""
        self._closed = True
        if self._transport is not None:
            self._transport.close()
        if self._child is not None:
            await self._loop.run_in_executor(None, self._reap)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            (length,) = _FRAME.unpack_from(buffer, at)
            if len(buffer) - at - 4 < length:
                break
            answer = pickle.loads(memoryview(buffer)[at + 4 : at + 4 + length])
            at += 4 + length
            future = self._orders.popleft()
            if future.done():
                continue
            if isinstance(answer, str):
                future.set_exception(ValueError(answer))
            else:
                prefix, cuts, body_at = answer
                future.set_result(
                    Edit(prefix=prefix, cuts=tuple([Cut(*cut) for cut in cuts]), body_at=body_at)
                )
        del buffer[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._buffer.clear()
        if not self._closed:
            _log.error("the signing room is gone; letters are signed here until it is open again")
        while self._orders:
            future = self._orders.popleft()
            if not future.done():
                future.set_exception(RoomClosed("the signing room is gone"))

    async def _reopen(self) -> None:
        if self._closed:
            raise RoomClosed("the signing room is closed")
        if self._opening is None or self._opening.done():
            if self._child is not None:
                await self._loop.run_in_executor(None, self._reap)
            self._opening = self._loop.create_task(self.open())
        try:
            await asyncio.shield(self._opening)
        except OSError as error:
            raise RoomClosed(f"the signing room cannot be opened: {error}") from error

    def _reap(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The room's process and our end of the socket."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", "gateway.signing_room", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
    except OSError:
        ours.close()
        raise
    ours.setblocking(False)
    return ours, child


class _Room:
    """The other end: works through orders, remembers the body hash of letters with several copies."""

    def __init__(self) -> None:
        self._ring = KeyRing()
        self._hashes: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def answer(self, frame: memoryview) -> bytes:
        values, octets, path = pickle.loads(frame)
        try:
            answer: Answer | str = self._edit(Order(*values), octets, path)
        except Exception as error:  # whatever the letter was: the other end decides what becomes of it
            answer = f"{type(error).__name__}: {error}"
        packed = pickle.dumps(answer, protocol=5)
        return _FRAME.pack(len(packed)) + packed

    def _edit(self, order: Order, octets: bytes | None, path: str | None) -> Answer:
        if octets is not None:
            return self._made(order, octets)
        with Path(str(path)).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return self._made(order, view)

    def _made(self, order: Order, view: bytes | mmap.mmap) -> Answer:
        def hashed(start: int) -> bytes:
            key = order.submission_id, start
            known = self._hashes.get(key)
            if known is None:
                known = self._hashes[key] = body_hash(view, start)
                if len(self._hashes) > _REMEMBERED:
                    self._hashes.popitem(last=False)
            return known

        edit = seal(order, view, scan(view), self._ring, hashed)
        return edit.prefix, [(c.offset, c.removed, c.put) for c in edit.cuts], edit.body_at


def work(sock: socket.socket) -> None:
    """Answer orders until the other end is closed."""
    room = _Room()
    buffer = bytearray()
    lasting.settle()
    arrived = memoryview(bytearray(_READ))
    while count := sock.recv_into(arrived):
        buffer += arrived[:count]
        at = 0
        out: list[bytes] = []
        with memoryview(buffer) as view:
            while len(view) - at >= 4:
                (length,) = _FRAME.unpack_from(view, at)
                if len(view) - at - 4 < length:
                    break
                out.append(room.answer(view[at + 4 : at + 4 + length]))
                at += 4 + length
        del buffer[:at]
        if out:
            sock.sendall(b"".join(out))


def main() -> None:
    """The room's own process: it ends when the gateway does, and no signal of a terminal ends it before."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the gateway stops in order and then closes the socket
    os.environ.pop("NOTIFY_SOCKET", None)
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        work(sock)


if __name__ == "__main__":
    main()
