"""Receipts that are due, gathered with what they speak of, ready to be composed.

A receipt of the whole letter goes out at once; those of a letter with few recipients go out one by
one; above a number of recipients good news waits ``digest_us`` and go out as one digest. A receipt that
carries a proof waits until a checkpoint covers its entry, so :func:`uncovered` tells when one is needed.

The acceptance comes first: what else is due about a letter waits for it until its server has taken it, for
:data:`FIRST_US` at most. A receipt is due from the moment it is earned; ``due_us`` puts them in order and is
not held against the clock, which may have been set back since.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, true
from sqlalchemy.dialects import postgresql, sqlite

from tracker import schema
from tracker.ledger import EvidenceRow
from tracker.model import DeliveryKind
from tracker.prepared import Prepared, PreparedIn
from tracker.receipt_due import ReceiptSettings, gathered
from tracker.states import Event, State

FIRST_US = 60_000_000  # how long the author's own server may keep the others waiting for the acceptance

NOTIFY = "notify"
"""The kind of a receipt row that is none: mail to those whom a rule wants told that it applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueReceipt:
    """One receipt row with its evidence."""

    id: int
    letter_id: int
    delivery_id: int  # 0: of the whole letter
    kind: str
    recipient: str
    evidence_id: int
    due_us: int
    event: str
    grade: int
    at_us: int
    source: str
    reporter: str
    detail: dict[str, Any]
    entry_seq: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterRow:
    """The letter that receipts speak of, with the transaction that brought it."""

    id: int
    kind: str
    number: str | None
    agency: str | None
    author: str
    author_name: str
    message_id: str | None
    subject: str
    accepted_us: int
    sender: str
    ret: str | None
    envid: str | None
    sha256: bytes
    archive_key: str
    references: tuple[str, ...]
    read_to: tuple[str, ...]  # whom the author's own request for a read receipt names
    parts: tuple[tuple[str, bytes], ...]  # name and digest of each attachment
    deliveries: tuple[DeliveryRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One recipient as a receipt names it."""

    id: int
    kind: str
    recipient: str
    agency: str | None
    orcpt: str | None
    bcc: bool
    attempts: int
    expires_us: int
    state: str
    grade: int
    last_reply: str | None
    digest: bool | None = None  # receipts in a digest; None: as the settings say


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The receipts that make one message."""

    letter: LetterRow
    receipts: tuple[DueReceipt, ...]


def due(
    conn: Connection, now_us: int, *, settings: ReceiptSettings, digest_us: int, limit: int = 100
) -> list[Bundle]:
    """What is to be sent now, oldest first: about ``limit`` receipts, and as many in one digest at most.

    What a letter's digest still gathers keeps nobody else's receipts waiting, however much it is.
    """
    out: list[Bundle] = []
    passed: set[int] = set()  # letters that gather
    kinds: set[str] = set()  # and what they gather
    while True:
        rows = _due_rows(conn, now_us, limit, passed, kinds)
        letters = {i: _letter(conn, i) for i in dict.fromkeys(r.letter_id for r in rows)}
        waiting: dict[tuple[int, str], list[DueReceipt]] = {}
        for row in rows:
            letter = letters[row.letter_id]
            if letter is None:
                continue
            told = sum(d.kind != DeliveryKind.PASS.value for d in letter.deliveries)
            if row.delivery_id and _gathered(letter, row, told, settings):
                waiting.setdefault((row.letter_id, row.recipient), []).append(row)
            else:
                out.append(Bundle(letter=letter, receipts=(row,)))
        for (letter_id, _), lot in waiting.items():
            letter = letters[letter_id]
            if letter is None:
                continue
            passed.add(letter_id)
            kinds |= {r.kind for r in lot}
            due_of = {r.delivery_id for r in lot}
            complete = due_of >= {d.id for d in letter.deliveries if d.state != "refused"}
            if complete or not 0 <= now_us - min(r.due_us for r in lot) < digest_us:
                out.append(Bundle(letter=letter, receipts=tuple(lot)))
        if len(rows) < limit or not waiting or sum(len(b.receipts) for b in out) >= limit:
            return out


def _gathered(letter: LetterRow, row: DueReceipt, told: int, settings: ReceiptSettings) -> bool:
    """Policy may ask for a digest, or for none, whatever the number of recipients."""
    if row.kind == Event.READ.value and letter.read_to:
        return False  # who asks for read receipts gets each, as a client would have sent it
    digest = next((d.digest for d in letter.deliveries if d.id == row.delivery_id), None)
    if digest is not None:
        told = settings.gather_above + 1 if digest else 0
    return gathered(Event(row.event), told, settings)


def uncovered(conn: Connection) -> bool:
    """True when a receipt waits for a checkpoint."""
    covered = conn.execute(select(func.max(schema.checkpoint.c.size))).scalar() or 0
    r, e = schema.receipt.c, schema.ledger_entry.c
    waiting = conn.execute(
        select(r.id)
        .join(schema.evidence, schema.evidence.c.id == r.evidence_id)
        .outerjoin(schema.ledger_entry, e.evidence_id == r.evidence_id)
        .where(r.state == "due", (e.seq >= covered) | e.seq.is_(None))
        .limit(1)
    ).first()
    return waiting is not None


def _due_rows(
    conn: Connection, now_us: int, limit: int, passed: Collection[int], kinds: Collection[str]
) -> list[DueReceipt]:
    """The oldest of what is due, without receipts of these kinds about these letters."""
    r, e, le = schema.receipt.c, schema.evidence.c, schema.ledger_entry.c
    covered = conn.execute(select(func.max(schema.checkpoint.c.size))).scalar() or 0
    others = true() if not passed else r.letter_id.not_in(list(passed)) | r.kind.not_in(list(kinds))
    rows = conn.execute(
        select(
            r.id, r.letter_id, r.delivery_id, r.kind, r.recipient, r.evidence_id, r.due_us,
            e.event, e.grade, e.at_us, e.source, e.reporter, e.detail, le.seq,
        )
        .outerjoin(schema.evidence, e.id == r.evidence_id)
        .outerjoin(schema.ledger_entry, le.evidence_id == r.evidence_id)
        .where(r.state == "due", (le.seq < covered) | e.id.is_(None))
        .where((r.kind == Event.SUBMITTED.value) | _astray(now_us) | ~_acceptance_under_way())
        .where(others)
        .order_by(r.due_us, r.id)
        .limit(limit)
    )  # fmt: skip
    return [_due(row) for row in rows]


def _astray(now_us: int) -> ColumnElement[bool]:
    """It has waited for the acceptance long enough; or the clock was set, and nobody can say how long."""
    due_us = schema.receipt.c.due_us
    return (due_us < now_us - FIRST_US) | (due_us > now_us)


def _acceptance_under_way() -> ColumnElement[bool]:
    """The receipt of the letter's acceptance is still due, or is on its way to the author's server."""
    first, d = schema.receipt.alias("first"), schema.delivery.c
    out = (
        select(d.id)
        .where(
            d.letter_id == first.c.sent_letter_id,
            d.state.in_((State.QUEUED.value, State.SENDING.value)),
        )
        .exists()
    )
    return (
        select(first.c.id)
        .where(
            first.c.letter_id == schema.receipt.c.letter_id,
            first.c.kind == Event.SUBMITTED.value,
            (first.c.state == "due") | ((first.c.state == "sent") & out),
        )
        .exists()
    )


def _due(row: Any) -> DueReceipt:
    return DueReceipt(
        id=row.id,
        letter_id=row.letter_id,
        delivery_id=row.delivery_id,
        kind=row.kind,
        recipient=row.recipient,
        evidence_id=row.evidence_id,
        due_us=row.due_us,
        event=row.event or row.kind,  # pass-through leaves no evidence: the receipt's kind is the event
        grade=row.grade or 0,
        at_us=row.at_us or row.due_us,
        source=row.source or "",
        reporter=row.reporter or "",
        detail=row.detail or {},
        entry_seq=row.seq,
    )


def _letter(conn: Connection, letter_id: int) -> LetterRow | None:
    le, s, d = schema.letter.c, schema.submission.c, schema.delivery.c
    row = conn.execute(
        select(schema.letter, s.sender, s.ret, s.envid, s.sha256, s.archive_key, s.facts)
        .join(schema.submission, s.letter_id == le.id)
        .where(le.id == letter_id)
        .order_by(s.id)
        .limit(1)
    ).first()
    if row is None:
        return None
    deliveries = conn.execute(select(schema.delivery).where(d.letter_id == letter_id).order_by(d.id)).all()
    return LetterRow(
        id=row.id,
        kind=row.kind,
        number=row.number,
        agency=row.agency,
        author=row.author,
        author_name=row.author_name,
        message_id=row.message_id,
        subject=row.subject,
        accepted_us=row.accepted_us,
        sender=row.sender,
        ret=row.ret,
        envid=row.envid,
        sha256=bytes(row.sha256),
        archive_key=row.archive_key,
        references=tuple(row.facts.get("references") or ()),
        read_to=tuple((row.facts.get("read_wish") or {}).get("to") or ()),
        parts=tuple(
            (str(a.get("name") or ""), bytes.fromhex(a["sha256"])) for a in row.facts.get("attachments") or ()
        ),
        deliveries=tuple(
            DeliveryRow(
                id=x.id,
                kind=x.kind,
                recipient=x.recipient,
                agency=x.agency,
                orcpt=x.orcpt,
                bcc=x.bcc,
                attempts=x.attempts,
                expires_us=x.expires_us,
                state=x.state,
                grade=x.grade,
                last_reply=x.last_reply,
                digest=x.digest,
            )
            for x in deliveries
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What policy decided about a letter, as its record has it."""

    rules: tuple[str, ...]  # ids of all rules that applied
    recipients: tuple[tuple[str, str], ...]  # address, action


def applied(conn: Connection, letter_id: int) -> Applied:
    """The rules that applied to a letter and what became of its recipients, over all its transactions."""
    s = schema.submission.c
    rules: dict[str, None] = {}
    recipients: dict[str, str] = {}
    asked = select(s.decision).where(s.letter_id == letter_id).order_by(s.id).limit(100)
    for decision in conn.scalars(asked):
        if not isinstance(decision, dict):
            continue
        for path in decision.get("paths") or ():
            rules |= dict.fromkeys(str(rule) for rule in path.get("hits") or ())
        for verdict in decision.get("verdicts") or ():
            recipients[str(verdict.get("to") or "")] = str(verdict.get("action") or "")
    return Applied(rules=tuple(rules), recipients=tuple(recipients.items()))


def drop(conn: Connection, receipts: Sequence[DueReceipt]) -> None:
    """Mark receipts that cannot be sent (their author can get none), so that they are not tried for ever."""
    r = schema.receipt.c
    conn.execute(schema.receipt.update().where(r.id.in_([x.id for x in receipts])).values(state="gathered"))


def told(conn: Connection, bundle: Bundle) -> list[tuple[EvidenceRow, int]]:
    """The evidence that a message of this bundle carries, with its places in the ledger.

    The acceptance comes first, because it alone commits to the octets (LEDGER.md 5); then what the
    receipts tell. What has been disposed of, or has no place yet, is left out.
    """
    e, le = schema.evidence.c, schema.ledger_entry.c
    first = conn.execute(
        select(e.id)
        .where(e.letter_id == bundle.letter.id, e.event == Event.SUBMITTED.value)
        .order_by(e.id)
        .limit(1)
    ).scalar()
    ids = list(dict.fromkeys([*([first] if first else []), *(r.evidence_id for r in bundle.receipts)]))
    rows = conn.execute(
        select(schema.evidence, le.seq)
        .join(schema.ledger_entry, le.evidence_id == e.id)
        .where(e.id.in_(ids), e.salt.is_not(None))
        .order_by(e.id)
    )
    return [
        (
            EvidenceRow(
                id=row.id,
                letter_id=row.letter_id,
                delivery_id=row.delivery_id,
                event=row.event,
                grade=row.grade,
                at_us=row.at_us,
                noted_us=row.noted_us,
                source=row.source,
                reporter=row.reporter,
                detail=row.detail,
                salt=bytes(row.salt),
            ),
            row.seq,
        )
        for row in rows
    ]


_INSERT_RECEIPT = {
    "sqlite": Prepared(sqlite.insert(schema.receipt).on_conflict_do_nothing()),
    "postgresql": Prepared(postgresql.insert(schema.receipt).on_conflict_do_nothing()),
}


_is_due = schema.receipt.c.state == "due"
_FREE = PreparedIn(lambda ids: select(schema.receipt.c.id).where(schema.receipt.c.id.in_(ids), _is_due))
_FREE_LOCKED = PreparedIn(
    lambda ids: (
        select(schema.receipt.c.id)
        .where(schema.receipt.c.id.in_(ids), _is_due)
        .order_by(schema.receipt.c.id)
        .with_for_update()
    )
)


def free(conn: Connection, ids: Sequence[int]) -> bool:
    """Lock these rows; True when the mail of all of them is still to be made."""
    asked = _FREE if conn.dialect.name == "sqlite" else _FREE_LOCKED
    return len(asked.all(conn, sorted(set(ids)))) == len(set(ids))


def earn(conn: Connection, rows: list[dict[str, Any]]) -> None:
    """Write receipts due; one of a kind per letter and delivery, ever (the first stands)."""
    _INSERT_RECEIPT[conn.dialect.name].many(conn, rows)
