"""The index over the rules: which of them can apply to letters of one sort, found once for all of them.

The values that match keys look at are few: kinds, modes, flags, which of the agencies that rules name, above
which of their bounds a number is. Together they are the *sort* of a letter for a recipient. For each sort
the rules are gone through once; what stays is a short list of those whose keys hold, with what has yet to be
asked of each single letter (words, header fields, expressions), up to the first one that decides in any case.
The lists are kept for the sorts that come; they are forgotten together when they grow too many.
Nothing here decides otherwise than asking each rule in turn would (``Policy.walk``): tests compare them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from policies.agency import Mode
from policies.case import Case
from policies.condition import KEYS, Axis, Condition
from policies.facts import Pending
from policies.rule import Answer, Rule
from policies.verdict import Action

MAX_SORTS = 8192  # lists that are kept
WAYLAYING = (Action.HOLD, Action.REJECT)  # what is held already is not asked about once more

Look = Callable[[Case], Hashable]
Sort = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule whose place among letters of this sort is ``at``, with what is left to ask."""

    at: int
    rule: Rule
    rest: tuple[Condition, ...]
    unless: tuple[Condition, ...]  # all of these hold: it does not apply; empty: nothing left to ask
    shadow: bool  # by its own mode or that of an agency
    plain: bool  # nothing left to ask, and it sets or decides without more ado


@dataclass(frozen=True, slots=True)
class _AxisLook:
    look: Look
    needs: Pending | None


class Index:
    """Sorts letters for the rules of one policy, which stand in the order in which they are asked."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        letter, recipient = _axes(rules)
        self._letter = letter
        self._recipient = recipient
        self.letter_looks = tuple(a.look for a in letter)
        self._recipient_looks = tuple(a.look for a in recipient)
        self._lists: dict[tuple[int, Sort, Sort], tuple[Candidate, ...]] = {}
        self._early: dict[tuple[frozenset[Pending], Sort], Rule | None] = {}
        self._early_looks: dict[frozenset[Pending], tuple[Look, ...]] = {}

    def of_letter(self, case: Case) -> Sort:
        """The half of the sort that all recipients share, as classification and urgency are now."""
        return tuple([look(case) for look in self.letter_looks])

    def candidates(self, start: int, letter: Sort, case: Case) -> tuple[Candidate, ...]:
        """The rules from place ``start`` on that can apply, up to one that does in any case and decides."""
        key = (start, letter, tuple([look(case) for look in self._recipient_looks]))
        found = self._lists.get(key)
        if found is None:
            if len(self._lists) >= MAX_SORTS:
                self._lists.clear()
            found = self._lists[key] = tuple(self._go_through(start, case))
        return found

    def early(self, case: Case) -> Rule | None:
        """The rule that refuses the recipient whatever the header will be; None when none is certain to."""
        pending = case.f.pending
        looks = self._early_looks.get(pending)
        if looks is None:
            axes = (*self._letter, *self._recipient)
            looks = self._early_looks[pending] = tuple(a.look for a in axes if a.needs not in pending)
        key = (pending, tuple([look(case) for look in looks]))
        try:
            return self._early[key]
        except KeyError:
            if len(self._early) >= MAX_SORTS:
                self._early.clear()
            found = self._early[key] = _certain(self._rules, case)
            return found

    def _go_through(self, start: int, case: Case) -> Iterable[Candidate]:
        # Once a letter is held no other rule refuses or holds it, and those that follow are asked.
        held = start > 0
        for at in range(start, len(self._rules)):
            rule = self._rules[at]
            rest: list[Condition] = []
            for condition in rule.conditions:
                if condition.axis is Axis.FREE:
                    rest.append(condition)
                elif not condition.test(case):
                    break
            else:
                unless = _unless(rule, case)
                if unless is None:
                    continue
                asked = bool(rest or unless or rule.when is not None or rule.limit is not None)
                shadow = is_shadow(rule, case)
                plain = not asked and not shadow and not rule.effect.marks
                yield Candidate(at, rule, tuple(rest), unless, shadow, plain)
                held = held or rule.lingers or (rule.when is not None and rule.effect.protects)
                decides = plain and rule.effect.action is not None
                if decides and (rule.effect.action not in WAYLAYING or not held):
                    return


def _unless(rule: Rule, case: Case) -> tuple[Condition, ...] | None:
    """What is left to ask of the exception; None when it applies already, empty when it cannot."""
    if rule.unless is None:
        return ()
    rest = []
    for condition in rule.unless:
        if condition.axis is Axis.FREE:
            rest.append(condition)
        elif not condition.test(case):
            return ()
    return tuple(rest) or None


def is_shadow(rule: Rule, case: Case) -> bool:
    """Whether what the rule would do is only recorded (DESIGN §11): it is in shadow mode, or an agency is.

    The sender's mode governs what is refused, held and rerouted, the receiver's what reaches it otherwise
    than it was sent. The safety rules know no shadow.
    """
    if rule.shadow:
        return True
    if rule.safety:
        return False
    if case.f.submitter_mode is Mode.SHADOW and (rule.effect.on_the_wire or rule.limit is not None):
        return True
    return case.r.mode is Mode.SHADOW and rule.effect.reroutes


def _certain(rules: Sequence[Rule], case: Case) -> Rule | None:
    """A rule that hangs on the header and could only refuse does not stand in the way of a later certain
    refusal: the recipient is refused by the one or the other."""
    for rule in rules:
        if rule.effect.action is None or is_shadow(rule, case):
            continue
        answer = rule.ask(case)[0]
        if answer is Answer.MISS:
            continue
        if rule.effect.action is not Action.REJECT:
            return None
        if answer is Answer.HIT and rule.limit is None:
            return rule
    return None


def _axes(rules: Sequence[Rule]) -> tuple[list[_AxisLook], list[_AxisLook]]:
    """One look for each axis that any rule asks about, those of the letter and those of the recipient."""
    used: dict[str, list[Condition]] = {}
    for rule in rules:
        for condition in (*rule.conditions, *(rule.unless or ())):
            if condition.axis is not Axis.FREE:
                used.setdefault(condition.name, []).append(condition)
    letter: list[_AxisLook] = []
    recipient: list[_AxisLook] = []
    for name in ("submitter_mode", "recipient_mode"):
        used.setdefault(name, [])  # they make a rule a shadow of itself
    for name in sorted(used):
        if KEYS[name].axis in (Axis.NAMED, Axis.SET) and not any(c.values for c in used[name]):
            continue  # rules name nothing there, such as members of an empty group
        axis = _AxisLook(_look(name, used[name]), KEYS[name].needs)
        (recipient if KEYS[name].recipient else letter).append(axis)
    return letter, recipient


def _look(name: str, conditions: list[Condition]) -> Look:
    key = KEYS[name]
    fact: Callable[[Case], Any] = key.fact
    values = frozenset[Any]().union(*(c.values for c in conditions))
    if key.axis is Axis.NAMED:
        return lambda case: v if (v := fact(case)) in values else None
    if key.axis is Axis.SET:
        return lambda case: (found & values) if (found := fact(case)) else found
    if key.axis is Axis.BOUND:
        bounds = sorted({c.bound for c in conditions})
        if len(bounds) == 1:
            (only,) = bounds
            return lambda case: bool(fact(case) > only)
        return lambda case: bisect_left(bounds, fact(case))
    return fact
