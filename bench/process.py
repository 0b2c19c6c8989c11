"""What a process and its children cost, read from /proc: CPU time, and memory in its three kinds."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all its descendants that live now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its children have used, with the system's work for them."""
    total = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


@dataclass(kw_only=True)
class Memory:
    """The largest memory seen, in octets: in all, and of it what belongs to no file."""

    resident: int = 0
    anonymous: int = 0
    first: int = 0  # resident memory at the first look
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self, pid: int) -> None:
        """Take one sample of a process and its children."""
        resident = anonymous = 0
        for member in family(pid):
            try:
                status = Path(f"/proc/{member}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            sizes = {
                name: int(kb) * 1024 for name, kb in re.findall(r"^(VmRSS|RssAnon):\s+(\d+)", status, re.M)
            }
            resident += sizes.get("VmRSS", 0)
            anonymous += sizes.get("RssAnon", 0)
        self.first = self.first or resident
        self.resident = max(self.resident, resident)
        self.anonymous = max(self.anonymous, anonymous)


@contextmanager
def watched(pid: int, *, every: float = 0.02) -> Iterator[Memory]:
    """Sample the memory of a process for the time of the block."""
    memory = Memory()

    def run() -> None:
        while not memory._stop.wait(every):
            memory.look(pid)

    memory.look(pid)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        memory._stop.set()
        thread.join()
        memory.look(pid)
