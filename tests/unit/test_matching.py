"""What a report proves, by who handed it in and whom it names; the wire tests have the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tracker.dsn import Report
from tracker.matching import Origin, Sent, from_dispositions, from_reports
from tracker.mdn import Disposition
from tracker.states import Event, State

DIWAN = "diwan@moh.gov.example"
SENT = Sent(
    delivery_id=1,
    letter_id=9,
    recipient=DIWAN,
    recipient_key=DIWAN,
    agency="MOH",
    hop="MOH",
    state=State.SENT,
    sender="author@mof.gov.example",
    sender_agency="MOF",
    number="MOF/2026/000001",
)
ORIGIN = Origin(agencies=("MOH",), peer="192.0.2.1", at_us=1, sha256="", author=DIWAN, author_agency="MOH")
READ = Disposition(final_recipient=DIWAN, mode="manual-action", type="displayed")
NAMED = frozenset({DIWAN, "clerk@moh.gov.example"})


@pytest.mark.parametrize(
    ("agencies", "author_agency", "counts"),
    [
        (("MOH",), "MOH", True),
        (("MOF", "MOH"), "MOH", True),  # one network for both: From tells them apart
        (("MOF", "MOH"), "MOF", False),
        (("MOF", "MOJ"), "MOH", False),
        ((), "MOH", False),
        (("MOH",), None, False),
    ],
)
def test_from_whose_server_a_read_receipt_counts(
    agencies: tuple[str, ...], author_agency: str | None, counts: bool
) -> None:
    origin = replace(ORIGIN, agencies=agencies, author_agency=author_agency)
    notes, strays = from_dispositions([SENT], [READ], origin, NAMED)
    assert ([n.event for n in notes], len(strays)) == (([Event.READ], 0) if counts else ([], 1))


def test_a_delivery_report_counts_from_any_agency_of_a_shared_server() -> None:
    report = Report(final_recipient=DIWAN, action="delivered", status="2.0.0")
    for agencies, counts in ((("MOF", "MOH"), True), (("MOF",), False), ((), False)):
        notes, strays = from_reports([SENT], [report], replace(ORIGIN, agencies=agencies, author=""))
        assert (len(notes), len(strays)) == ((1, 0) if counts else (0, 1))


@pytest.mark.parametrize("state", [State.QUEUED, State.HELD, State.REFUSED])
def test_nothing_is_read_before_it_was_sent(state: State) -> None:
    notes, (stray,) = from_dispositions([replace(SENT, state=state)], [READ], ORIGIN, NAMED)
    assert notes == [] and stray.reason == "speaks of a letter that has not been sent there"


@pytest.mark.parametrize(("state", "counts"), [(State.QUEUED, 1), (State.HELD, 0), (State.REFUSED, 0)])
def test_what_is_in_doubt_may_have_been_read(state: State, counts: int) -> None:
    doubtful = replace(SENT, state=state, in_doubt=True)
    notes, strays = from_dispositions([doubtful], [READ], ORIGIN, NAMED)
    assert (len(notes), len(strays)) == (counts, 1 - counts)
    elsewhere = replace(ORIGIN, agencies=("MOJ",))
    assert from_dispositions([doubtful], [READ], elsewhere, NAMED)[0] == []


@pytest.mark.parametrize("state", [State.SENDING, State.SENT, State.FAILED])
def test_what_was_handed_over_may_be_read(state: State) -> None:
    (note,), _ = from_dispositions([replace(SENT, state=state)], [READ], ORIGIN, NAMED)
    assert note.event is Event.READ


def test_only_known_words_are_kept() -> None:
    odd = replace(READ, mode="x" * 999, sending_mode="y", modifiers=("z", "error"), reporting_ua="u" * 999)
    (note,), _ = from_dispositions([SENT], [odd], ORIGIN, NAMED)
    assert note.event is Event.AUTO_REPLY
    kept = note.detail
    assert (kept["mode"], kept["sending_mode"], kept["modifiers"]) == (None, None, ["error"])
    assert len(kept["reporting_ua"]) == 200


def test_words_for_people_are_no_stray() -> None:
    hint = replace(READ, in_words=True)
    (note,), strays = from_dispositions([SENT], [hint], ORIGIN, NAMED)
    assert note.event is Event.AUTO_REPLY and strays == []
    assert from_dispositions([SENT], [hint], replace(ORIGIN, agencies=("MOJ",)), NAMED) == ([], [])
