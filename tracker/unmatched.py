"""The worklist: reports and answers that matched no letter, for administrators of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    select,
)

from tracker.access import (
    Viewer,
)
from tracker.schema import letter, worklist

PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistItem:
    id: int
    at_us: int
    kind: str
    reason: str
    sender: str
    subject: str
    letter_id: int | None
    number: str | None
    detail: dict[str, Any]


def unmatched(
    conn: Connection,
    viewer: Viewer,
    *,
    before_id: int | None = None,
    done: bool = False,
    limit: int = PAGE,
) -> tuple[tuple[WorklistItem, ...], int | None]:
    """Reports that matched no letter, newest first, and the cursor of the next page; empty for others.

    ``done``: those that a person took off the list.
    """
    if not viewer.may_see_worklist:
        return (), None
    asked = (
        select(worklist, letter.c.number)
        .outerjoin(letter, letter.c.id == worklist.c.letter_id)
        .where(worklist.c.state == ("done" if done else "open"))
    )
    if before_id is not None:
        asked = asked.where(worklist.c.id < before_id)
    rows = conn.execute(asked.order_by(worklist.c.id.desc()).limit(limit + 1)).all()
    items = tuple(
        WorklistItem(
            id=row.id,
            at_us=row.at_us,
            kind=row.kind,
            reason=row.reason,
            sender=row.sender,
            subject=row.subject,
            letter_id=row.letter_id,
            number=row.number,
            detail=row.detail or {},
        )
        for row in rows[:limit]
    )
    return items, (items[-1].id if len(rows) > limit else None)
