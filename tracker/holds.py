"""Letters that a rule holds for approval: who may decide, what waits, and one hold with all its acts.

Reading only; :mod:`tracker.hold_desk` decides. A hold belongs to one delivery. Its ``approvers`` are what
the rule names: a role (``compliance``), an agency's code or an account. A role counts at the sender's
end and for those who see everything, never for another agency's people (DESIGN §6.5); an agency or an
account that a rule names may decide wherever it stands. The author of a letter approves it in no case,
and nobody counts twice. Mail that is no letter shows its addresses and nothing more, to those who see all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Text, cast, false, func, or_, select, true

from tracker.access import Role, Viewer
from tracker.model import LetterKind
from tracker.schema import approval, delivery, hold, letter, submission

PAGE = 50
COUNT_LIMIT = 1000  # a count stops here
DEFAULT_APPROVERS = (Role.ADMIN.value, Role.COMPLIANCE.value)
CONSOLE = "console:"  # in front of the name of a person who sits at the gateway itself


class Act(StrEnum):
    """What a person decides."""

    RELEASE = "release"
    REFUSE = "refuse"


class HoldState(StrEnum):
    OPEN = "open"
    RELEASED = "released"
    REFUSED = "refused"
    EXPIRED = "expired"  # nobody decided in time: the rule said what then


class Bar(StrEnum):
    """Why an act is not taken."""

    UNKNOWN = "unknown"  # no such hold, or none that the person may know of
    DECIDED = "decided"  # already
    NOT_APPROVER = "not-approver"
    AUTHOR = "author"  # nobody approves a letter of his own
    TWICE = "twice"  # has approved it already; somebody else must
    REASON = "reason"  # a refusal without a note: the author is told why


BARS = {
    Bar.UNKNOWN: "there is no such hold",
    Bar.DECIDED: "it has been decided already",
    Bar.NOT_APPROVER: "the rule names others to decide this",
    Bar.AUTHOR: "its author may not approve it",
    Bar.TWICE: "the same person may not approve twice",
    Bar.REASON: "a refusal says why: give a note",
}
"""What a bar means, in words for the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One act on a hold. ``account`` is the person's name."""

    account: str
    act: Act
    at_us: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One delivery that waits or waited, with its letter. Times in microseconds of UTC."""

    id: int
    letter_id: int
    delivery_id: int
    rule: str
    reason_ar: str
    reason_en: str
    approvers: tuple[str, ...]
    needs: int  # different persons
    since_us: int
    expires_us: int | None
    at_expiry: Act
    state: HoldState
    decided_us: int | None
    kind: LetterKind
    number: str | None
    subject: str
    author: str
    author_name: str
    agency: str | None  # of the sender
    sender: str  # reverse-path
    account: str | None  # under which the author signed in
    classification: str
    urgency: str
    due_us: int | None
    size: int
    recipient: str
    recipient_agency: str | None
    approvals: tuple[Approval, ...] = ()
    bar: Bar | None = None  # why the viewer may not decide it; None: he may

    @property
    def given(self) -> int:
        """How many persons have approved it."""
        return sum(a.act is Act.RELEASE for a in self.approvals)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldList:
    """One page of holds, the oldest first; ``next`` is the cursor of the next page."""

    holds: tuple[Hold, ...]
    next: int | None


def open_holds(
    conn: Connection,
    viewer: Viewer,
    *,
    after: int | None = None,
    limit: int = PAGE,
    rule: str | None = None,
    mine: bool = False,
) -> HoldList:
    """What waits and the viewer may know of, the oldest first. ``mine``: only what he may decide."""
    found: list[Hold] = []
    at = after
    while True:
        asked = _holds().where(hold.c.state == HoldState.OPEN.value, _known_to(viewer))
        if at is not None:
            asked = asked.where(hold.c.id > at)
        if rule is not None:
            asked = asked.where(hold.c.rule == rule)
        rows = conn.execute(asked.order_by(hold.c.id).limit(limit + 1)).all()
        for one in _with_approvals(conn, rows, viewer):
            if one.bar is Bar.UNKNOWN or (mine and one.bar is not None):
                continue
            found.append(one)
        if len(found) > limit:
            return HoldList(holds=tuple(found[:limit]), next=found[limit - 1].id)
        if len(rows) <= limit:
            return HoldList(holds=tuple(found), next=None)
        at = rows[-1].id


def count_open(conn: Connection, viewer: Viewer) -> int:
    """How many open holds the viewer may know of; stops at ``COUNT_LIMIT``."""
    asked = _holds().where(hold.c.state == HoldState.OPEN.value, _known_to(viewer)).limit(COUNT_LIMIT)
    return conn.scalar(select(func.count()).select_from(asked.subquery())) or 0


def hold_page(conn: Connection, viewer: Viewer, hold_id: int) -> Hold | None:
    """One hold, open or decided, with all acts on it; None when the viewer may not know of it."""
    found = holds_of(conn, viewer, hold.c.id == hold_id)
    return found[0] if found else None


def of_letter(conn: Connection, viewer: Viewer, letter_id: int) -> tuple[Hold, ...]:
    """All holds of a letter, open and decided."""
    return holds_of(conn, viewer, hold.c.letter_id == letter_id)


def holds_of(conn: Connection, viewer: Viewer, condition: ColumnElement[bool]) -> tuple[Hold, ...]:
    """The holds that fulfil a condition on the table and that the viewer may know of."""
    rows = conn.execute(_holds().where(condition, _known_to(viewer)).order_by(hold.c.id)).all()
    return tuple(one for one in _with_approvals(conn, rows, viewer) if one.bar is not Bar.UNKNOWN)


def meant(conn: Connection, number: int) -> int | None:
    """The hold of this id, or of the delivery of this id."""
    asked = select(hold.c.id).where(or_(hold.c.id == number, hold.c.delivery_id == number))
    return conn.scalar(asked.limit(1))


def ids_of(conn: Connection, delivery_ids: Sequence[int]) -> list[int]:
    """The holds of these deliveries."""
    return list(
        conn.scalars(select(hold.c.id).where(hold.c.delivery_id.in_(delivery_ids)).order_by(hold.c.id))
    )


def any_due(conn: Connection, at_us: int) -> bool:
    """True when the time of an open hold has run out."""
    asked = select(hold.c.id).where(hold.c.state == HoldState.OPEN.value, hold.c.expires_us <= at_us)
    return conn.scalar(asked.limit(1)) is not None


def waits(conn: Connection, delivery_id: int) -> str | None:
    """The rule whose open hold keeps a delivery, if there is one."""
    asked = select(hold.c.rule).where(hold.c.delivery_id == delivery_id, hold.c.state == HoldState.OPEN.value)
    return conn.scalar(asked)


def person_of(account: str) -> str:
    """One name for one person, whether at the console or signed in: by it nobody counts twice."""
    return account.removeprefix(CONSOLE).split(" ")[0].casefold()


def bar_of(one: Hold, viewer: Viewer, act: Act | None = None) -> Bar | None:
    """Why ``viewer`` may not do ``act`` (None: either of the two) to a hold; None when he may."""
    approver = _approves(one, viewer)
    if not approver and not _at_senders_end(one, viewer):
        return Bar.UNKNOWN
    if one.state is not HoldState.OPEN:
        return Bar.DECIDED
    if not approver:
        return Bar.NOT_APPROVER
    if _wrote(one, viewer):
        return Bar.AUTHOR
    person = person_of(viewer.account)
    if act is not Act.REFUSE and any(person_of(a.account) == person for a in one.approvals):
        return Bar.TWICE
    return None


def _at_senders_end(one: Hold, viewer: Viewer) -> bool:
    if viewer.sees_all:
        return True
    return viewer.agency is not None and viewer.agency == one.agency and one.kind is not LetterKind.PASS


def _approves(one: Hold, viewer: Viewer) -> bool:
    named = {name.casefold() for name in one.approvers}
    if person_of(viewer.account) in named or viewer.account.casefold() in named:
        return True
    if viewer.role is Role.VIEWER:  # looks and decides nothing, unless the rule names the person
        return False
    if viewer.agency is not None and viewer.agency.casefold() in named:
        return True
    roles = {viewer.role.value}
    if viewer.account.startswith(CONSOLE) and viewer.agency is None:
        roles = {Role.ADMIN.value, Role.COMPLIANCE.value}  # who has the gateway's own files in hand
    return not roles.isdisjoint(named) and _at_senders_end(one, viewer)


def _wrote(one: Hold, viewer: Viewer) -> bool:
    """True when the viewer may be the author: by address, or by the name before the @ of his agency."""
    person = person_of(viewer.account)
    for address in (one.author, one.sender, one.account or ""):
        folded = address.casefold()
        if not folded:
            continue
        own_house = viewer.agency is None or viewer.agency == one.agency
        if person == folded or (own_house and person == folded.rpartition("@")[0]):
            return True
    return False


def _known_to(viewer: Viewer) -> ColumnElement[bool]:
    """What the query can already leave out; the exact answer is :func:`bar_of`."""
    if viewer.sees_all:
        return true()
    named = func.lower(cast(hold.c.approvers, Text))
    known: list[ColumnElement[bool]] = [named.contains(f'"{person_of(viewer.account)}"', autoescape=True)]
    if viewer.agency is not None:
        known.append(letter.c.agency == viewer.agency)
        known.append(named.contains(f'"{viewer.agency.casefold()}"', autoescape=True))
    return or_(false(), *known)


def _holds() -> Select[Any]:
    h, d, s, le = hold.c, delivery.c, submission.c, letter.c
    return (
        select(
            hold, le.kind, le.number, le.subject, le.author, le.author_name, le.agency, le.classification,
            le.urgency, le.due_us, s.sender, s.account, s.size, d.recipient,
            d.agency.label("recipient_agency"),
        )
        .join(delivery, d.id == h.delivery_id)
        .join(submission, s.id == d.submission_id)
        .join(letter, le.id == h.letter_id)
    )  # fmt: skip


def _with_approvals(conn: Connection, rows: Sequence[Row[Any]], viewer: Viewer) -> list[Hold]:
    """The rows as holds, each with the acts on it and what the viewer may do."""
    if not rows:
        return []
    acts: dict[int, list[Approval]] = {}
    a = approval.c
    asked = select(approval).where(a.hold_id.in_([row.id for row in rows])).order_by(a.id)
    for row in conn.execute(asked):
        acts.setdefault(row.hold_id, []).append(
            Approval(account=row.account, act=Act(row.act), at_us=row.at_us, note=row.note)
        )
    out = []
    for row in rows:
        one = _hold(row, tuple(acts.get(row.id, ())), None)
        out.append(_hold(row, one.approvals, bar_of(one, viewer)))
    return out


def _hold(row: Row[Any], approvals: tuple[Approval, ...], bar: Bar | None) -> Hold:
    private = row.kind == LetterKind.PASS.value
    return Hold(
        id=row.id,
        letter_id=row.letter_id,
        delivery_id=row.delivery_id,
        rule=row.rule,
        reason_ar=row.reason_ar,
        reason_en=row.reason_en,
        approvers=tuple(str(name) for name in row.approvers),
        needs=row.needs,
        since_us=row.since_us,
        expires_us=row.expires_us,
        at_expiry=Act(row.at_expiry),
        state=HoldState(row.state),
        decided_us=row.decided_us,
        kind=LetterKind(row.kind),
        number=row.number,
        subject="" if private else row.subject,
        author=row.author,
        author_name=row.author_name,
        agency=row.agency,
        sender=row.sender,
        account=row.account,
        classification=row.classification,
        urgency=row.urgency,
        due_us=row.due_us,
        size=row.size,
        recipient=row.recipient,
        recipient_agency=row.recipient_agency,
        approvals=approvals,
        bar=bar,
    )
