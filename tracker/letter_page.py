"""Everything that one viewer may know of one letter, read in a handful of indexed queries.

What the viewer may not know is cut off here, not in a template: a receiving agency gets its own
rows with their evidence, the other recipients that are not Bcc as bare names, and of what concerns
the whole letter only the fields of ``_OPEN_KEYS``. Transcripts, policy decisions, connections and
accounts are the sender's side; a transcript may name other agencies' mailboxes on a shared host.

``None`` means "not there, or not for these eyes": the page must not tell the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from tracker.access import End, Viewer, end_of, letter_seen, row_by_name, row_with_evidence
from tracker.model import id_value, now_us
from tracker.question import is_late
from tracker.schema import attempt, checkpoint, delivery, evidence, ledger_entry, letter, submission
from tracker.states import Event, Grade, Outcome, State

MAX_EVIDENCE = 3_000
MAX_ATTEMPTS = 500

# Of evidence about the whole letter, what every end of it may read. No recipients: Bcc is among them.
_OPEN_KEYS = frozenset({"number", "sender", "author", "subject", "message_id", "sha256", "size"})
# Of evidence about a row of its own, what a receiving agency may not read.
_SENDERS_KEYS = frozenset({"transcript", "recipients", "rule", "hits", "misses", "account", "edit"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceLine:
    """One row of evidence, its detail cut to what the viewer may know."""

    id: int
    delivery_id: int | None
    event: Event
    grade: Grade
    at_us: int
    noted_us: int
    source: str
    reporter: str
    detail: dict[str, Any]
    ledger_index: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLine:
    id: int
    delivery_id: int
    started_us: int
    ended_us: int | None
    hop: str
    peer: str | None
    tls: str | None
    reply: str | None
    transcript: str | None
    result: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientRow:
    """One recipient with where the letter stands."""

    id: int
    agency: str | None
    address: str
    bcc: bool
    hop: str
    state: State
    grade: Grade
    outcome: Outcome
    late: bool
    next_us: int
    tries: int
    last_reply: str | None
    changed_us: int
    events: tuple[EvidenceLine, ...]
    attempts: tuple[AttemptLine, ...]
    intended: tuple[str, ...] = ()  # whom the author named, where policy delivers to another mailbox
    copy_by: str | None = None  # the rule that added this recipient
    due_us: int | None = None  # when its answer is due

    def proven(self, event: Event) -> EvidenceLine | None:
        """The first evidence of that event, if there is any."""
        return next((line for line in self.events if line.event is event), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRecipient:
    """A recipient of whom the viewer may know that he is one, and nothing more."""

    agency: str | None
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An attachment as the facts of acceptance tell it; the content stays in the archive."""

    name: str
    declared: str  # the type that the letter claims
    detected: str  # the type that the content shows
    size: int | None  # octets
    encrypted: bool = False
    macros: bool = False
    executable: bool = False
    undecided: str = ""  # why its content could not be told, if so


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictLine:
    """What the policy decided about one recipient, and by which rules."""

    recipient: str
    action: str
    rule: str
    hits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionView:
    """One transaction that carried the letter. ``None`` fields are the sender's side's."""

    id: int
    at_us: int
    size: int
    sha256: bytes
    archive_key: str
    attachments: tuple[Attachment, ...]
    door: str | None
    peer: str | None
    tls: str | None
    account: str | None
    policy_version: str | None
    verdicts: tuple[VerdictLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InLedger:
    """Where the ledger holds the acceptance."""

    index: int
    checkpoint: int | None  # size of the latest checkpoint; None before the first one
    checkpoint_us: int | None

    @property
    def sealed(self) -> bool:
        """A signed checkpoint covers the entry."""
        return self.checkpoint is not None and self.index < self.checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterPage:
    """A letter as its viewer may see it."""

    id: int
    kind: str
    number: str | None
    agency: str | None
    author: str
    author_name: str
    message_id: str | None
    subject: str
    classification: str
    urgency: str
    due_us: int | None
    accepted_us: int
    end: End
    recipients: tuple[RecipientRow, ...]
    named: tuple[NamedRecipient, ...]
    events: tuple[EvidenceLine, ...]  # all of them, the whole letter's and the rows', in order of time
    submissions: tuple[SubmissionView, ...]
    ledger: InLedger | None
    last_evidence: int  # the highest evidence id shown: the page's version

    @property
    def cancelled(self) -> bool:
        """The number stays taken, and nobody got the letter: everything held of it was refused."""
        return (
            self.number is not None
            and bool(self.recipients)
            and all(row.state is State.REFUSED for row in self.recipients)
        )


def find(conn: Connection, viewer: Viewer, ref: str) -> int | None:
    """The id of the letter with that number or 13-character id, if the viewer may see it."""
    if not ref or len(ref) > 100 or "\x00" in ref:
        return None
    try:
        condition = letter.c.id == id_value(ref)
    except ValueError:
        condition = letter.c.number == ref.upper()
    return conn.scalar(select(letter.c.id).where(condition, letter_seen(viewer)))


def read(conn: Connection, viewer: Viewer, letter_id: int, *, at_us: int | None = None) -> LetterPage | None:
    """The letter, or None when it is not there or not for this viewer."""
    at = now_us() if at_us is None else at_us
    head = conn.execute(select(letter).where(letter.c.id == letter_id, letter_seen(viewer))).one_or_none()
    if head is None:
        return None
    end = end_of(viewer, head.agency)
    rows = conn.execute(
        select(delivery, row_with_evidence(viewer).label("known"))
        .join(letter, letter.c.id == delivery.c.letter_id)
        .where(delivery.c.letter_id == letter_id, row_by_name(viewer))
        .order_by(delivery.c.id)
    ).all()
    known = {row.id for row in rows if row.known}
    events = _events(conn, letter_id, known, end)
    attempts = _attempts(conn, known, end)
    carried = {row.submission_id for row in rows if row.known}
    recipients = tuple(
        RecipientRow(
            id=row.id,
            agency=row.agency,
            address=row.recipient,
            bcc=row.bcc,
            hop=row.hop,
            state=State(row.state),
            grade=Grade(row.grade),
            outcome=Outcome(row.outcome),
            late=is_late(
                state=row.state,
                outcome=row.outcome,
                grade=row.grade,
                warned_us=row.warned_us,
                due_us=row.due_us,
                at_us=at,
            ),
            next_us=row.next_us,
            tries=row.attempts,
            last_reply=row.last_reply,
            changed_us=row.changed_us,
            events=tuple(line for line in events if line.delivery_id == row.id),
            attempts=tuple(line for line in attempts if line.delivery_id == row.id),
            intended=tuple(row.intended.split(" ")) if row.intended else (),
            copy_by=row.copy_by,
            due_us=row.due_us,
        )
        for row in rows
        if row.known
    )
    return LetterPage(
        id=head.id,
        kind=head.kind,
        number=head.number,
        agency=head.agency,
        author=head.author,
        author_name=head.author_name,
        message_id=head.message_id,
        subject=head.subject,
        classification=head.classification,
        urgency=head.urgency,
        due_us=head.due_us,
        accepted_us=head.accepted_us,
        end=end,
        recipients=recipients,
        named=tuple(
            NamedRecipient(agency=row.agency, address=row.recipient) for row in rows if not row.known
        ),
        events=events,
        submissions=_submissions(conn, letter_id, carried, end),
        ledger=_in_ledger(conn, events),
        last_evidence=max((line.id for line in events), default=0),
    )


def _events(conn: Connection, letter_id: int, known: set[int], end: End) -> tuple[EvidenceLine, ...]:
    rows = conn.execute(
        select(evidence, ledger_entry.c.seq)
        .outerjoin(ledger_entry, ledger_entry.c.evidence_id == evidence.c.id)
        .where(evidence.c.letter_id == letter_id)
        .order_by(evidence.c.id)
        .limit(MAX_EVIDENCE)
    )
    return tuple(
        EvidenceLine(
            id=row.id,
            delivery_id=row.delivery_id,
            event=Event(row.event),
            grade=Grade(row.grade),
            at_us=row.at_us,
            noted_us=row.noted_us,
            source=row.source,
            reporter=row.reporter if end is End.SENDER or row.delivery_id is not None else "",
            detail=_cut(row.detail or {}, row.delivery_id is None, end),
            ledger_index=row.seq,
        )
        for row in rows
        if row.delivery_id in known or (row.delivery_id is None and _open_to(row.event, end))
    )


def _open_to(event: str, end: End) -> bool:
    """Of what concerns the whole letter a receiving agency reads its acceptance only."""
    return end is End.SENDER or event == Event.SUBMITTED.value


def _cut(detail: dict[str, Any], whole_letter: bool, end: End) -> dict[str, Any]:
    if end is End.SENDER:
        return detail
    if whole_letter:
        return {key: value for key, value in detail.items() if key in _OPEN_KEYS}
    return {key: value for key, value in detail.items() if key not in _SENDERS_KEYS}


def _attempts(conn: Connection, known: set[int], end: End) -> tuple[AttemptLine, ...]:
    if not known:
        return ()
    rows = conn.execute(
        select(attempt)
        .where(attempt.c.delivery_id.in_(known))
        .order_by(attempt.c.id.desc())
        .limit(MAX_ATTEMPTS)
    )
    return tuple(
        AttemptLine(
            id=row.id,
            delivery_id=row.delivery_id,
            started_us=row.started_us,
            ended_us=row.ended_us,
            hop=row.hop,
            peer=row.peer,
            tls=row.tls,
            reply=row.reply,
            transcript=row.transcript if end is End.SENDER else None,
            result=row.result,
        )
        for row in rows
    )


def _submissions(conn: Connection, letter_id: int, carried: set[int], end: End) -> tuple[SubmissionView, ...]:
    asked = select(submission).where(submission.c.letter_id == letter_id)
    if end is End.RECEIVER:
        asked = asked.where(submission.c.id.in_(carried))
    ours = end is End.SENDER
    return tuple(
        SubmissionView(
            id=row.id,
            at_us=row.at_us,
            size=row.size,
            sha256=row.sha256,
            archive_key=row.archive_key,
            attachments=attachments_of(row.facts),
            door=row.door if ours else None,
            peer=row.peer if ours else None,
            tls=row.tls if ours else None,
            account=row.account if ours else None,
            policy_version=row.policy_version if ours else None,
            verdicts=_verdicts(row.decision) if ours else (),
        )
        for row in conn.execute(asked.order_by(submission.c.id))
    )


def attachments_of(facts: Any) -> tuple[Attachment, ...]:
    """What facts tell of the attachments; read leniently, for older facts stay as they were written."""
    found = []
    for item in _list(facts.get("attachments")) if isinstance(facts, dict) else []:
        if not isinstance(item, dict):
            continue
        size = item.get("size")
        found.append(
            Attachment(
                name=str(item.get("name") or ""),
                declared=str(item.get("declared") or ""),
                detected=str(item.get("detected") or ""),
                size=size if isinstance(size, int) else None,
                encrypted=item.get("encrypted") is True,
                macros=item.get("macros") is True,
                executable=item.get("executable") is True,
                undecided=str(item.get("undecided") or ""),
            )
        )
    return tuple(found[:200])


def _verdicts(decision: Any) -> tuple[VerdictLine, ...]:
    """``verdicts`` of a decision; the way through the rules stands once in ``paths`` for all who share it."""
    if not isinstance(decision, dict):
        return ()
    paths = [path if isinstance(path, dict) else {} for path in _list(decision.get("paths"))]
    found = []
    for item in _list(decision.get("verdicts")):
        if not isinstance(item, dict):
            continue
        path = item.get("path")
        shared = paths[path] if isinstance(path, int) and 0 <= path < len(paths) else {}
        found.append(
            VerdictLine(
                recipient=str(item.get("to") or ""),
                action=str(item.get("action") or ""),
                rule=str(item.get("rule") or ""),
                hits=tuple(str(hit) for hit in _list(shared.get("hits"))),
            )
        )
    return tuple(found)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _in_ledger(conn: Connection, events: Sequence[EvidenceLine]) -> InLedger | None:
    index = next((line.ledger_index for line in events if line.ledger_index is not None), None)
    if index is None:
        return None
    last = conn.execute(
        select(checkpoint.c.size, checkpoint.c.at_us).order_by(checkpoint.c.size.desc()).limit(1)
    ).one_or_none()
    return InLedger(
        index=index,
        checkpoint=last.size if last else None,
        checkpoint_us=last.at_us if last else None,
    )
