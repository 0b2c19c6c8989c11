"""Which delivery a message seen in a mailbox is: number and Message-ID must both agree.

A message claims to be a letter by its ``Wasl-Letter`` field (DESIGN §9). The claim holds when the
letter of that number has that very Message-ID, went to the agency whose mailbox it lies in, and was
handed over at least once. Anything else is no letter of ours: a receipt of ours (it bears the number
under a Message-ID of its own), a reply, another agency's copy, a forgery. It raises no grade.

Fails: :func:`find_delivery` gives None for whatever cannot be matched; it raises what the database does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from tracker import schema
from tracker.model import Address, AddressError, DeliveryKind
from tracker.states import Grade, Outcome, State

_MAX_NUMBER, _MAX_ID = 100, 998


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The delivery that a message in a mailbox is."""

    delivery_id: int
    letter_id: int
    number: str
    recipient: str
    own: bool  # the recipient is the mailbox itself, or one of the addresses it stands for
    state: State
    grade: Grade
    outcome: Outcome


def find_delivery(
    conn: Connection,
    agency: str,
    number: str,
    message_id: str,
    mailbox: str | None,
    also: Collection[str] = (),
) -> Found | None:
    """The delivery to ``agency`` of the letter with that number and that Message-ID (in its brackets).

    ``mailbox`` is the address of the mailbox that the message lies in (None: not known), ``also`` the
    other addresses whose mail it takes. Of several recipients in the agency the one that is this
    mailbox is meant; when none of them is, the message cannot be given to any and the answer is None.
    """
    if not (_plain(number, _MAX_NUMBER) and _plain(message_id, _MAX_ID)):
        return None
    d, le = schema.delivery.c, schema.letter.c
    rows = conn.execute(
        select(
            d.id, d.letter_id, d.recipient, d.recipient_key, d.state, d.grade, d.outcome,
        )
        .join(schema.letter, le.id == d.letter_id)
        .where(
            le.number == number.strip(),
            le.message_id == message_id.strip(),
            d.agency == agency,
            d.kind == DeliveryKind.LETTER.value,
            d.state != State.REFUSED.value,
            d.attempts > 0,
        )
        .order_by(d.id)
        .limit(1000)
    ).all()  # fmt: skip
    keys = [key for name in (mailbox, *also) if name and (key := _key(name))]
    for key in keys:
        for row in rows:
            if row.recipient_key == key:
                return _found(number, row, own=True)
    return _found(number, rows[0], own=False) if len(rows) == 1 else None


def _found(number: str, row: Any, own: bool) -> Found:
    return Found(
        delivery_id=row.id,
        letter_id=row.letter_id,
        number=number.strip(),
        recipient=row.recipient,
        own=own,
        state=State(row.state),
        grade=Grade(row.grade),
        outcome=Outcome(row.outcome),
    )


def _key(name: str) -> str:
    try:
        return Address.parse(name.strip()).key
    except AddressError:
        return ""


def _plain(text: str, most: int) -> bool:
    """Text that a query may be asked with: not empty, not over-long, no control characters, no half of a
    surrogate pair."""
    try:
        return bool(text.strip()) and len(text.encode()) <= most and text.strip().isprintable()
    except UnicodeEncodeError:
        return False
