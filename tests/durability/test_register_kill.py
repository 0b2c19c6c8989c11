"""kill -9 while letters are registered: no incoming number is given twice, left out, or lost once said.

On SQLite one process at a time, on PostgreSQL two nodes together, killed at any moment and started again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import select

from tests.durability.registering import ORIGIN, open_record
from tests.records import made_store
from tracker import schema
from tracker.acceptance import Acceptance, DeliveryDraft
from tracker.archive import Octets
from tracker.audit_ledger import verify_store
from tracker.claims import Want
from tracker.ledger import LedgerKey
from tracker.model import (
    Address,
    Connection,
    DeliveryKind,
    Door,
    Envelope,
    LetterKind,
    Recipient,
    now_us,
)
from tracker.noting import AttemptEnd, Note
from tracker.record import Record
from tracker.states import Event

LETTERS = 320
LIVES = 7
ROOT = Path(__file__).parents[2]


def seed(record: Record) -> None:
    """Letters of MOF's that lie at MOH's server."""
    to = Recipient(address=Address.parse("diwan@moh.gov.example"))
    author = Address.parse("a@mof.gov.example")
    at = now_us()
    for number in range(LETTERS):
        octets = Octets.of(f"From: {author}\r\n\r\n{number}\r\n".encode())
        record.accept(
            Acceptance(
                submission_id=record.ids.next(),
                kind=LetterKind.LETTER,
                peer=Connection(door=Door.RELAY, peer="192.0.2.1", agency="MOF"),
                envelope=Envelope(sender=author, recipients=(to,)),
                octets=octets,
                at_us=at,
                expires_us=at + 10**12,
                agency="MOF",
                author=str(author),
                message_id=f"<{number}@mof>",
                digest=octets.sha256,
                number_shape="{agency}/{year}/{seq:06d}",
                deliveries=(
                    DeliveryDraft(
                        recipient=to, kind=DeliveryKind.LETTER, agency="MOH", hop="MOH", asks=("registered",)
                    ),
                ),
            )
        )
    while claims := record.claim(Want(owner="0/a", limit=100, now_us=at, lease_us=at + 10**9)):
        for claim in claims:
            end = AttemptEnd(attempt_id=claim.attempt_id, reply="250 2.0.0 Ok")
            record.note(Note(delivery_id=claim.delivery_id, event=Event.RELAYED, at_us=at, attempt=end))


def audit(record: Record, said: dict[int, str]) -> int:
    """What must hold at any time; how many are registered."""
    with record.read() as conn:
        rows = conn.execute(select(schema.incoming).order_by(schema.incoming.c.seq)).all()
        numbers = {row.letter_id: row.number for row in rows}
        counter = conn.scalar(select(schema.counter.c.value).where(schema.counter.c.register == "in")) or 0
        e = schema.evidence.c
        noted = conn.execute(select(e.letter_id, e.detail).where(e.event == "registered")).all()
        receipts = list(
            conn.scalars(select(schema.receipt.c.letter_id).where(schema.receipt.c.kind == "registered"))
        )
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1)), "a gap, or a number twice"
    assert counter == len(rows), "a number was taken and given to nobody"
    assert said.items() <= numbers.items(), "a number that was said is lost or another"
    assert {row.letter_id: row.detail["incoming_number"] for row in noted} == numbers
    assert len(noted) == len(rows) and sorted(receipts) == sorted(numbers)
    return len(rows)


def test_no_number_is_given_twice_or_left_out(record_url: str, tmp_path: Path) -> None:
    made_store(record_url).close()
    (tmp_path / "archive").mkdir()
    (tmp_path / "key.pem").write_bytes(LedgerKey.make(ORIGIN).pem())
    record = open_record(record_url, tmp_path, 0)
    nodes = (1,) if record.store.dialect == "sqlite" else (1, 2)
    seed(record)
    record.close()
    said: dict[int, str] = {}
    dice = random.Random(4)
    counts: list[int] = []
    program = (sys.executable, "-m", "tests.durability.registering")
    for life in range(LIVES + 1):
        most = 60 // len(nodes) if life < LIVES else LETTERS + 1
        outs = [tmp_path / f"said{life}.{node}" for node in nodes]
        running = [
            subprocess.Popen(
                [*program, record_url, str(tmp_path), str(node), str(most)],
                stdout=out.open("wb"),
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for node, out in zip(nodes, outs, strict=True)
        ]
        if life < LIVES:
            deadline = time.monotonic() + 120
            while not any(out.stat().st_size for out in outs) and time.monotonic() < deadline:
                if all(child.poll() is not None for child in running):
                    break
                time.sleep(0.002)
            time.sleep(dice.random() * 0.04)
            for child in running:
                child.send_signal(signal.SIGKILL)
        for child in running:
            child.wait(240)
        for out in outs:
            for line in out.read_text().split("\n")[:-1]:  # the last one may be cut off
                letter_id, number = line.split()
                said[int(letter_id)] = number
        record = open_record(record_url, tmp_path, 0)
        counts.append(audit(record, said))
        record.close()
    assert counts[-1] == LETTERS, "the last life ends what the others began"
    assert len({count for count in counts if 0 < count < LETTERS}) > 2, "killed in the midst of it"
    record = open_record(record_url, tmp_path, 0)
    with record.read() as conn:
        assert verify_store(conn, record.archive, record.ledger.key, lambda done, total: None) == []
    record.close()
