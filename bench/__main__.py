"""``python -m bench``: Wasl and its peer in turn; a table; one line of JSON at the end.

Both run at the same time and are given each load in turn (A B A B …), because the same machine measures 10 to
25 % differently a minute later: only figures of one interleaved run may be compared. The ratio of a load is
the median of the ratios of its rounds. What is measured is the time to the last letter *reaching* the sink,
each exactly once; letters accepted per second flatter a relay that queues and stand in the table only.

How it fails: a letter that is lost or comes twice ends the run with status 1 and says whose it was.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.peer import running_peer
from bench.relay import Latency, Load, LostLetters, Rate, RelayUnderTest, latency, measure
from bench.sinking import RunningSink, running_sink
from bench.wasl import running_wasl
from tests.faults.faultfs import Call, FaultFs
from tests.servers.place import Place, ServerFailed

SYNC_MS = 5  # the artificial sync: an ordinary disk


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A load with its name in the result and the number of letters for each relay (peer, Wasl)."""

    name: str
    label: str
    connections: int
    size: int
    letters: int


SCENES = (
    Scene(name="ratio_10k_c1", label="10 KB, 1 connection", connections=1, size=10_000, letters=1000),
    Scene(name="ratio_10k_c20", label="10 KB, 20 connections", connections=20, size=10_000, letters=3000),
    Scene(name="ratio_200k_c20", label="200 KB, 20 connections", connections=20, size=200_000, letters=1000),
)
EXTRA = (
    Scene(name="ratio_10k_c100", label="10 KB, 100 connections", connections=100, size=10_000, letters=3000),
    Scene(name="ratio_200k_c1", label="200 KB, 1 connection", connections=1, size=200_000, letters=500),
    Scene(
        name="ratio_200k_c100", label="200 KB, 100 connections", connections=100, size=200_000, letters=1000
    ),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All rounds of one scene."""

    scene: Scene
    peer: tuple[Rate, ...]
    wasl: tuple[Rate, ...]

    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(w.reached / p.reached for p, w in zip(self.peer, self.wasl, strict=True))


def _spread(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:,.0f}" if len(values) == 1 else f"{middle:,.0f} ({min(values):,.0f}–{max(values):,.0f})"


class Bench:
    """One run."""

    def __init__(self, rounds: int, share: float, console: Console) -> None:
        self.rounds = rounds
        self.share = share
        self.console = console

    def letters(self, scene: Scene) -> int:
        """Letters of a scene in this run."""
        return max(scene.connections, int(scene.letters * self.share))

    def rates(self, scenes: Sequence[Scene]) -> list[Outcome]:
        """The scenes, Wasl and its peer in turn."""
        outcomes = []
        with (
            running_sink() as sink,
            running_peer(sink.port) as peer,
            running_wasl(sink.port) as wasl,
            self._progress() as progress,
        ):
            task = progress.add_task("warming up", total=2 + 2 * self.rounds * len(scenes))
            for relay in (peer, wasl):
                measure(relay, sink, Load(connections=20, size=10_000, letters=300))
                progress.advance(task)
            for scene in scenes:
                load = Load(connections=scene.connections, size=scene.size, letters=self.letters(scene))
                rounds: tuple[list[Rate], list[Rate]] = ([], [])
                for _ in range(self.rounds):
                    for relay, rates in zip((peer, wasl), rounds, strict=True):
                        progress.update(task, description=f"{scene.label}: {relay.name}")
                        rates.append(measure(relay, sink, load))
                        progress.advance(task)
                outcomes.append(Outcome(scene=scene, peer=tuple(rounds[0]), wasl=tuple(rounds[1])))
        return outcomes

    def latencies(self, *, sync_ms: int = 0) -> tuple[Latency, Latency]:
        """Waits for the 250 at 20 connections and 10 KB: the peer's and Wasl's, the better of the rounds.

        With ``sync_ms`` every sync of both takes that much longer.
        """
        load = Load(connections=20, size=10_000, letters=max(200, int(2000 * self.share)))
        with ExitStack() as stack:
            preload = None
            if sync_ms:
                faults = FaultFs(stack.enter_context(Place("bf")).path)
                stack.callback(faults.close)
                faults.delay(Call.SYNC, sync_ms)
                preload = faults.env
            sink = stack.enter_context(running_sink())
            peer = stack.enter_context(running_peer(sink.port, preload=preload))
            wasl = stack.enter_context(running_wasl(sink.port, preload=preload))
            progress = stack.enter_context(self._progress())
            task = progress.add_task("waits", total=2 * self.rounds + 2)
            best: dict[str, Latency] = {}
            for round_ in range(self.rounds + 1):
                for relay in (peer, wasl):
                    progress.update(
                        task, description=f"waits{f', sync {sync_ms} ms' if sync_ms else ''}: {relay.name}"
                    )
                    warm = Load(connections=20, size=10_000, letters=200)
                    seen = self._waits(relay, sink, load if round_ else warm)
                    if round_:
                        known = best.get(relay.name)
                        best[relay.name] = seen if known is None or seen.p99_ms < known.p99_ms else known
                    progress.advance(task)
            return best[peer.name], best[wasl.name]

    @staticmethod
    def _waits(relay: RelayUnderTest, sink: RunningSink, load: Load) -> Latency:
        return latency(relay, sink, load)

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description:<42}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        return Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)


def _report(console: Console, outcomes: Sequence[Outcome], waits: dict[str, tuple[Latency, Latency]]) -> None:
    table = Table(title="letters that reached the sink, per second: median (least–most)")
    for column, justify in (("load", "left"), ("Postfix + OpenDKIM", "right"), ("Wasl", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    table.add_column("ratio", justify="right")
    table.add_column("accepted/s, peer and Wasl", justify="right")
    for outcome in outcomes:
        accepted = [statistics.median(r.accepted for r in side) for side in (outcome.peer, outcome.wasl)]
        table.add_row(
            outcome.scene.label,
            _spread([r.reached for r in outcome.peer]),
            _spread([r.reached for r in outcome.wasl]),
            f"{outcome.ratio:.2f}",
            f"{accepted[0]:,.0f}, {accepted[1]:,.0f}",
        )
    console.print(table)
    table = Table(title="wait for the 250 after the last octet, 10 KB, 20 connections, ms")
    for column in ("", "Postfix + OpenDKIM p50 / p99", "Wasl p50 / p99"):
        table.add_column(column, justify="right" if column else "left")
    for label, both in waits.items():
        table.add_row(label, *(f"{w.p50_ms:.1f} / {w.p99_ms:.1f}" for w in both))
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Wasl and its peer, in turn.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each load is given to each (3)")
    parser.add_argument("--share", type=float, default=1.0, help="of the letters of a full run (1.0)")
    parser.add_argument("--all", action="store_true", help="more loads: 100 connections, 200 KB at one")
    arguments = parser.parse_args()
    console = Console(stderr=False, width=max(100, Console().width))
    console.print(f"{os.cpu_count()} processors, load average before the run {os.getloadavg()[0]:.1f}")
    bench = Bench(arguments.rounds, arguments.share, console)
    try:
        outcomes = bench.rates(SCENES + EXTRA if arguments.all else SCENES)
        waits = {
            "this disk's sync": bench.latencies(),
            f"sync {SYNC_MS} ms longer": bench.latencies(sync_ms=SYNC_MS),
        }
    except (LostLetters, ServerFailed) as fault:
        print(fault, file=sys.stderr)
        return 1
    _report(console, outcomes, waits)
    result = {outcome.scene.name: round(outcome.ratio, 2) for outcome in outcomes}
    here, slow = waits.values()
    result["accept_p99_ms_10k_c20"] = here[1].p99_ms
    result["accept_p99_ms_10k_c20_sync_5ms"] = slow[1].p99_ms
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
