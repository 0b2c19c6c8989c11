"""One rule: when it applies, and what it does. Compiled once, pure, no look at the outside.

A rule applies when all conditions of ``match`` hold, those of ``unless`` do not all hold, and its
expression says true. One whose effect has an action ends the chain; one that only sets something lets
it go on. Conditions say which facts they need, so that a rule can be asked before the header is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from policies.case import Case
from policies.condition import Axis, Condition
from policies.expression import Expression, ExpressionError
from policies.period import Period
from policies.verdict import Action, Kind, Then
from tracker.model import Address

UNLESS = "unless"  # the key that decided when an exception did
WHEN = "when"
LIMIT = "limit"


class Answer(StrEnum):
    HIT = "hit"
    MISS = "miss"
    OPEN = "open"  # hangs on the header, which is not here yet
    ERROR = "error"  # its expression gave no answer


class Route(StrEnum):
    RECIPIENT = "recipient"  # the recipient's own agency's server
    OUTBOUND = "outbound"  # the submitter's way to the outside
    GATEWAY = "gateway"  # the gateway itself takes it in


class RuleMode(StrEnum):
    ACTIVE = "active"
    SHADOW = "shadow"  # what it would have done is recorded, nothing is changed


class Per(StrEnum):
    """What a rate limit counts."""

    MAILBOX = "mailbox"  # the envelope sender
    AGENCY = "agency"  # the submitter
    PAIR = "pair"  # submitter and receiving agency


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a refusal says. ``{recipient}``, ``{sender}``, ``{domain}`` and ``{agency}`` are filled in."""

    code: int
    status: str
    en: str
    ar: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSpec:
    """Terms of a hold as the rule has them."""

    approvers: tuple[str, ...] = ()
    persons: int = 1
    expires: Period | None = None
    then: Then = Then.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The rule applies to what is above ``count`` recipients in ``window_us``."""

    per: Per
    count: int
    window_us: int

    def key(self, rule_id: str, case: Case) -> str:
        """Under which name this letter is counted."""
        if self.per is Per.MAILBOX:
            who = case.f.sender.casefold()
        elif self.per is Per.AGENCY:
            who = case.f.submitter or ""
        else:
            who = f"{case.f.submitter or ''} {case.r.agency or case.r.recipient.address.host}"
        return f"{rule_id} {self.window_us} {who}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a rule does when it applies; None leaves a thing as it is."""

    action: Action | None = None  # None: the chain goes on
    kind: Kind | None = None
    route: Route | None = None
    refusal: Refusal | None = None
    hold: HoldSpec | None = None
    hop: str | None = None
    mailbox: Address | Literal["registry"] | None = None
    copies: tuple[Address, ...] = ()
    notify: tuple[Address, ...] = ()
    tag: bool | None = None
    subject_tag: bool | None = None
    subject_shape: str | None = None
    sign: bool | None = None
    require_tls: bool | None = None
    requiretls: bool | None = None
    classification: str | None = None
    raise_classification: str | None = None
    urgency: str | None = None
    raise_urgency: str | None = None
    due: Period | None = None
    receipts: tuple[str, ...] | None = None
    receipts_to: tuple[str, ...] | None = None
    digest: bool | None = None
    answers: str | None = None
    ask_read: str | None = None

    @property
    def marks(self) -> bool:
        """It may change what later rules see."""
        return bool(self.classification or self.raise_classification or self.urgency or self.raise_urgency)

    @property
    def protects(self) -> bool:
        """What it does keeps a letter from harm: it must not be left out because nobody knows."""
        return self.action in (Action.HOLD, Action.REJECT) or bool(self.require_tls) or self.marks

    @property
    def on_the_wire(self) -> bool:
        """It changes what becomes of the letter, and not only what is recorded of it."""
        if self.action in (Action.HOLD, Action.REJECT):
            return True
        changes = (self.hop, self.mailbox, self.copies, self.notify, self.require_tls, self.requiretls)
        return self.action is None and any(changes)

    @property
    def reroutes(self) -> bool:
        return self.action is None and bool(self.mailbox or self.copies or self.hop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a policy. Lower ``priority`` is asked first."""

    id: str
    priority: int
    ar: str
    en: str
    conditions: tuple[Condition, ...]
    effect: Effect
    unless: tuple[Condition, ...] | None = None  # None: no exception
    when: Expression | None = None
    limit: Limit | None = None
    mode: RuleMode = RuleMode.ACTIVE
    safety: bool = False  # one of those that are always in force
    file: str = ""
    line: int = 0
    entry: Mapping[str, Any] = field(default_factory=dict, repr=False)  # as it stands in the file

    @property
    def shadow(self) -> bool:
        return self.mode is RuleMode.SHADOW

    @property
    def lingers(self) -> bool:
        """It holds, and what is held becomes what the rules after it make of it."""
        return self.effect.action is Action.HOLD and self.effect.kind is None

    def ask(self, case: Case) -> tuple[Answer, str, str]:
        """Whether the rule applies, and the key that decided so with the value that it saw.

        A limit is not asked here: it counts (``policies/chain.py``).
        """
        pending = case.f.pending
        waiting = ""
        for condition in self.conditions:
            if pending and (condition.needs in pending or condition.axis is Axis.FREE):
                waiting = waiting or condition.key
            elif not condition.test(case):
                return Answer.MISS, condition.key, condition.shown(case)
        if self.unless is not None:
            open_key = ""
            for condition in self.unless:
                if pending and (condition.needs in pending or condition.axis is Axis.FREE):
                    open_key = open_key or condition.key
                elif not condition.test(case):
                    break
            else:
                if not open_key:
                    seen = "; ".join(f"{c.key}: {c.shown(case)}" for c in self.unless)
                    return Answer.MISS, UNLESS, seen
                waiting = waiting or open_key
        if pending and (self.when is not None or self.limit is not None):
            waiting = waiting or (WHEN if self.when is not None else LIMIT)
        if waiting:
            return Answer.OPEN, waiting, ""
        if self.when is not None:
            try:
                if not self.when.test(case):
                    return Answer.MISS, WHEN, "false"
            except ExpressionError as e:
                return Answer.ERROR, WHEN, str(e)
        return Answer.HIT, "", ""

    def reasons(self, case: Case) -> tuple[tuple[str, str], ...]:
        """The keys that it asks for with the values that this letter has."""
        seen = [(c.key, c.shown(case)) for c in self.conditions]
        if self.when is not None:
            seen.append((WHEN, "true"))
        return tuple(seen)

    @property
    def does(self) -> str:
        """What it does in a few words for the record, such as ``reject 550 5.7.1``."""
        effect = self.effect
        words = [effect.action.value] if effect.action is not None else []
        if effect.refusal is not None and effect.action is Action.REJECT:
            words += [str(effect.refusal.code), effect.refusal.status]
        words += [name for name in SETTINGS if name in self.entry]
        return " ".join(words)


# What a rule sets beside its action, by the keys of its file.
SETTINGS = (
    "hop",
    "mailbox",
    "copy",
    "require_tls",
    "classification",
    "raise_classification",
    "urgency",
    "raise_urgency",
    "due",
    "receipts",
    "receipts_to",
    "digest",
    "answers",
    "ask_read",
    "tag",
    "subject_tag",
    "sign",
    "notify",
)
