"""States, grades, outcomes and events of one delivery, and the one table that moves them.

The *state* is what the relay has to do; the *grade* is how far the evidence goes (DESIGN §7),
it only rises; the *outcome* is how the matter ended, apart from both. Event names follow
ETSI EN 319 522-1 and RFC 6109 as EVIDENCE.md maps them. An event that does not fit a state
raises :class:`UnknownMove`, except late, lower or repeated evidence, which is legal and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Grade(IntEnum):
    NONE = 0
    ACCEPTED = 1  # E1, our own commit
    RELAYED = 2  # E2, the agency's server's final 250
    DELIVERED = 3  # E3, in the mailbox
    FETCHED = 4  # E4, handed to the client
    READ = 5  # E5, matched MDN
    REGISTERED = 6  # E6, taken in by a person or the registry
    PROCESSED = 7  # E7, closed or answered


class State(StrEnum):
    QUEUED = "queued"  # accepted, released or retried -> queued
    SENDING = "sending"  # queued -> sending, by a claim with a lease
    HELD = "held"  # accepted or queued -> held
    SENT = "sent"  # sending -> sent, the next hop answered 250
    FAILED = "failed"  # sending or queued -> failed: 5xx, expiry, cancelled
    REFUSED = "refused"  # refused at the door, or by a person while it was held: never queued


class Outcome(StrEnum):
    OPEN = "open"
    FAILED = "failed"
    RETURNED = "returned"
    CLOSED = "closed"
    REOPENED = "reopened"


class Event(StrEnum):
    SUBMITTED = "submitted"
    REFUSED = "refused"
    HELD = "held"
    APPROVED = "approved"  # by one person, and the rule asks for another
    RELEASED = "released"
    ATTEMPTED = "attempted"  # a transient answer: no evidence of transfer, kept for the timeline
    IN_DOUBT = "in-doubt"  # the final dot went out, no answer was read or noted
    RELAYED = "relayed"
    DELIVERED = "delivered"
    LATE = "late"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FETCHED = "fetched"
    SEEN = "seen"  # a hint beside the ladder
    NOTICED = "noticed"  # moved, copied, marked or removed in the mailbox: a hint beside the ladder
    READ = "read"
    REGISTERED = "registered"
    IN_PROGRESS = "in-progress"  # the registry works on it
    REFERRED = "referred"
    RETURNED = "returned"
    PROCESSED = "processed"
    EXPIRED = "expired"
    AUTO_REPLY = "auto-reply"  # noted, never counted
    REQUEUED = "requeued"
    FORWARDED = "forwarded"  # a mailbox there sent it on; no number and no new letter
    REMINDED = "reminded"  # the agency was reminded of it, or somebody was told that it is late
    LINKED = "linked"  # another letter refers to it, and that says no more about it


class UnknownMove(ValueError):
    """An event that cannot happen to a delivery in that state."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an event does: the states it may meet (empty: any), the new state, grade and outcome."""

    meets: frozenset[State] = frozenset()
    state: State | None = None
    grade: Grade = Grade.NONE
    outcome: Outcome | None = None


_WAITING = frozenset({State.QUEUED, State.SENDING, State.HELD})

MOVES: dict[Event, Effect] = {
    Event.SUBMITTED: Effect(grade=Grade.ACCEPTED),  # -> queued or held, set by accept
    Event.REFUSED: Effect(
        meets=frozenset({State.HELD, State.REFUSED}), state=State.REFUSED, outcome=Outcome.FAILED
    ),  # at the door by accept; held -> refused
    Event.HELD: Effect(meets=frozenset({State.QUEUED, State.SENDING, State.HELD}), state=State.HELD),
    Event.APPROVED: Effect(meets=frozenset({State.HELD})),  # stays held
    Event.RELEASED: Effect(meets=frozenset({State.HELD, State.QUEUED}), state=State.QUEUED),  # held -> queued
    # sending -> queued; what was settled or held while the attempt ran stays so
    Event.ATTEMPTED: Effect(state=State.QUEUED),
    Event.IN_DOUBT: Effect(state=State.QUEUED),
    Event.RELAYED: Effect(state=State.SENT, grade=Grade.RELAYED),  # sending -> sent
    Event.DELIVERED: Effect(grade=Grade.DELIVERED),  # sending -> sent by LMTP; sent stays
    Event.LATE: Effect(),  # by our timer, or by a DSN "delayed" of the server that has it
    Event.FAILED: Effect(
        state=State.FAILED, outcome=Outcome.FAILED
    ),  # sending -> failed; sent -> failed by DSN
    Event.CANCELLED: Effect(meets=_WAITING, state=State.FAILED, outcome=Outcome.FAILED),
    Event.REQUEUED: Effect(
        meets=frozenset({State.FAILED, State.QUEUED, State.HELD, State.SENT}),
        state=State.QUEUED,
        outcome=Outcome.OPEN,
    ),
    Event.FETCHED: Effect(grade=Grade.FETCHED),
    Event.SEEN: Effect(),
    Event.NOTICED: Effect(),
    Event.READ: Effect(grade=Grade.READ),  # queued -> sent: what was in doubt has been read
    Event.REGISTERED: Effect(grade=Grade.REGISTERED),
    Event.IN_PROGRESS: Effect(grade=Grade.REGISTERED),  # and opens again what was closed or returned
    Event.REFERRED: Effect(),
    Event.RETURNED: Effect(grade=Grade.REGISTERED, outcome=Outcome.RETURNED),
    Event.PROCESSED: Effect(grade=Grade.PROCESSED, outcome=Outcome.CLOSED),
    Event.EXPIRED: Effect(),
    Event.AUTO_REPLY: Effect(),
    Event.FORWARDED: Effect(),
    Event.REMINDED: Effect(),
    Event.LINKED: Effect(),
}

FINAL_STATES = frozenset({State.SENT, State.FAILED, State.REFUSED})


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one delivery stands."""

    state: State
    grade: Grade
    outcome: Outcome


def move(standing: Standing, event: Event) -> Standing:
    """The standing after ``event``; raises :class:`UnknownMove` when the event cannot happen there.

    Grades never fall. A success that comes after a failure raises the grade and leaves the
    outcome to a person; a failure after a success sets the outcome and leaves the grade.
    """
    effect = MOVES[event]
    if effect.meets and standing.state not in effect.meets:
        raise UnknownMove(f"{event} cannot happen to a delivery that is {standing.state}")
    state = effect.state or standing.state
    if event is Event.DELIVERED and state in _WAITING:
        state = (
            State.SENT
        )  # an LMTP 250, or that of a hop declared final, is relay and mailbox in one (DESIGN §11)
    if event is Event.FAILED and standing.state is State.REFUSED:
        state = standing.state
    if event is Event.RELAYED and standing.state in (State.FAILED, State.REFUSED):
        state = standing.state
    if event is Event.READ and state is State.QUEUED:
        state = State.SENT  # who has read it has it; :mod:`tracker.matching` lets it through only in doubt
    if event in (Event.ATTEMPTED, Event.IN_DOUBT) and standing.state is not State.SENDING:
        state = standing.state  # cancelled, reported on or held while the attempt was under way
    outcome = effect.outcome or standing.outcome
    if event is Event.IN_PROGRESS and outcome in (Outcome.CLOSED, Outcome.RETURNED):
        outcome = Outcome.REOPENED
    return Standing(state, max(standing.grade, effect.grade), outcome)
