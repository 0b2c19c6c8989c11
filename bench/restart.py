"""How soon does mail flow again after a restart with a long queue? ``python -m bench.restart [--letters N]``.

10,000 letters are accepted by a gateway that does not relay, which is then stopped; ``wasl serve`` is
started again whole, and the clock runs from there to the first and to the last letter at the sink. With
``--kill`` the first gateway ends by SIGKILL. It ends with one line of JSON, and with status 1 when the first
letter took more than 5 s or not each arrived exactly once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from bench.relay import RECIPIENT, SENDER
from bench.sinking import running_sink
from bench.wasl import furnished
from tests.servers.place import Place, program
from tests.servers.wasl import serving

LIMIT_S = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description=__doc__.partition("\n")[0])
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--kill", action="store_true", help="end the first gateway by SIGKILL")
    arguments = parser.parse_args()
    with running_sink() as sink, Place("br") as at:
        house = furnished(at / "house", sink.port)
        with serving(house, roles=["smtp", "upkeep"]) as server:
            many = ["-s", "20", "-m", str(arguments.letters), "-l", "4000", "-f", SENDER, "-t", RECIPIENT]
            command = [program("smtp-source"), "-4", *many, f"127.0.0.1:{server.relay}"]
            subprocess.run(command, check=True, capture_output=True)
            if arguments.kill:
                server.child.kill()
        queued = sink.expect(1, seconds=0.1).letters
        begin = time.monotonic_ns()
        with serving(house):
            sunk = sink.expect(arguments.letters, seconds=300)
    first, last = (sunk.first_ns - begin) / 1e9, (sunk.last_ns - begin) / 1e9
    whole = queued == 0 and sunk.letters == arguments.letters and not sunk.duplicates
    print(f"{arguments.letters:,} queued: first arrival {first:.2f} s after the start, last {last:.1f} s")
    print(f"each arrived exactly once: {whole}")
    print(json.dumps({"first_s": round(first, 2), "last_s": round(last, 1), "whole": whole}))
    return 0 if whole and first <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
