"""The letters of one matter in order, over agencies, and links that a person must judge; for one viewer.

Each letter of a thread is shown to those who may see it and to nobody else: whoever stands at two ends of a
chain does not learn of what lies between. A proposed link is shown to who may see both letters; who may say
what it is, is told by :func:`tracker.link_work.may_judge`. Two or three indexed queries; nothing here fails
but the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, or_, select

from tracker.access import SHOWN_DELIVERIES, Viewer, letter_seen, row_by_name
from tracker.link_work import may_judge
from tracker.linking import OPEN, LinkState
from tracker.schema import delivery, letter, letter_link

MOST = 60  # letters of a thread that are shown, around the one that is looked at
MOST_PROPOSALS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLetter:
    """One letter of the matter. ``answers`` are those of the chain that it answers or follows."""

    id: int
    number: str | None
    subject: str
    agency: str | None
    to: tuple[str, ...]  # codes of agencies that the viewer may know of
    accepted_us: int
    answers: tuple[int, ...]
    follows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A letter that names another one without having had it."""

    letter_id: int
    number: str | None
    subject: str
    agency: str | None
    accepted_us: int
    to_id: int
    to_number: str | None
    to_subject: str
    to_agency: str | None
    how: str  # subject, text, header
    may_judge: bool


def chain(conn: Connection, viewer: Viewer, letter_id: int) -> tuple[ChainLetter, ...]:
    """The letters of the same matter that the viewer may see, the oldest first; empty for a single one."""
    le = letter.c
    thread = conn.scalar(select(le.thread_id).where(le.id == letter_id, letter_seen(viewer)))
    if thread is None:
        return ()
    of_thread = select(letter).where(le.thread_id == thread, letter_seen(viewer))
    earlier = conn.execute(of_thread.where(le.id <= letter_id).order_by(le.id.desc()).limit(MOST)).all()
    later = conn.execute(of_thread.where(le.id > letter_id).order_by(le.id).limit(MOST)).all()
    rows = [*reversed(earlier), *later]
    if len(rows) < 2:
        return ()
    ids = [row.id for row in rows]
    links = _links(conn, ids)
    to = _agencies(conn, viewer, ids)
    return tuple(
        ChainLetter(
            id=row.id,
            number=row.number,
            subject=row.subject,
            agency=row.agency,
            to=tuple(to.get(row.id, ())),
            accepted_us=row.accepted_us,
            answers=tuple(other for other, answers in links.get(row.id, ()) if answers),
            follows=tuple(other for other, answers in links.get(row.id, ()) if not answers),
        )
        for row in rows
    )


def _links(conn: Connection, ids: Sequence[int]) -> dict[int, list[tuple[int, bool]]]:
    k = letter_link.c
    out: dict[int, list[tuple[int, bool]]] = {}
    rows = conn.execute(
        select(k.letter_id, k.to_id, k.state)
        .where(k.letter_id.in_(ids), k.to_id.in_(ids))
        .order_by(k.letter_id, k.to_id)
    )
    for row in rows:
        state = LinkState(row.state)
        if state.holds:
            out.setdefault(row.letter_id, []).append((row.to_id, state is not LinkState.FOLLOWS))
    return out


def _agencies(conn: Connection, viewer: Viewer, ids: Sequence[int]) -> dict[int, list[str]]:
    d = delivery.c
    out: dict[int, list[str]] = {}
    rows = conn.execute(
        select(d.letter_id, d.agency)
        .join(letter, letter.c.id == d.letter_id)
        .where(d.letter_id.in_(ids), d.kind.in_(SHOWN_DELIVERIES), d.agency.is_not(None), row_by_name(viewer))
        .order_by(d.id)
    )
    for row in rows:
        known = out.setdefault(row.letter_id, [])
        if row.agency not in known:
            known.append(row.agency)
    return out


def proposals_of(conn: Connection, viewer: Viewer, letter_id: int) -> tuple[Proposal, ...]:
    """Open proposals that name this letter, or that it makes."""
    k = letter_link.c
    return _proposals(conn, viewer, or_(k.letter_id == letter_id, k.to_id == letter_id))


def proposals(conn: Connection, viewer: Viewer) -> tuple[Proposal, ...]:
    """Open proposals that the viewer may judge, the oldest first; at most 100."""
    return tuple(one for one in _proposals(conn, viewer, None) if one.may_judge)


def _proposals(conn: Connection, viewer: Viewer, condition: Any) -> tuple[Proposal, ...]:
    k, cited = letter_link.c, letter.alias("cited")
    asked = (
        select(
            k.letter_id, k.to_id, k.how, letter.c.number, letter.c.subject, letter.c.agency,
            letter.c.accepted_us, cited.c.agency.label("to_agency"),
        )
        .join(letter, letter.c.id == k.letter_id)
        .join(cited, cited.c.id == k.to_id)
        .where(OPEN, k.state == LinkState.PROPOSED.value, letter_seen(viewer))
    )  # fmt: skip
    if condition is not None:
        asked = asked.where(condition)
    elif not viewer.sees_all:
        asked = asked.where(cited.c.agency == viewer.agency)
    rows = conn.execute(asked.order_by(k.letter_id).limit(MOST_PROPOSALS)).all()
    # The cited letter must be for these eyes too: its number alone tells nothing of it.
    le = letter.c
    seen = {
        row.id: row
        for row in conn.execute(
            select(le.id, le.number, le.subject).where(
                le.id.in_([row.to_id for row in rows]), letter_seen(viewer)
            )
        )
    }
    return tuple(
        Proposal(
            letter_id=row.letter_id,
            number=row.number,
            subject=row.subject,
            agency=row.agency,
            accepted_us=row.accepted_us,
            to_id=row.to_id,
            to_number=seen[row.to_id].number,
            to_subject=seen[row.to_id].subject,
            to_agency=row.to_agency,
            how=row.how,
            may_judge=may_judge(viewer, row.to_agency),
        )
        for row in rows
        if row.to_id in seen
    )
