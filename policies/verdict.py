"""What policy decided: one verdict a recipient, and the decision they make together.

A verdict never discards. ``REJECT`` is told to the client in session when every recipient is
refused, else by a DSN; ``HOLD`` is accepted and waits for a person; ``PASS`` goes on untouched and is
forgotten; ``ACCEPT`` is recorded as a letter (or taken in as a report that came back).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tracker.model import Address, DeliveryKind, LetterKind, Recipient
from tracker.reply import Reply


class Action(StrEnum):
    ACCEPT = "accept"
    HOLD = "hold"
    REJECT = "reject"
    PASS = "pass"


class Kind(StrEnum):
    """What the message is to one recipient."""

    LETTER = "letter"  # numbered; shadow when the sender's agency is in shadow mode
    SHADOW = "shadow"
    PASS = "pass"
    REPORT = "report"  # for the gateway itself: came back to one of its addresses


class Then(StrEnum):
    """What becomes of a held letter that nobody decided on in time."""

    REFUSE = "refuse"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldTerms:
    """On what terms a letter is held.

    ``approvers`` are roles (lower case), codes of agencies or account names; empty: whoever may
    decide on held letters at all. ``persons`` different ones must agree. ``expires_us`` is UTC.
    """

    approvers: tuple[str, ...] = ()
    persons: int = 1
    expires_us: int | None = None
    then: Then = Then.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one recipient."""

    recipient: Recipient
    action: Action
    kind: Kind
    agency: str | None = None  # of the recipient
    hop: str = ""  # name of the next hop; empty for a report and for what is refused
    redirect: Address | None = None  # deliver there instead of to ``recipient.address``
    reply: Reply | None = None  # of a refusal, ASCII
    text_ar: str = ""  # the refusal or the reason of a hold, for the page that the reply names
    text_en: str = ""
    rule: str = ""  # id of the rule that decided
    hits: tuple[str, ...] = ()  # ids of all rules that applied, in order; the last one decided
    would: tuple[str, ...] = ()  # ids of rules in shadow mode that would have applied
    would_do: tuple[str, ...] = ()  # what each of those would have done, such as "reject 550 5.7.1"
    reasons: tuple[tuple[str, str], ...] = ()  # of a refusal or a hold: match key and value that decided
    tag: bool = False  # False: the copy goes out exactly as it came
    subject_tag: bool | None = None  # None: as the settings say
    subject_shape: str | None = None  # such as "[{number}]"; None: as the settings say
    sign: bool = False  # with the author's agency's DKIM keys
    require_tls: bool = False
    requiretls: bool = False  # and REQUIRETLS (RFC 8689) from hop to hop
    hold: HoldTerms | None = None  # when ``action`` is HOLD
    mailbox: Address | None = None  # routed by rule to this mailbox instead of ``recipient.address``
    copies: tuple[Address, ...] = ()  # who gets a copy besides
    classification: str = ""  # one of Policy.marks.classifications; "" when nothing says
    urgency: str = ""
    due_us: int | None = None  # when an answer is due, UTC
    receipts: tuple[str, ...] | None = None  # events that earn one; None: as agency and settings say
    receipts_to: tuple[str, ...] | None = None  # "author", "registry" or addresses; None: as the settings say
    digest: bool | None = None  # receipts in a digest instead of at once; None: as the settings say
    answers: str | None = None  # closes, advances, nothing: what an answer does; None: as its agency says
    ask_read: str | None = (
        None  # always, author, never: ask for a read receipt; None: as agency and settings say
    )
    notify: tuple[Address, ...] = ()  # who is told that the rule applied

    @property
    def refused(self) -> bool:
        return self.action is Action.REJECT

    @property
    def delivery_kind(self) -> DeliveryKind:
        """The kind of delivery that this becomes; a report becomes none and counts as pass."""
        return DeliveryKind(self.kind.value) if self.kind is not Kind.REPORT else DeliveryKind.PASS

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "to": str(self.recipient.address),
            "action": self.action.value,
            "kind": self.kind.value,
            "rule": self.rule,
        }
        if self.agency is not None:
            out["agency"] = self.agency
        if self.hop:
            out["hop"] = self.hop
        if self.redirect is not None:
            out["redirect"] = str(self.redirect)
        if self.reply is not None:
            out["reply"] = str(self.reply)
        if self.mailbox is not None:
            out["mailbox"] = str(self.mailbox)
        if self.hold is not None:
            out["hold"] = {
                "approvers": list(self.hold.approvers),
                "persons": self.hold.persons,
                "expires_us": self.hold.expires_us,
                "then": self.hold.then.value,
            }
        for name in ("classification", "urgency", "subject_shape", "answers", "ask_read"):
            value = getattr(self, name)
            if value:
                out[name] = value
        if self.due_us is not None:
            out["due_us"] = self.due_us
        for name in ("receipts", "receipts_to"):
            value = getattr(self, name)
            if value is not None:
                out[name] = list(value)
        for name in ("copies", "notify"):
            value = getattr(self, name)
            if value:
                out[name] = [str(address) for address in value]
        if self.reasons:
            out["reasons"] = [list(reason) for reason in self.reasons]
        for flag in ("tag", "subject_tag", "sign", "require_tls", "requiretls", "digest"):
            value = getattr(self, flag)
            if value:
                out[flag] = True
            elif value is not None and flag in ("subject_tag", "digest"):
                out[flag] = False
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All verdicts on one mail transaction, in the order of its recipients."""

    verdicts: tuple[Verdict, ...]
    policy_version: str
    facts_version: int

    @property
    def kind(self) -> LetterKind:
        """What the transaction is recorded as."""
        kinds = {v.kind for v in self.verdicts if not v.refused}
        if not kinds:
            return LetterKind.REFUSED
        for kind in (Kind.LETTER, Kind.SHADOW, Kind.REPORT):
            if kind in kinds:
                return LetterKind(kind.value)
        return LetterKind.PASS

    @property
    def refusal(self) -> Reply | None:
        """The answer to DATA when every recipient is refused, else None."""
        if self.kind is not LetterKind.REFUSED:
            return None
        # The one reason that most recipients share; the first one among equals.
        replies = [v.reply for v in self.verdicts if v.reply is not None]
        return max(replies, key=replies.count) if replies else None

    @property
    def refused_by(self) -> str:
        """The rule that gave the answer to DATA; empty when it is no refusal."""
        answer = self.refusal
        return next((v.rule for v in self.verdicts if v.reply == answer), "") if answer is not None else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for the record. The rules that applied stand once for all recipients who share them.

        Those that did not are not recorded: facts and policy version tell them again (``Policy.walk``).
        """
        paths: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
        verdicts = []
        for v in self.verdicts:
            path = paths.setdefault((v.hits, v.would), len(paths))
            verdicts.append(v.to_json() | {"path": path})
        return {
            "kind": self.kind.value,
            "policy": self.policy_version,
            "facts": self.facts_version,
            "verdicts": verdicts,
            "paths": [
                {"hits": list(hits)} | ({"would": list(would)} if would else {}) for hits, would in paths
            ],
        }
