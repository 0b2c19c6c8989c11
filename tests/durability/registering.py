"""A clerk who registers whatever waits at MOH, four hands at once, and says each number that was given.

Run as ``python -m tests.durability.registering URL FOLDER NODE MOST``; it is killed in the middle of it.
After about MOST numbers it does no more and waits for that: no machine is quick enough to be done before.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from tracker import incoming
from tracker.access import Role, Viewer
from tracker.archive import Archive
from tracker.filing import Deed, Filing
from tracker.ledger import LedgerKey
from tracker.model import now_us
from tracker.record import Record
from tracker.store import Store

CLERK = Viewer(account="rana", role=Role.REGISTRY, agency="MOH")
ORIGIN = "wasl.test/ledger"


def open_record(url: str, folder: Path, node: int) -> Record:
    key = LedgerKey.from_pem(ORIGIN, (folder / "key.pem").read_bytes())
    return Record(Store(url), Archive(folder / "archive"), key, zone="Asia/Amman", node=node)


def main() -> None:
    record = open_record(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    left = int(sys.argv[4])
    out = threading.Lock()

    def work(hand: int) -> None:
        nonlocal left
        while True:
            with record.read() as conn:
                found = incoming.waiting(conn, CLERK, "MOH", limit=20).entries[hand::4]
            if not found:
                return
            filings = [
                Filing(
                    letter_id=one.letter_id,
                    agency="MOH",
                    deed=Deed.REGISTER,
                    at_us=now_us(),
                    person=CLERK,
                    shape="{seq}/{year}",
                )
                for one in found
            ]
            for filed in record.file(filings):
                if filed.bar is None:
                    with out:
                        print(filed.letter_id, filed.incoming, flush=True)
                        left -= 1
            while left <= 0:
                time.sleep(60)

    hands = [threading.Thread(target=work, args=(hand,), daemon=True) for hand in range(4)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()


if __name__ == "__main__":
    main()
