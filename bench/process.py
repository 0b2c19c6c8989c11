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
    """The largest memory seen, in octets, of a process and its children.

    ``used`` counts a page that several of them share once (the kernel's PSS), pages of mapped files too;
    ``anonymous`` is what of it belongs to no file; ``resident`` is the sum of what each of them maps (RSS),
    in which a shared page counts as often as it is mapped.
    """

    used: int = 0
    anonymous: int = 0
    resident: int = 0
    first: int = 0  # ``used`` at the first look
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self, pid: int) -> None:
        """Take one sample of a process and its children."""
        sums = {"Rss": 0, "Pss": 0, "Pss_Anon": 0}
        for member in family(pid):
            try:
                rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            for name, kb in re.findall(r"^(Rss|Pss|Pss_Anon):\s+(\d+)", rollup, re.M):
                sums[name] += int(kb) * 1024
        self.first = self.first or sums["Pss"]
        self.used = max(self.used, sums["Pss"])
        self.anonymous = max(self.anonymous, sums["Pss_Anon"])
        self.resident = max(self.resident, sums["Rss"])


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
