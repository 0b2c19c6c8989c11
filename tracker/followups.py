"""What follow-up has done: steps of letters' plans, digests, and the mail that each of them became.

A step is claimed by its row, once for a delivery and for ever (``UNIQUE (subject, step)``), in one
transaction with its evidence. Mail is made of what is claimed and not settled yet, and the row is settled in
the transaction that accepts the mail: a kill in between makes the mail again, never twice. The accepting
transaction locks the rows first (:func:`free`), so that of two nodes that made the same mail one is answered
as a repeat. Nothing here raises but what the database does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tracker.awaiting import LIVING, answer_awaited
from tracker.evidence import EvidenceBook
from tracker.model import DeliveryKind, IdSource, id_text
from tracker.noting import Note, NoteDesk
from tracker.object_store import ObjectStore
from tracker.schema import delivery, followup, letter, submission
from tracker.states import Event, State
from tracker.writer import Desk

REFERRED = 500  # of so many the thread is read; more at one time are not single mails


ASKED = "asked "  # before the day: the step that a person asked for, once a day


class StepState(StrEnum):
    DUE = "due"  # claimed, its mail is to be made
    SENT = "sent"  # its mail is accepted
    NOTED = "noted"  # needs no mail
    PASSED = "passed"  # passed over: it came too late, or the letter was answered before its mail was made


class Kind(StrEnum):
    REMIND = "remind"
    ESCALATE = "escalate"
    EXPIRE = "expire"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepClaim:
    """One step to be taken of one delivery. ``taken`` is False for what is passed over."""

    delivery_id: int
    letter_id: int
    agency: str
    kind: Kind
    step: str
    step_us: int
    due_us: int | None
    recipients: tuple[str, ...] = ()
    taken: bool = True
    person: str = ""  # who asked for it by hand; such a step needs no due date

    @property
    def subject(self) -> str:
        return id_text(self.delivery_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestClaim:
    """The digest of one day for one reader: a registry, an agency's compliance staff, that of the whole."""

    subject: str  # "registry MOH", "compliance MOH", "compliance"
    day: str
    agency: str | None
    recipients: tuple[str, ...]
    step_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """What one look claims."""

    at_us: int
    steps: tuple[StepClaim, ...] = ()
    digests: tuple[DigestClaim, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What of a lot was new. ``letter_ids``: letters whose page shows something else now."""

    steps: tuple[StepClaim, ...]
    digests: tuple[DigestClaim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """One delivery whose answer is due, as a plan looks at it."""

    delivery_id: int
    letter_id: int
    agency: str
    recipient: str
    urgency: str
    due_us: int
    accepted_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A step as the record has it."""

    delivery_id: int
    step: str
    kind: Kind
    step_us: int
    at_us: int
    state: StepState
    recipients: tuple[str, ...]
    sent_letter_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMail:
    """A claimed step whose mail is to be made, with its letter."""

    id: int
    kind: Kind
    subject: str
    step: str
    agency: str | None
    recipients: tuple[str, ...]
    step_us: int
    at_us: int
    living: bool = True  # its answer is still awaited
    letter_id: int | None = None
    delivery_id: int | None = None
    number: str | None = None
    from_agency: str | None = None
    title: str = ""  # the letter's subject
    classification: str = ""
    message_id: str | None = None
    references: tuple[str, ...] = ()
    accepted_us: int = 0
    due_us: int | None = None
    grade: int = 0


_INSERT = {
    "sqlite": sqlite.insert(followup).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(followup).on_conflict_do_nothing(),
}


class FollowUpDesk(Desk):
    """Writes claims in groups, each with its evidence."""

    order = 6

    def __init__(self, archive: ObjectStore, book: EvidenceBook, ids: IdSource) -> None:
        self._notes = NoteDesk(archive, book, ids)  # one of its own: it keeps what to remove of a group
        self._ids = ids

    def inside(self, conn: Connection, payloads: Sequence[Lot]) -> list[Claimed]:
        notes: list[Note] = []
        results = [self._claim(conn, lot, notes) for lot in payloads]
        if notes:
            self._notes.inside(conn, notes)
        return results

    def after(self, payloads: Sequence[Any], results: list[Claimed]) -> None:
        self._notes.after((), [])

    def failed(self) -> None:
        self._notes.failed()

    def _claim(self, conn: Connection, lot: Lot, notes: list[Note]) -> Claimed:
        living = _still_awaited(conn, [c.delivery_id for c in lot.steps if not c.person], _owed())
        living |= _still_awaited(conn, [c.delivery_id for c in lot.steps if c.person], _there())
        steps = []
        for claim in lot.steps:
            if claim.delivery_id not in living or not self._row(conn, lot, _values(claim)):
                continue
            steps.append(claim)
            if claim.taken:
                notes.append(_note(claim, lot.at_us))
        digests = [d for d in lot.digests if self._row(conn, lot, _digest_values(d))]
        return Claimed(steps=tuple(steps), digests=tuple(digests))

    def _row(self, conn: Connection, lot: Lot, values: dict[str, Any]) -> bool:
        """Write the row; False when the step was taken before."""
        row = {"id": self._ids.next(), "at_us": lot.at_us} | values
        made = conn.execute(_INSERT[conn.dialect.name].values(row).returning(followup.c.id))
        return made.first() is not None


def _values(claim: StepClaim) -> dict[str, Any]:
    state = StepState.PASSED
    if claim.taken:
        state = StepState.NOTED if claim.kind is Kind.EXPIRE else StepState.DUE
    return {
        "subject": claim.subject,
        "step": claim.step,
        "kind": claim.kind.value,
        "delivery_id": claim.delivery_id,
        "letter_id": claim.letter_id,
        "agency": claim.agency,
        "recipient": " ".join(claim.recipients),
        "step_us": claim.step_us,
        "state": state.value,
    }


def _digest_values(d: DigestClaim) -> dict[str, Any]:
    return {
        "subject": d.subject,
        "step": d.day,
        "kind": Kind.DIGEST.value,
        "agency": d.agency,
        "recipient": " ".join(d.recipients),
        "step_us": d.step_us,
        "state": StepState.DUE.value,
    }


def _note(claim: StepClaim, at_us: int) -> Note:
    detail: dict[str, Any] = {"step": claim.step}
    if claim.due_us is not None:
        detail["due_us"] = claim.due_us
    if claim.person:
        detail["person"] = claim.person
    if claim.recipients:
        detail["to"] = " ".join(claim.recipients)
    if claim.kind is Kind.ESCALATE:
        detail["escalated"] = True
    event = Event.EXPIRED if claim.kind is Kind.EXPIRE else Event.REMINDED
    return Note(
        delivery_id=claim.delivery_id,
        event=event,
        at_us=at_us,
        source="person" if claim.person else "timer",
        reporter=claim.person,
        detail=detail,
    )


def _still_awaited(conn: Connection, ids: Sequence[int], terms: tuple[Any, ...]) -> set[int]:
    d = delivery.c
    if not ids:
        return set()
    asked = select(d.id).where(d.id.in_(sorted(set(ids))), *terms)
    if conn.dialect.name != "sqlite":
        asked = asked.order_by(d.id).with_for_update()
    return set(conn.scalars(asked))


def _owed() -> tuple[Any, ...]:
    """The agency has the letter and owes an answer; never of what is in shadow."""
    d = delivery.c
    return (*answer_awaited(), d.kind == DeliveryKind.LETTER.value, d.state == State.SENT.value)


def _there() -> tuple[Any, ...]:
    """The agency has the letter, and the matter is open."""
    d = delivery.c
    return (
        d.kind == DeliveryKind.LETTER.value,
        d.state == State.SENT.value,
        d.outcome.in_(LIVING),
        d.agency.is_not(None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Remindable:
    """A recipient of a letter whose registry a person may remind. ``asked``: days on which one did."""

    delivery_id: int
    letter_id: int
    agency: str
    recipient: str
    due_us: int | None
    asked: tuple[str, ...] = ()


def remindable(conn: Connection, letter_id: int) -> list[Remindable]:
    """The recipients of a letter that have it and owe something."""
    d, f = delivery.c, followup.c
    rows = conn.execute(
        select(d.id, d.letter_id, d.agency, d.recipient, d.due_us)
        .where(d.letter_id == letter_id, *_there())
        .order_by(d.id)
        .limit(500)
    ).all()
    by_hand = conn.execute(
        select(f.delivery_id, f.step).where(f.letter_id == letter_id, f.step.like(f"{ASKED}%"))
    ).all()
    return [
        Remindable(
            delivery_id=row.id,
            letter_id=row.letter_id,
            agency=row.agency,
            recipient=row.recipient,
            due_us=row.due_us,
            asked=tuple(one.step.removeprefix(ASKED) for one in by_hand if one.delivery_id == row.id),
        )
        for row in rows
    ]


# Settling, inside the transaction that accepts the mail.


def free(conn: Connection, ids: Sequence[int]) -> bool:
    """Lock these rows; True when the mail of all of them is still to be made."""
    asked = select(followup.c.id).where(
        followup.c.id.in_(sorted(ids)), followup.c.state == StepState.DUE.value
    )
    if conn.dialect.name != "sqlite":
        asked = asked.order_by(followup.c.id).with_for_update()
    return len(list(conn.scalars(asked))) == len(ids)


def settle(conn: Connection, ids: Sequence[int], letter_id: int) -> None:
    """Their mail is accepted as this letter."""
    conn.execute(
        update(followup)
        .where(followup.c.id.in_(sorted(ids)))
        .values(state=StepState.SENT.value, sent_letter_id=letter_id)
    )


def pass_over(conn: Connection, ids: Sequence[int]) -> None:
    """No mail is to be made of these any more."""
    conn.execute(
        update(followup)
        .where(followup.c.id.in_(sorted(ids)), followup.c.state == StepState.DUE.value)
        .values(state=StepState.PASSED.value)
    )


# Reading.


def awaited(
    conn: Connection,
    *,
    step: str,
    since_us: int,
    before_us: int,
    agencies: Sequence[str],
    urgency: str | None,
    other_than: Sequence[str] = (),
    after: tuple[int, int] = (0, 0),
    limit: int = 500,
) -> list[Awaited]:
    """Deliveries with a due date in the range whose step is not taken yet, in order of (due date, id).

    ``urgency`` None: any that is not among ``other_than``.
    """
    d, le, f = delivery.c, letter.c, followup.c
    asked = (
        select(d.id, d.letter_id, d.agency, d.recipient, le.urgency, d.due_us, le.accepted_us)
        .join(letter, le.id == d.letter_id)
        .where(
            *_owed(),
            d.due_us >= since_us,
            d.due_us < before_us,
            or_(d.due_us > after[0], and_(d.due_us == after[0], d.id > after[1])),
            d.agency.in_(list(agencies)),
            ~select(f.id).where(f.delivery_id == d.id, f.step == step).exists(),
        )
        .order_by(d.due_us, d.id)
        .limit(limit)
    )
    if urgency is not None:
        asked = asked.where(le.urgency == urgency)
    elif other_than:
        asked = asked.where(le.urgency.not_in(list(other_than)))
    return [
        Awaited(
            delivery_id=row.id,
            letter_id=row.letter_id,
            agency=row.agency,
            recipient=row.recipient,
            urgency=row.urgency,
            due_us=row.due_us,
            accepted_us=row.accepted_us,
        )
        for row in conn.execute(asked)
    ]


def steps_of(conn: Connection, delivery_ids: Iterable[int]) -> dict[int, list[StepRow]]:
    """The steps of deliveries, in the order in which they were taken."""
    f = followup.c
    out: dict[int, list[StepRow]] = {}
    ids = list(dict.fromkeys(delivery_ids))
    for first in range(0, len(ids), 500):
        asked = select(followup).where(f.delivery_id.in_(ids[first : first + 500])).order_by(f.id)
        for row in conn.execute(asked):
            out.setdefault(row.delivery_id, []).append(_step(row))
    return out


def _step(row: Row[Any]) -> StepRow:
    return StepRow(
        delivery_id=row.delivery_id,
        step=row.step,
        kind=Kind(row.kind),
        step_us=row.step_us,
        at_us=row.at_us,
        state=StepState(row.state),
        recipients=tuple(row.recipient.split()),
        sent_letter_id=row.sent_letter_id,
    )


def digests_done(conn: Connection, days: Sequence[str]) -> set[tuple[str, str]]:
    """Subject and day of the digests that were claimed for these days."""
    f = followup.c
    asked = select(f.subject, f.step).where(f.kind == Kind.DIGEST.value, f.step.in_(list(days)))
    return {(row.subject, row.step) for row in conn.execute(asked)}


def due_mail(conn: Connection, limit: int = 5000) -> list[DueMail]:
    """What is claimed and not settled, the oldest first."""
    f, d, le = followup.c, delivery.c, letter.c
    rows = conn.execute(
        select(
            followup,
            d.outcome, d.state.label("standing"), d.grade, d.due_us, d.submission_id,
            le.number, le.agency.label("from_agency"), le.subject.label("title"), le.classification,
            le.message_id, le.accepted_us,
        )
        .outerjoin(delivery, d.id == f.delivery_id)
        .outerjoin(letter, le.id == f.letter_id)
        .where(f.state == StepState.DUE.value)
        .order_by(f.id)
        .limit(limit)
    ).all()  # fmt: skip
    references = _references(conn, [row.submission_id for row in rows[:REFERRED] if row.submission_id])
    return [
        DueMail(
            id=row.id,
            kind=Kind(row.kind),
            subject=row.subject,
            step=row.step,
            agency=row.agency,
            recipients=tuple(row.recipient.split()),
            step_us=row.step_us,
            at_us=row.at_us,
            living=row.kind == Kind.DIGEST.value
            or (row.outcome in LIVING and row.standing == State.SENT.value),
            letter_id=row.letter_id,
            delivery_id=row.delivery_id,
            number=row.number,
            from_agency=row.from_agency,
            title=row.title or "",
            classification=row.classification or "",
            message_id=row.message_id,
            references=references.get(row.submission_id, ()),
            accepted_us=row.accepted_us or 0,
            due_us=row.due_us,
            grade=row.grade or 0,
        )
        for row in rows
    ]


def _references(conn: Connection, ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    s = submission.c
    asked = select(s.id, s.facts).where(s.id.in_(sorted(set(ids)))) if ids else None
    if asked is None:
        return {}
    return {
        row.id: tuple(str(r) for r in row.facts.get("references") or ())
        for row in conn.execute(asked)
        if isinstance(row.facts, dict)
    }
