"""Explanations: each rule's answer with the value that decided, and what was recorded beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.chain import Policy
from policies.explain import applied, explain, step_json
from policies.rule import Answer
from policies.versions import compile_version, limits_of, texts_of
from tests.unit.test_policy_replay import HOUR, RICH, START, Past, made, plain


def told(policy: Policy, past: Past, n: int = 0) -> Any:
    from policies.replay import read_facts

    return explain(policy, read_facts(past.rows[n]), past.decision(n))


def test_the_kept_version_tells_the_same_again(tmp_path: Path) -> None:
    policy = made(tmp_path / "policy", RICH)
    past = Past(policy)
    past.letter(plain("[عاجل] Plans", "b@moh.example", "b@moi.example"), START)
    from policies.load import Limits

    texts = texts_of(policy, Limits())
    again = compile_version(texts)
    assert again.version == policy.version and limits_of(texts) == Limits()
    one, other = told(again, past)
    assert not one.differs and not other.differs and one.recorded["to"] == "b@moh.example"
    answers = {step.rule.id: step for step in one.steps}
    assert answers["urgent-is-due-soon"].answer is Answer.HIT
    assert answers["forwarded"].answer is Answer.MISS and answers["forwarded"].key == "sender"
    assert answers["forwarded"].value == "own"
    assert one.steps[-1].decided and one.steps[-1].rule.id == one.verdict.rule == "inter-agency-letter"
    assert [s.rule.id for s in one.steps if applied(s) and not s.shadow] == list(one.verdict.hits)
    assert [s.rule.id for s in one.steps if s.shadow] == list(one.verdict.would)
    plain_values = step_json(answers["forwarded"])
    assert plain_values["key"] == "sender" and plain_values["line"] > 0 and plain_values["ar"]


def test_what_was_recorded_otherwise_is_told(tmp_path: Path) -> None:
    policy = made(tmp_path / "policy", RICH)
    past = Past(policy)
    past.letter(plain(), START)
    other = made(tmp_path / "other", "rules:\n" + HELD)
    (one,) = told(other, past)
    assert one.differs and not one.limited
    assert {change.after.get("action") for change in one.changes} >= {"hold"}


HELD = """  - id: all-held
    priority: 102
    description: {ar: كل, en: All}
    match: {recipient: agency}
    action: hold
"""


def test_a_rate_limit_is_no_contradiction(tmp_path: Path) -> None:
    policy = made(tmp_path / "policy", RICH)
    past = Past(policy)
    for n in range(4):
        past.letter(plain(f"x {n}"), START + n * HOUR // 60)
    (one,) = told(policy, past, 3)
    assert past.decision(3)["verdicts"][0]["rule"] == "bulk"
    assert one.limited and one.differs


def test_without_a_record_there_is_nothing_to_differ(tmp_path: Path) -> None:
    policy = made(tmp_path / "policy")
    (one,) = explain(policy, replace(plain(), at_us=START))
    assert one.recorded is None and not one.differs and one.verdict.rule == "inter-agency-letter"
