"""Expressions of rules: what they may say, where a fault lies, and that nothing in them runs away."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from policies.case import FUNCTIONS, VARIABLES, Case
from policies.expression import Expression, ExpressionError, ExpressionFault
from policies.facts import AttachmentFact, Facts
from policies.load import load_policy
from tests.unit.test_policy_facts import read, relay

POLICY = load_policy()
SUNDAY = int(datetime(2026, 1, 4, 9, 30, tzinfo=ZoneInfo("Asia/Amman")).timestamp()) * 1_000_000


def case(facts: Facts | None = None) -> Case:
    facts = facts or read("From: a@mof.example\nSubject: Budget 2026", relay("MOF"))
    facts = replace(facts, at_us=SUNDAY)
    return Case(facts, facts.recipients[0], POLICY._surface)


def answer(source: str, facts: Facts | None = None) -> bool:
    return Expression(source).test(case(facts))


@pytest.mark.parametrize(
    "source",
    [
        'submitter == "MOF" && sender == "a@mof.example" && author_agency == "MOF"',
        'recipient == "b@moh.example" && recipient_agency == "MOH" && recipient_place == "agency"',
        'subject.contains("Budget") && subject.matches("20[0-9]{2}$")',
        'weekday == "sunday" && hour == 9 && working_time && is_working(at)',
        'add_working_hours(at, 1) == at + duration("1h")',
        'add_working_days(at, 1) > at + duration("24h") && add_working_days(at, 1) < at + duration("48h")',
        'at > timestamp("2026-01-01T00:00:00Z") && at.getFullYear() == 2026',
        'at_least("secret", "restricted") && !at_least(classification, "ordinary")',
        'at_least("immediate", "urgent") && !at_least("normal", "urgent")',
        'header("x-none") == "" && !has_header("X-None") && headers("X-None").size() == 0',
        'authentication.dmarc == "none" && !answers && answered.number == ""',
        "size(attachments) == 0 && attachments.all(a, a.size > 0) && !attachments.exists(a, a.macros)",
        'automatic.filter(x, x == "list").size() == 0',
        '!has_reply_by && reply_by == timestamp("1970-01-01T00:00:00Z")',
        '!in_group(author, "may-send-macros") && !in_group("MOF", "no-such-group")',
        "recipients == 1 && hops == 0 // and a comment",
        'author.endsWith("@mof.example") ? true : false',
    ],
)
def test_what_expressions_say(source: str) -> None:
    assert answer(source)


def test_every_variable_and_function_is_there() -> None:
    """Each has its type, a description, and a value on the letters of example."""
    import cel

    for one in Case.examples():
        for name, (_, kind, words) in VARIABLES.items():
            value = cel.compile(name).execute(one.context((name,)))
            assert kind and words
            plain = {"string": str, "bool": bool, "int": int, "timestamp": datetime}.get(kind)
            assert isinstance(value, plain or list | dict), name
    for made, example, words in FUNCTIONS.values():
        assert made is not None and "->" in example and words
        Expression(f"[{example.split(' -> ')[0]}].size() == 1")


def test_attachments_are_lists_of_what_is_known() -> None:
    file = AttachmentFact(
        name="x.docm",
        declared="a/b",
        detected="c/d",
        size=10,
        sha256="",
        macros=True,
        members=("word/a.bin",),
    )
    facts = replace(read("From: a@mof.example", relay("MOF")), attachments=(file,))
    assert answer('attachments.exists(a, a.macros && "word/a.bin" in a.members && a.type == "c/d")', facts)
    assert answer('attachments.exists_one(a, a.name.matches("(?i)DOCM$"))', facts)


FAULTS = [
    ("size >", 6, "breaks off"),
    ("size = 1", 5, "=="),
    ("sizes > 1", 0, "there is no sizes (did you mean size?)"),
    ('sender == "a" && foo(1)', 17, "there is no function foo"),
    ('subject.contains("x', 17, "the quote is not closed"),
    ("attachments.exists(a, a.macro)", 24, "a has no macro (did you mean macros?)"),
    ('answered.nummer == ""', 9, "answered has no nummer"),
    ("size", 0, "must be true or false, and is int"),
    ('size > "big"', 0, "cannot be answered"),
    ("attachments.exists(size, true)", 19, "size is a fact"),
    ("header(subject) == ''", 7, "the field's name must stand in quotes"),
    ("subject.matches(sender)", 16, "the pattern must stand in quotes"),
    ("subject.matches('[')", 16, "the pattern is wrong"),
    ("subject.matches('x{1,500}')", 16, "counts further than 50"),
    ("subject.matches('" + "x" * 300 + "')", 16, "longer than 200"),
    ("(" * 17 + "true" + ")" * 17, 16, "nested deeper"),
    ("[1].all(a, [1].all(b, [1].all(c, true)))", 26, "loops within each other"),
    (" && ".join(["[1].all(a, true)"] * 7), 124, "more than 6 loops"),
    ("['a'].map(x, x + x).map(x, x + x).size() == 1", 20, "more than one map()"),
    ("a.b.c == 1", 0, "there is no a"),
    ('authentication.spif == "fail"', 0, "there is no spif"),
    ("[1].sortBy(1) == [1]", 4, "there is no function sortBy"),
    ("subject == @", 11, "is no CEL"),
]


@pytest.mark.parametrize(("source", "offset", "words"), FAULTS, ids=[f[2] for f in FAULTS])
def test_a_fault_and_its_place(source: str, offset: int, words: str) -> None:
    with pytest.raises(ExpressionFault) as refused:
        Expression(source)
    assert words in f"{refused.value} ({refused.value.hint})"
    assert refused.value.offset == offset


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("attachments[3].size > 1", "index out of bounds: 3"),
        ("recipients / hops > 1", "division by zero"),
        ("int(subject) == 1", "invalid digit"),
    ],
)
def test_what_gives_no_answer_says_why(source: str, why: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        Expression(source).test(case())
    assert why in str(refused.value) and str(refused.value)


def test_the_worst_that_is_allowed_ends_soon() -> None:
    files = tuple(
        AttachmentFact(name=f"{i}", declared="", detected="", size=i, sha256="", members=("m",) * 500)
        for i in range(500)
    )
    facts = replace(read("From: a@mof.example", relay("MOF")), attachments=files)
    source = (
        "attachments.all(a, attachments.all(b, a.size + b.size >= 0 && size(a.members) == size(b.members)))"
    )
    began = time.thread_time()
    assert answer(source, facts)
    assert time.thread_time() - began < 20
    began = time.thread_time()
    assert answer(r"!subject.matches('(a|a)*(a+)+b')", replace(facts, subject="a" * 1000))
    assert time.thread_time() - began < 10  # not the years of one that looks back


def test_functions_make_nothing_of_nonsense() -> None:
    assert answer('in_group(1, "x") == false && at_least(1, 2) == false && is_working(5) == false')
    assert answer('add_working_days(at, -5) > at && add_working_days(1, 1) < at && header("") == ""')


PIECES = st.sampled_from(
    [
        "size", "subject", "attachments", ".exists(", ".all(a, ", "a", ")", "(", " && ", " || ", "!", "==",
        "<", '"x"', "'", '"', "1", "1.5", "1u", "[", "]", "{", "}", ":", "?", ",", "in", "null", "true", "-",
        "+", "/",
        "%", "header(", "matches(", "timestamp(", "duration(", "س", "\n", "//", "\\", "r'", "b'", "has(",
        "9999999999999999999", "at", ".", "@", "dyn(", "type(", "string(", "int(", "optional", "cel.bind(",
    ]
)  # fmt: skip


@settings(max_examples=200, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40))
def test_no_text_raises_anything_but_faults(source: str) -> None:
    try:
        expression = Expression(source)
    except ExpressionFault as e:
        assert 0 <= e.offset <= len(source) and str(e)
        return
    try:
        assert isinstance(expression.test(case()), bool)
    except ExpressionError as e:
        assert str(e)
