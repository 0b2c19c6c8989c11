"""``python -m bench.replay``: how fast a candidate policy is led past recorded letters.

A store is generated (SQLite; letters of two hundred kinds between twenty agencies, decided by the default
policy, one to three recipients each), then ``policies.replay_report.run`` reads all of it as ``wasl policy
replay`` does: pages of JSON, facts, decision, comparison. Two candidates: the policy that decided, and
one with a rate limit that many letters meet and a rule in CEL. The figures are processor time of this
process, so that a busy machine does not change them; the wall clock stands beside them.

How it fails: a replay of the policy that decided which finds a difference ends with status 1.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import insert

from policies.agency import Agency, NextHop
from policies.chain import Policy
from policies.directory import Directory
from policies.facts import Facts, Surroundings, compute
from policies.load import LETTERS, load_policy
from policies.replay_report import Report, run
from tracker import policy_store
from tracker.header import scan
from tracker.model import Address, Connection, Door, Envelope, IdSource, Recipient, now_us
from tracker.schema import letter, submission
from tracker.store import Store, sqlite_url

AGENCIES = 20
KINDS = 200
LOT = 5_000
DAYS = 30

MORE = """rules:
  - id: bulk
    priority: 103
    description: {ar: كثرة, en: Too many letters of one mailbox}
    match: {recipient: agency, author: own}
    limit: {per: mailbox, count: 50, window: 1h}
  - id: budget-to-many
    priority: 104
    description: {ar: الموازنة, en: The budget to many}
    match: {recipient: agency}
    when: 'recipients > 2 && subject.contains("1")'
    action: hold
"""


def directory() -> Directory:
    return Directory(
        Agency(
            code=f"A{n:02d}",
            name_ar=f"الجهة {n}",
            name_en=f"Agency {n}",
            domains=(f"a{n:02d}.gov.example",),
            next_hop=NextHop(name=f"A{n:02d}", host="127.0.0.1"),
            networks=(ipaddress.ip_network(f"10.0.{n}.0/24"),),
        )
        for n in range(AGENCIES)
    )


def kinds(random_: random.Random) -> list[Facts]:
    """Letters that differ in sender, recipients, subject and header."""
    around = Surroundings(directory=directory(), domain="wasl.gov.example")
    out = []
    for n in range(KINDS):
        home = n % AGENCIES
        others = random_.sample([a for a in range(AGENCIES) if a != home], random_.choice([1, 1, 1, 2, 3]))
        sender = f"clerk{n % 7}@a{home:02d}.gov.example"
        fields = [
            f"From: الديوان <{sender}>",
            f"To: diwan@a{others[0]:02d}.gov.example",
            f"Subject: كتاب رقم {n} بخصوص مخصصات الموازنة العامة",
            f"Message-ID: <{n}@a{home:02d}.gov.example>",
            "Date: Sun, 22 Nov 2026 10:00:00 +0300",
            random_.choice(["X-Mailer: x", "Importance: high", "X-Priority: 1"]),
        ]
        octets = "\r\n".join([*fields, "", "نص", ""]).encode()
        envelope = Envelope(
            sender=Address.parse(sender),
            recipients=tuple(
                Recipient(address=Address.parse(f"diwan@a{other:02d}.gov.example")) for other in others
            ),
        )
        conn = Connection(door=Door.RELAY, peer=f"10.0.{home}.9", agency=f"A{home:02d}")
        out.append(compute(scan(octets), 9_000 + n, envelope, conn, around))
    return out


def fill(store: Store, policy: Policy, letters: int, progress: Progress) -> None:
    """Record so many letters over the last days, as acceptance would."""
    random_ = random.Random(7)
    made = kinds(random_)
    begin = now_us() - DAYS * 86_400_000_000
    step = DAYS * 86_400_000_000 // (letters + 1)
    task = progress.add_task("a store", total=letters)
    with store.writer.begin() as conn:
        policy_store.store_version(conn, policy.version, dict(policy.texts), by="", note="", at_us=begin)
    for start in range(0, letters, LOT):
        rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for n in range(start, min(letters, start + LOT)):
            at = begin + (n + 1) * step
            row_id = (at // 1000 - IdSource.EPOCH_MS) << 22 | (n & 1023)
            facts = replace(made[random_.randrange(KINDS)], at_us=at)
            decision = policy.decide(facts)
            rows[0].append(_letter(row_id, n, facts, at))
            rows[1].append(_submission(row_id, facts, decision.to_json(), policy.version, at))
        with store.writer.begin() as conn:
            conn.execute(insert(letter), rows[0])
            conn.execute(insert(submission), rows[1])
        progress.advance(task, len(rows[0]))


def _letter(row_id: int, n: int, facts: Facts, at: int) -> dict[str, Any]:
    return {
        "id": row_id,
        "kind": "letter",
        "number": f"{facts.submitter}/2026/{n:07d}",
        "agency": facts.submitter,
        "author": facts.author,
        "subject": facts.subject,
        "thread_id": row_id,
        "accepted_us": at,
    }


def _submission(row_id: int, facts: Facts, decision: dict[str, Any], version: str, at: int) -> dict[str, Any]:
    return {
        "id": row_id,
        "letter_id": row_id,
        "at_us": at,
        "door": facts.door.value,
        "peer": facts.peer,
        "sender": facts.sender,
        "size": facts.size,
        "sha256": b"",
        "archive_key": str(row_id),
        "facts": facts.to_json(),
        "facts_version": 2,
        "decision": decision,
        "policy_version": version,
    }


def replayed(store: Store, candidate: Policy, progress: Progress, label: str) -> tuple[Report, float, float]:
    """The report, processor time and wall-clock time in seconds."""
    task = progress.add_task(label, total=None)
    cpu, wall = time.process_time(), time.perf_counter()
    report = run(
        store.reader.connect,
        candidate,
        since_us=now_us() - (DAYS + 1) * 86_400_000_000,
        progress=lambda done, total: progress.update(task, completed=done, total=total),
    )
    return report, time.process_time() - cpu, time.perf_counter() - wall


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description="Replays of a policy.")
    parser.add_argument("--letters", type=int, default=100_000, help="how many are recorded (100,000)")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory() as place, Progress(*columns, console=console) as progress:
        root = Path(place)
        (root / "more").mkdir()
        (root / "more" / "letters.yaml").write_text(LETTERS.read_text("utf-8"), "utf-8")
        (root / "more" / "more.yaml").write_text(MORE, "utf-8")
        active, other = load_policy(), load_policy(root / "more")
        store = Store(sqlite_url(root / "wasl.db"))
        store.create()
        try:
            fill(store, active, arguments.letters, progress)
            results = {
                name: replayed(store, candidate, progress, name)
                for name, candidate in (("the policy that decided", active), ("a stricter one", other))
            }
        finally:
            store.close()
    table = Table(title=f"replay of {arguments.letters:,} letters")
    for column in ("candidate", "letters/s of one core", "wall clock, letters/s", "changed"):
        table.add_column(column, justify="left" if column == "candidate" else "right")
    for name, (report, cpu, wall) in results.items():
        table.add_row(
            name, f"{report.letters / cpu:,.0f}", f"{report.letters / wall:,.0f}", f"{report.changed:,}"
        )
    Console().print(table)
    same, cpu, wall = results["the policy that decided"]
    print(
        json.dumps(
            {"replay_per_cpu_s": round(same.letters / cpu), "replay_per_s": round(same.letters / wall)}
        )
    )
    if same.changed or same.letters != arguments.letters:
        print(
            f"{same.changed} of {same.letters} letters would differ under the policy that decided",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
