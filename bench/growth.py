"""Does a letter cost the same in a full store as in an empty one? ``python -m bench.growth [--letters N]``.

Letters of 4 KB are given over 20 connections until the store holds N (200,000). Then a second gateway with an
empty store is started beside it, and both are given a block of letters in turn (A B A B …), because the same
machine measures 10 to 25 % differently a minute later. The tables show letters per second that reached the
sink, and CPU time of the gateway per letter. It ends with one line of JSON: the medians of the CPU time with
the empty and with the full store, and the median of the rounds' ratios.

How it fails: a lost letter ends it with status 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass

from bench.process import cpu_seconds
from bench.relay import Load, LostLetters, RelayUnderTest, measure
from bench.sinking import RunningSink, running_sink
from bench.wasl import running_wasl


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a block of letters cost: letters per second, CPU time of the gateway in ms per letter."""

    rate: float
    cpu_ms: float


def cost(wasl: RelayUnderTest, sink: RunningSink, letters: int) -> Cost:
    """Give the gateway so many letters; raises :class:`LostLetters`."""
    before = cpu_seconds(wasl.pid)
    rate = measure(wasl, sink, Load(connections=20, size=4000, letters=letters), seconds=900)
    return Cost(rate=rate.reached, cpu_ms=(cpu_seconds(wasl.pid) - before) / letters * 1000)


def fill(wasl: RelayUnderTest, sink: RunningSink, letters: int, block: int) -> None:
    """Give the gateway letters until it holds so many, and show what each block costs."""
    print(f"{'letters':>9}  {'per second':>10}  {'CPU ms each':>11}")
    for done in range(block, letters + 1, block):
        seen = cost(wasl, sink, block)
        print(f"{done:>9,}  {seen.rate:>10,.0f}  {seen.cpu_ms:>11.3f}", flush=True)


def compare(
    empty: RelayUnderTest, full: RelayUnderTest, sink: RunningSink, block: int, rounds: int
) -> list[tuple[Cost, Cost]]:
    """Both in turn, and a table of it."""
    print(f"{'':>9}  {'empty store':>24}  {'full store':>24}")
    pairs = []
    for number in range(1, rounds + 1):
        pair = cost(empty, sink, block), cost(full, sink, block)
        shown = (f"{c.rate:,.0f} per second, {c.cpu_ms:.3f} ms" for c in pair)
        print(f"round {number:>3}  " + "  ".join(f"{one:>24}" for one in shown), flush=True)
        pairs.append(pair)
    return pairs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--letters", type=int, default=200_000, help="in the full store (200,000)")
    parser.add_argument("--block", type=int, default=10_000, help="letters measured at a time (10,000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often both stores are given a block (5)")
    arguments = parser.parse_args()
    block = min(arguments.block, arguments.letters)
    try:
        with running_sink() as sink, running_wasl(sink.port) as full:
            cost(full, sink, 500)  # what is imported late is paid here
            fill(full, sink, arguments.letters, block)
            with running_wasl(sink.port) as empty:
                cost(empty, sink, 500)
                pairs = compare(empty, full, sink, min(block, 2000), arguments.rounds)
    except LostLetters as fault:
        print(fault, file=sys.stderr)
        return 1
    result = {
        "empty_ms": round(statistics.median(a.cpu_ms for a, _ in pairs), 3),
        "full_ms": round(statistics.median(b.cpu_ms for _, b in pairs), 3),
        "growth": round(statistics.median(b.cpu_ms / a.cpu_ms for a, b in pairs), 2),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
