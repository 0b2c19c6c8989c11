"""What two nodes accept at the same moment: one of them is told that it is there already."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest

from tests.records import claim, letter, rows, sent
from tracker import schema
from tracker.acceptance import Acceptance, Accepted
from tracker.archive import Archive
from tracker.ledger import LedgerKey
from tracker.model import LetterKind
from tracker.record import Record
from tracker.store import Store

pytestmark = [pytest.mark.servers, pytest.mark.postgres]
ROUNDS = 4


@pytest.fixture
def nodes(pg_url: str, tmp_path: Path) -> Iterator[tuple[Record, Record]]:
    store, key = Store(pg_url), LedgerKey.make("wasl.test/ledger")
    store.create()
    with (
        Archive(tmp_path / "archive") as archive,
        closing(Record(store, archive, key, node=0)) as one,
        closing(Record(Store(pg_url), archive, key, node=1)) as other,
    ):
        yield one, other


def at_once(nodes: tuple[Record, Record], letters: list[Acceptance]) -> list[Accepted]:
    gate = Barrier(2)

    def accept(n: int) -> Accepted:
        gate.wait()
        return nodes[n].accept(letters[n])

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(accept, range(2)))


@pytest.mark.parametrize("kind", [LetterKind.LETTER, LetterKind.PASS, LetterKind.SHADOW])
def test_one_transaction_is_one(nodes: tuple[Record, Record], kind: LetterKind) -> None:
    shape = {} if kind is LetterKind.LETTER else {"number_shape": None}
    for n in range(ROUNDS):
        text = b"From: a@mof.gov.example\r\n\r\n%d\r\n" % n
        same = [letter(node, text=text, message_id=f"<{n}@mof>", kind=kind, **shape) for node in nodes]
        assert sorted(one.repeat for one in at_once(nodes, same)) == [False, True]


def test_a_receipt_is_sent_by_one_whatever_its_words(nodes: tuple[Record, Record]) -> None:
    for n in range(ROUNDS):
        nodes[0].accept(letter(nodes[0], text=b"From: a\r\n\r\n%d\r\n" % n, message_id=f"<{n}@mof>"))
        for found in claim(nodes[0]):
            sent(nodes[0], found)
        due = [row.id for row in rows(nodes[0], schema.receipt) if row.state == "due"]
        receipts = [
            letter(
                node,
                kind=LetterKind.RECEIPT,
                text=b"receipt by %d of %d\r\n" % (node.node, n),
                agency=None,
                number_shape=None,
                digest=None,
                receipt_ids=tuple(due),
            )
            for node in nodes
        ]
        assert sorted(one.repeat for one in at_once(nodes, receipts)) == [False, True]
