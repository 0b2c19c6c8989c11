"""Faults of policy files in Arabic: every sentence of the loader has one, and nothing filled in is lost."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import policies
from dashboard.fault_words import SENTENCES, arabic, line, told
from dashboard.language import tongue
from policies import faults
from policies.faults import ConfigFaults, Fault
from policies.load import load_policy_texts

LOADER = (
    "calendar", "compile_rule", "document", "expression", "followup", "groups", "load", "marks", "period",
    "reach", "rule_entry",
)  # fmt: skip
# Of variables that hold sentences.
NAMES = ("what", "hint", "what, hint", "message, hint")
# Sentences that are put together of parts, and the parts; then what is no sentence.
IN_PARTS = (
    "can never hold: 7",
    "is never reached: 7 7",
    "before it decides",
    "decides on all",
    "none of these is",
)
NO_SENTENCES = ('header("X-Spam")', "<EOF>")
HERE = Path(policies.__file__).parent


def _filled(node: ast.expr) -> list[str]:
    """The texts of an expression as they read once filled in."""
    if isinstance(node, ast.IfExp):
        return _filled(node.body) + _filled(node.orelse)
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(v.value) if isinstance(v, ast.Constant) else "7" for v in node.values)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _sentences() -> Iterator[tuple[str, str]]:
    """Where a sentence stands, and the sentence."""
    for name in LOADER:
        for node in ast.walk(ast.parse((HERE / f"{name}.py").read_text("utf-8"))):
            told: list[ast.expr] = []
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("ValueError", "ExpressionFault", "_TooMuch"):
                    told = [*node.args[:1], *node.args[2:3]]
                elif called.endswith("fault"):
                    told = node.args[1:3]
                elif called == "Fault":
                    told = [k.value for k in node.keywords if k.arg in ("message", "hint")]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in (
                "what",
                "hint",
                "what, hint",
            ):
                told = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for text in (text for one in told for text in _filled(one)):
                if text.strip("7: ") and not text.startswith((*IN_PARTS, *NO_SENTENCES)):
                    yield f"policies/{name}.py:{node.lineno}", text
    for word in faults._WORDS.values():
        yield "policies/faults.py", word.replace("{expected}", "a, b").replace("{", "").replace("}", "")


def test_every_sentence_of_the_loader_has_its_arabic() -> None:
    found = list(_sentences())
    assert len(found) > 150
    assert [(where, text) for where, text in found if arabic(text) is None] == []


def test_both_sides_fill_in_the_same() -> None:
    for english, words in SENTENCES:
        assert english.count("{}") == words.count("{}"), english
    assert len({english for english, _ in SENTENCES}) == len(SENTENCES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("must be at least 100; below are the safety rules", "لقواعد الأمان"),
        ("must be at least 100", "يجب ألا يقل عن"),
        ("there is no group top-secret", "مجموعة"),
        ("there is no function max", "دالة"),
        ("there is no urgency {}", "استعجال"),
        ("is never reached: a-rule before it decides everything", "a-rule"),
    ],
)
def test_the_most_precise_sentence_is_taken(text: str, words: str) -> None:
    assert words in (arabic(text) or "")


def test_what_was_filled_in_stays_text() -> None:
    said = arabic("there is no group <b>\u202ex")
    assert said is not None and "<b>" not in said and "&lt;b&gt;" in said and "\u202e" not in said


def test_what_has_no_arabic_is_shown_as_it_is() -> None:
    assert told("quite another thing <", tongue("ar")) == '<bdi dir="ltr">quite another thing &lt;</bdi>'
    assert told("unknown key", tongue("en")) == '<bdi dir="ltr">unknown key</bdi>'
    whole = line(
        Fault(file="a.yaml", line=3, key="x", message="unknown key", hint="leave it out"), tongue("en")
    )
    assert whole.striptags() == "a.yaml:3: x: unknown key (leave it out)"


def test_a_broken_file_is_told_in_arabic_from_end_to_end() -> None:
    rule = "rules: [{id: A, priority: 5, description: {ar: س}, match: {submiter: MOF}, action: reject}]"
    with pytest.raises(ConfigFaults) as caught:
        load_policy_texts({"rules.yaml": rule})
    assert len(caught.value.faults) >= 3
    for fault in caught.value.faults:
        assert arabic(fault.message) is not None, fault
        assert not fault.hint or arabic(fault.hint) is not None, fault
