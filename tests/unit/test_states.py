"""The one table of moves: grades never fall, outcomes stand apart, what cannot happen raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.states import MOVES, Event, Grade, Outcome, Standing, State, UnknownMove, move

EVENTS = st.sampled_from(list(Event))


def at(state: State, grade: Grade = Grade.ACCEPTED, outcome: Outcome = Outcome.OPEN) -> Standing:
    return Standing(state, grade, outcome)


def test_every_event_has_its_effect() -> None:
    assert set(MOVES) == set(Event)


@given(st.lists(EVENTS, max_size=30))
def test_no_sequence_of_events_lowers_a_grade(events: list[Event]) -> None:
    standing = at(State.QUEUED)
    for event in events:
        try:
            after = move(standing, event)
        except UnknownMove:
            continue
        assert after.grade >= standing.grade
        standing = after


@given(st.sampled_from(list(State)), EVENTS)
def test_repeating_an_event_changes_nothing_more(state: State, event: Event) -> None:
    try:
        once = move(at(state), event)
        twice = move(once, event)
    except UnknownMove:
        return
    assert twice == once


CASES = [
    (State.SENDING, Event.RELAYED, State.SENT, Grade.RELAYED, Outcome.OPEN),
    (State.SENDING, Event.DELIVERED, State.SENT, Grade.DELIVERED, Outcome.OPEN),
    (State.SENDING, Event.ATTEMPTED, State.QUEUED, Grade.ACCEPTED, Outcome.OPEN),
    (State.SENDING, Event.IN_DOUBT, State.QUEUED, Grade.ACCEPTED, Outcome.OPEN),
    (State.SENDING, Event.FAILED, State.FAILED, Grade.ACCEPTED, Outcome.FAILED),
    (State.HELD, Event.ATTEMPTED, State.HELD, Grade.ACCEPTED, Outcome.OPEN),
    (State.HELD, Event.RELEASED, State.QUEUED, Grade.ACCEPTED, Outcome.OPEN),
    (State.SENT, Event.FAILED, State.FAILED, Grade.ACCEPTED, Outcome.FAILED),
    (State.FAILED, Event.RELAYED, State.FAILED, Grade.RELAYED, Outcome.OPEN),
    (State.SENT, Event.LATE, State.SENT, Grade.ACCEPTED, Outcome.OPEN),
    (State.FAILED, Event.REQUEUED, State.QUEUED, Grade.ACCEPTED, Outcome.OPEN),
    (State.SENT, Event.PROCESSED, State.SENT, Grade.PROCESSED, Outcome.CLOSED),
    (State.SENT, Event.IN_PROGRESS, State.SENT, Grade.REGISTERED, Outcome.OPEN),
    (State.SENT, Event.SEEN, State.SENT, Grade.ACCEPTED, Outcome.OPEN),
    (State.QUEUED, Event.READ, State.SENT, Grade.READ, Outcome.OPEN),  # it was in doubt
    (State.SENDING, Event.READ, State.SENDING, Grade.READ, Outcome.OPEN),  # its attempt is still to end
    (State.FAILED, Event.READ, State.FAILED, Grade.READ, Outcome.OPEN),
    (State.SENT, Event.ATTEMPTED, State.SENT, Grade.ACCEPTED, Outcome.OPEN),  # it was settled meanwhile
    (State.FAILED, Event.IN_DOUBT, State.FAILED, Grade.ACCEPTED, Outcome.OPEN),
]


@pytest.mark.parametrize(("state", "event", "after", "grade", "outcome"), CASES)
def test_moves(state: State, event: Event, after: State, grade: Grade, outcome: Outcome) -> None:
    assert move(at(state), event) == Standing(after, grade, outcome)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (State.SENT, Event.HELD),
        (State.REFUSED, Event.RELEASED),
        (State.FAILED, Event.CANCELLED),
        (State.SENT, Event.RELEASED),
    ],
)
def test_what_cannot_happen_raises(state: State, event: Event) -> None:
    with pytest.raises(UnknownMove, match=str(event)):
        move(at(state), event)


@pytest.mark.parametrize("outcome", [Outcome.CLOSED, Outcome.RETURNED])
def test_work_on_what_was_closed_opens_it_again(outcome: Outcome) -> None:
    standing = move(at(State.SENT, Grade.PROCESSED, outcome), Event.IN_PROGRESS)
    assert standing == at(State.SENT, Grade.PROCESSED, Outcome.REOPENED)
