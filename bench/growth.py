"""Does a letter cost the same in a full store as in an empty one? ``python -m bench.growth [--letters N]``.

Letters of 4 KB are given over 20 connections until the store holds N (200,000). For each block of them
stand in the table: letters per second that reached the sink, and CPU time of the gateway per letter, which
other work on the machine disturbs least. It ends with one line of JSON: the CPU time of the first and of the
last tenth and their ratio. How it fails: a lost letter ends it with status 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from bench.process import cpu_seconds
from bench.relay import Load, LostLetters, measure
from bench.sinking import running_sink
from bench.wasl import running_wasl


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--letters", type=int, default=200_000)
    parser.add_argument("--block", type=int, default=10_000)
    arguments = parser.parse_args()
    costs: list[float] = []
    print(f"{'letters':>9}  {'per second':>10}  {'CPU ms each':>11}")
    with running_sink() as sink, running_wasl(sink.port) as wasl:
        measure(
            wasl, sink, Load(connections=20, size=4000, letters=500)
        )  # what is imported late is paid here
        for done in range(arguments.block, arguments.letters + 1, arguments.block):
            before = cpu_seconds(wasl.pid)
            try:
                rate = measure(
                    wasl, sink, Load(connections=20, size=4000, letters=arguments.block), seconds=900
                )
            except LostLetters as fault:
                print(fault, file=sys.stderr)
                return 1
            costs.append((cpu_seconds(wasl.pid) - before) / arguments.block * 1000)
            print(f"{done:>9,}  {rate.reached:>10,.0f}  {costs[-1]:>11.3f}", flush=True)
    tenth = max(1, len(costs) // 10)
    first, last = statistics.mean(costs[:tenth]), statistics.mean(costs[-tenth:])
    print(
        json.dumps({"first_ms": round(first, 3), "last_ms": round(last, 3), "growth": round(last / first, 2)})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
