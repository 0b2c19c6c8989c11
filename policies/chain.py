"""The chain of rules: each recipient is led past them in order of priority until one decides.

``Policy.decide`` gives the decision on a whole transaction, ``Policy.recipient`` the answer to one RCPT
before there is a header, ``Policy.walk`` tells each rule's answer and why. All are pure but for the
rates that the caller passes in: same facts, same state, same policy, same outcome, whatever the order of
files. What no rule decides is held, never passed silently; so is what a rule that protects could not
judge because its expression failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policies.calendar import Calendar
from policies.case import Case, Surface
from policies.expression import ExpressionError
from policies.facts import FACTS_VERSION, Facts, RecipientFacts
from policies.followup import FollowUp
from policies.groups import Groups
from policies.index import WAYLAYING, Candidate, Index, is_shadow
from policies.marks import Marks, Scale
from policies.outcome import UNDECIDED, Held, Outcome, merge, refuse, verdict
from policies.rates import PolicyState
from policies.rule import LIMIT, Answer, Rule
from policies.verdict import Action, Decision, Kind, Verdict

__all__ = ["UNDECIDED", "Policy", "Step", "set_marks"]

MAX_OUTCOMES = 4096  # of hits together that are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A rule's answer on the way of one recipient: ``key`` and ``value`` are what decided.

    ``shadow``: it hit, and what it does is only recorded. ``decided``: it ended the chain.
    """

    rule: Rule
    answer: Answer
    key: str = ""
    value: str = ""
    shadow: bool = False
    decided: bool = False


