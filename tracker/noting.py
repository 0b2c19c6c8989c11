"""Noting what happened to a letter: the only door besides accept that changes its evidence.

A :class:`Note` is one event of one delivery (or of a whole letter), with what proves it and, when
the relay speaks, the end of an attempt. :class:`NoteDesk` applies a group of them by the table in
:mod:`tracker.states`, writes the evidence with its ledger entry and the receipts that it earns.
Late, lower and repeated evidence is recorded and changes nothing. An event that cannot happen
raises :class:`tracker.states.UnknownMove`; a delivery that is not there raises :class:`NoSuchDelivery`.
Deliveries that are no letters (pass-through, receipts) leave no evidence: they are moved, and
pass-through is forgotten once it is delivered or returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, delete, select, update

from tracker import schema
from tracker.due_receipts import earn
from tracker.evidence import EvidenceBook, Proof, evidence_row
from tracker.model import DeliveryKind, IdSource, LetterKind
from tracker.object_store import ObjectStore, remove
from tracker.prepared import Prepared, PreparedIn
from tracker.states import (
    FINAL_STATES,
    MOVES,
    Effect,
    Event,
    Grade,
    Outcome,
    Standing,
    State,
    UnknownMove,
    move,
)
from tracker.writer import Desk


class NoSuchDelivery(LookupError):
    """No delivery of that id (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended. A missing ``attempt_id`` writes a new row."""

    attempt_id: int
    peer: str = ""
    tls: str | None = None
    reply: str = ""
    transcript: str = ""
    edit: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One event, and what proves it."""

    delivery_id: int
    event: Event
    at_us: int
    source: str = "wasl"  # smtp, lmtp, dsn, mdn, person, timer
    reporter: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    attempt: AttemptEnd | None = None
    next_us: int | None = None  # when to try again
    extend_us: int | None = None  # a new expiry, for requeued and released
    letter_id: int | None = None  # with delivery_id 0: of the whole letter, which only says something
    quiet: bool = False  # earns no receipt: another recipient of the same act does


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Where the delivery stands after the note."""

    delivery_id: int
    letter_id: int
    standing: Standing
    changed: bool
    forgotten: bool = False


class _Row(NamedTuple):
    """A delivery as a note meets it."""

    id: int
    letter_id: int
    submission_id: int
    kind: str
    state: str
    grade: int
    outcome: str
    asks: str
    next_us: int
    warned_us: int | None
    expires_us: int
    last_reply: str | None
    sender: str
    archive_key: str
    receipts_to: str | None


class NoteDesk(Desk):
    """Writes notes in groups."""

    order = 2

    def __init__(self, archive: ObjectStore, book: EvidenceBook, ids: IdSource) -> None:
        self._archive = archive
        self._book = book
        self._ids = ids
        self._doomed: list[str] = []

    def inside(self, conn: Connection, payloads: Sequence[Note]) -> list[Noted]:
        self._doomed = []
        rows = self._rows(conn, payloads)
        standing = {i: Standing(State(r.state), Grade(r.grade), Outcome(r.outcome)) for i, r in rows.items()}
        proofs: list[Proof] = []
        receipts: list[dict[str, Any]] = []
        ends: list[dict[str, Any]] = []
        waiting: dict[int, dict[str, Any]] = {}
        results: list[Noted] = []
        stale = _stale(conn, payloads)
        released: set[int] = set()  # deliveries whose attempt is over
        for note in payloads:
            if note.letter_id is not None and not note.delivery_id:
                results.append(self._of_letter(conn, note, note.letter_id, proofs))
                continue
            row = rows.get(note.delivery_id)
            if row is None:
                raise NoSuchDelivery(f"no delivery {note.delivery_id}")
            before = standing[note.delivery_id]
            if note.event is Event.LATE and note.source == "timer" and before.state in FINAL_STATES:
                raise UnknownMove(f"{note.event} is no news of a delivery that is {before.state}")
            after = move(before, note.event)
            if note.attempt is not None:
                if note.attempt.attempt_id in stale:
                    after, note = before, replace(note, next_us=None)
                else:
                    released.add(note.delivery_id)
                    tried = after.state in (State.QUEUED, State.FAILED) and before.state in _NOT_ENDED
                    if tried and _arrived(conn, row, before):
                        if after.state is State.FAILED:  # what was refused is a second copy
                            note = replace(note, event=Event.ATTEMPTED)
                        after = replace(before, state=State.SENT)
            standing[note.delivery_id] = after
            evidence_id = self._ids.next()
            if row.kind in (DeliveryKind.LETTER.value, DeliveryKind.SHADOW.value):
                proofs.append(Proof(self._evidence(note, row, after, evidence_id)))
            if row.sender and not note.quiet and _earns(note, row.asks):
                receipts.append(
                    {
                        "id": self._ids.next(),
                        "letter_id": row.letter_id,
                        "delivery_id": note.delivery_id,
                        "kind": note.event.value,
                        "recipient": row.receipts_to or row.sender,
                        "evidence_id": evidence_id,
                        "due_us": note.at_us,
                        "state": "due",
                    }
                )
            if note.attempt is not None:
                ends.append(_end(note, note.attempt))
            waiting[note.delivery_id] = self._change(note, row, after, waiting.get(note.delivery_id))
            results.append(
                Noted(
                    delivery_id=note.delivery_id,
                    letter_id=row.letter_id,
                    standing=after,
                    changed=after != before,
                )
            )
        if ends:
            _END.many(conn, ends)
        # A lease is that of the attempt and ends with it. What is noted beside one that is under way leaves
        # it: without a lease nobody would take the delivery up again if the attempt's process died, and what
        # is held and released, or cancelled and queued again, would be sent a second time beside the first.
        for statement, over in ((_UPDATE, True), (_UPDATE_LEASED, False)):
            changes = [c for i, c in waiting.items() if (i in released) is over]
            if changes:
                statement.many(conn, changes)
        self._book.write(proofs)
        if receipts:
            earn(conn, receipts)
        done = [
            r
            for i, r in rows.items()
            if r.kind == DeliveryKind.PASS.value and _forgettable(standing[i], i, receipts)
        ]
        if done:
            self._forget(conn, done)
        return results

    def after(self, payloads: Sequence[Note], results: list[Noted]) -> None:
        for key in self._doomed:
            remove(self._archive, key)
        self._doomed = []

    def failed(self) -> None:
        self._doomed = []
        self._book.forget()

    def _rows(self, conn: Connection, payloads: Sequence[Note]) -> dict[int, _Row]:
        statement = _ROWS if conn.dialect.name == "sqlite" else _ROWS_LOCKED
        ids = sorted({n.delivery_id for n in payloads})
        found = [_Row(*row) for row in statement.all(conn, ids)]
        return {row.id: row for row in found}

    def _of_letter(self, conn: Connection, note: Note, letter_id: int, proofs: list[Proof]) -> Noted:
        """Evidence that concerns a letter and no single recipient; it moves nothing."""
        if MOVES[note.event] != Effect():
            raise UnknownMove(f"{note.event} is of one delivery")
        kind = conn.execute(select(schema.letter.c.kind).where(schema.letter.c.id == letter_id)).scalar()
        if kind not in (LetterKind.LETTER.value, LetterKind.SHADOW.value):
            raise NoSuchDelivery(f"no letter {letter_id}")
        evidence = evidence_row(
            id=self._ids.next(),
            letter_id=letter_id,
            delivery_id=None,
            event=note.event.value,
            grade=0,
            at_us=note.at_us,
            noted_us=note.at_us,
            source=note.source,
            reporter=note.reporter,
            detail=note.detail,
        )
        proofs.append(Proof(evidence))
        standing = Standing(State.SENT, Grade.NONE, Outcome.OPEN)
        return Noted(delivery_id=0, letter_id=letter_id, standing=standing, changed=False)

    def _evidence(self, note: Note, row: _Row, after: Standing, evidence_id: int) -> Any:
        return evidence_row(
            id=evidence_id,
            letter_id=row.letter_id,
            delivery_id=note.delivery_id,
            event=note.event.value,
            grade=int(after.grade),
            at_us=note.at_us,
            noted_us=note.at_us,
            source=note.source,
            reporter=note.reporter,
            detail=note.detail,
        )

    def _change(
        self, note: Note, row: _Row, after: Standing, earlier: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The new values of the delivery row."""
        base = earlier or {
            "b_next": row.next_us,
            "b_warned": row.warned_us,
            "b_expires": row.expires_us,
            "b_reply": row.last_reply,
        }
        reply = note.attempt.reply if note.attempt is not None else None
        return {
            "b_id": note.delivery_id,
            "b_state": after.state.value,
            "b_grade": int(after.grade),
            "b_outcome": after.outcome.value,
            "b_next": note.next_us if note.next_us is not None else base["b_next"],
            "b_warned": note.at_us if note.event is Event.LATE else base["b_warned"],
            "b_expires": note.extend_us if note.extend_us is not None else base["b_expires"],
            "b_reply": reply or base["b_reply"],
            "b_changed": note.at_us,
        }

    def _forget(self, conn: Connection, rows: list[_Row]) -> None:
        """Pass-through that is delivered leaves nothing behind."""
        conn.execute(delete(schema.attempt).where(schema.attempt.c.delivery_id.in_([r.id for r in rows])))
        conn.execute(delete(schema.delivery).where(schema.delivery.c.id.in_([r.id for r in rows])))
        self._doomed += forget_empty(conn, sorted({r.letter_id for r in rows}))


_d, _s, _a = schema.delivery.c, schema.submission.c, schema.attempt.c


def _rows_of(ids: list[Any]) -> Select[Any]:
    return (
        select(
            _d.id, _d.letter_id, _d.submission_id, _d.kind, _d.state, _d.grade, _d.outcome,
            _d.asks, _d.next_us, _d.warned_us, _d.expires_us, _d.last_reply, _s.sender, _s.archive_key,
            _d.receipts_to,
        )
        .join(schema.submission, _s.id == _d.submission_id)
        .where(_d.id.in_(ids))
    )  # fmt: skip


_ROWS = PreparedIn(_rows_of)
_ROWS_LOCKED = PreparedIn(lambda ids: _rows_of(ids).order_by(_d.id).with_for_update(of=schema.delivery))
_END = Prepared(
    update(schema.attempt)
    .where(_a.id == bindparam("b_id"))
    .values(
        ended_us=bindparam("b_ended"),
        peer=bindparam("b_peer"),
        tls=bindparam("b_tls"),
        reply=bindparam("b_reply"),
        transcript=bindparam("b_transcript"),
        result=bindparam("b_result"),
        edit=bindparam("b_edit"),
    )
)
_CHANGE = (
    update(schema.delivery)
    .where(_d.id == bindparam("b_id"))
    .values(
        state=bindparam("b_state"),
        grade=bindparam("b_grade"),
        outcome=bindparam("b_outcome"),
        next_us=bindparam("b_next"),
        warned_us=bindparam("b_warned"),
        expires_us=bindparam("b_expires"),
        last_reply=bindparam("b_reply"),
        changed_us=bindparam("b_changed"),
    )
)
_UPDATE = Prepared(_CHANGE.values(lease_owner=None, lease_us=None))
_UPDATE_LEASED = Prepared(_CHANGE)


_NOT_ENDED = frozenset({State.SENDING, State.QUEUED, State.SENT})  # nor held by a person
_PUT_OFF = frozenset({Event.ATTEMPTED, Event.IN_DOUBT})
_ARRIVED = [event.value for event, effect in MOVES.items() if effect.grade >= Grade.DELIVERED]


def _stale(conn: Connection, payloads: Sequence[Note]) -> set[int]:
    """Attempts that another claim has ended as lost: what comes of them now puts nothing off."""
    ids = [n.attempt.attempt_id for n in payloads if n.attempt is not None and n.event in _PUT_OFF]
    if not ids:
        return set()
    return set(conn.scalars(select(_a.id).where(_a.id.in_(ids), _a.ended_us.is_not(None))))


def _arrived(conn: Connection, row: _Row, before: Standing) -> bool:
    """Whether server, mailbox or reader have told since it was last queued by a person that they have it.

    An earlier attempt, in doubt, was a good one then; so it was if that itself was noted with the next hop's
    250 meanwhile. What a person at a desk says (a letter may have come on paper) does not count.
    """
    if before.state is State.SENT:
        return True  # a person who has it sent again queues it
    if before.grade < Grade.DELIVERED:
        return False
    e = schema.evidence.c
    told = (e.event.in_(_ARRIVED) & (e.source != "person")) | (e.event == Event.REQUEUED.value)
    last = conn.scalar(
        select(e.event)
        .where(e.letter_id == row.letter_id, e.delivery_id == row.id, told)
        .order_by(e.id.desc())
        .limit(1)
    )
    return last is not None and last != Event.REQUEUED.value


def forget_empty(conn: Connection, letter_ids: Sequence[int]) -> list[str]:
    """Delete pass-through that has neither deliveries nor receipts due; returns its archive keys."""
    left = set(
        conn.execute(
            select(schema.delivery.c.letter_id).where(schema.delivery.c.letter_id.in_(letter_ids))
        ).scalars()
    ) | set(
        conn.execute(
            select(schema.receipt.c.letter_id).where(
                schema.receipt.c.letter_id.in_(letter_ids), schema.receipt.c.state == "due"
            )
        ).scalars()
    )
    empty = [i for i in letter_ids if i not in left]
    if not empty:
        return []
    gone = set(
        conn.execute(
            select(schema.letter.c.id).where(
                schema.letter.c.id.in_(empty), schema.letter.c.kind == LetterKind.PASS.value
            )
        ).scalars()
    )
    if not gone:
        return []
    keys = list(
        conn.execute(
            select(schema.submission.c.archive_key).where(schema.submission.c.letter_id.in_(gone))
        ).scalars()
    )
    for table in (schema.receipt, schema.submission):
        conn.execute(delete(table).where(table.c.letter_id.in_(gone)))
    conn.execute(delete(schema.letter).where(schema.letter.c.id.in_(gone)))
    return keys


def _earns(note: Note, asks: str) -> bool:
    words = asks.split()
    if note.event.value in words:
        return True
    # RFC 3461 §5.2.2: SUCCESS was asked and the next hop will not report: this is the last we can say.
    return note.event is Event.RELAYED and "relayed?" in words and not note.detail.get("hop_dsn", False)


def _forgettable(standing: Standing, delivery_id: int, receipts: list[dict[str, Any]]) -> bool:
    return standing.state in FINAL_STATES and not any(r["delivery_id"] == delivery_id for r in receipts)


def _end(note: Note, end: AttemptEnd) -> dict[str, Any]:
    return {
        "b_id": end.attempt_id,
        "b_ended": note.at_us,
        "b_peer": end.peer,
        "b_tls": end.tls,
        "b_reply": end.reply,
        "b_transcript": end.transcript,
        "b_result": note.event.value,
        "b_edit": end.edit,
    }
