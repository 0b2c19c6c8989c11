"""The reading rooms: what they read, what they are killed for, who waits for whom, when they end."""

from __future__ import annotations

import asyncio
import bz2
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from gateway.reading_room import ContentReader
from policies.content_letter import read
from tests.servers.place import wait_until
from tests.unit import sample_files as make
from tracker.archive import Octets

LETTER = make.letter(("a.pdf", b"%PDF-1.4\n"), ("b.zip", make.zipped({"c.dat": make.PE})))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def rooms() -> AsyncIterator[ContentReader]:
    made = ContentReader()
    yield made
    await made.close()


def spooled(folder: Path, octets: bytes) -> Octets:
    path = folder / f"{len(octets)}.eml"
    path.write_bytes(octets)
    return Octets(path=path, size=len(octets))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def hard(size: int) -> bytes:
    """So many octets that are slow to inflate, a tenth of a second or so for each MB, and no bomb."""
    letters = bytes(b"abcdefgh"[i % 8] for i in range(256))
    return bz2.compress(random.Random(1).randbytes(size).translate(letters))


@cache
def slow_letter() -> bytes:
    """Many small files, each of which is honest: together they are seconds of work on any machine."""
    inner = hard(2 << 20)
    return make.letter(*[(f"{i}.bz2", inner) for i in range(25)])


@pytest.mark.anyio
async def test_a_room_reads_what_this_process_would(rooms: ContentReader, tmp_path: Path) -> None:
    wanted = read(LETTER)
    assert wanted.attachments[1].executable
    assert await rooms.read(Octets.of(LETTER), "MOF") == wanted
    assert await rooms.read(spooled(tmp_path, LETTER), "MOF") == wanted
    (pid,) = rooms.pids
    for junk in (b"", b"\0" * 5000, b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b" * 50):
        assert await rooms.read(Octets.of(junk), "MOF") == read(junk)
    assert rooms.pids == (pid,)


@pytest.mark.anyio
async def test_many_letters_at_once(rooms: ContentReader) -> None:
    letters = [make.letter((f"{i}.txt", b"%d" % i)) for i in range(40)]
    found = await asyncio.gather(*[rooms.read(Octets.of(x), f"A{i % 5}") for i, x in enumerate(letters)])
    assert [c.attachments[0].name for c in found] == [f"{i}.txt" for i in range(40)]
    assert 1 <= len(rooms.pids) <= 3


@pytest.mark.anyio
async def test_over_its_processor_time_a_room_is_replaced(tmp_path: Path) -> None:
    rooms = ContentReader(cpu_s=0.3)
    try:
        began = time.monotonic()
        content = await rooms.read(spooled(tmp_path, slow_letter()), "MOF")
        assert "time" in content.undecidable
        assert time.monotonic() - began < 60
        assert await rooms.read(Octets.of(LETTER), "MOF") == read(LETTER)
    finally:
        await rooms.close()


@pytest.mark.anyio
async def test_what_does_not_look_at_the_clock_is_killed_by_it(tmp_path: Path) -> None:
    rooms = ContentReader(cpu_s=0.1)
    try:
        long = make.letter(("a.bz2", hard(12 << 20)))  # one call, which takes longer on any machine
        content = await rooms.read(spooled(tmp_path, long), "MOF")
        assert content.undecidable == ("time",) and content.own is None
        assert await rooms.read(Octets.of(LETTER), "MOF") == read(LETTER)
    finally:
        await rooms.close()


@pytest.mark.anyio
async def test_over_the_clock_a_room_is_killed() -> None:
    rooms = ContentReader(wall_s=90.0)
    try:
        await rooms.read(Octets.of(LETTER), "MOF")
        (pid,) = rooms.pids
        rooms._wall_s = 0.5
        os.kill(pid, signal.SIGSTOP)  # it does nothing, and so needs no processor time
        content = await rooms.read(Octets.of(LETTER), "MOF")
        assert content.undecidable == ("time",) and content.own is None
        wait_until(lambda: not alive(pid), "the stopped room to be gone")
    finally:
        await rooms.close()


@pytest.mark.anyio
async def test_a_room_that_was_killed_by_somebody_is_no_fault_of_the_letter(rooms: ContentReader) -> None:
    await rooms.read(Octets.of(LETTER), "MOF")
    (pid,) = rooms.pids
    os.kill(pid, signal.SIGKILL)
    assert await rooms.read(Octets.of(LETTER), "MOF") == read(LETTER)
    assert pid not in rooms.pids


@pytest.mark.anyio
async def test_memory_is_bounded(tmp_path: Path) -> None:
    rooms = ContentReader(memory=220 << 20)
    try:
        large = make.letter(("a.bin", bytes(70 << 20)))
        content = await rooms.read(spooled(tmp_path, large), "MOF")
        assert content.undecidable
        assert await rooms.read(Octets.of(LETTER), "MOF") == read(LETTER)
    finally:
        await rooms.close()


@pytest.mark.anyio
async def test_hostile_letters_of_one_sender_stall_no_other(tmp_path: Path) -> None:
    rooms = ContentReader(rooms=2, cpu_s=0.4)
    try:
        await rooms.read(Octets.of(LETTER), "MOH")
        hostile = spooled(tmp_path, slow_letter())
        attack = [asyncio.create_task(rooms.read(hostile, "bad")) for _ in range(5)]
        await anyio.sleep(0.1)
        for _ in range(5):
            assert await rooms.read(Octets.of(LETTER), "MOH") == read(LETTER)
        assert not all(task.done() for task in attack), "others waited until the attack was over"
        for task in attack:
            assert "time" in (await task).undecidable
    finally:
        await rooms.close()


@pytest.mark.anyio
async def test_who_gives_up_waiting_holds_no_place() -> None:
    rooms = ContentReader(rooms=1)
    try:
        await rooms.read(Octets.of(LETTER), "A")
        first = asyncio.create_task(rooms.read(Octets.of(LETTER), "A"))
        waiting = [asyncio.create_task(rooms.read(Octets.of(LETTER), "A")) for _ in range(3)]
        await anyio.lowlevel.checkpoint()
        waiting[0].cancel()
        waiting[2].cancel()
        assert await first == await waiting[1] == read(LETTER)
        given_up = asyncio.create_task(rooms.read(Octets.of(LETTER), "A"))
        await anyio.sleep(0.001)
        given_up.cancel()
        assert await rooms.read(Octets.of(LETTER), "B") == read(LETTER)
    finally:
        await rooms.close()


@pytest.mark.anyio
async def test_closed_rooms_are_gone(rooms: ContentReader) -> None:
    await rooms.read(Octets.of(LETTER), "A")
    (pid,) = rooms.pids
    await rooms.close()
    assert not alive(pid)
    with pytest.raises(OSError, match="closed"):
        await rooms.read(Octets.of(LETTER), "A")


def test_rooms_die_with_the_gateway() -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from gateway.reading_room import ContentReader
        from tracker.archive import Octets

        async def main():
            rooms = ContentReader()
            await rooms.read(Octets.of(b"Content-Type: application/pdf\\r\\n\\r\\n%PDF-"), "A")
            print(*rooms.pids, flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        pid = int(gateway.stdout.readline())
        assert alive(pid)
        gateway.kill()
        gateway.wait()
        wait_until(lambda: not alive(pid), "the room to end with its gateway")
