"""Sliding counters: what was taken counts a whole window, whoever is over waits no longer for trying."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.rates import MAX_KEYS, STEPS, PolicyState

HOUR = 3_600_000_000


def test_a_window_slides() -> None:
    state = PolicyState()
    assert all(state.take("a", 3, HOUR, i) for i in range(3))
    assert not state.take("a", 3, HOUR, HOUR)
    assert state.take("b", 3, HOUR, HOUR), "others are counted apart"
    assert state.take("a", 3, HOUR, HOUR + 2 * HOUR // STEPS)


def test_what_was_refused_is_not_counted() -> None:
    state = PolicyState()
    assert state.take("a", 10, HOUR, 0, 10)
    assert not any(state.take("a", 10, HOUR, i) for i in range(100))
    assert state.take("a", 10, HOUR, 2 * HOUR, 10)
    assert not state.take("c", 10, HOUR, 0, 11)


def test_a_clock_set_back_counts_on() -> None:
    state = PolicyState()
    assert state.take("a", 1, HOUR, 10 * HOUR)
    assert not state.take("a", 1, HOUR, 0)


def test_copies_go_their_own_way() -> None:
    state = PolicyState()
    assert state.take("a", 2, HOUR, 0)
    copy = state.copy()
    assert copy.take("a", 2, HOUR, 0) and not copy.take("a", 2, HOUR, 0)
    assert state.take("a", 2, HOUR, 0)


def test_idle_counters_are_forgotten() -> None:
    state = PolicyState()
    for i in range(MAX_KEYS + 1):
        state.take(f"k{i}", 1, HOUR, i)
    assert len(state) == MAX_KEYS // 2 + 1
    assert not state.take(f"k{MAX_KEYS}", 1, HOUR, MAX_KEYS), "the latest are kept"


@given(st.lists(st.tuples(st.integers(0, 3 * HOUR), st.integers(1, 3)), max_size=60), st.integers(1, 8))
def test_no_window_ever_holds_more_than_the_limit(taken: list[tuple[int, int]], limit: int) -> None:
    state = PolicyState()
    kept = [(at, n) for at, n in sorted(taken) if state.take("a", limit, HOUR, at, n)]
    for begin, _ in kept:
        assert sum(n for at, n in kept if begin <= at < begin + HOUR) <= limit
