"""The benchmark's side of the sink: starts it and asks it what came."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.place import free_port

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Sunk:
    """What came since the last reset; times of the monotonic clock in ns."""

    letters: int
    duplicates: int
    nameless: int
    automatic: int
    octets: int
    sessions: int
    first_ns: int
    last_ns: int


class RunningSink:
    """A running sink."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def _ask(self, command: str) -> Sunk:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return Sunk(**json.loads(self.process.stdout.readline()))

    def reset(self) -> None:
        """Forget what came."""
        self._ask("reset")

    def expect(self, letters: int, *, seconds: float) -> Sunk:
        """Wait for that many different letters, at most so long."""
        return self._ask(f"expect {letters} {seconds}")


@contextmanager
def running_sink() -> Iterator[RunningSink]:
    """Start the sink in a process of its own."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.sink", str(port)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("the sink did not start")
    try:
        yield RunningSink(process, port)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
