"""Reports that prove nothing by themselves: put before a person, taken off (`tracker.unmatched` reads)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, update

from tracker import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """One entry of the worklist."""

    id: int
    at_us: int
    kind: str  # dsn, mdn, bounce, auto-reply, letter
    reason: str
    sender: str
    subject: str
    letter_id: int | None
    archive_key: str | None
    detail: dict[str, Any]


def add(conn: Connection, items: Sequence[Unclear]) -> None:
    """Write entries in the caller's transaction."""
    conn.execute(
        insert(schema.worklist),
        [
            {
                "id": item.id,
                "at_us": item.at_us,
                "kind": item.kind,
                "reason": item.reason,
                "sender": item.sender,
                "subject": item.subject,
                "letter_id": item.letter_id,
                "archive_key": item.archive_key,
                "detail": item.detail,
                "state": "open",
            }
            for item in items
        ],
    )


def take_off(conn: Connection, item: int) -> bool:
    """A person looked at it: True unless it was off the list before, or there is none."""
    w = schema.worklist.c
    taken = update(schema.worklist).where(w.id == item, w.state == "open").values(state="done")
    return conn.execute(taken).rowcount > 0
