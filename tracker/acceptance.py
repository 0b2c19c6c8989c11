"""What intake hands in to be recorded: one mail transaction with its decision, and what became of it.

Plain frozen values; :mod:`tracker.accept_desk` writes them. Nothing here fails.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from tracker.archive import Octets
from tracker.attempt_lease import Lease
from tracker.claims import Claim
from tracker.model import Connection as Peer
from tracker.model import DeliveryKind, Envelope, LetterKind, Recipient
from tracker.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldDraft:
    """On what terms a rule holds one recipient's copy."""

    rule: str
    ar: str = ""
    en: str = ""
    approvers: tuple[str, ...] = ()  # roles, codes of agencies, names of accounts
    needs: int = 1  # different persons
    expires_us: int | None = None
    at_expiry: str = "refuse"  # or release


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDraft:
    """One recipient as policy decided."""

    recipient: Recipient
    kind: DeliveryKind
    agency: str | None
    hop: str
    state: State = State.QUEUED
    bcc: bool = False
    asks: tuple[str, ...] = ()  # the events that earn the author a receipt; relayed? if the hop tells nothing
    tag: bool = False  # our fields and our return address; False: the copy goes out as it came
    subject_tag: bool = False
    sign: bool = False
    require_tls: bool = False
    reason: dict[str, Any] = field(default_factory=dict)  # rule, reply: for held and refused
    hold: HoldDraft | None = None  # of what is held
    intended: str | None = None  # whom the author named, space-separated, where policy routes elsewhere
    copy_by: str | None = None  # the rule that added this recipient
    receipts_to: str | None = None  # who gets the receipts, space-separated; None: the author
    digest: bool | None = None
    due_us: int | None = None  # when this recipient's answer is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One mail transaction, decided, with its octets spooled."""

    submission_id: int  # a fresh id; the archive key is made of it
    kind: LetterKind
    peer: Peer
    envelope: Envelope
    octets: Octets
    at_us: int
    expires_us: int
    deliveries: tuple[DeliveryDraft, ...]
    agency: str | None = None  # of the sender
    author: str = ""
    author_name: str = ""
    message_id: str | None = None
    references: tuple[str, ...] = ()
    subject_number: str | None = None  # a number of ours that the subject bears
    text_numbers: tuple[str, ...] = ()  # those that its first lines refer to
    answer_effect: str = "nothing"  # of an answer on what it answers: closes, advances, nothing
    subject: str = ""
    subject_fold: str = ""
    digest: bytes | None = None
    parts: tuple[bytes, ...] = ()  # digests of decoded text and attachments, for the ledger
    classification: str = ""
    urgency: str = ""
    due_us: int | None = None
    number_shape: str | None = None  # None: takes no number
    facts: dict[str, Any] = field(default_factory=dict)
    facts_version: int = 1
    decision: dict[str, Any] = field(default_factory=dict)
    policy_version: str = ""
    hits: tuple[str, ...] = ()  # ids of the rules that are counted
    would: tuple[str, ...] = ()  # of those in shadow mode that would have applied
    notify: tuple[str, ...] = ()  # who is told by mail that a rule applied
    receipt_for: int | None = None
    receipt_ids: tuple[int, ...] = ()  # receipts that this message settles
    followup_ids: tuple[int, ...] = ()  # steps of follow-up that it settles
    hand_to: str | None = None  # lease owner that takes the deliveries at once
    lease_us: int = 0  # until when; a relay gives a lease instead
    lease: Lease | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of an acceptance. ``repeat``: nothing new was written for the recipients."""

    letter_id: int
    number: str | None
    repeat: bool = False
    claims: tuple[Claim, ...] = ()


def envelope_digest(a: Acceptance) -> bytes:
    """The identity of a repeated transaction: agency, account, envelope and octets."""
    h = hashlib.sha256()
    parts = [a.kind.value, a.agency or "", str(a.envelope.sender)]
    parts += sorted(r.address.key for r in a.envelope.recipients)
    h.update("\0".join(parts).encode())
    h.update(a.octets.sha256)
    return h.digest()
