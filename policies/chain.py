"""The chain of rules: each recipient is led past them in order of priority until one decides.

``Policy.decide`` gives the decision on a whole transaction, ``Policy.recipient`` the answer to one RCPT
before there is a header. Both are pure: same facts, same policy, same outcome, whatever the order of files.
What no rule decides is held, never passed silently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from policies.agency import Mode
from policies.facts import FACTS_VERSION, Facts, RecipientFacts
from policies.rates import PolicyState
from policies.rule import Answer, Effect, Refusal, Route, Rule
from policies.verdict import Action, Decision, HoldTerms, Kind, Verdict
from tracker.reply import Reply

UNDECIDED = "undecided"  # the id that stands for the end of the chain


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy: rules in the order in which they are asked, and a digest of their files."""

    rules: tuple[Rule, ...]
    version: str

    def rule(self, rule_id: str) -> Rule | None:
        return next((r for r in self.rules if r.id == rule_id), None)

    def decide(self, facts: Facts, state: PolicyState | None = None) -> Decision:
        """The decision on a transaction; raises ValueError while anything is pending in ``facts``."""
        if facts.pending:
            raise ValueError("facts without a header decide nothing; ask recipient()")
        return Decision(
            verdicts=tuple([_verdict(facts, r, self) for r in facts.recipients]),
            policy_version=self.version,
            facts_version=FACTS_VERSION,
        )

    def recipient(self, facts: Facts, before: int = 0) -> Verdict:
        """What is certain of the first recipient at RCPT time: a refusal, or a verdict that refuses nothing.

        ``facts`` are of the envelope, ``before`` is the number of recipients taken so far. A rule that
        hangs on the header and could only refuse does not stand in the way of a later certain refusal:
        the recipient is refused by the one or the other.
        """
        facts = replace(facts, before=before) if before else facts
        recipient = facts.recipients[0]
        for rule in self.rules:
            answer, _ = rule.ask(facts, recipient)
            if answer is Answer.MISS or rule.effect.action is None:
                continue
            if rule.effect.action is not Action.REJECT:
                break
            if answer is Answer.HIT:
                return _make(facts, recipient, [rule.effect], rule, (rule.id,))
        return Verdict(
            recipient=recipient.recipient, action=Action.PASS, kind=Kind.PASS, agency=recipient.agency
        )


def _verdict(facts: Facts, recipient: RecipientFacts, policy: Policy) -> Verdict:
    hits: list[str] = []
    effects: list[Effect] = []
    for rule in policy.rules:
        answer, _ = rule.ask(facts, recipient)
        if answer is not Answer.HIT:
            continue
        hits.append(rule.id)
        effects.append(rule.effect)
        if rule.effect.action is not None:
            return _make(facts, recipient, effects, rule, tuple(hits))
    return Verdict(
        recipient=recipient.recipient,
        action=Action.HOLD,
        kind=_kind(Kind.PASS, facts),
        agency=recipient.agency,
        hop=_hop(Route.RECIPIENT, facts, recipient),
        redirect=recipient.redirect,
        text_ar="لم تنطبق أي قاعدة على الكتاب",
        text_en="No rule decided",
        rule=UNDECIDED,
        hits=tuple(hits),
        hold=HoldTerms(),
    )


def _make(
    facts: Facts,
    recipient: RecipientFacts,
    effects: list[Effect],
    rule: Rule,
    hits: tuple[str, ...],
) -> Verdict:
    last = effects[-1]
    action = last.action or Action.HOLD
    if action is Action.REJECT:
        refused = last.refusal
        return Verdict(
            recipient=recipient.recipient,
            action=action,
            kind=Kind.PASS,
            agency=recipient.agency,
            reply=_reply(refused, facts, recipient) if refused is not None else None,
            text_ar=_fill(refused.ar, facts, recipient) if refused is not None else rule.ar,
            text_en=_fill(refused.en, facts, recipient) if refused is not None else rule.en,
            rule=rule.id,
            hits=hits,
        )
    kind = _kind(last.kind or Kind.PASS, facts)
    letter = kind is Kind.LETTER
    held = action is Action.HOLD
    tag, subject_tag, sign, require_tls, receipts = True, None, True, False, None
    for effect in effects:
        tag = effect.tag if effect.tag is not None else tag
        subject_tag = effect.subject_tag if effect.subject_tag is not None else subject_tag
        sign = effect.sign if effect.sign is not None else sign
        require_tls = effect.require_tls if effect.require_tls is not None else require_tls
        receipts = effect.receipts if effect.receipts is not None else receipts
    return Verdict(
        recipient=recipient.recipient,
        action=action,
        kind=kind,
        agency=recipient.agency,
        hop=_hop(last.route or Route.RECIPIENT, facts, recipient),
        redirect=recipient.redirect,
        text_ar=rule.ar if held else "",
        text_en=rule.en if held else "",
        rule=rule.id,
        hits=hits,
        hold=HoldTerms() if held else None,
        # The receiver's mode governs tags, the sender's numbers and receipts (DESIGN §11).
        tag=tag and letter and recipient.mode is Mode.ACTIVE,
        subject_tag=subject_tag,
        sign=sign and letter and recipient.mode is Mode.ACTIVE,
        require_tls=require_tls,
        receipts=receipts,
    )


def _kind(kind: Kind, facts: Facts) -> Kind:
    return Kind.SHADOW if kind is Kind.LETTER and facts.submitter_mode is Mode.SHADOW else kind


def _hop(route: Route, facts: Facts, recipient: RecipientFacts) -> str:
    if route is Route.GATEWAY:
        return ""
    if route is Route.OUTBOUND or recipient.agency is None:
        return f"{facts.submitter}:outbound" if facts.outbound else ""
    return recipient.agency


_FIELD = re.compile(r"\{(recipient|sender|domain|agency)\}")


def _fill(text: str, facts: Facts, recipient: RecipientFacts) -> str:
    if "{" not in text:
        return text
    values = {
        "recipient": str(recipient.recipient.address),
        "sender": facts.sender or "<>",
        "domain": recipient.recipient.address.host,
        "agency": facts.submitter or "",
    }
    return _FIELD.sub(lambda m: values[m[1]], text)


def _reply(refused: Refusal, facts: Facts, recipient: RecipientFacts) -> Reply:
    return Reply.of(refused.code, refused.status, _fill(refused.en, facts, recipient))
