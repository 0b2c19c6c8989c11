"""Letters by a search line: one page of a list, newest first.

Lists go backwards by letter id with a keyset cursor; ``tracker/question.py`` makes the SQL, the
viewer's condition comes from ``tracker/access.py``. What no index answers (a word of a subject, a
failure years ago) is looked for in windows until the page is full or ``seconds`` are over; then
:attr:`LetterList.reached_us` says how far back the search got, and the cursor goes on from there.
So no search costs more than its time, whatever the size of the store, and none pretends to have
seen all of it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sqlalchemy import (
    Connection,
    case,
    func,
    select,
)

from tracker.access import (
    End,
    Viewer,
    end_of,
    letter_seen,
    row_by_name,
    row_with_evidence,
)
from tracker.model import now_us
from tracker.question import Question, id_us, is_late
from tracker.schema import delivery, evidence, letter, rule_hit
from tracker.search import Query
from tracker.states import Grade, Outcome, State

PAGE = 50
SECONDS = 1.5  # for one page of an unindexed search


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRecipient:
    """One recipient of a listed letter; what the viewer may not know is None."""

    agency: str | None
    address: str
    state: State | None
    grade: Grade | None
    outcome: Outcome | None
    late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedLetter:
    """One line of a list."""

    id: int
    kind: str
    number: str | None
    agency: str | None
    author: str
    author_name: str
    subject: str
    classification: str
    urgency: str
    due_us: int | None
    accepted_us: int
    end: End
    recipients: tuple[ListedRecipient, ...]

    @property
    def cancelled(self) -> bool:
        """The number stays taken, and nobody got the letter: everything held of it was refused."""
        return (
            self.number is not None
            and bool(self.recipients)
            and all(row.state is State.REFUSED for row in self.recipients)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterList:
    """One page of a list, newest first."""

    letters: tuple[ListedLetter, ...]
    next: int | None  # cursor: the next page holds what is older than this id
    reached_us: int | None  # an unindexed search got back to here, and there is more behind


def letters(
    conn: Connection,
    viewer: Viewer,
    query: Query,
    *,
    zone: ZoneInfo,
    before_id: int | None = None,
    limit: int = PAGE,
    at_us: int | None = None,
    seconds: float = SECONDS,
) -> LetterList:
    """The newest letters that the viewer may see and the query asks for, older than ``before_id``."""
    at = now_us() if at_us is None else at_us
    search = Question(viewer, query, zone, at)
    top = min(before_id if before_id is not None else 1 << 62, search.highest)
    deadline = time.monotonic() + seconds
    found: list[int] = []
    reached: int | None = None
    while True:
        floor = search.floor(conn, top)
        found += search.ids(conn, top, floor, limit + 1 - len(found))
        if len(found) > limit or floor is None:
            break
        top = floor
        if time.monotonic() > deadline:
            reached = floor
            break
    if len(found) > limit:
        return LetterList(
            letters=_listed(conn, viewer, found[:limit], at), next=found[limit - 1], reached_us=None
        )
    return LetterList(
        letters=_listed(conn, viewer, found, at),
        next=reached,
        reached_us=None if reached is None else id_us(reached),
    )


def _listed(conn: Connection, viewer: Viewer, ids: Sequence[int], at_us: int) -> tuple[ListedLetter, ...]:
    """The letters of these ids, in their order, with what the viewer may know of their recipients."""
    if not ids:
        return ()
    rows: dict[int, list[ListedRecipient]] = defaultdict(list)
    known = row_with_evidence(viewer)
    for row in conn.execute(
        select(delivery, case((known, True), else_=False).label("known"))
        .join(letter, letter.c.id == delivery.c.letter_id)
        .where(delivery.c.letter_id.in_(ids), row_by_name(viewer))
        .order_by(delivery.c.letter_id, delivery.c.id)
    ):
        late = is_late(
            state=row.state,
            outcome=row.outcome,
            grade=row.grade,
            warned_us=row.warned_us,
            due_us=row.due_us,
            at_us=at_us,
        )
        rows[row.letter_id].append(
            ListedRecipient(
                agency=row.agency,
                address=row.recipient,
                state=State(row.state) if row.known else None,
                grade=Grade(row.grade) if row.known else None,
                outcome=Outcome(row.outcome) if row.known else None,
                late=bool(row.known) and late,
            )
        )
    found = {
        row.id: ListedLetter(
            id=row.id,
            kind=row.kind,
            number=row.number,
            agency=row.agency,
            author=row.author,
            author_name=row.author_name,
            subject=row.subject,
            classification=row.classification,
            urgency=row.urgency,
            due_us=row.due_us,
            accepted_us=row.accepted_us,
            end=end_of(viewer, row.agency),
            recipients=tuple(rows[row.id]),
        )
        for row in conn.execute(select(letter).where(letter.c.id.in_(ids), letter_seen(viewer)))
    }
    return tuple(found[id_] for id_ in ids if id_ in found)


def of_rule(
    conn: Connection,
    viewer: Viewer,
    rule: str,
    *,
    before_id: int | None = None,
    limit: int = PAGE,
    at_us: int | None = None,
) -> LetterList:
    """The newest letters to which a rule applied (or would have) and that the viewer may see."""
    asked = (
        select(rule_hit.c.letter_id)
        .join(letter, letter.c.id == rule_hit.c.letter_id)
        .where(rule_hit.c.rule == rule, letter_seen(viewer))
    )
    if before_id is not None:
        asked = asked.where(rule_hit.c.letter_id < before_id)
    found = list(conn.scalars(asked.order_by(rule_hit.c.letter_id.desc()).limit(limit + 1)))
    at = now_us() if at_us is None else at_us
    return LetterList(
        letters=_listed(conn, viewer, found[:limit], at),
        next=found[limit - 1] if len(found) > limit else None,
        reached_us=None,
    )


def by_ids(
    conn: Connection, viewer: Viewer, ids: Iterable[int], at_us: int | None = None
) -> dict[int, ListedLetter]:
    """Those of these letters that the viewer may see, by id; at most 500."""
    asked = list(dict.fromkeys(ids))[:500]
    at = now_us() if at_us is None else at_us
    return {found.id: found for found in _listed(conn, viewer, asked, at)}


def seen_among(conn: Connection, viewer: Viewer, ids: Iterable[int]) -> frozenset[int]:
    """Those of the letters that the viewer may see."""
    asked = list(ids)[:500]
    if not asked:
        return frozenset()
    return frozenset(conn.scalars(select(letter.c.id).where(letter.c.id.in_(asked), letter_seen(viewer))))


def last_evidence(conn: Connection) -> int:
    """The highest evidence id, 0 in an empty store."""
    return conn.scalar(select(func.max(evidence.c.id))) or 0


def changed_since(conn: Connection, evidence_id: int, limit: int = 20_000) -> list[tuple[int, int]]:
    """Evidence id and letter id of what was noted after ``evidence_id``, newest first."""
    rows = conn.execute(
        select(evidence.c.id, evidence.c.letter_id)
        .where(evidence.c.id > evidence_id)
        .order_by(evidence.c.id.desc())
        .limit(limit)
    )
    return [(row.id, row.letter_id) for row in rows]
