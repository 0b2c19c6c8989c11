"""What one receipt is made from: plain frozen values, no database and no clock.

A :class:`Notice` says what happened (``kind``), to which mail (:class:`LetterFacts`), for whom
(:class:`RecipientFacts`), and who says so (:class:`GatewayIdentity`). ``tracker.receipts.compose``
turns it into the octets of a message. Mail that is no letter has no number: its notices are the
ordinary delivery status notifications of RFC 3464 and speak of a message, not of a letter.

HOW IT FAILS
    :class:`NoticeError` when the parts contradict each other: no recipient, a null author (nothing
    is ever sent to a null reverse-path), or a recipient whose event is not the one announced.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum

from tracker.model import Address
from tracker.reply import EnhancedStatus
from tracker.states import Event, Grade


class NoticeError(ValueError):
    """A notice whose parts contradict each other."""


class Kind(StrEnum):
    """What a receipt announces; the values are those of :class:`tracker.states.Event`, and ``digest``."""

    SUBMITTED = "submitted"
    REFUSED = "refused"
    HELD = "held"
    RELAYED = "relayed"
    DELIVERED = "delivered"
    LATE = "late"
    FAILED = "failed"
    CANCELLED = "cancelled"
    READ = "read"
    REGISTERED = "registered"
    REFERRED = "referred"
    RETURNED = "returned"
    PROCESSED = "processed"
    DIGEST = "digest"  # several recipients, each with an event of its own

    @classmethod
    def of(cls, event: Event) -> Kind | None:
        """The receipt that announces ``event``; None for events that are never announced by mail."""
        return cls(event.value) if event.value in cls._value2member_map_ else None


class Action(StrEnum):
    """What a delivery status notification says became of a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


ACTIONS: dict[Event, Action] = {
    Event.REFUSED: Action.FAILED,
    Event.HELD: Action.DELAYED,
    Event.RELAYED: Action.RELAYED,
    Event.DELIVERED: Action.DELIVERED,
    Event.LATE: Action.DELAYED,
    Event.FAILED: Action.FAILED,
    Event.CANCELLED: Action.FAILED,
}
"""Events that a delivery status notification can report; all others are plain notices or an MDN."""

_DEFAULT_STATUS: dict[Event, str] = {
    Event.REFUSED: "5.7.1",
    Event.HELD: "4.7.1",
    Event.RELAYED: "2.0.0",
    Event.DELIVERED: "2.0.0",
    Event.LATE: "4.0.0",
    Event.FAILED: "5.0.0",
    Event.CANCELLED: "5.7.0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """The Wasl that speaks."""

    domain: str  # of its own addresses, e.g. wasl.gov.example
    hostname: str  # Reporting-MTA
    zone: tzinfo
    name_ar: str = "وصل"
    name_en: str = "Wasl"
    local: str = "wasl"  # local part of the From address
    verify_base: str = ""  # e.g. https://wasl.gov.example/verify, without a slash at the end; "" for none

    @property
    def address(self) -> Address:
        return Address.parse(f"{self.local}@{self.domain}")

    @property
    def display(self) -> str:
        """The name beside the From address, Arabic first."""
        return f"{self.name_ar} ({self.name_en})" if self.name_ar else self.name_en


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFacts:
    """The mail that is spoken of."""

    author: Address
    accepted_us: int
    number: str | None = None  # None: no letter, or one that took no number
    subject: str = ""
    author_name: str = ""
    agency: str = ""  # code of the sending agency
    agency_ar: str = ""
    agency_en: str = ""
    message_id: str | None = None  # with its angle brackets
    references: tuple[str, ...] = ()
    sha256: bytes = b""  # of the exact octets
    envid: str | None = None  # xtext, as it came (RFC 3461 §4.4)
    verify_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientFacts:
    """What became of one recipient, and what shows it."""

    address: Address
    event: Event
    at_us: int
    grade: Grade = Grade.NONE
    orcpt: str | None = None  # as it came: ``rfc822;…`` in xtext (RFC 3461 §4.2)
    agency: str = ""
    agency_ar: str = ""
    agency_en: str = ""
    status: EnhancedStatus | None = None
    reply: str = ""  # what the other server answered, as text
    remote_mta: str = ""
    attempts: int = 0
    last_attempt_us: int | None = None
    retry_until_us: int | None = None
    log_id: str = ""
    reason_ar: str = ""  # of a rule or a clerk
    reason_en: str = ""
    incoming_number: str = ""  # رقم الوارد
    referred_to: str = ""
    answer_number: str = ""  # of the letter that answers it
    person: str = ""  # who did it, if a person is known
    disposition: str = ""  # of a read receipt, ``manual-action/MDN-sent-manually; displayed``
    read_mode: str = ""  # of a read receipt: manual-action or automatic-action; "" when it does not say

    @property
    def action(self) -> Action | None:
        """What a delivery status notification says of it; None if it has no word for that."""
        return ACTIONS.get(self.event)

    @property
    def shown_status(self) -> EnhancedStatus:
        """The status to report, always of the class that the action asks for (RFC 3464 §2.3.4)."""
        default = EnhancedStatus.parse(_DEFAULT_STATUS.get(self.event, "2.0.0"))
        if self.status is None or (default.klass == 2) != (self.status.klass == 2):
            return default
        if default.klass == 4 and self.status.klass == 5:
            return EnhancedStatus(4, self.status.subject, self.status.detail)
        return self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One receipt to be composed."""

    kind: Kind
    gateway: GatewayIdentity
    letter: LetterFacts
    recipients: tuple[RecipientFacts, ...]
    at_us: int
    original_headers: bytes = b""
    original: bytes | None = None  # the whole letter, to be returned with a failure (RET=FULL)
    evidence: bytes | None = None  # evidence.json
    proof: bytes | None = None  # proof.txt
    to: tuple[Address, ...] = ()  # who gets it; nobody named: the author

    def __post_init__(self) -> None:
        if not self.recipients:
            raise NoticeError("a receipt speaks of at least one recipient")
        if self.letter.author.is_null:
            raise NoticeError("nothing is sent to the null reverse-path")
        if self.kind is not Kind.DIGEST and any(Kind.of(r.event) is not self.kind for r in self.recipients):
            raise NoticeError(f"a recipient's event is not {self.kind}")
