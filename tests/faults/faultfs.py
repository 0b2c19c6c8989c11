"""Make the storage under a running program fail, dally or be cut off, and read what it did in which order.

``faultfs.c`` is compiled once and preloaded into the program under test. Rules can be set and lifted while
it runs: after a fault is lifted the program must go on by itself. Only that program is touched; no file
system is mounted and no privilege is needed.

How it fails: a program that could not load the shim ends with status 99; no compiler raises ``ServerFailed``.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

from tests.servers.packages import CACHE
from tests.servers.place import ServerFailed, program

_SOURCE = Path(__file__).with_name("faultfs.c")
_RULES, _MATCH = 16, 232
_HEAD = struct.Struct("=QII256sq")
_CLOCK = 16 + 256
_RULE = struct.Struct(f"=IIiiiI{_MATCH}s")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


class Call(IntFlag):
    """The calls that are watched, as in ``enum call``."""

    FSYNC = 1
    FDATASYNC = 2
    WRITE = 4
    PWRITE = 8
    CREATE = 16
    RENAME = 32
    LINK = 64
    SEND = 128
    MKDIR = 256
    TRUNCATE = 512
    UNLINK = 1024
    CONNECT = 2048
    SYNC = FSYNC | FDATASYNC
    STORE = SYNC | WRITE | PWRITE | CREATE | RENAME | LINK | MKDIR | TRUNCATE


class _Action(IntEnum):
    FAIL = 1
    DELAY = 2
    KILL_BEFORE = 3
    KILL_AFTER = 4


@dataclass(frozen=True, kw_only=True)
class Done:
    """One call as it went. ``begin`` and ``end`` count on one clock that all processes share."""

    begin: int
    end: int
    pid: int
    call: Call
    result: int
    error: int  # errno, 0 when it went well
    subject: str  # the path; of SEND the first 200 octets, as Latin-1; of CONNECT host:port


def library() -> Path:
    """The compiled shim; compiled when its source changed."""
    source = _SOURCE.read_bytes()
    target = CACHE.parent / f"faultfs-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_suffix(f".{os.getpid()}")
        command: list[str | Path] = [
            program("gcc"),
            "-Wall",
            "-Werror",
            "-O2",
            "-fPIC",
            "-shared",
            "-o",
            half,
            _SOURCE,
            "-ldl",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ServerFailed(f"gcc: {done.stderr}")
        half.rename(target)
    return target


class FaultFs:
    """The controls of the shim for the programs that are started with :attr:`env`."""

    def __init__(self, folder: Path) -> None:
        """Put control file and log into ``folder``, which must not be one that rules match."""
        self._log = folder / "faultfs.log"
        self._log.touch()
        self._path = folder / "faultfs.control"
        size = _HEAD.size + _RULES * _RULE.size
        self._path.write_bytes(b"\0" * size)
        with self._path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)
        self._memory[16 : 16 + 256] = str(self._log).encode().ljust(256, b"\0")
        self._next = 0
        self._watched = Call(0)

    @property
    def env(self) -> dict[str, str]:
        """What a program's environment must hold."""
        return {"LD_PRELOAD": str(library()), "FAULTFS": str(self._path)}

    def fail(
        self, calls: Call, match: str = "", *, error: int = errno.EIO, skip: int = 0, times: int = -1
    ) -> int:
        """Let ``calls`` whose path (or octets sent) hold ``match`` fail, without happening.

        A ``match`` that ends with ``$`` must stand at the end. The first ``skip`` of them pass; the rule
        acts ``times`` times, for ever when negative.
        Returns the number of the rule.
        """
        return self._rule(calls, _Action.FAIL, error, match, skip, times)

    def delay(self, calls: Call, milliseconds: int, match: str = "") -> int:
        """Let ``calls`` take that much longer."""
        return self._rule(calls, _Action.DELAY, milliseconds, match, 0, -1)

    def kill(self, calls: Call, match: str = "", *, after: bool = False, skip: int = 0) -> int:
        """Kill the program (SIGKILL) just before, or just after, the first of ``calls`` that matches."""
        return self._rule(calls, _Action.KILL_AFTER if after else _Action.KILL_BEFORE, 0, match, skip, 1)

    def lift(self, rule: int | None = None) -> None:
        """Take a rule away, or all of them: the cause of the trouble is gone."""
        for number in range(_RULES) if rule is None else [rule]:
            at = self._at(number)
            self._memory[at : at + 4] = b"\0\0\0\0"
        if rule is None:
            self._next = 0
            self._watch(Call(0))

    def hits(self, rule: int) -> int:
        """How often a rule acted."""
        hits: int = _RULE.unpack_from(self._memory, self._at(rule))[5]
        return hits

    def step_clock(self, seconds: int) -> None:
        """Let the program's clock of the day differ from the host's by so much, from now on."""
        self._memory[_CLOCK : _CLOCK + 8] = struct.pack("=q", seconds * 1_000_000_000)

    def watch(self, calls: Call = Call.SYNC | Call.CREATE | Call.RENAME | Call.LINK | Call.SEND) -> None:
        """Log these calls from now on."""
        self._memory[8:12] = struct.pack("=I", calls)

    def done(self) -> list[Done]:
        """The calls logged so far, in the order in which they began."""
        return sorted(self._read(), key=lambda call: call.begin)

    def forget(self) -> None:
        """Empty the log."""
        os.truncate(self._log, 0)

    def _read(self) -> Iterator[Done]:
        for line in self._log.read_text(encoding="ascii").splitlines():
            begin, end, pid, call, result, error, subject = line.split(" ", 6)
            yield Done(
                begin=int(begin),
                end=int(end),
                pid=int(pid),
                call=Call(int(call)),
                result=int(result),
                error=int(error),
                subject=_ESCAPE.sub(lambda m: chr(int(m[1], 16)), subject),
            )

    def _at(self, number: int) -> int:
        return _HEAD.size + number * _RULE.size

    def _watch(self, calls: Call) -> None:
        self._watched = calls
        self._memory[12:16] = struct.pack("=I", calls)

    def _rule(self, calls: Call, action: _Action, number: int, match: str, skip: int, times: int) -> int:
        if self._next == _RULES:
            raise ValueError(f"more than {_RULES} rules")
        octets = match.encode()
        if len(octets) >= _MATCH:
            raise ValueError("match is too long")
        rule, at = self._next, self._at(self._next)
        self._next += 1
        # The calls go in last: the rule is whole when the program first sees it.
        _RULE.pack_into(self._memory, at, 0, action, number, skip, times, 0, octets)
        self._memory[at : at + 4] = struct.pack("=I", calls)
        self._watch(self._watched | calls)
        return rule

    def close(self) -> None:
        """Give the mapping back."""
        self._memory.close()
