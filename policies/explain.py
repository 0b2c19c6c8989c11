"""Why a letter was decided as it was: the rules that were asked, and the facts that answered them.

The stored facts are decided again by the stored version of the policy, so that each rule is told by the text
that it had then. What was recorded stands beside what comes out now: the two must agree, save where a rate
limit decided, which hangs on what came before (:attr:`Reasoned.limited`). Nothing is counted and
nothing written; facts that are pending raise ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.chain import Policy, Step
from policies.facts import Facts
from policies.replay import Change, alike, differences
from policies.rule import Answer
from policies.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoned:
    """One recipient: the verdict, and the rules in the order in which they were asked."""

    verdict: Verdict
    steps: tuple[Step, ...]
    recorded: Mapping[str, Any] | None  # the verdict as the record has it; None: nothing was recorded
    changes: tuple[Change, ...]  # where the two differ
    limited: bool  # the recorded verdict is that of a rule with a rate limit

    @property
    def differs(self) -> bool:
        """The same facts and the same version give something else than what was recorded."""
        return bool(self.changes)


def explain(policy: Policy, facts: Facts, recorded: Mapping[str, Any] | None = None) -> list[Reasoned]:
    """Every recipient of a transaction, in order. ``recorded`` is its decision as the record has it."""
    verdicts: Sequence[dict[str, Any]] = (recorded or {}).get("verdicts") or []
    out = []
    for i, verdict in enumerate(policy.decide(facts).verdicts):
        now = verdict.to_json()
        was = verdicts[i] if i < len(verdicts) and verdicts[i].get("to") == now["to"] else None
        rule = policy.rule(str(was.get("rule", ""))) if was is not None else None
        out.append(
            Reasoned(
                verdict=verdict,
                steps=policy.walk(facts, facts.recipients[i]),
                recorded=was,
                changes=() if was is None or alike(was, now) else tuple(differences(was, now, (), ())),
                limited=rule is not None and rule.limit is not None,
            )
        )
    return out


def step_json(step: Step) -> dict[str, Any]:
    """One step as plain values."""
    out: dict[str, Any] = {
        "rule": step.rule.id,
        "priority": step.rule.priority,
        "answer": step.answer.value,
        "ar": step.rule.ar,
        "en": step.rule.en,
        "file": step.rule.file,
        "line": step.rule.line,
    }
    if step.key:
        out |= {"key": step.key, "value": step.value}
    if step.shadow:
        out["shadow"] = True
    if step.decided:
        out["decided"] = True
    return out


def applied(step: Step) -> bool:
    """The rule is worth telling of: it applied, would have, or could not be judged."""
    return step.answer in (Answer.HIT, Answer.ERROR)