class Policy:
    """A compiled policy: rules in the order in which they are asked, and a digest of their files.

    ``needs_fields`` are the header fields that rules ask for, in lower case: facts must be computed with
    them. ``texts`` are the files that it was made of, by name.
    """

    __slots__ = (
        "_index",
        "_outcomes",
        "_rules",
        "_surface",
        "followup",
        "needs_fields",
        "rules",
        "texts",
        "version",
    )

    def __init__(
        self,
        rules: Iterable[Rule],
        version: str,
        surface: Surface | None = None,
        needs_fields: frozenset[str] = frozenset(),
        texts: Mapping[str, str] | None = None,
        followup: FollowUp | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self.version = version
        self.needs_fields = needs_fields
        self.texts: Mapping[str, str] = texts or {}
        self.followup = followup or FollowUp()
        self._surface = surface or _bare()
        self._index = Index(self.rules)
        self._rules = {rule.id: rule for rule in self.rules}
        self._outcomes: dict[tuple[tuple[int, ...], tuple[int, ...]], Outcome] = {}

    @property
    def marks(self) -> Marks:
        return self._surface.marks

    @property
    def groups(self) -> Groups:
        return self._surface.groups

    @property
    def calendar(self) -> Calendar:
        return self._surface.calendar

    def rule(self, rule_id: str) -> Rule | None:
        return self._rules.get(rule_id)

    def decide(self, facts: Facts, state: PolicyState | None = None) -> Decision:
        """The decision on a transaction; raises ValueError while anything is pending in ``facts``.

        Rates are counted in ``state``; without one no rate is exceeded.
        """
        if facts.pending:
            raise ValueError("facts without a header decide nothing; ask recipient()")
        verdicts = []
        case: Case | None = None
        for recipient in facts.recipients:
            if case is None:
                case = Case(facts, recipient, self._surface)
                sort = self._index.of_letter(case)
            else:
                case.turn(recipient)
            verdicts.append(self._decide(case, sort, state))
        return Decision(verdicts=tuple(verdicts), policy_version=self.version, facts_version=FACTS_VERSION)

    def recipient(self, facts: Facts, before: int = 0) -> Verdict:
        """What is certain of the first recipient at RCPT time: a refusal, or a verdict that refuses nothing.

        ``facts`` are of the envelope, ``before`` is the number of recipients taken so far.
        """
        case = Case(facts, facts.recipients[0], self._surface, before)
        rule = self._index.early(case)
        if rule is not None:
            return refuse(case, rule, (rule.id,))
        recipient = case.r
        return Verdict(
            recipient=recipient.recipient, action=Action.PASS, kind=Kind.PASS, agency=recipient.agency
        )

    def walk(
        self, facts: Facts, recipient: RecipientFacts, state: PolicyState | None = None
    ) -> tuple[Step, ...]:
        """Every rule's answer in turn, until one decides; rates are counted in ``state`` as in decide()."""
        if facts.pending:
            raise ValueError("facts without a header decide nothing; ask recipient()")
        case = Case(facts, recipient, self._surface)
        steps: list[Step] = []
        held = False
        for rule in self.rules:
            if held and rule.effect.action in WAYLAYING:
                continue
            answer, key, value = rule.ask(case)
            shadow = is_shadow(rule, case)
            decided = False
            if answer is Answer.HIT and rule.limit is not None and _within(rule, case, state):
                answer, key, value = Answer.MISS, LIMIT, "within"
            if answer is Answer.HIT:
                decided = rule.effect.action is not None and not shadow and not held
                if not shadow:
                    set_marks(rule, case)
            elif answer is Answer.ERROR:
                decided = rule.effect.protects and not shadow and not held
            ends = answer is Answer.HIT and rule.effect.action is not None and not shadow
            shadow = shadow and answer is Answer.HIT
            steps.append(Step(rule=rule, answer=answer, key=key, value=value, shadow=shadow, decided=decided))
            if decided and (answer is Answer.ERROR or rule.lingers):
                held = True
            elif ends:
                break
        return tuple(steps)

    def _decide(self, case: Case, sort: tuple[object, ...], state: PolicyState | None) -> Verdict:
        hits: list[int] = []
        would: list[int] = []
        held: Held | None = None
        start = 0
        while start >= 0:
            candidates = self._index.candidates(start, sort, case)
            start = -1
            for candidate in candidates:
                rule = candidate.rule
                if held is not None and rule.effect.action in WAYLAYING:
                    continue
                if not candidate.plain:
                    try:
                        if not _applies(candidate, case, state):
                            continue
                    except ExpressionError as e:
                        if held is None and rule.effect.protects and not candidate.shadow:
                            held = Held(rule, case, str(e))
                            hits.append(candidate.at)
                        continue
                    if candidate.shadow:
                        would.append(candidate.at)
                        continue
                hits.append(candidate.at)
                if rule.lingers:
                    held = Held(rule, case)
                changed = rule.effect.marks and set_marks(rule, case)
                if rule.effect.action is not None and not rule.lingers:
                    return verdict(case, self._outcome(hits, would), held)
                if changed:
                    # The rules that follow see another letter.
                    sort = self._index.of_letter(case)
                    start = candidate.at + 1
                    break
        return verdict(case, self._outcome(hits, would), held or Held(None, case))

    def _outcome(self, hits: list[int], would: list[int]) -> Outcome:
        key = (tuple(hits), tuple(would))
        found = self._outcomes.get(key)
        if found is None:
            if len(self._outcomes) >= MAX_OUTCOMES:
                self._outcomes.clear()
            found = merge([self.rules[at] for at in hits], [self.rules[at] for at in would])
            self._outcomes[key] = found
        return found


def _bare() -> Surface:
    nothing = Scale(())
    return Surface(
        Marks(nothing, nothing, {}), {}, Calendar("UTC", frozenset(range(5)), ((480, 930),), frozenset())
    )


def _applies(candidate: Candidate, case: Case, state: PolicyState | None) -> bool:
    """What the index left to ask; raises ExpressionError."""
    rule = candidate.rule
    for condition in candidate.rest:
        if not condition.test(case):
            return False
    if candidate.unless and all(condition.test(case) for condition in candidate.unless):
        return False
    if rule.when is not None and not rule.when.test(case):
        return False
    return rule.limit is None or not _within(rule, case, state)


def _within(rule: Rule, case: Case, state: PolicyState | None) -> bool:
    """Counts the recipient; True while the rule's rate is not exceeded."""
    limit = rule.limit
    if limit is None or state is None:
        return True
    return state.take(limit.key(rule.id, case), limit.count, limit.window_us, case.f.at_us)


def set_marks(rule: Rule, case: Case) -> bool:
    """Classification and urgency as the rule has them; True when that changes them."""
    effect = rule.effect
    if not effect.marks:
        return False
    marks, answered = case.surface.marks, case.f.answered
    before = (case.classification, case.urgency)
    classification = effect.classification or case.classification
    if effect.raise_classification:
        other = effect.raise_classification
        other = (answered.classification if answered is not None else "") if other == "answered" else other
        classification = marks.classifications.highest((classification, other)) or classification
    urgency = effect.urgency or case.urgency
    if effect.raise_urgency:
        other = effect.raise_urgency
        other = (answered.urgency if answered is not None else "") if other == "answered" else other
        urgency = marks.urgencies.highest((urgency, other)) or urgency
    if (classification, urgency) == before:
        return False
    case.mark(classification, urgency)
    return True
