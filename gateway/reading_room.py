"""The reading rooms: a few processes of their own in which the content of letters is read.

What a letter holds was written by somebody else, and reading it may cost more than one would think. So it
is read where it can stall nothing and harm nothing: each room has a limit of processor time for a letter
(ITIMER_PROF and RLIMIT_CPU), one of wall-clock time, one of memory (RLIMIT_AS), and no keys and no record.
A room that is over a limit is killed and replaced, and the letter is undecidable ("time", "memory"). No
sender may have all rooms at once, so that others' letters go on. Small plain letters never come here.

An order is a frame: length, a letter that tells whether octets or the path of their file follow. The
answer is JSON, not a pickle: who reads hostile octets is not believed more than what it says. If no room
can be started, ``read`` raises OSError and the letter is put off. Run as
``python -m gateway.reading_room FD CPU MEMORY``; a room ends when the other end of its socket is closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter, deque
from pathlib import Path
from typing import Any

from policies.content_finding import Bounds
from policies.content_letter import Content, read
from policies.content_type import sniff
from tracker.archive import Octets

_log = logging.getLogger("wasl.reading")

ROOMS = 3
CPU_S = 2.0
WALL_S = 8.0  # on a machine with much else to do, two seconds of processor time are more
MEMORY = 1 << 30  # octets of address space, for letters of up to 128 MB
MAX_ANSWER = 8 << 20
RENEWED_AFTER = 2000  # letters that one room reads
RENEWED_ABOVE = 300 << 20  # octets of memory that a room may keep and go on

_FRAME = struct.Struct("!Ic")
_LENGTH = struct.Struct("!I")


def memory_for(message_size: int) -> int:
    """Octets of memory that a room needs to read letters of that size: the file, what is decoded of it, and
    what is inflated of that."""
    return max(MEMORY, MEMORY // 2 + 4 * message_size)


class _Room(asyncio.Protocol):
    """This process's end of one room; one letter at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._answer: asyncio.Future[bytes | None] | None = None
        self.gone = False

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def open(self, cpu_s: float, memory: int) -> None:
        ours, self._child = _start(cpu_s, memory)
        await self._loop.create_connection(lambda: self, sock=ours)

    async def ask(self, octets: Octets, wall_s: float) -> bytes | None:
        """The room's answer, None if it died of the letter."""
        self._answer = self._loop.create_future()
        if octets.memory is not None:
            self._transport.write(_FRAME.pack(octets.size, b"o"))
            self._transport.write(octets.memory)
        else:
            path = os.fsencode(str(octets.path))
            self._transport.write(_FRAME.pack(len(path), b"p") + path)
        late = self._loop.call_later(wall_s, self.kill)
        try:
            return await self._answer
        finally:
            late.cancel()
            self._answer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_ANSWER or len(self._buffer) > length + _LENGTH.size:
            self.kill()
        elif len(self._buffer) == length + _LENGTH.size:
            answer = bytes(self._buffer[_LENGTH.size :])
            self._buffer.clear()
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def kill(self) -> None:
        """End the room at once."""
        self.gone = True
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Let the room end by itself."""
        self.gone = True
        if self._transport is not None:
            self._transport.close()

    async def ended(self) -> int:
        """How the room's process ended; it is over when this returns."""
        child = self._child
        return await self._loop.run_in_executor(None, _reap, child) if child is not None else 0


