"""The ladder of seven steps, and the sentence beside it: where one recipient's letter stands.

The picture claims nothing above its evidence (DESIGN §7). A step is filled when evidence of that
step is recorded, or when a later one cannot be without it: what is in a mailbox was relayed, what
was read was fetched. Registering or closing proves neither fetching nor reading, so those steps
stay empty. ``\\Seen`` is hatched, not filled. Failure stands at the step that was not reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dashboard.language import N_, Tongue
from dashboard.show import Dates, is_permanent, reason
from tracker.letter_page import RecipientRow
from tracker.queries import ListedRecipient
from tracker.states import MOVES, Event, Grade, Outcome, State


class Mark(StrEnum):
    """How a step is drawn; the value is its CSS class."""

    DONE = "done"
    PART = "part"  # in a list: some recipients, not all
    HINT = "hint"
    LATE = "late"
    HELD = "held"
    FAILED = "failed"
    NONE = "none"
    CLOSED = "closed"  # beyond a failure: nothing is expected there


STEPS: tuple[tuple[Grade, str, tuple[Event, ...]], ...] = (
    (Grade.ACCEPTED, N_("Accepted"), (Event.SUBMITTED,)),
    (Grade.RELAYED, N_("Relayed"), (Event.RELAYED,)),
    (Grade.DELIVERED, N_("Delivered"), (Event.DELIVERED,)),
    (Grade.FETCHED, N_("Fetched"), (Event.FETCHED,)),
    (Grade.READ, N_("Read"), (Event.READ,)),
    (Grade.REGISTERED, N_("Registered"), (Event.REGISTERED, Event.IN_PROGRESS, Event.RETURNED)),
    (Grade.PROCESSED, N_("Processed"), (Event.PROCESSED,)),
)

_TOLD = {
    Mark.DONE: N_("proven"),
    Mark.PART: N_("proven for some recipients"),
    Mark.HINT: N_("a hint only, not conclusive"),
    Mark.LATE: N_("late, no evidence"),
    Mark.HELD: N_("held back"),
    Mark.FAILED: N_("failed"),
    Mark.NONE: N_("no evidence"),
    Mark.CLOSED: N_("not reached"),
}


# Of a read receipt, whether a person did anything (RFC 8098 §3.2.6.1).
_READ_TOLD = {
    "manual-action": N_("proven: shown by an act of the user"),
    "automatic-action": N_("proven: shown, as the program says without an act of the user"),
}
_READ_STANDING = {
    "manual-action": N_("shown by the user"),
    "automatic-action": N_("shown automatically"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a ladder: its word, its drawing, and what a screen reader says of it."""

    label: str
    mark: Mark
    told: str
    at_us: int | None = None


def ladder(row: RecipientRow, tongue: Tongue) -> tuple[Step, ...]:
    """The seven steps of one recipient."""
    failed_at, failed_word = _failure(row)
    steps = []
    late_step = _late_step(row)
    for grade, word, events in STEPS:
        line = next((found for event in events if (found := row.proven(event))), None)
        label, mark = word, Mark.DONE if _holds(row, grade) else Mark.NONE
        if grade is failed_at:
            label, mark = failed_word, Mark.FAILED
        elif mark is Mark.NONE and grade is Grade.FETCHED and row.proven(Event.SEEN):
            label, mark = N_("Hint"), Mark.HINT
            line = row.proven(Event.SEEN)
        elif grade is Grade.RELAYED and mark is Mark.NONE and row.state is State.HELD:
            label, mark = N_("Held"), Mark.HELD
        elif grade is Grade.RELAYED and mark is Mark.NONE and in_doubt(row):
            label, mark = N_("In doubt"), Mark.HELD
        elif grade is late_step:
            mark = Mark.LATE
        elif mark is Mark.NONE and failed_at is not None and grade > failed_at:
            mark = Mark.CLOSED
        steps.append(
            Step(
                label=tongue.say(label),
                mark=mark,
                told=tongue.say(
                    _READ_TOLD.get(read_mode(row), _TOLD[mark])
                    if grade is Grade.READ and mark is Mark.DONE
                    else _TOLD[mark]
                ),
                at_us=line.at_us if line is not None and mark not in (Mark.NONE, Mark.CLOSED) else None,
            )
        )
    return tuple(steps)


