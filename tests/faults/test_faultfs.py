"""The shim does to a program what it is told to, and the log tells the truth."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.faultfs import Call, FaultFs
from tests.faults.order import OutOfOrder, Step, check
from tests.servers.place import Place

# Stores a letter as a mail server should: object, its folder, the database, and only then the 250.
PROGRAM = """
import os, socket, sqlite3, sys
root, order = sys.argv[1], sys.argv[2]
os.makedirs(f"{root}/archive", exist_ok=True)
ours, theirs = socket.socketpair()
database = sqlite3.connect(f"{root}/wasl.db", isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=FULL")
database.execute("CREATE TABLE IF NOT EXISTS letter (id INTEGER PRIMARY KEY)")
def store():
    fd = os.open(f"{root}/archive/{os.getpid()}.eml", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(fd, b"letter")
    os.fsync(fd)
    os.close(fd)
    fd = os.open(f"{root}/archive", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
def record():
    database.execute("INSERT INTO letter DEFAULT VALUES")
def promise():
    ours.send(b"250 2.0.0 taken\\r\\n")
try:
    for step in order:
        {"s": store, "r": record, "p": promise}[step]()
except (OSError, sqlite3.Error) as fault:
    ours.send(b"451 4.3.0 later\\r\\n")
    print(type(fault).__name__, getattr(fault, "errno", ""))
ours.close()
print(theirs.recv(100).decode().strip())
"""
STEPS = [
    Step(name="object", calls=Call.FSYNC, match=".eml"),
    Step(name="folder", calls=Call.FSYNC, match="/archive"),
    Step(name="database", calls=Call.SYNC, match="wasl.db-wal"),
    Step(name="250", calls=Call.SEND, match="250 2.0.0"),
]


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[FaultFs]:
    controls = FaultFs(tmp_path)
    yield controls
    controls.close()


def run(faults: FaultFs, root: Path, order: str = "srp") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root), order],
        env={**os.environ, **faults.env},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_order_is_seen(faults: FaultFs, place: Place) -> None:
    faults.watch()
    assert run(faults, place.path).stdout == "250 2.0.0 taken\n"
    found = check(faults.done(), STEPS)
    assert found[0].call == Call.FSYNC
    assert found[3].subject == "250 2.0.0 taken\r\n"


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ("spr", "database: after 250"),
        ("psr", "database: after 250"),
        ("rsp", "folder: after database"),
        ("rp", "folder: missing before database"),
        ("sr", "250: never happened"),
    ],
)
def test_a_wrong_order_is_noticed(faults: FaultFs, place: Place, order: str, complaint: str) -> None:
    run(faults, place.path, "r")  # makes the tables, so that only the letter itself is looked at
    faults.watch()
    run(faults, place.path, order)
    with pytest.raises(OutOfOrder, match=complaint):
        check(faults.done(), STEPS)


@pytest.mark.parametrize(
    ("calls", "match", "error", "said"),
    [
        (Call.FSYNC, ".eml", errno.EIO, "OSError 5"),
        (Call.WRITE, "/archive/", errno.ENOSPC, "OSError 28"),
        (Call.CREATE, ".eml", errno.ENOSPC, "OSError 28"),
        (Call.PWRITE, "wasl.db-wal", errno.ENOSPC, "OperationalError"),
        (Call.SYNC, "wasl.db-wal", errno.EIO, "OperationalError"),
    ],
)
def test_a_fault_reaches_the_program_and_can_be_lifted(
    faults: FaultFs, place: Place, calls: Call, match: str, error: int, said: str
) -> None:
    run(faults, place.path)
    rule = faults.fail(calls, match, error=error)
    out = run(faults, place.path).stdout
    assert said in out
    assert "451 4.3.0" in out
    assert faults.hits(rule) >= 1
    faults.lift()
    assert run(faults, place.path).stdout == "250 2.0.0 taken\n"


def test_a_rule_can_skip_and_end(faults: FaultFs, place: Place) -> None:
    rule = faults.fail(Call.FSYNC, "/archive", skip=1, times=1)
    assert "OSError 5" in run(faults, place.path).stdout  # object passes, folder fails
    assert run(faults, place.path).stdout == "250 2.0.0 taken\n"
    assert faults.hits(rule) == 1


@pytest.mark.parametrize("after", [False, True])
def test_the_program_is_killed_at_a_named_call(faults: FaultFs, place: Place, after: bool) -> None:
    faults.kill(Call.CREATE, ".eml", after=after)
    assert run(faults, place.path).returncode == -signal.SIGKILL
    assert len(list((place / "archive").iterdir())) == (1 if after else 0)
    assert "taken" in run(faults, place.path).stdout  # a rule kills once


def test_the_program_is_killed_before_it_answers(faults: FaultFs, place: Place) -> None:
    faults.kill(Call.SEND, "250 ")
    done = run(faults, place.path)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    with sqlite3.connect(place / "wasl.db") as database:
        assert database.execute("SELECT count(*) FROM letter").fetchone() == (1,)


def test_a_sync_can_be_slow(faults: FaultFs, place: Place) -> None:
    faults.delay(Call.SYNC, 100)
    begin = time.monotonic()
    assert run(faults, place.path).stdout == "250 2.0.0 taken\n"
    assert time.monotonic() - begin > 0.3


def test_without_its_control_file_the_program_does_not_run(faults: FaultFs) -> None:
    env = {**os.environ, **faults.env, "FAULTFS": "/nowhere"}
    assert subprocess.run([sys.executable, "-c", ""], env=env, capture_output=True).returncode == 99


def test_the_log_agrees_with_the_kernel(faults: FaultFs, place: Place) -> None:
    """The same run seen by the kernel's own tracing, where that is allowed."""
    faults.watch(Call.SYNC)
    trace = place / "trace"
    command = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
    env = [f"-E{key}={value}" for key, value in faults.env.items()]
    program = [sys.executable, "-c", PROGRAM, str(place.path), "srp"]
    traced = subprocess.run([*command, *env, *program], capture_output=True, text=True, timeout=60)
    if "PTRACE" in traced.stderr or "ptrace" in traced.stderr:  # not allowed here: the log stands alone
        run(faults, place.path)
        assert len(faults.done()) >= 3
        return
    kernel = [line.partition(" ")[2].lstrip() for line in trace.read_text().splitlines() if "sync(" in line]
    ours = [f"{call.call.name.lower() if call.call.name else ''}" for call in faults.done()]
    assert [line.partition("(")[0] for line in kernel] == ours
    for line, call in zip(kernel, faults.done(), strict=True):
        assert call.subject in line


def test_sends_of_every_kind_are_seen(faults: FaultFs) -> None:
    faults.watch(Call.SEND)
    code = (
        "import os, socket\n"
        "a, b = socket.socketpair()\n"
        "a.send(b'one')\na.sendmsg([b'tw', b'o'])\nos.write(a.fileno(), b'three')\n"
        "os.writev(a.fileno(), [b'fo', b'ur'])\na.sendall(b'five\\0')\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **faults.env}, check=True)
    assert [call.subject for call in faults.done()] == ["one", "two", "three", "four", "five?"]


def test_a_match_can_stand_at_the_end(faults: FaultFs, place: Place) -> None:
    faults.fail(Call.FSYNC, "/archive$")
    faults.watch(Call.FSYNC)
    assert "OSError 5" in run(faults, place.path).stdout
    assert [(call.subject[-4:], call.error) for call in faults.done()] == [(".eml", 0), ("hive", errno.EIO)]


def test_connections_are_seen(faults: FaultFs) -> None:
    faults.watch(Call.CONNECT)
    code = (
        "import socket\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(s.getsockname())\nprint(s.getsockname()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **faults.env}, capture_output=True, text=True
    )
    assert [call.subject for call in faults.done()] == [f"127.0.0.1:{done.stdout.strip()}"]


@pytest.mark.parametrize("days", [-400, 0, 3])
def test_the_clock_of_the_day_can_be_stepped(faults: FaultFs, days: int) -> None:
    faults.step_clock(days * 86_400)
    code = "import datetime, time\nprint(time.time(), datetime.datetime.now().timestamp(), time.time_ns())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **faults.env}, capture_output=True, text=True
    )
    told = [float(word) for word in done.stdout.split()]
    for seconds in (told[0], told[1], told[2] / 1e9):
        assert abs(seconds - time.time() - days * 86_400) < 60


def test_a_connection_that_was_reset_is_dead_both_ways(faults: FaultFs) -> None:
    faults.fail(Call.SEND, "two", error=errno.ECONNRESET)
    code = (
        "import socket\n"
        "a, b = socket.socketpair()\na.send(b'one')\n"
        "try:\n    a.send(b'two')\nexcept ConnectionResetError:\n    print(b.recv(9), b.recv(9), a.recv(9))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **faults.env}, capture_output=True, text=True
    )
    assert done.stdout == "b'one' b'' b''\n"
