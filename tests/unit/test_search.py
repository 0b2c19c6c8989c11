"""Folding, and the words of the search line."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.search import Condition, Query, fold, parse, parse_day
from tracker.states import Grade, State


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("الإحصاءات ٢٠٢٦", "الاحصاات 2026"),
        ("مُوازَنَةُ", "موازنه"),
        ("مـــوازنة", "موازنه"),
        ("مبنى", "مبني"),
        ("أإآٱ", "اااا"),
        ("مسؤول شؤون", "مسوول شوون"),
        ("شئ شيء", "شي شي"),
        ("۱۲۳", "123"),
        ("ﻻ ﷲ", "لا الله"),
        ("Café  ÉTÉ", "cafe ete"),
        ("ab\u202ecd\u200f", "abcd"),
        ("  line\r\nbreak ", "line break"),
    ],
)
def test_fold_makes_one_what_writers_use_freely(written: str, folded: str) -> None:
    assert fold(written) == folded


@given(st.text())
def test_fold_is_stable_and_never_raises(text: str) -> None:
    once = fold(text)
    assert fold(once) == once
    assert not any(char in once for char in "\u202e\u2066ـ\x00")


def test_every_word_of_the_line() -> None:
    query = parse(
        "to:moh from:MOF is:late state:queued grade:E3+ after:2026-10-01 before:2026-11-01 موازنة ٢٠٢٧"
    )
    assert query == Query(
        words=("موازنه", "2027"),
        to=("MOH",),
        sender=("MOF",),
        conditions=frozenset({Condition.LATE}),
        states=frozenset({State.QUEUED}),
        grade=Grade.DELIVERED,
        at_least=True,
        after=date(2026, 10, 1),
        before=date(2026, 11, 1),
    )


def test_the_line_in_arabic() -> None:
    query = parse("إلى:MOH من:MOF حالة:held هو:متأخر قبل:٢٠٢٦-١١-٠١ بعد:2026-01-05")
    assert (query.to, query.sender) == (("MOH",), ("MOF",))
    assert query.conditions == {Condition.LATE}
    assert query.states == {State.HELD}
    assert (query.after, query.before) == (date(2026, 1, 5), date(2026, 11, 1))


@pytest.mark.parametrize("written", ["MOF/2026/000123", "mof/٢٠٢٦/٠٠٠١٢٣"])
def test_a_number_is_known_by_its_shape(written: str) -> None:
    assert parse(written).number == "MOF/2026/000123"


def test_a_quoted_phrase_is_one_word_and_a_colon_in_a_subject_is_none_of_ours() -> None:
    assert parse('"موازنة المشاريع" تعميم:عاجل').words == ("موازنه المشاريع", "تعميم:عاجل")


def test_a_message_id() -> None:
    assert parse("<4f1c@mof.gov.example>").ids == ("<4f1c@mof.gov.example>",)


@pytest.mark.parametrize(
    "line", ["is:blah", "state:none", "grade:E9", "before:soon", "before:2026-02-31", "to:!"]
)
def test_what_is_not_understood_is_said(line: str) -> None:
    query = parse(line)
    assert query.unclear == (line,)
    assert query == Query(unclear=query.unclear)


def test_agencies_may_be_named() -> None:
    names = {"الصحه": ["MOH"], "وزاره": ["MOH", "MOF"]}
    assert parse('to:"الصحة"', lambda text: names.get(fold(text), [])).to == ("MOH",)
    assert parse("from:وزارة", lambda text: names.get(fold(text), [])).sender == ("MOH", "MOF")


@pytest.mark.parametrize("text", ["2026-11-01", "1/11/2026", "01-11-2026", "٢٠٢٦/١١/١"])
def test_days(text: str) -> None:
    assert parse_day(text) == date(2026, 11, 1)


@given(st.text(max_size=600))
def test_a_line_never_raises(text: str) -> None:
    query = parse(text)
    assert len(query.words) <= 8
