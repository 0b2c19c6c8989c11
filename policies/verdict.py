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


@dataclass(frozen=True, slots=True)
class Miss:
    """A rule that did not apply, and the first match key that said so."""

    rule: str
    key: str


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
    misses: tuple[Miss, ...] = ()
    tag: bool = False  # False: the copy goes out exactly as it came
    subject_tag: bool | None = None  # None: as the settings say
    sign: bool = False  # with the author's agency's DKIM keys
    require_tls: bool = False
    receipts: tuple[str, ...] | None = None  # events that earn one; None: as agency and settings say

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
        if self.receipts is not None:
            out["receipts"] = list(self.receipts)
        for flag in ("tag", "subject_tag", "sign", "require_tls"):
            value = getattr(self, flag)
            if value:
                out[flag] = True
            elif value is not None and flag == "subject_tag":
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

    def to_json(self) -> dict[str, Any]:
        """Plain values for the record. The way through the rules stands once for all who share it."""
        paths: dict[tuple[tuple[str, ...], tuple[Miss, ...]], int] = {}
        verdicts = []
        for v in self.verdicts:
            path = paths.setdefault((v.hits, v.misses), len(paths))
            verdicts.append(v.to_json() | {"path": path})
        return {
            "kind": self.kind.value,
            "policy": self.policy_version,
            "facts": self.facts_version,
            "verdicts": verdicts,
            "paths": [
                {"hits": list(hits), "misses": [f"{m.rule}: {m.key}" for m in misses]}
                for hits, misses in paths
            ],
        }