def _holds(row: RecipientRow, grade: Grade) -> bool:
    """There is evidence of the step, or of one that cannot be without it."""
    if row.grade == grade:
        return True
    if grade <= Grade.DELIVERED:
        return row.grade > grade
    events = next(events for step, _, events in STEPS if step is grade)
    if any(row.proven(event) for event in events):
        return True
    return grade is Grade.FETCHED and row.proven(Event.READ) is not None


def read_mode(row: RecipientRow) -> str:
    """Of the read receipts of a recipient the strongest mode; empty when none says."""
    modes = {str(line.detail.get("mode") or "") for line in row.events if line.event is Event.READ}
    return next((mode for mode in ("manual-action", "automatic-action") if mode in modes), "")


def _implied(reached: Grade, step: Grade) -> bool:
    """What a grade alone proves of a step: the same as in a ladder, without its evidence."""
    if step <= Grade.DELIVERED:
        return reached >= step
    return reached == step or (step is Grade.FETCHED and reached == Grade.READ)


def steps_of(reached: Grade, failed: bool, tongue: Tongue) -> tuple[Step, ...]:
    """The seven steps that a grade alone proves, without times; a failure stands at the next one."""
    beyond = Grade(min(reached + 1, Grade.PROCESSED))
    steps = []
    for grade, word, _ in STEPS:
        mark = Mark.DONE if _implied(reached, grade) else Mark.NONE
        if failed and grade >= beyond:
            mark = Mark.FAILED if grade is beyond else Mark.CLOSED
        label = N_("Failed") if mark is Mark.FAILED else word
        steps.append(Step(label=tongue.say(label), mark=mark, told=tongue.say(_TOLD[mark])))
    return tuple(steps)


def _failure(row: RecipientRow) -> tuple[Grade | None, str]:
    if row.state is State.REFUSED:
        return Grade.ACCEPTED, N_("Refused")
    if row.outcome is Outcome.RETURNED:
        return Grade.REGISTERED, N_("Returned")
    if row.outcome is not Outcome.FAILED:
        return None, ""
    step = Grade(min(row.grade + 1, Grade.PROCESSED))
    if row.proven(Event.CANCELLED):
        return step, N_("Cancelled")
    refused = step is Grade.RELAYED and is_permanent(row.last_reply)
    return step, N_("Refused") if refused else N_("Failed")


def _late_step(row: RecipientRow) -> Grade | None:
    if not row.late:
        return None
    if row.state in (State.QUEUED, State.SENDING, State.HELD):
        return Grade.RELAYED
    return Grade.PROCESSED if _holds(row, Grade.REGISTERED) else Grade.REGISTERED


