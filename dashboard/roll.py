"""The roll of a letter's recipients: how many stand where, and who needs a look first.

A circular goes to a hundred agencies. Its page counts them by where the letter stands with each, puts those
first with whom something is amiss, then those of whom least is proven, and folds the rest. A few recipients
stay in the order in which they were addressed. Pure; nothing fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.ladder import STEPS, in_doubt
from dashboard.language import N_, Tongue
from tracker.letter_page import RecipientRow
from tracker.states import Grade, Outcome, State

FEW = 12  # so many recipients are shown as they are
OPEN = 10  # of more, so many stand open on the page

# Worst first; the words are those of the list of letters.
_AMISS: tuple[tuple[str, str], ...] = (
    (N_("Failed"), "stop"),
    (N_("Refused"), "stop"),
    (N_("Returned"), "stop"),
    (N_("In doubt"), "warn"),
    (N_("Held"), "warn"),
    (N_("Late"), "warn"),
    (N_("On its way"), "quiet"),
)
_PLACES = (*_AMISS, *((word, "") for grade, word, _ in STEPS if grade > Grade.ACCEPTED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many recipients stand in one place; ``tone`` is the class of its mark."""

    word: str
    tone: str
    count: int


def worst_first(rows: Sequence[RecipientRow]) -> list[RecipientRow]:
    """Those who need a look, then those of whom least is proven; a few as they are."""
    return list(rows) if len(rows) <= FEW else sorted(rows, key=_place)


def counted(rows: Sequence[RecipientRow], tongue: Tongue) -> tuple[Standing, ...]:
    """Every recipient once, worst first; nothing for a few, who are seen at a glance."""
    if len(rows) <= FEW:
        return ()
    found = Counter(_place(row) for row in rows)
    return tuple(
        Standing(word=tongue.say(_PLACES[place][0]), tone=_PLACES[place][1], count=found[place])
        for place in sorted(found)
    )


def _place(row: RecipientRow) -> int:
    """Where the letter stands with one recipient, as an index of ``_PLACES``."""
    amiss = (
        row.outcome is Outcome.FAILED and row.state is not State.REFUSED,
        row.state is State.REFUSED,
        row.outcome is Outcome.RETURNED,
        in_doubt(row),
        row.state is State.HELD,
        row.late,
        row.grade < Grade.RELAYED,
    )
    if any(amiss):
        return amiss.index(True)
    reached = Grade.PROCESSED if row.outcome is Outcome.CLOSED else row.grade
    return len(_AMISS) + int(reached) - int(Grade.RELAYED)
