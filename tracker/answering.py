"""Which letter a letter answers, asked before it is decided upon: by the numbers named, then by reference.

The same order as acceptance links letters by (:mod:`tracker.linking`). One or two small queries by
index; nothing here fails but the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, or_, select

from tracker.access import reached
from tracker.model import LetterKind
from tracker.prepared import PreparedIn
from tracker.schema import delivery, letter

MOST = 20  # of the references, the last ones: the letter answered stands at the end (RFC 5322 §3.6.4)


class Found(NamedTuple):
    """The letter that is answered."""

    id: int
    number: str | None
    agency: str | None
    classification: str
    urgency: str
    due_us: int | None
    message_id: str | None


_c = letter.c
_COLUMNS = (_c.id, _c.number, _c.agency, _c.classification, _c.urgency, _c.due_us, _c.message_id)
_LETTERS = or_(_c.kind == LetterKind.LETTER.value, _c.kind == LetterKind.SHADOW.value)
_BY_NUMBER = PreparedIn(lambda numbers: select(*_COLUMNS).where(_c.number.in_(numbers)))
_BY_ID = PreparedIn(
    lambda ids: select(*_COLUMNS).where(_c.message_id.in_(ids), _LETTERS).order_by(_c.id).limit(100)
)


def letter_answered(
    conn: Connection, references: Sequence[str], numbers: Sequence[str], agency: str
) -> Found | None:
    """The letter meant, if it is one that ``agency`` sent or that reached for it; else None.

    Whoever names another's number learns nothing of that letter's classification (DESIGN §6.5).
    """
    found = _meant(conn, references, numbers)
    if found is None or found.agency == agency:
        return found
    d = delivery.c
    own = select(d.id).where(d.letter_id == found.id, d.agency == agency, reached()).limit(1)
    return found if conn.scalar(own) is not None else None


def _meant(conn: Connection, references: Sequence[str], numbers: Sequence[str]) -> Found | None:
    if numbers:
        known = {row[1]: row for row in _BY_NUMBER.all(conn, list(numbers))}
        for number in numbers:
            if number in known:
                return Found(*known[number])
    last = list(references[-MOST:])
    if not last:
        return None
    found = {row[6]: Found(*row) for row in _BY_ID.all(conn, last)}
    return next((found[ref] for ref in reversed(last) if ref in found), None)