def in_doubt(row: RecipientRow) -> bool:
    """The last that is known of the hand-over is that nobody knows how it ended."""
    if row.state not in (State.QUEUED, State.SENDING):
        return False
    told = [line.event for line in row.events if line.event is not Event.LATE]
    return bool(told) and told[-1] is Event.IN_DOUBT


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The sentence beside a ladder; ``tone`` is ok, soft, warn or stop. ``number`` is shown apart."""

    text: str
    tone: str = "soft"
    number: str | None = None


def standing(row: RecipientRow, tongue: Tongue, dates: Dates, now_us: int) -> Standing:
    """Where the letter stands with one recipient, in a few words."""
    say = tongue.say
    known = reason(_last_word(row))
    if row.state is State.REFUSED:
        held = row.proven(Event.HELD)
        return Standing(text=say("Not approved") if held else say("Refused at the door"), tone="stop")
    if row.outcome is Outcome.FAILED:
        if row.proven(Event.CANCELLED):
            return Standing(text=say("Cancelled before it left"), tone="stop")
        return Standing(text=say(known) if known else say("Could not be delivered"), tone="stop")
    if row.outcome is Outcome.RETURNED:
        return Standing(text=say("Returned by the registry"), tone="stop")
    if row.state is State.HELD:
        return Standing(text=say("Held for approval"), tone="warn")
    if row.state in (State.QUEUED, State.SENDING):
        return _waiting(row, tongue, dates, known)
    incoming = _incoming(row)
    if incoming is not None:
        done = row.grade >= Grade.PROCESSED and row.outcome is not Outcome.REOPENED
        text = say("Processed, incoming") if done else say("Incoming")
        return Standing(text=text, tone="warn" if row.late and not done else "ok", number=incoming)
    if row.grade >= Grade.PROCESSED or row.outcome is Outcome.CLOSED:
        return Standing(text=say("Processed"), tone="ok")
    if row.grade >= Grade.REGISTERED:
        return Standing(text=say("Registered, not yet processed"), tone="warn" if row.late else "soft")
    silence = say("no confirmation")
    since = dates.since(_proven_us(row), now_us)
    if row.grade >= Grade.READ:
        mode = _READ_STANDING.get(read_mode(row))
        text = say("Read, not yet registered") + (f" · {say(mode)}" if mode else "")
        return Standing(text=text, tone="warn" if row.late else "soft")
    told = say("In the mailbox") if row.grade >= Grade.DELIVERED else say("With the agency's server")
    return Standing(text=f"{told} · {silence} {since}", tone="warn" if row.late else "soft")


def _proven_us(row: RecipientRow) -> int:
    """When the last was proven: a reminder, a hint or an automatic answer confirms nothing."""
    return max((line.at_us for line in row.events if MOVES[line.event].grade), default=row.changed_us)


def _last_word(row: RecipientRow) -> str | None:
    """The status of the failure as its evidence has it (a report, an expiry), else the last reply."""
    failures = [line for line in row.events if line.event is Event.FAILED]
    status = failures[-1].detail.get("status") if failures and row.outcome is Outcome.FAILED else None
    return str(status) if status else row.last_reply


def _waiting(row: RecipientRow, tongue: Tongue, dates: Dates, known: str | None) -> Standing:
    if in_doubt(row):
        return Standing(text=tongue.say("Handed over, answer unknown"), tone="warn")
    if not row.tries or row.state is State.SENDING:
        return Standing(text=tongue.say("On its way"), tone="warn" if row.late else "soft")
    again = tongue.say("next attempt at %(time)s", time=dates.clock(row.next_us))
    told = tongue.say(known) if known else tongue.say("Put off by the server")
    return Standing(text=f"{told} · {again}", tone="warn")


def _incoming(row: RecipientRow) -> str | None:
    """The number that the receiving registry gave."""
    for line in row.events:
        if line.event is Event.REGISTERED:
            number = line.detail.get("incoming_number") or line.detail.get("number")
            if number:
                return str(number)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """A letter in one line of a list: seven marks over all known recipients, and a word."""

    marks: tuple[Mark, ...]
    text: str
    tone: str


def glance(recipients: Sequence[ListedRecipient], tongue: Tongue) -> Glance:
    """What the list shows of all recipients together; the worst speaks first."""
    known = [row for row in recipients if row.state is not None and row.grade is not None]
    say = tongue.say
    marks = []
    for grade, _, _ in STEPS:
        reached = sum(1 for row in known if row.grade is not None and _implied(row.grade, grade))
        marks.append(Mark.NONE if not reached else Mark.DONE if reached == len(known) else Mark.PART)
    if not known:
        return Glance(marks=tuple(marks), text=say("Refused"), tone="stop")
    failed = sum(1 for row in known if row.outcome in (Outcome.FAILED, Outcome.RETURNED))
    if failed:
        lowest = min(row.grade or 0 for row in known if row.outcome in (Outcome.FAILED, Outcome.RETURNED))
        marks[min(lowest, 6)] = Mark.FAILED
        if any(row.outcome is Outcome.FAILED for row in known):
            text = (
                say("Failed")
                if failed == len(known)
                else say("%(n)s of %(all)s failed", n=failed, all=len(known))
            )
        else:
            text = say("Returned")
        return Glance(marks=tuple(marks), text=text, tone="stop")
    if any(row.state is State.HELD for row in known):
        marks[1] = Mark.HELD
        return Glance(marks=tuple(marks), text=say("Held"), tone="warn")
    lowest_grade = min(row.grade or Grade.NONE for row in known)
    if any(row.late for row in known):
        late = min(row.grade or 0 for row in known if row.late)
        marks[1 if late < 2 else 5 if late < 6 else 6] = Mark.LATE
        return Glance(marks=tuple(marks), text=say("Late"), tone="warn")
    words = {grade: word for grade, word, _ in STEPS}
    if lowest_grade < Grade.RELAYED:
        return Glance(marks=tuple(marks), text=say("On its way"), tone="soft")
    tone = "ok" if lowest_grade >= Grade.PROCESSED else "soft"
    return Glance(marks=tuple(marks), text=say(words[Grade(lowest_grade)]), tone=tone)
