"""The order of the system calls of one accepted letter: object, directory, database, and only then the 250.

``kill -9`` proves nothing about syncs, because the kernel keeps the pages of a killed process. Two witnesses
look at the calls: the shim, with one counter before and after each, and strace where tracing is allowed.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.durability.conftest import Living
from tests.durability.letter import SMALL, SPOOLED
from tests.durability.life import Lives, steady_hour
from tests.faults.faultfs import Call
from tests.faults.order import Step, check
from tests.servers.place import Place, wait_until

pytestmark = pytest.mark.servers


def steps(size: int, database: str, hour: str) -> list[Step]:
    """What must have ended before the next begins."""
    if size == SPOOLED:
        stored = [
            Step(name="object", calls=Call.FSYNC, match="/archive/spool/"),
            Step(name="name", calls=Call.LINK, match=".eml"),
        ]
    else:
        stored = [Step(name="object", calls=Call.FSYNC, match=".eml")]
    if database == "sqlite":
        committed = Step(name="database", calls=Call.SYNC, match="wasl.db-wal")
    else:
        committed = Step(name="database", calls=Call.SEND, match="COMMIT")
    return [
        *stored,
        Step(name="directory", calls=Call.FSYNC, match=hour),
        committed,
        Step(name="250", calls=Call.SEND, match="250 2.0.0 Ok: queued"),
    ]


@pytest.mark.parametrize("size", [SMALL, SPOOLED], ids=["small", "spooled"])
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_synced_before_promised(living: Living, database: str, size: int) -> None:
    lives = living(database)
    lives.warm()
    steady_hour()
    lives.faults.forget()
    lives.faults.watch()
    letter = lives.letter(size)
    assert lives.send(letter).startswith("250")
    until_logged(lives)
    found = check(lives.faults.done(), steps(size, database, time.strftime("/%m%d/%H", time.gmtime())))
    if size == SMALL:
        written = [call for call in lives.faults.done() if call.call == Call.FSYNC and ".eml" in call.subject]
        assert len(written) == 1  # one letter, one object, one sync of it
    folder = found[-3].subject
    assert re.search(r"/\d{4}/\d{4}/\d{2}$", folder), folder
    lives.until_delivered()
    lives.whole = True


def test_new_folders_are_synced_up_to_the_data_directory(living: Living) -> None:
    """An hour that has no folder yet: each new name is synced in the folder above it, before the 250."""
    lives = living("sqlite")
    lives.warm()
    lives.faults.forget()
    lives.faults.watch(Call.SYNC | Call.MKDIR | Call.SEND)
    lives.faults.step_clock(86_400)
    letter = lives.letter()
    assert lives.send(letter).startswith("250")
    until_logged(lives)
    lives.faults.step_clock(0)
    done = lives.faults.done()
    promise = next(call for call in done if "250 2.0.0 Ok: queued" in call.subject)
    made = [call for call in done if call.call == Call.MKDIR and not call.error]
    assert made
    for folder in made:
        above = str(Path(folder.subject).parent)
        syncs = [call for call in done if call.call == Call.FSYNC and call.subject == above]
        assert any(folder.end < call.begin and call.end < promise.begin for call in syncs), above
    lives.until_delivered()
    lives.whole = True


@pytest.mark.parametrize("size", [SMALL, SPOOLED], ids=["small", "spooled"])
def test_the_kernel_saw_the_same(living: Living, place: Place, size: int) -> None:
    lives = living("sqlite")
    lives.warm()
    seen = traced(lives, place / "trace", size)
    lives.until_delivered()
    if seen is None:  # tracing is not allowed here: the shim's word stands alone
        lives.whole = True
        return
    object_synced = ended(seen, r"fsync\(\d+<[^>]*(?:\.eml|/archive/spool/[^>]*)>")
    folder_synced = ended(seen, r"fsync\(\d+<[^>]*/\d{4}/\d{4}/\d{2}>")
    committed = ended(seen, r"f(?:data)?sync\(\d+<[^>]*wasl\.db-wal>")
    promised = next(n for n, line in enumerate(seen) if '"250 2.0.0 Ok: queued' in line)
    assert object_synced < folder_synced < committed < promised, "\n".join(seen)
    lives.whole = True


def until_logged(lives: Lives) -> None:
    """A call is logged once it is over; the client may have read the 250 before."""
    wait_until(lambda: any("250 2.0.0 Ok" in call.subject for call in lives.faults.done()), "the log")
    lives.faults.watch(Call(0))


def traced(lives: Lives, trace: Path, size: int) -> list[str] | None:
    """The calls of one letter as the kernel saw them; None when it may not be asked."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    command: list[str | Path] = [
        strace,
        "-f",
        "-y",
        "-e",
        "trace=fsync,fdatasync,write,writev,sendto,sendmsg",
        "-o",
        trace,
    ]
    for pid in family(lives.wasl.child.pid):
        command += ["-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        if "attached" not in tracer.stderr.readline():
            tracer.kill()
            return None
        letter = lives.letter(size)
        assert lives.send(letter).startswith("250")
        wait_until(lambda: "250 2.0.0 Ok: queued" in trace.read_text(errors="replace"), "the trace")
        tracer.send_signal(signal.SIGINT)
    return trace.read_text(errors="replace").splitlines()


def family(pid: int) -> list[int]:
    """A process and its children: the gateway writes and signs in processes of their own."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in children.read_text().split()]
    return found


def ended(lines: list[str], call: str) -> int:
    """The line on which the first such call had returned 0."""
    for n, line in enumerate(lines):
        if re.search(call, line):
            if line.endswith("= 0"):
                return n
            pid, name = line.split()[0], re.sub(r"\(.*", "", call)
            for m, later in enumerate(lines[n:], n):
                if later.split()[0] == pid and re.search(rf"{name}.* resumed>.*= 0$", later):
                    return m
    raise AssertionError(f"{call} not seen:\n" + "\n".join(lines))
