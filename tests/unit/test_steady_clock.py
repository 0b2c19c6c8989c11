"""Clocks that are set: what is believed of them, and when a letter is given up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from gateway.retry import RetrySchedule
from gateway.steady_clock import BELIEVED_S, SteadyClock
from tests.records import claim, end, letter
from tracker.claims import Claim
from tracker.noting import Note
from tracker.record import Record
from tracker.states import Event

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
START = 1_790_000_000 * SECOND

SCHEDULE = RetrySchedule(
    waits=tuple(timedelta(minutes=m) for m in (1, 3, 5, 10, 15, 30, 60, 120, 240)),
    jitter=0.2,
    warn_after=timedelta(hours=4),
    give_up_after=timedelta(days=5),
)


@dataclass
class Hands:
    """The two clocks of a machine."""

    wall: int = START
    up: float = 100.0

    def go(self, seconds: float, *, jump: int = 0) -> None:
        self.up += seconds
        self.wall += int(seconds * SECOND) + jump


def test_a_jump_ahead_is_believed_after_a_day() -> None:
    hands = Hands()
    clock = SteadyClock(lambda: hands.wall, lambda: hands.up)
    hands.go(5)
    assert clock.now_us() == hands.wall
    hands.go(5, jump=40 * DAY)
    assert clock.now_us() == START + 10 * SECOND
    for _ in range(23):
        hands.go(3600)
        assert clock.now_us() == hands.wall - 40 * DAY
    hands.go(BELIEVED_S - 23 * 3600)
    assert clock.now_us() == hands.wall


def test_a_jump_that_is_taken_back_was_none() -> None:
    hands = Hands()
    clock = SteadyClock(lambda: hands.wall, lambda: hands.up)
    hands.go(5, jump=40 * DAY)
    clock.now_us()
    hands.go(BELIEVED_S - 10, jump=-40 * DAY)
    assert clock.now_us() == hands.wall
    hands.go(20, jump=40 * DAY)
    assert clock.now_us() == hands.wall - 40 * DAY  # a new one, a new day of doubt


@pytest.mark.parametrize("jump", [-400 * DAY, 9 * 60 * SECOND])
def test_a_step_back_or_a_small_one_is_taken_at_once(jump: int) -> None:
    hands = Hands()
    clock = SteadyClock(lambda: hands.wall, lambda: hands.up)
    hands.go(5, jump=jump)
    assert clock.now_us() == hands.wall


def attempt(record: Record, at_us: int) -> Claim:
    """One more attempt, that fails for the moment; what the relay knew of the delivery."""
    (found,) = claim(record, at=at_us, silence_us=SCHEDULE.silence_us)
    next_us = SCHEDULE.next_us(found.attempts, at_us, found.expires_us)
    record.note(
        Note(
            delivery_id=found.delivery_id,
            event=Event.ATTEMPTED,
            at_us=at_us,
            attempt=end(found, "450 4.2.0 later"),
            next_us=next_us,
        )
    )
    assert next_us > at_us  # never at once again, whatever has expired
    return replace(found, due_us=next_us)


def gives_up(found: Claim, at_us: int) -> bool:
    return SCHEDULE.gives_up(found.expires_us, found.tried_us, at_us)


def accepted(record: Record) -> None:
    record.accept(letter(record, at_us=START, expires_us=SCHEDULE.expires_us(START)))


def test_a_letter_is_given_up_after_five_days_of_trying(record: Record) -> None:
    accepted(record)
    at = START
    for _ in range(200):
        found = attempt(record, at)
        if gives_up(found, at):
            break
        at = found.due_us
    assert at == START + 5 * DAY  # the last attempt is made when it expires
    assert found.tried_us == 5 * DAY


@pytest.mark.parametrize("jump", [40 * DAY, 700 * DAY])
def test_a_clock_that_jumps_ahead_returns_no_letter(record: Record, jump: int) -> None:
    accepted(record)
    at = attempt(record, START).due_us + jump
    really = 0
    for _ in range(200):
        found = attempt(record, at)
        if gives_up(found, at):
            break
        really += found.due_us - at
        at = found.due_us
    assert really > 1.9 * DAY
    assert found.tried_us >= 2.5 * DAY


def test_a_gateway_that_was_off_for_a_week_tries_before_it_gives_up(record: Record) -> None:
    accepted(record)
    at = START + 7 * DAY
    for _ in range(12):  # whatever the jitter, that many waits make less than two days and a half
        found = attempt(record, at)
        assert not gives_up(found, at)
        at = found.due_us


def test_a_hop_that_is_asked_seldom_does_not_keep_its_letters_for_ever(record: Record) -> None:
    """A full hop's letters are tried every few hours, however short the waits are."""
    accepted(record)
    at = START
    for _ in range(100):
        found = attempt(record, at)
        if gives_up(found, at):
            break
        at += 7 * HOUR
    assert at - START < 5 * DAY + 8 * HOUR


def test_the_attempt_before_a_warning_or_the_end_comes_at_that_moment() -> None:
    """What is late is said of an attempt that fails: one that comes hours later would say it hours late."""
    now, hour = START, HOUR
    for _ in range(100):
        due = SCHEDULE.next_us(99, now)
        assert SCHEDULE.next_us(99, now, now + 1) == now + 1
        assert now < SCHEDULE.next_us(99, now, now - 1, now + 9000 * hour) <= SCHEDULE.latest_us(now)
        assert due > now + 1
    at = now - hour
    assert SCHEDULE.is_late(at, SCHEDULE.warns_us(at)) and not SCHEDULE.is_late(at, SCHEDULE.warns_us(at) - 1)
