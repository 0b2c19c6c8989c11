"""``make demo ONCE=1`` ends with 0 only if every sample letter is where it should be: what its judge sees.

The demonstration itself needs real servers; here the function that compares is shown every way in which a
letter can be somewhere else.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage

import pytest
from rich.console import Console

from deploy.demo import ending
from deploy.demo.letters import DELIVERED, HELD, PROCESSED, REFUSED_THERE, Letter, first
from deploy.demo.outcome import Found, _numbers

LETTERS = {letter.key: letter for letter in first()}


def receipt(kind: str) -> bytes:
    message = EmailMessage()
    message["Wasl-Receipt"] = kind
    message.set_content("x")
    return message.as_bytes()


def as_hoped(letter: Letter) -> Found:
    """What should be found of a letter."""
    arrived = () if letter.refusal else letter.recipients
    return Found(
        letter=letter,
        refusal=letter.refusal,
        number="MOF/2026/000001" if letter.fates else "",
        fates=dict(letter.fates),
        urgency=letter.urgency,
        due_us=1 if letter.urgency else None,
        copies={a: b"x" for a in arrived if a not in letter.fates or letter.fates[a].state == "sent"},
        receipts=[receipt(kind) for kind in letter.receipts],
    )


@pytest.mark.parametrize("key", LETTERS)
def test_a_letter_that_is_where_it_should_be_differs_in_nothing(key: str) -> None:
    found = as_hoped(LETTERS[key])
    assert list(found.differences()) == [] and found.as_it_should()


BUDGET = "diwan@moh.gov.example"


def _lost_state(found: Found) -> None:
    del found.fates[BUDGET]


def _other_state(found: Found) -> None:
    found.fates[BUDGET] = REFUSED_THERE


def _lower_grade(found: Found) -> None:
    found.fates[BUDGET] = DELIVERED


def _not_closed(found: Found) -> None:
    found.fates[BUDGET] = replace(PROCESSED, outcome="open")


def _somebody_else(found: Found) -> None:
    found.fates["x@moh.gov.example"] = DELIVERED


def _no_copy(found: Found) -> None:
    found.copies.clear()


def _copy_elsewhere(found: Found) -> None:
    found.copies["rana@moh.gov.example"] = b"x"


def _receipt_missing(found: Found) -> None:
    found.receipts.pop()


def _receipt_twice(found: Found) -> None:
    found.receipts.append(found.receipts[0])


def _other_receipt(found: Found) -> None:
    found.receipts[0] = receipt("failed")


def _urgent(found: Found) -> None:
    found.urgency, found.due_us = "urgent", 1


def _due(found: Found) -> None:
    found.due_us = 1


def _refused(found: Found) -> None:
    found.refusal = "550 5.7.1"


WRONGS: dict[Callable[[Found], None], str] = {
    _lost_state: "not in the register",
    _other_state: "is failed, accepted, failed, not sent, processed, closed",
    _lower_grade: "is sent, delivered, open, not sent, processed, closed",
    _not_closed: "is sent, processed, open, not sent, processed, closed",
    _somebody_else: "x@moh.gov.example is in the register and should not be",
    _no_copy: "nothing of it is in the mailbox of diwan@moh.gov.example",
    _copy_elsewhere: "it is in the mailbox of rana@moh.gov.example and should not be",
    _receipt_missing: "receipts that came: submitted, delivered; due: submitted, delivered, processed",
    _receipt_twice: "receipts that came: submitted, delivered, processed, submitted",
    _other_receipt: "receipts that came: failed, delivered, processed",
    _urgent: "urgency urgent, due 1",
    _due: "urgency not set, due 1",
    _refused: "answered 550 5.7.1, not accepted",
}


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_each_thing_that_is_not_as_it_should_be_is_told(wrong: Callable[[Found], None]) -> None:
    found = as_hoped(LETTERS["budget"])
    wrong(found)
    (told,) = found.differences()
    assert told.startswith("budget: ") and WRONGS[wrong] in told
    assert not found.as_it_should()


@pytest.mark.parametrize("key", LETTERS)
def test_of_no_letter_it_is_enough_that_it_was_handed_in(key: str) -> None:
    """As it is before anything has arrived; only what must be refused is then already as it should be."""
    letter = LETTERS[key]
    if letter.refusal:
        found = Found(letter=letter)
        assert list(found.differences()) == [f"{key}: answered accepted, not {letter.refusal}"]
    else:
        assert list(Found(letter=letter).differences()) != []


def test_a_letter_that_must_wait_may_not_arrive() -> None:
    found = as_hoped(LETTERS["waiting"])
    (address,) = LETTERS["waiting"].to
    assert found.fates == {address: HELD} and found.copies == {}
    found.copies[address] = b"x"
    assert list(found.differences()) == [f"waiting: it is in the mailbox of {address} and should not be"]


def test_numbers_have_no_gap() -> None:
    def numbered(*numbers: str) -> list[str]:
        return list(_numbers([replace(as_hoped(LETTERS["budget"]), number=one) for one in numbers]))

    assert numbered("MOF/2026/000002", "MOF/2026/000001", "MOH/2026/000001", "") == []
    assert numbered("MOF/2026/000001", "MOF/2026/000003") == ["the numbers of MOF in 2026 have gaps: [1, 3]"]
    assert numbered("MOF/2026/000001", "MOF/2026/000001") == ["the numbers of MOF in 2026 have gaps: [1, 1]"]
    assert numbered("MOF-1") == ["budget: MOF-1 is no number"]


def test_one_difference_is_the_exit_status() -> None:
    paper = io.StringIO()
    console, found = Console(file=paper, width=140), as_hoped(LETTERS["budget"])
    assert ending.verdict(console, [found], list(found.differences()), 1.0) == 0
    found.copies.clear()
    assert ending.verdict(console, [found], list(found.differences()), 1.0) == 1
    assert "nothing of it is in the mailbox of diwan@moh.gov.example" in paper.getvalue()
