"""Which letters a letter refers to, and what each reference is, decided when it is accepted.

A reference is an *answer* when it comes from an agency that received the letter and goes to the agency that
wrote it; it *follows* when it comes from the writing agency itself, or from a receiving one to somebody else.
From any other agency it is *proposed* to a person and links nothing by itself: a number is easily named by
who never had the letter (EVIDENCE, "Answers"). Subject and text name letters by number, the header by
Message-ID. Nothing is asked for a letter that refers to nothing. Nothing here fails but the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, or_, select, text
from sqlalchemy.dialects import postgresql, sqlite

from tracker.acceptance import Acceptance
from tracker.access import SHOWN_DELIVERIES
from tracker.model import LetterKind
from tracker.prepared import Prepared, PreparedIn
from tracker.schema import delivery, letter, letter_link
from tracker.states import State

MOST_LINKS = 5  # of one letter
MOST_REFERENCES = 20  # of the header's, the last ones

_FOLLOWED = (LetterKind.LETTER.value, LetterKind.SHADOW.value)


class LinkState(StrEnum):
    ANSWER = "answer"  # waits until it has passed through
    DONE = "done"  # an answer that has
    DROPPED = "dropped"  # an answer that never will
    FOLLOWS = "follows"  # of the same matter, and closes nothing
    PROPOSED = "proposed"  # a person must say
    CONFIRMED = "confirmed"
    DECLINED = "declined"

    @property
    def holds(self) -> bool:
        """The two letters belong together."""
        return self not in (LinkState.PROPOSED, LinkState.DECLINED)


class How(StrEnum):
    """Where a reference stood."""

    SUBJECT = "subject"
    TEXT = "text"
    HEADER = "header"


class Effect(StrEnum):
    """What an answer does to the letter that it answers, at the agency that answers."""

    CLOSES = "closes"
    ADVANCES = "advances"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Cited:
    """A letter that somebody refers to."""

    letter_id: int
    thread_id: int
    agency: str | None
    receivers: frozenset[str]  # agencies that it reached


@dataclass(frozen=True, slots=True)
class Links:
    """What a letter's references amount to."""

    answers: int | None = None
    thread_id: int | None = None
    rows: tuple[dict[str, Any], ...] = field(default=())


NO_LINKS = Links()

# As in the index ``ix_letter_link_open``, word for word: a bound value would not be led by it.
OPEN = text("letter_link.state IN ('answer', 'proposed')")

_l, _d = letter.c, delivery.c
_COLUMNS = (_l.id, _l.thread_id, _l.agency, _l.message_id, _l.number)
# Constants in an IN would have to be spelt out when a statement is prepared: equality is.
_BY_ID = PreparedIn(
    lambda ids: (
        select(*_COLUMNS)
        .where(_l.message_id.in_(ids), or_(*[_l.kind == kind for kind in _FOLLOWED]))
        .order_by(_l.id)
        .limit(500)
    )
)
_BY_NUMBER = PreparedIn(lambda numbers: select(*_COLUMNS).where(_l.number.in_(numbers)))
_RECEIVERS = PreparedIn(
    lambda ids: select(_d.letter_id, _d.agency, _d.kind, _d.state, _d.attempts).where(_d.letter_id.in_(ids))
)
_LEFT = frozenset({State.QUEUED.value, State.SENDING.value, State.SENT.value})  # as tracker.access.reached()


def _writing(insert: Any) -> Prepared:
    """The first word stands, unless a further transaction of the letter goes to whom it answers."""
    k, new = letter_link.c, insert.excluded
    return Prepared(
        insert.on_conflict_do_update(
            index_elements=[k.letter_id, k.to_id],
            set_={"state": new.state, "effect": new.effect},
            where=(k.state == LinkState.FOLLOWS.value) & (new.state == LinkState.ANSWER.value),
        ),
        keys=["letter_id", "to_id", "state", "how", "agency", "effect", "by", "at_us"],
    )


_WRITE = {
    "sqlite": _writing(sqlite.insert(letter_link)),
    "postgresql": _writing(postgresql.insert(letter_link)),
}


def find_cited(conn: Connection, payloads: Sequence[Acceptance]) -> dict[str, Cited]:
    """The letters that these refer to, by number and by Message-ID."""
    ids: set[str] = set()
    numbers: set[str] = set()
    for a in payloads:
        if a.references:
            ids.update(a.references[-MOST_REFERENCES:])
        if a.subject_number:
            numbers.add(a.subject_number)
        if a.text_numbers:
            numbers.update(a.text_numbers)
    if not ids and not numbers:
        return {}
    rows = [*_BY_ID.all(conn, sorted(ids)), *_BY_NUMBER.all(conn, sorted(numbers))]
    receivers: dict[int, set[str]] = {}
    for letter_id, agency, kind, state, tries in _RECEIVERS.all(conn, sorted({row[0] for row in rows})):
        left = state in _LEFT or (state == State.FAILED.value and tries > 0)
        if agency is not None and kind in SHOWN_DELIVERIES and left:
            receivers.setdefault(letter_id, set()).add(agency)
    found: dict[str, Cited] = {}
    for letter_id, thread_id, agency, message_id, number in rows:
        cited = Cited(letter_id, thread_id, agency, frozenset(receivers.get(letter_id, ())))
        if message_id in ids:
            found.setdefault(message_id, cited)
        if number in numbers:
            found[number] = cited
    return found


def links_of(a: Acceptance, letter_id: int, cited: dict[str, Cited]) -> Links:
    """What the references of ``a`` are. The subject's number is the surest, then those of the text, then
    In-Reply-To and References from the last backwards, of which one counts."""
    if not cited or a.kind.value not in _FOLLOWED:
        return NO_LINKS
    named: dict[int, tuple[Cited, How]] = {}
    for number, how in ((a.subject_number, How.SUBJECT), *((n, How.TEXT) for n in a.text_numbers)):
        if number and (one := cited.get(number)) is not None:
            named.setdefault(one.letter_id, (one, how))
    for ref in reversed(a.references[-MOST_REFERENCES:]):
        if (one := cited.get(ref)) is not None:
            named.setdefault(one.letter_id, (one, How.HEADER))
            break
    targets = {d.agency for d in a.deliveries if d.state is not State.REFUSED}
    answers = thread_id = None
    rows = []
    for one, how in list(named.values())[:MOST_LINKS]:
        state = _state(a, one, targets)
        if state is LinkState.ANSWER and answers is None:
            answers = one.letter_id
        if state is not LinkState.PROPOSED and thread_id is None:
            thread_id = one.thread_id
        rows.append(
            {
                "letter_id": letter_id,
                "to_id": one.letter_id,
                "state": state.value,
                "how": how.value,
                "agency": a.agency or "",
                "effect": a.answer_effect if state is LinkState.ANSWER else Effect.NOTHING.value,
                "by": "",
                "at_us": a.at_us,
            }
        )
    return Links(answers, thread_id, tuple(rows))


def _state(a: Acceptance, one: Cited, targets: set[str | None]) -> LinkState:
    if a.agency is not None and a.agency == one.agency:
        return LinkState.FOLLOWS
    if a.agency is None or a.agency not in one.receivers:
        return LinkState.PROPOSED
    return LinkState.ANSWER if one.agency in targets else LinkState.FOLLOWS


def write_links(conn: Connection, rows: list[dict[str, Any]]) -> None:
    """Write them."""
    if rows:
        _WRITE[conn.dialect.name].many(conn, rows)
