"""Rules in words: from the text of a file to phrases in both languages, and lines that differ."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from dashboard.chart import HEIGHT, chart
from dashboard.language import tongue
from dashboard.replay_pages import outcome_words
from dashboard.rule_book import read_book
from dashboard.rule_words import _BOUNDS, _FLAGS, _LISTS, _SETTINGS, Teller
from dashboard.text_change import changed_files, changed_lines
from policies.load import LETTERS, SAFETY
from policies.rule import SETTINGS
from policies.rule_entry import Match
from tracker.rule_hits import DayUse

FILE = """\
# head

rules:
  - id: one
    priority: 120
    description: {ar: الأولى, en: The first}
    match:
      submitter: [MOF, MOH]
      same_agency: false
      size_over: 5000000
      strange_key: [x, "<b>"]
    unless: {answers: true}
    when: size(recipients) > 3
    action: hold
    hold: {approvers: [compliance, AB, rana], persons: 2, expires: 2 working days, then: release}

  # about the second
  - id: two
    priority: 110
    mode: shadow
    description: {ar: الثانية, en: The second}
    match: {}
    require_tls: requiretls
    limit: {per: agency, count: 10, window: 1h, then: reject}
"""
NAMES = {"MOF": "وزارة المالية", "MOH": "وزارة الصحة", "AB": "ديوان المحاسبة"}


def teller(language: str) -> Teller:
    return Teller(tongue(language), lambda code: NAMES.get(code, code) if language == "ar" else code)


def test_a_book_is_read_from_the_text_with_places() -> None:
    book = read_book({"own.yaml": FILE, "broken.yaml": "rules: [", "calendar.yaml": "weekend: [friday]"})
    assert [(rule.id, rule.line, rule.priority) for rule in book.rules] == [("two", 18, 110), ("one", 4, 120)]
    one, two = book.rule("one"), book.rule("two")
    assert one is not None and two is not None
    assert one.source.startswith("- id: one\n  priority: 120\n")
    assert one.source.endswith("then: release}"), "what heads the next rule is not of this one"
    assert (two.shadow, one.shadow) == (True, False)
    assert (one.action, two.action) == ("hold", "reject")
    assert one.described("ar") == "الأولى"
    assert set(one.effects) == {"action", "hold"}


def test_a_rule_in_english() -> None:
    one = read_book({"own.yaml": FILE}).rule("one")
    assert one is not None
    told = [phrase.text for phrase in teller("en").match(one.match, one.when, one.unless)]
    assert told == [
        "from MOF MOH",
        "between two agencies",
        "larger than 4.8 MB",
        "strange_key x <b>",
        "unless answers an earlier letter",
        "when size(recipients) > 3",
    ]
    effects = [phrase.text for phrase in teller("en").effects(one.effects)]
    assert effects == [
        "hold for approval",
        "approved by compliance AB rana",
        "two different persons",
        "expires after 2 working days",
        "then: release",
    ]


def test_a_rule_in_arabic() -> None:
    one, two = (read_book({"own.yaml": FILE}).rule(name) for name in ("one", "two"))
    assert one is not None and two is not None
    assert teller("ar").match(one.match)[0].text == "من وزارة المالية وزارة الصحة"
    assert teller("ar").match(two.match)[0].text == "كل كتاب"
    first, *_ = teller("ar").effects(one.effects)
    assert (first.text, first.tone) == ("يُحجز للموافقة", "hold")
    limit = teller("ar").effects(two.effects)[-1]
    assert limit.text == "على الأكثر 10 خلال 1h لكل جهة وما زاد: يُرفض"


@pytest.mark.parametrize("language", ["ar", "en"])
def test_every_key_of_the_schema_has_words(language: str) -> None:
    known = {*_LISTS, *_FLAGS, *_BOUNDS}
    assert set(Match.model_fields) - known == set()
    named = set(SETTINGS)
    own_case = {"require_tls", "digest", "tag", "sign"}
    assert named - set(_SETTINGS) - own_case == set()
    for label in (*(label for label, _ in _LISTS.values()), *_BOUNDS.values(), *_SETTINGS.values()):
        said = tongue(language).say(label)
        assert said and (language == "en" or said != label)


@pytest.mark.parametrize("language", ["ar", "en"])
def test_the_rules_of_the_program_show_no_key_of_the_file(language: str) -> None:
    files = {path.name: path.read_text("utf-8") for path in sorted(SAFETY.parent.glob("*.yaml"))}
    book = read_book(files)
    assert book.of_file(SAFETY.name) and book.of_file(LETTERS.name)
    for rule in book.rules:
        phrases = (
            *teller(language).match(rule.match, rule.when, rule.unless),
            *teller(language).effects(rule.effects),
        )
        assert [phrase.label for phrase in phrases if phrase.code] == [], rule.id


def test_odd_values_are_shown_and_raise_nothing() -> None:
    odd: dict[str, Any] = {
        "submitter": {"a": [1, None]},
        "door": None,
        "size_over": "many",
        "header": {"X-A": True},
        "": [],
    }
    for language in ("ar", "en"):
        assert all(phrase.label is not None for phrase in teller(language).match(odd))
        teller(language).effects(
            {"hold": [1], "limit": "x", "reply": 3, "receipts": {}, "due": None, "action": 7}
        )


def test_a_chart_stands_in_the_direction_of_reading() -> None:
    begin = date(2026, 11, 1)
    days = [
        DayUse(day=begin + timedelta(days=n), hits=hits, shadow=shadow, more=False)
        for n, (hits, shadow) in enumerate([(0, 0), (1, 0), (1000, 250)])
    ]
    ltr, rtl = chart(days, rtl=False), chart(days, rtl=True)
    assert [bar.x for bar in ltr.bars] == [1, 11, 21]
    assert [bar.x for bar in rtl.bars] == [21, 11, 1]
    none, little, much = ltr.bars
    assert (none.hits, little.hits) == (0, 2), "what happened once is seen"
    assert (much.hits + much.shadow, much.shadow) == (HEIGHT, HEIGHT // 4)
    assert (ltr.total, ltr.highest) == (1001, 1000)
    assert chart([], rtl=True).highest == 0


def test_lines_that_differ() -> None:
    lines = changed_lines("a\nb\nc\nd\ne\nf\n", "a\nb\nX\nd\ne\nf\n")
    assert [(line.mark, line.old, line.new, line.text) for line in lines if line.mark != "same"] == [
        ("cut", 3, 0, "c"),
        ("add", 0, 3, "X"),
    ]
    assert changed_lines("same\n", "same\n") == ()
    files = changed_files({"a.yaml": "1\n", "b.yaml": "1\n"}, {"b.yaml": "2\n", "c.yaml": "3\n"})
    assert [(file.name, file.what, file.added, file.removed) for file in files] == [
        ("a.yaml", "removed", 0, 1),
        ("b.yaml", "changed", 1, 1),
        ("c.yaml", "added", 1, 0),
    ]


def test_outcomes_in_words() -> None:
    assert outcome_words("hold letter", tongue("en")) == "hold for approval as a letter"
    assert outcome_words("reject 550", tongue("ar")) == "يُرفض 550"
    told = outcome_words("classification secret; require_tls True; hop x", tongue("en"))
    assert told == "classification: Secret, encrypted connections only: yes, server: x"
    assert outcome_words("", tongue("en")) == "—"
