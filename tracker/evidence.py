"""Writing evidence: the rows of ``evidence`` and the ledger entry of each, in one call.

Only :mod:`tracker.acceptance`, :mod:`tracker.noting` and :mod:`tracker.claims` write here; what a group
brought is flushed once, before its commit. With several nodes the entries wait for the sequencer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert

from tracker import schema
from tracker.ledger import EvidenceRow, Ledger, entry_bytes
from tracker.prepared import Prepared


@dataclass(frozen=True, slots=True)
class Proof:
    """An evidence row and, for an acceptance, the digests it commits to beside itself."""

    row: EvidenceRow
    octets: bytes | None = None
    parts: tuple[bytes, ...] = ()


def evidence_row(
    *,
    id: int,
    letter_id: int,
    delivery_id: int | None,
    event: str,
    grade: int,
    at_us: int,
    noted_us: int,
    source: str = "wasl",
    reporter: str = "",
    detail: dict[str, Any],
) -> EvidenceRow:
    """An evidence row with a fresh salt."""
    return EvidenceRow(
        id=id,
        letter_id=letter_id,
        delivery_id=delivery_id,
        event=event,
        grade=grade,
        at_us=at_us,
        noted_us=noted_us,
        source=source,
        reporter=reporter,
        detail=detail,
        salt=os.urandom(16),
    )


_INSERT = Prepared(insert(schema.evidence))


class EvidenceBook:
    """Where evidence is written. ``sequenced`` is False on a gateway with several nodes."""

    def __init__(self, ledger: Ledger, sequenced: bool = True) -> None:
        self._ledger = ledger
        self._sequenced = sequenced
        self._open: list[Proof] = []  # of the transaction that is under way

    def write(self, proofs: Sequence[Proof]) -> None:
        """Have these written at the end of the transaction that is under way."""
        self._open += proofs

    def flush(self, conn: Connection) -> None:
        """Write what the group brought: one insert, one growth of the ledger, whatever its desks."""
        proofs, self._open = self._open, []
        if not proofs:
            return
        _INSERT.many(
            conn,
            [
                {
                    "id": p.row.id,
                    "letter_id": p.row.letter_id,
                    "delivery_id": p.row.delivery_id,
                    "event": p.row.event,
                    "grade": p.row.grade,
                    "at_us": p.row.at_us,
                    "noted_us": p.row.noted_us,
                    "source": p.row.source,
                    "reporter": p.row.reporter,
                    "detail": p.row.detail,
                    "salt": p.row.salt,
                }
                for p in proofs
            ],
        )
        entries = [(p.row.id, entry_bytes(p.row, octets=p.octets, parts=p.parts)) for p in proofs]
        if self._sequenced:
            self._ledger.append(conn, entries)
        else:
            self._ledger.pend(conn, entries)

    def forget(self) -> None:
        """The transaction was rolled back."""
        self._open = []
        self._ledger.forget()
