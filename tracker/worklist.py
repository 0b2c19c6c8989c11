"""Putting reports that prove nothing by themselves before a person (read by ``tracker.unmatched``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert

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
