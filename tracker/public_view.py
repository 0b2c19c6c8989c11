"""What anybody may know of a letter who has its number and code, or its content: both ends, the day, how far.

No subject, no person, no address; no blind copy and no copy that a rule added; only what is a letter with a
number. :func:`compare` holds digests that were made elsewhere against the commitments in the ledger's entries
(LEDGER.md 3), so that content never has to come here. Nothing is written; it fails as the database does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from tracker.model import DeliveryKind, LetterKind
from tracker.schema import delivery, evidence, ledger_entry, letter
from tracker.states import Event, Grade, Outcome, State
from tracker.verify import commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """One agency: the furthest that is proven of any of its mailboxes; ``failed`` when none got it."""

    agency: str
    grade: Grade
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicLetter:
    id: int
    number: str
    agency: str
    accepted_us: int
    addressees: tuple[Addressee, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a file fits: ``whole``: octet for octet; else which of its parts were sealed with the letter."""

    whole: bool
    text: bool
    parts: tuple[bool, ...]
    missing: int  # sealed parts that the file has not
    evidence: int = 0  # of a receipt's records: how many are sealed in entries of this letter
    waiting: bool = False  # some evidence of the letter has no entry yet


def by_number(conn: Connection, number: str) -> PublicLetter | None:
    """The letter of that number, whatever the case of its letters."""
    return _found(conn, letter.c.number.in_(sorted({number, number.upper(), number.lower()})))


def by_digest(conn: Connection, digests: Sequence[bytes]) -> PublicLetter | None:
    """The newest letter with one of these digests of its body and its author's own fields."""
    return _found(conn, letter.c.digest.in_(list(digests))) if digests else None


def _found(conn: Connection, which: ColumnElement[bool]) -> PublicLetter | None:
    c, d = letter.c, delivery.c
    row = conn.execute(
        select(c.id, c.number, c.agency, c.accepted_us)
        .where(which, c.kind == LetterKind.LETTER.value, c.number.is_not(None))
        .order_by(c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    reached: dict[str, tuple[Grade, bool]] = {}
    for told in conn.execute(
        select(d.agency, d.grade, d.state, d.outcome)
        .where(
            d.letter_id == row.id,
            d.kind.in_((DeliveryKind.LETTER.value, DeliveryKind.SHADOW.value)),
            d.bcc.is_(False),
            d.copy_by.is_(None),
            d.agency.is_not(None),
        )
        .order_by(d.id)
    ):
        grade, failed = reached.get(told.agency, (Grade.NONE, True))
        lost = told.state == State.REFUSED.value or told.outcome in (
            Outcome.FAILED.value,
            Outcome.RETURNED.value,
        )
        reached[told.agency] = max(grade, Grade(told.grade)), failed and lost
    return PublicLetter(
        id=row.id,
        number=row.number,
        agency=row.agency or "",
        accepted_us=row.accepted_us,
        addressees=tuple(
            Addressee(agency=code, grade=grade, failed=failed) for code, (grade, failed) in reached.items()
        ),
    )


def compare(
    conn: Connection,
    letter_id: int,
    *,
    whole: Sequence[bytes],
    text: Sequence[bytes],
    parts: Sequence[bytes],
    evidence: Sequence[bytes] = (),
) -> Fit:
    """Hold a file's digests against what its letter's entries seal.

    ``whole``: of the octets, as it may have been accepted; ``text``: of its text by each charset that it may
    have; ``parts``: of its other parts; ``evidence``: the commitments that a receipt's records open.
    """
    fit = _content(conn, letter_id, whole=whole, text=text, parts=parts)
    return replace(fit, **_evidence(conn, letter_id, evidence)) if evidence else fit


def _evidence(conn: Connection, letter_id: int, commitments: Sequence[bytes]) -> dict[str, Any]:
    rows = conn.execute(
        select(ledger_entry.c.entry)
        .select_from(evidence.outerjoin(ledger_entry, ledger_entry.c.evidence_id == evidence.c.id))
        .where(evidence.c.letter_id == letter_id)
    ).scalars()
    entries = [None if entry is None else json.loads(bytes(entry)) for entry in rows]
    sealed = {entry.get("record") for entry in entries if entry is not None}
    return {
        "evidence": len({one.hex() for one in commitments} & sealed),
        "waiting": any(entry is None for entry in entries),
    }


def _content(
    conn: Connection, letter_id: int, *, whole: Sequence[bytes], text: Sequence[bytes], parts: Sequence[bytes]
) -> Fit:
    best = Fit(whole=False, text=False, parts=(False,) * len(parts), missing=0)
    rows = conn.execute(
        select(evidence.c.salt, ledger_entry.c.entry)
        .join(ledger_entry, ledger_entry.c.evidence_id == evidence.c.id)
        .where(evidence.c.letter_id == letter_id, evidence.c.event == Event.SUBMITTED.value)
        .where(evidence.c.salt.is_not(None))
        .order_by(evidence.c.id)
    )
    for row in rows:
        salt = bytes(row.salt)
        members = json.loads(bytes(row.entry))
        sealed = set(members.get("parts") or ())
        if members.get("octets") in {commit(salt, digest).hex() for digest in whole}:
            return Fit(whole=True, text=True, parts=(True,) * len(parts), missing=0)
        texts = {commit(salt, digest).hex() for digest in text} & sealed
        others = [commit(salt, digest).hex() for digest in parts]
        fit = Fit(
            whole=False,
            text=bool(texts),
            parts=tuple(one in sealed for one in others),
            missing=len(sealed - texts - set(others)),
        )
        if fit.text + sum(fit.parts) > best.text + sum(best.parts) or not best.missing:
            best = fit
    return best
