"""What several rules that applied amount to together, and the verdict on one recipient that comes of it.

Later rules have the last word over earlier ones; copies and people to be told add up. What hangs on the
single letter (names in a refusal, the next hop, dates) is filled in when the verdict is made, all else is
worked out once for the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from policies.agency import Mode
from policies.case import Case
from policies.period import MAX_SECONDS, Period
from policies.rule import WHEN, Effect, HoldSpec, Refusal, Route, Rule
from policies.verdict import Action, HoldTerms, Kind, Verdict
from tracker.model import Address
from tracker.reply import Reply

UNDECIDED = "undecided"  # the id that stands for the end of the chain

_FIELD = re.compile(r"\{(recipient|sender|domain|agency)\}")


class Held:
    """Why a letter is held: by a rule, because a rule's expression failed, or because no rule decided."""

    __slots__ = ("reasons", "rule", "why")

    def __init__(self, rule: Rule | None, case: Case, why: str = "") -> None:
        self.rule = rule
        self.why = why
        # As the letter is now: later rules may set its classification.
        self.reasons = ((WHEN, why),) if why else rule.reasons(case) if rule is not None else ()

    @property
    def id(self) -> str:
        return self.rule.id if self.rule is not None else UNDECIDED

    @property
    def words(self) -> tuple[str, str]:
        """In Arabic and English."""
        if self.rule is None:
            return "لم تنطبق أي قاعدة على الكتاب", "No rule decided"
        if self.why:
            ar = f"تعذّر تقييم شرط القاعدة {self.rule.id}"
            return ar, f"The condition of the rule {self.rule.id} could not be evaluated: {self.why}"
        return self.rule.ar, self.rule.en

    @property
    def spec(self) -> HoldSpec:
        spec = self.rule.effect.hold if self.rule is not None and not self.why else None
        return spec or HoldSpec()

    @property
    def refusal(self) -> Refusal | None:
        return self.rule.effect.refusal if self.rule is not None and not self.why else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The effects of the rules that applied. ``rule``: the last one that has an action."""

    rule: Rule | None
    action: Action
    kind: Kind
    route: Route
    hits: tuple[str, ...]
    would: tuple[str, ...]
    would_do: tuple[str, ...]
    hop: str | None = None
    mailbox: Address | Literal["registry"] | None = None
    copies: tuple[Address, ...] = ()
    notify: tuple[Address, ...] = ()
    tag: bool = True
    subject_tag: bool | None = None
    subject_shape: str | None = None
    sign: bool = True
    require_tls: bool = False
    requiretls: bool = False
    due: Period | None = None
    receipts: tuple[str, ...] | None = None
    receipts_to: tuple[str, ...] | None = None
    digest: bool | None = None
    answers: str | None = None
    ask_read: str | None = None


# What the last rule that sets it decides.
_LAST = (
    "hop",
    "mailbox",
    "tag",
    "subject_tag",
    "subject_shape",
    "sign",
    "require_tls",
    "requiretls",
    "due",
    "receipts",
    "receipts_to",
    "digest",
    "answers",
    "ask_read",
)


def merge(hits: Sequence[Rule], would: Sequence[Rule]) -> Outcome:
    """The rules that applied, in order. Where the last one has no action the chain came to its end."""
    settled: dict[str, object] = {}
    copies: dict[str, Address] = {}
    notify: dict[str, Address] = {}
    for rule in hits:
        effect = rule.effect
        for name in _LAST:
            value = getattr(effect, name)
            if value is not None:
                settled[name] = value
        if effect.subject_tag is not None and effect.subject_shape is None:
            settled.pop("subject_shape", None)
        copies |= {address.key: address for address in effect.copies}
        notify |= {address.key: address for address in effect.notify}
    last = hits[-1] if hits and hits[-1].effect.action is not None else None
    effect = last.effect if last is not None else Effect()
    return Outcome(
        rule=last,
        action=effect.action or Action.HOLD,
        kind=effect.kind or Kind.PASS,
        route=effect.route or Route.RECIPIENT,
        hits=tuple(rule.id for rule in hits),
        would=tuple(rule.id for rule in would),
        would_do=tuple(rule.does for rule in would),
        copies=tuple(copies.values()),
        notify=tuple(notify.values()),
        **settled,  # type: ignore[arg-type]
    )


def verdict(case: Case, outcome: Outcome, held: Held | None = None) -> Verdict:
    """The verdict on the recipient of the case."""
    rule = outcome.rule
    if rule is not None and outcome.action is Action.REJECT:
        return refuse(case, rule, outcome.hits, outcome)
    facts, recipient = case.f, case.r
    if held is None and (rule is None or outcome.action is Action.HOLD):
        held = Held(rule, case)
    kind = outcome.kind
    shadow = facts.submitter_mode is Mode.SHADOW
    if shadow and kind is Kind.LETTER:
        kind = Kind.SHADOW
    # The receiver's mode governs tags and ways, the sender's numbers and receipts (DESIGN §11).
    touched = kind is Kind.LETTER and recipient.mode is Mode.ACTIVE
    quiet = shadow or recipient.mode is Mode.SHADOW
    mailbox = None if quiet or outcome.mailbox is None else _mailbox(case, outcome.mailbox)
    refusal = held.refusal if held is not None else None
    text_ar, text_en = held.words if held is not None else ("", "")
    return Verdict(
        recipient=recipient.recipient,
        action=Action.HOLD if held is not None else outcome.action,
        kind=kind,
        agency=recipient.agency,
        hop=outcome.hop if outcome.hop is not None and not quiet else _hop(case, outcome.route),
        redirect=recipient.redirect,
        reply=_reply(case, refusal) if refusal is not None else None,
        text_ar=text_ar,
        text_en=text_en,
        rule=held.id if held is not None else rule.id if rule is not None else UNDECIDED,
        hits=outcome.hits,
        would=outcome.would,
        would_do=outcome.would_do,
        reasons=held.reasons if held is not None else (),
        tag=outcome.tag and touched,
        subject_tag=outcome.subject_tag,
        subject_shape=outcome.subject_shape,
        sign=outcome.sign and touched,
        require_tls=outcome.require_tls,
        requiretls=outcome.requiretls,
        hold=_terms(case, held.spec) if held is not None else None,
        mailbox=mailbox,
        copies=outcome.copies if not quiet else (),
        classification=case.classification,
        urgency=case.urgency,
        due_us=_due(case, outcome.due),
        receipts=outcome.receipts,
        receipts_to=outcome.receipts_to,
        digest=outcome.digest,
        answers=outcome.answers,
        ask_read=outcome.ask_read,
        notify=outcome.notify,
    )


def refuse(case: Case, rule: Rule, hits: tuple[str, ...], outcome: Outcome | None = None) -> Verdict:
    """The refusal of the recipient by a rule."""
    refusal = rule.effect.refusal
    return Verdict(
        recipient=case.r.recipient,
        action=Action.REJECT,
        kind=Kind.PASS,
        agency=case.r.agency,
        reply=_reply(case, refusal) if refusal is not None else None,
        text_ar=_fill(refusal.ar, case) if refusal is not None else rule.ar,
        text_en=_fill(refusal.en, case) if refusal is not None else rule.en,
        rule=rule.id,
        hits=hits,
        would=outcome.would if outcome is not None else (),
        would_do=outcome.would_do if outcome is not None else (),
        reasons=rule.reasons(case) if outcome is not None else (),
        classification=case.classification,
        urgency=case.urgency,
        notify=outcome.notify if outcome is not None else (),
    )


def _hop(case: Case, route: Route) -> str:
    if route is Route.GATEWAY:
        return ""
    if route is Route.OUTBOUND or case.r.agency is None:
        return f"{case.f.submitter}:outbound" if case.f.outbound else ""
    return case.r.agency


def _mailbox(case: Case, wanted: Address | Literal["registry"]) -> Address | None:
    """Where the letter goes instead; None when that is where it goes anyway, or there is no registry."""
    address = case.r.registry if wanted == "registry" else wanted
    assert not isinstance(address, str)
    return None if address is None or address.key == case.r.recipient.address.key else address


def _terms(case: Case, spec: HoldSpec) -> HoldTerms:
    expires = case.surface.calendar.add(case.f.at_us, spec.expires) if spec.expires is not None else None
    return HoldTerms(approvers=spec.approvers, persons=spec.persons, expires_us=expires, then=spec.then)


def _due(case: Case, due: Period | None) -> int | None:
    """What the author asked for stands before what a rule would give (Reply-By, RFC 2156).

    A date that is past, or further away than any span of a rule, is a mistake or worse.
    """
    asked = case.f.reply_by_us
    if asked is not None and 0 < asked - case.f.at_us <= MAX_SECONDS * 1_000_000:
        return asked
    return case.surface.calendar.add(case.f.at_us, due) if due is not None else None


def _reply(case: Case, refusal: Refusal) -> Reply:
    return Reply.of(refusal.code, refusal.status, _fill(refusal.en, case))


def _fill(text: str, case: Case) -> str:
    if "{" not in text:
        return text
    address = case.r.recipient.address
    values = {
        "recipient": str(address),
        "sender": case.f.sender or "<>",
        "domain": address.host,
        "agency": case.f.submitter or "",
    }
    return _FIELD.sub(lambda m: values[m[1]], text)
