"""Recorded transactions as they were decided: facts and decision, in the order in which they came.

Read by keyset pages, each on a connection of its own, so that a long reading holds no old snapshot of the
database open. Facts and decision come as the JSON text that was stored: whoever reads a hundred thousand
of them decodes what he needs. Pass-through mail and receipts have no facts and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Select, Text, cast, func, select

from tracker.model import LetterKind
from tracker.question import first_id
from tracker.schema import letter, submission

PAGE = 2_000
DECIDED = (LetterKind.LETTER.value, LetterKind.SHADOW.value, LetterKind.REFUSED.value)

S = TypeVar("S", bound=Select[Any])
Read = Callable[[], AbstractContextManager[Connection]]


class Recorded(NamedTuple):
    """One transaction. ``facts`` and ``decision`` are JSON."""

    submission_id: int
    letter_id: int
    at_us: int
    kind: str
    number: str | None
    agency: str | None  # that handed it in
    version: str  # of the policy that decided
    facts_version: int
    facts: str
    decision: str


def recorded(
    read: Read, since_us: int, until_us: int | None = None, *, page: int = PAGE
) -> Iterator[list[Recorded]]:
    """Pages of what was decided from ``since_us`` up to ``until_us`` (microseconds UTC), oldest first."""
    after = first_id(since_us) - 1
    while True:
        asked = _span(_COLUMNS, after, until_us).order_by(submission.c.id).limit(page)
        with read() as conn:
            rows = [Recorded._make(row) for row in conn.execute(asked)]
        if rows:
            yield rows
        if len(rows) < page:
            return
        after = rows[-1].submission_id


def count(conn: Connection, since_us: int, until_us: int | None = None) -> int:
    """How many :func:`recorded` would tell."""
    asked = select(func.count()).select_from(submission.join(letter, letter.c.id == submission.c.letter_id))
    return int(conn.scalar(_span(asked, first_id(since_us) - 1, until_us)) or 0)


def of_letter(conn: Connection, letter_id: int) -> tuple[Recorded, ...]:
    """The transactions that brought one letter, in order."""
    asked = _COLUMNS.where(submission.c.letter_id == letter_id, letter.c.kind.in_(DECIDED))
    return tuple(Recorded._make(row) for row in conn.execute(asked.order_by(submission.c.id)))


def archive_key(read: Read, submission_id: int) -> str | None:
    """Where the octets of a transaction lie."""
    with read() as conn:
        return conn.scalar(select(submission.c.archive_key).where(submission.c.id == submission_id))


_s = submission.c
_COLUMNS: Select[Any] = select(
    _s.id,
    _s.letter_id,
    _s.at_us,
    letter.c.kind,
    letter.c.number,
    letter.c.agency,
    _s.policy_version,
    _s.facts_version,
    cast(_s.facts, Text),
    cast(_s.decision, Text),
).select_from(submission.join(letter, letter.c.id == _s.letter_id))


def _span(asked: S, after: int, until_us: int | None) -> S:
    asked = asked.where(submission.c.id > after, letter.c.kind.in_(DECIDED))
    return asked if until_us is None else asked.where(submission.c.id < first_id(until_us))
