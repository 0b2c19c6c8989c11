"""A relay under test, and one measurement of it: letters that reached the sink per second."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass

from bench.sinking import ROOT, RunningSink
from tests.servers.place import program

SENDER = "author@mof.gov.example"
RECIPIENT = "diwan@moh.gov.example"


@dataclass(frozen=True, kw_only=True)
class RelayUnderTest:
    """Where letters are given to a relay that hands them on to the sink."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """One load: connections at a time, octets of a letter, how many letters."""

    connections: int
    size: int
    letters: int


class LostLetters(RuntimeError):
    """Fewer letters reached the sink than were accepted, or one came twice."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Letters per second: reached the sink, and accepted (which flatters a relay that queues)."""

    reached: float
    accepted: float


def measure(relay: RelayUnderTest, sink: RunningSink, load: Load, *, seconds: float = 300) -> Rate:
    """Give the load with Postfix's smtp-source, a new connection for each letter; time to the last letter.

    Raises :class:`LostLetters` when not every letter came exactly once within ``seconds``.
    """
    sink.reset()
    begin = time.monotonic_ns()
    many = ["-s", str(load.connections), "-m", str(load.letters), "-l", str(load.size)]
    command = [program("smtp-source"), "-4", *many, "-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{relay.port}"]
    subprocess.run(command, check=True, capture_output=True, timeout=seconds)
    accepted = time.monotonic_ns()
    sunk = sink.expect(load.letters, seconds=seconds)
    if sunk.letters != load.letters or sunk.duplicates or sunk.nameless:
        raise LostLetters(f"{relay.name}: of {load.letters} letters came {sunk}")
    return Rate(
        reached=load.letters / ((sunk.last_ns - begin) / 1e9),
        accepted=load.letters / ((accepted - begin) / 1e9),
    )


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long clients waited for the 250 after the last octet, in ms."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    letters: int


def latency(relay: RelayUnderTest, sink: RunningSink, load: Load, *, seconds: float = 300) -> Latency:
    """Give the load with a client of our own that takes the time of each answer; every letter must arrive."""
    sink.reset()
    command = [sys.executable, "-m", "bench.latency", str(relay.port)]
    command += [str(load.connections), str(load.letters), str(load.size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        raise LostLetters(f"{relay.name}: {done.stderr.strip()}")
    sunk = sink.expect(load.letters, seconds=seconds)
    if sunk.letters != load.letters or sunk.duplicates:
        raise LostLetters(f"{relay.name}: of {load.letters} letters came {sunk}")
    return Latency(**json.loads(done.stdout))
