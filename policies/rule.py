"""One rule: when it applies, and what it does. Compiled once, pure, no look at the outside.

A rule's match keys are compiled to small predicates over the facts of the transaction and of one
recipient. A rule whose effect has an action ends the chain; one that only sets something lets it go
on. Conditions say which facts they need, so that a rule can be asked before the header is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from policies.facts import Automatic, Facts, Pending, RecipientFacts, unreadable
from policies.verdict import Action, Kind

Test = Callable[[Facts, RecipientFacts], bool]


class Answer(StrEnum):
    HIT = "hit"
    MISS = "miss"
    OPEN = "open"  # hangs on the header, which is not here yet


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
class Condition:
    """One match key with its test."""

    key: str
    test: Test
    needs: Pending | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a refusal says. ``{recipient}``, ``{sender}``, ``{domain}`` and ``{agency}`` are filled in."""

    code: int
    status: str
    en: str
    ar: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a rule does when it applies; None leaves a thing as it is."""

    action: Action | None = None  # None: the chain goes on
    kind: Kind | None = None
    route: Route | None = None
    refusal: Refusal | None = None
    tag: bool | None = None
    subject_tag: bool | None = None
    sign: bool | None = None
    require_tls: bool | None = None
    receipts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a policy. Lower ``priority`` is asked first."""

    id: str
    priority: int
    ar: str
    en: str
    conditions: tuple[Condition, ...]
    effect: Effect
    file: str = ""
    line: int = 0

    def ask(self, facts: Facts, recipient: RecipientFacts) -> tuple[Answer, str]:
        """Whether the rule applies, and the key that decided that it does not or cannot be told."""
        waiting = ""
        for condition in self.conditions:
            if condition.needs is not None and condition.needs in facts.pending:
                waiting = waiting or condition.key
            elif not condition.test(facts, recipient):
                return Answer.MISS, condition.key
        return (Answer.OPEN, waiting) if waiting else (Answer.HIT, "")


def _among(fact: Callable[[Facts, RecipientFacts], object], values: frozenset[object]) -> Test:
    if len(values) == 1:
        (only,) = values
        return lambda f, r: fact(f, r) == only
    return lambda f, r: fact(f, r) in values


def _flag(fact: Test, wanted: bool) -> Test:
    return fact if wanted else lambda f, r: not fact(f, r)


# The match keys that compare a fact with a list of values.
LISTS: dict[str, tuple[Callable[[Facts, RecipientFacts], object], Pending | None]] = {
    "door": (lambda f, r: f.door, None),
    "submitter": (lambda f, r: f.submitter, Pending.SUBMITTER),
    "submitter_mode": (lambda f, r: f.submitter_mode, Pending.SUBMITTER),
    "sender": (lambda f, r: f.sender_kind, Pending.SUBMITTER),
    "author": (lambda f, r: f.author_kind, Pending.HEADER),
    "recipient": (lambda f, r: r.place, None),
    "recipient_agency": (lambda f, r: r.agency, None),
    "recipient_mode": (lambda f, r: r.mode, None),
    "crypto": (lambda f, r: f.crypto, Pending.HEADER),
}

# The match keys that are true or false.
FLAGS: dict[str, tuple[Test, Pending | None]] = {
    "agency_server": (lambda f, r: bool(f.submitters), None),
    "vouched": (lambda f, r: f.vouched, Pending.VOUCHED),
    "same_agency": (lambda f, r: r.agency is not None and r.agency == f.submitter, Pending.SUBMITTER),
    "connected": (lambda f, r: r.connected, None),
    "outbound": (lambda f, r: f.outbound, Pending.SUBMITTER),
    "looped": (lambda f, r: f.looped, Pending.HEADER),
    "unreadable": (lambda f, r: unreadable(f), Pending.HEADER),
    "author_is_account": (lambda f, r: f.author_is_account, Pending.HEADER),
}

# The match keys that are true above a number.
OVER: dict[str, tuple[Callable[[Facts], int], Pending | None]] = {
    "size_over": (lambda f: f.size, Pending.HEADER),
    "recipients_over": (lambda f: len(f.recipients) + f.before, None),
    "hops_over": (lambda f: f.hops, Pending.HEADER),
}


def condition(key: str, value: object) -> Condition:
    """Compile one match key; ``value`` is already checked by the loader."""
    if key in LISTS:
        fact, needs = LISTS[key]
        assert isinstance(value, (list, tuple))
        return Condition(key=key, test=_among(fact, frozenset(value)), needs=needs)
    if key in FLAGS:
        flag, needs = FLAGS[key]
        return Condition(key=key, test=_flag(flag, bool(value)), needs=needs)
    if key in OVER:
        number, needs = OVER[key]
        assert isinstance(value, int)
        bound = value
        return Condition(key=key, test=lambda f, r: number(f) > bound, needs=needs)
    if key == "automatic":
        if isinstance(value, bool):
            return Condition(key=key, test=_flag(lambda f, r: bool(f.automatic), value), needs=Pending.HEADER)
        assert isinstance(value, (list, tuple))
        kinds = frozenset(Automatic(v) for v in value)
        return Condition(key=key, test=lambda f, r: not kinds.isdisjoint(f.automatic), needs=Pending.HEADER)
    raise KeyError(key)
