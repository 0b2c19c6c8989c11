"""What was asked of a recipient's server and client, and when: that silence can be told as silence.

For each delivery the hand-over that was accepted: whether its server offers delivery reports (DSN, asked for
of every letter: RFC 3461 §4.1) and whether the copy asked for a read receipt (RFC 8098 §2.1). Read from the
attempts and the edit that each of them records. Raises what the database does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from tracker.schema import attempt, delivery, evidence
from tracker.states import Event

_TAKEN = (Event.RELAYED.value, Event.DELIVERED.value)
_WISH = "disposition-notification-to:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked with the copy of one recipient. ``reports``: its server answers for delivery reports."""

    delivery_id: int
    at_us: int  # when the copy was handed over
    reports: bool
    read: bool  # a read receipt was asked for


def questions(conn: Connection, delivery_ids: Iterable[int]) -> dict[int, Question]:
    """By delivery; of the last hand-over that was accepted."""
    ids = list(dict.fromkeys(delivery_ids))[:500]
    if not ids:
        return {}
    a, d, e = attempt.c, delivery.c, evidence.c
    offered: dict[int, bool] = {}
    # Evidence is found by its letter.
    letters = select(d.letter_id).where(d.id.in_(ids))
    said = select(e.delivery_id, e.detail).where(
        e.letter_id.in_(letters), e.delivery_id.in_(ids), e.event.in_(_TAKEN)
    )
    for row in conn.execute(said.order_by(e.id)):
        detail: Any = row.detail
        if isinstance(detail, dict) and "hop_dsn" in detail:
            offered[row.delivery_id] = detail["hop_dsn"] is True
    out: dict[int, Question] = {}
    asked = select(a.delivery_id, a.ended_us, a.started_us, a.edit).where(
        a.delivery_id.in_(ids), a.result.in_(_TAKEN)
    )
    for taken in conn.execute(asked.order_by(a.id)):
        out[taken.delivery_id] = Question(
            delivery_id=taken.delivery_id,
            at_us=taken.ended_us or taken.started_us,
            reports=offered.get(taken.delivery_id, False),
            read=_asks(taken.edit),
        )
    return out


def _asks(edit: object) -> bool:
    """The recorded edit put a request for a read receipt before the letter."""
    prefix = edit.get("prefix") if isinstance(edit, dict) else None
    return isinstance(prefix, str) and any(line.lower().startswith(_WISH) for line in prefix.splitlines())
