"""What is awaited of a delivery, as conditions written the way the partial indexes have them.

SQLite uses a partial index only for a condition in the words of the index, and PostgreSQL's prepared
statements only for constants; so these are literal, never bound. Nothing here fails.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.sql.selectable import FromClause

from tracker.schema import delivery
from tracker.states import Outcome, State

LIVING = (Outcome.OPEN.value, Outcome.REOPENED.value)

Terms = tuple[ColumnElement[bool], ...]


def _words(*words: str) -> list[Any]:
    return [literal_column(f"'{word}'") for word in words]


_SHOWN = _words("letter", "shadow")


def answer_awaited(row: FromClause = delivery) -> Terms:
    """An answer is due, and the letter is on its way or there (three indexes)."""
    return (
        row.c.due_us.is_not(None),
        row.c.outcome.in_(_words(*LIVING)),
        row.c.state != literal_column("'held'"),
    )


def untaken(row: FromClause = delivery) -> Terms:
    """The agency's server has it and nobody there has taken it in (``ix_delivery_untaken``)."""
    return (
        row.c.state == literal_column("'sent'"),
        row.c.grade < literal_column("6"),
        row.c.outcome == literal_column("'open'"),
        row.c.kind.in_(_SHOWN),
    )


def on_the_way(row: FromClause = delivery) -> Terms:
    """Queued or being sent (``ix_delivery_due``)."""
    return (row.c.state.in_(_words(State.QUEUED.value, State.SENDING.value)),)