def _start(cpu_s: float, memory: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A room's process and our end of its socket."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            number = str(theirs.fileno())
            child = subprocess.Popen(
                [sys.executable, "-m", "gateway.reading_room", number, str(cpu_s), str(memory)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
    except OSError:
        ours.close()
        raise
    ours.setblocking(False)
    return ours, child


def _reap(child: subprocess.Popen[bytes]) -> int:
    try:
        return child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


class ContentReader:
    """Has letters read in rooms. Make it inside the running loop; rooms open as letters come."""

    def __init__(
        self, *, rooms: int = ROOMS, cpu_s: float = CPU_S, wall_s: float = WALL_S, memory: int = MEMORY
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = rooms
        self._each = max(1, rooms - 1)  # rooms that one sender may have at a time
        self._cpu_s = cpu_s
        self._wall_s = wall_s
        self._memory = memory
        self._idle: list[_Room] = []
        self._busy: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._ending: set[asyncio.Task[int]] = set()
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of rooms that wait for a letter."""
        return tuple(room.pid for room in self._idle if room.pid is not None)

    async def read(self, octets: Octets, sender: str) -> Content:
        """What is in a letter; ``sender`` is whoever shares the rooms with others: an agency, an address.

        Raises OSError when no room can be opened.
        """
        await self._turn(sender)
        try:
            for _ in range(2):
                room = await self._room()
                answer = await self._asked(room, octets)
                if answer is not None:
                    return answer
            return Content(undecidable=("unreadable",))
        finally:
            self._give(sender)

    async def close(self) -> None:
        """End every room; letters in them are undecidable."""
        self._closed = True
        for room in self._idle:
            room.close()
            self._end(room)
        self._idle.clear()
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def _asked(self, room: _Room, octets: Octets) -> Content | None:
        """The content as one room read it; None when the room was lost for a reason that is not known."""
        began = self._loop.time()
        done = False
        try:
            raw = await room.ask(octets, self._wall_s)
            done = raw is not None
        finally:
            if not done:
                room.kill()
        if raw is None:
            code = await room.ended()
            late = self._loop.time() - began >= self._wall_s
            _log.warning("a reading room was ended after %.1f s (%d)", self._loop.time() - began, code)
            return Content(undecidable=("time",)) if late or -code in _OVER else None
        answer: dict[str, Any] = {}
        try:
            answer = json.loads(raw)
            content = Content.from_json(answer)
        except ValueError:
            content = Content(undecidable=("unreadable",))
        if self._closed or room.gone or not isinstance(answer, dict) or answer.get("last", True):
            room.close()
            self._end(room)
        else:
            self._idle.append(room)
        return content

    def _end(self, room: _Room) -> None:
        task = self._loop.create_task(room.ended())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _room(self) -> _Room:
        while self._idle:
            room = self._idle.pop()
            if not room.gone:
                return room
            self._end(room)
        if self._closed:
            raise OSError("the reading rooms are closed")
        room = _Room(self._loop)
        try:
            await room.open(self._cpu_s, self._memory)
        except BaseException:
            room.kill()
            raise
        return room

    async def _turn(self, sender: str) -> None:
        if sum(self._busy.values()) < self._most and self._busy[sender] < self._each and not self._waiting:
            self._busy[sender] += 1
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((sender, turn))
        self._let_in()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._give(sender)
            else:
                self._waiting = deque(w for w in self._waiting if w[1] is not turn)
            raise

    def _give(self, sender: str) -> None:
        self._busy[sender] -= 1
        if not self._busy[sender]:
            del self._busy[sender]
        self._let_in()

    def _let_in(self) -> None:
        """The first of those that wait and may: a sender with many letters waits for its own."""
        used = sum(self._busy.values())
        kept: deque[tuple[str, asyncio.Future[None]]] = deque()
        while self._waiting and used < self._most:
            sender, turn = self._waiting.popleft()
            if turn.done():
                continue
            if self._busy[sender] >= self._each:
                kept.append((sender, turn))
                continue
            self._busy[sender] += 1
            used += 1
            turn.set_result(None)
        self._waiting.extendleft(reversed(kept))


_OVER = (signal.SIGPROF, signal.SIGXCPU)


def _work(sock: socket.socket, cpu_s: float) -> None:
    """The other end: answer one order after another until the socket is closed."""
    count = 0
    while (head := _exactly(sock, _FRAME.size)) is not None:
        length, kind = _FRAME.unpack(head)
        body = _exactly(sock, length)
        if body is None:
            return
        count += 1
        last = count >= RENEWED_AFTER
        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = math.ceil(used.ru_utime + used.ru_stime + cpu_s) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            content = _content(bytes(body) if kind == b"o" else Path(os.fsdecode(bytes(body))), cpu_s)
        except MemoryError:
            content, last = Content(undecidable=("memory",)), True
        signal.setitimer(signal.ITIMER_PROF, 0)
        del body
        last = last or _resident() > RENEWED_ABOVE
        answer = json.dumps(content.to_json() | {"last": last}).encode()
        sock.sendall(_LENGTH.pack(len(answer)) + answer)
        if last:
            return


def _resident() -> int:
    """Octets of memory that this process holds; its ru_maxrss would begin with that of the gateway."""
    with Path("/proc/self/statm").open("rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _content(what: bytes | Path, cpu_s: float) -> Content:
    bounds = Bounds(seconds=0.75 * cpu_s)
    try:
        if isinstance(what, bytes):
            return read(what, bounds)
        with what.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return read(view, bounds)
    except MemoryError:
        raise
    except Exception as error:  # whatever the letter was: it is undecidable, and the room lives on
        _log.warning("a letter could not be read: %s", type(error).__name__)
        return Content(undecidable=("unreadable",))


def _exactly(sock: socket.socket, length: int) -> bytearray | None:
    """``length`` octets from the other end, None when it is closed."""
    out = bytearray(length)
    with memoryview(out) as view:
        got = 0
        while got < length:
            more = sock.recv_into(view[got:])
            if not more:
                return None
            got += more
    return out


def main() -> None:
    """The room's own process: it ends when the gateway does, and no signal of a terminal ends it before."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.environ.pop("NOTIFY_SOCKET", None)
    sniff(b"%PDF-1.4")  # libmagic reads its tables now, not with the first letter
    memory = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        try:
            _work(sock, float(sys.argv[2]))
        except (BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main()
