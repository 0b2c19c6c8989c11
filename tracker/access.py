"""Who may see which letter, and which of its rows: the one place where that is decided.

DESIGN §6.5 (need to know) and §11 (Bcc). A viewer without an agency sees everything if he is an
administrator or compliance; anyone else without an agency sees nothing. An agency's people see

- a letter that their agency sent: all of it, every recipient's row;
- a letter that reached for their agency: its own rows with their evidence, the other recipients
  that are not Bcc as names only, and nothing of the sender's side (policy, connection, account).

What the sender's side still holds back (refused at the door, held for approval, cancelled before
any attempt) has not reached for anybody, and the receiving agency does not see it.

Every query of ``tracker/queries.py`` and ``tracker/letter_page.py`` takes its condition from here,
so that lists, counts, search and single letters cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, false, or_, select, true
from sqlalchemy.sql.selectable import FromClause

from tracker.model import DeliveryKind, LetterKind
from tracker.schema import delivery, letter
from tracker.states import State

SHOWN_LETTERS = (LetterKind.LETTER.value, LetterKind.SHADOW.value, LetterKind.REFUSED.value)
SHOWN_DELIVERIES = (DeliveryKind.LETTER.value, DeliveryKind.SHADOW.value)


class Role(StrEnum):
    ADMIN = "admin"  # accounts, worklist; reads no content
    COMPLIANCE = "compliance"  # follows letters, may take out the original
    REGISTRY = "registry"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """The person who looks. ``account`` is the name written into the audit."""

    account: str
    role: Role
    agency: str | None = None

    @property
    def sees_all(self) -> bool:
        return self.agency is None and self.role in (Role.ADMIN, Role.COMPLIANCE)

    @property
    def may_see_worklist(self) -> bool:
        """Unmatched reports bear names of many agencies: for administrators of the whole only."""
        return self.agency is None and self.role is Role.ADMIN

    @property
    def may_take_content(self) -> bool:
        return self.role is Role.COMPLIANCE


class End(StrEnum):
    """At which end of a letter its viewer stands."""

    SENDER = "sender"  # sees all of it; those who see everything stand here too
    RECEIVER = "receiver"


def reached(row: FromClause = delivery) -> ColumnElement[bool]:
    """The delivery has left the sender's hands."""
    return or_(
        row.c.state.in_((State.QUEUED.value, State.SENDING.value, State.SENT.value)),
        and_(row.c.state == State.FAILED.value, row.c.attempts > 0),
    )


def row_of_own(viewer: Viewer, row: FromClause = delivery) -> ColumnElement[bool]:
    """The delivery is addressed to the viewer's agency and has reached for it."""
    if viewer.agency is None:
        return false()
    return and_(row.c.agency == viewer.agency, row.c.kind.in_(SHOWN_DELIVERIES), reached(row))


def row_with_evidence(viewer: Viewer, row: FromClause = delivery) -> ColumnElement[bool]:
    """The delivery may be shown with its state and evidence; to be used beside ``letter``."""
    if viewer.sees_all:
        return row.c.kind.in_(SHOWN_DELIVERIES)
    if viewer.agency is None:
        return false()
    return and_(
        row.c.kind.in_(SHOWN_DELIVERIES), or_(letter.c.agency == viewer.agency, row_of_own(viewer, row))
    )


def row_by_name(viewer: Viewer, row: FromClause = delivery) -> ColumnElement[bool]:
    """The delivery may be named; to be used beside a ``letter`` that the viewer sees."""
    if viewer.sees_all:
        return row.c.kind.in_(SHOWN_DELIVERIES)
    return or_(row_with_evidence(viewer, row), and_(row.c.kind.in_(SHOWN_DELIVERIES), row.c.bcc.is_(False)))


def letter_seen(viewer: Viewer) -> ColumnElement[bool]:
    """The letter may be shown to the viewer."""
    shown = letter.c.kind.in_(SHOWN_LETTERS)
    if viewer.sees_all:
        return and_(shown, true())
    if viewer.agency is None:
        return false()
    row = delivery.alias()
    own = select(row.c.id).where(row.c.letter_id == letter.c.id, row_of_own(viewer, row)).exists()
    return and_(shown, or_(letter.c.agency == viewer.agency, own))


def end_of(viewer: Viewer, sending_agency: str | None) -> End:
    """Where the viewer stands towards a letter that he may see."""
    at_sender = viewer.sees_all or (viewer.agency is not None and viewer.agency == sending_agency)
    return End.SENDER if at_sender else End.RECEIVER
