"""What follows when a letter answers another one: the act on the first, a person's word on a proposal.

An answer counts once it has passed through to the agency whose letter it answers (DESIGN §7, E7); until then
its link waits, and so it costs the accepting of letters nothing. Where it would have gone cannot be
reached, nothing follows. What an answer finds done already is said on the first letter and changes nothing.
A proposal is judged by somebody of the agency whose letter was cited and who may see the citing one, or by
who sees everything. Called by :mod:`tracker.registry_desk` inside its transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, exists, not_, or_, select, update

from tracker.access import SHOWN_DELIVERIES, Role, Viewer, letter_seen
from tracker.filing import REGISTRY, Bar, Deed, Filed, Filing
from tracker.holds import person_of
from tracker.linking import OPEN, Effect, LinkState
from tracker.model import id_text
from tracker.noting import Note
from tracker.schema import delivery, letter, letter_link
from tracker.states import FINAL_STATES, Event, Grade

MOVED_AT_ONCE = 1000  # letters of a thread that a confirmed link takes along

FileAct = Callable[[Connection, Filing, list[Note]], Filed]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersDue:
    """Ask for what answers do that have passed through; the result is a list of :class:`Filed`.

    ``shapes``: of the incoming numbers that the gateway assigns, by agency.
    """

    at_us: int
    shapes: Mapping[str, str] = field(default_factory=dict)
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkJudgement:
    """A person's word on a proposed link."""

    letter_id: int
    to_id: int
    person: Viewer
    accept: bool
    at_us: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """What became of a proposal. ``letter_id`` is the letter that was cited."""

    letter_id: int
    state: LinkState | None = None
    bar: Bar | None = None


def may_judge(person: Viewer, cited_agency: str | None) -> bool:
    """Whether a person may say what a letter of ``cited_agency`` is answered by."""
    if person.role is Role.VIEWER:
        return False
    return person.sees_all or (person.agency is not None and person.agency == cited_agency)


def any_due(conn: Connection) -> bool:
    """True when an answer has something to do now."""
    return conn.execute(_due(1)).first() is not None


def _due(limit: int) -> Select[Any]:
    """Links of answers that have arrived, or that never will."""
    first, link = letter.alias("first"), letter_link.c
    there = and_(
        delivery.c.letter_id == link.letter_id,
        delivery.c.agency == first.c.agency,
        delivery.c.kind.in_(SHOWN_DELIVERIES),
    )
    passed = exists().where(there, delivery.c.grade >= int(Grade.RELAYED))
    waits = exists().where(there, delivery.c.state.not_in([s.value for s in FINAL_STATES]))
    return (
        select(letter_link, first.c.agency.label("first_agency"), passed.label("passed"))
        .join(first, first.c.id == link.to_id)
        .where(OPEN, link.state == LinkState.ANSWER.value, or_(passed, not_(waits)))
        .order_by(link.letter_id)
        .limit(limit)
    )


class LinkWork:
    """Does it; ``file`` is the registry desk's own act."""

    def __init__(self, file: FileAct) -> None:
        self._file = file

    def answers(self, conn: Connection, asked: AnswersDue, notes: list[Note]) -> list[Filed]:
        """What the answers do that are due now."""
        due = _due(asked.limit)
        if conn.dialect.name != "sqlite":
            due = due.with_for_update(skip_locked=True, of=letter_link)
        out = []
        for row in conn.execute(due).all():
            state = LinkState.DONE if row.passed else LinkState.DROPPED
            _settle(conn, row.letter_id, row.to_id, state, asked.at_us)
            if row.passed:
                out.append(self._answer(conn, asked, row, notes))
        return out

    def _answer(self, conn: Connection, asked: AnswersDue, row: Row[Any], notes: list[Note]) -> Filed:
        le = letter.c
        told = conn.execute(select(le.number, le.author).where(le.id == row.letter_id)).one()
        detail = {"answer": told.number or id_text(row.letter_id), "author": told.author}
        deed = {Effect.CLOSES: Deed.CLOSE, Effect.ADVANCES: Deed.PROGRESS}.get(Effect(row.effect))
        filed = Filed(letter_id=row.to_id, agency=row.agency, bar=Bar.SAME)
        if deed is not None:
            filing = Filing(
                letter_id=row.to_id,
                agency=row.agency,
                deed=deed,
                at_us=asked.at_us,
                person=REGISTRY,
                shape=asked.shapes.get(row.agency),
                detail=detail,
                answer_id=row.letter_id,
            )
            filed = self._file(conn, filing, notes)
        if filed.bar is not None:
            notes += _said(conn, row.to_id, row.agency, detail, asked.at_us)
        return filed

    def judge(self, conn: Connection, j: LinkJudgement, notes: list[Note]) -> Linked:
        """Take or turn down a proposal."""
        link, le = letter_link.c, letter.c
        here = and_(link.letter_id == j.letter_id, link.to_id == j.to_id)
        asked = select(letter_link).where(here)
        row = conn.execute(asked if conn.dialect.name == "sqlite" else asked.with_for_update()).one_or_none()
        seen = {
            one.id: one
            for one in conn.execute(
                select(le.id, le.agency, le.number, le.thread_id, le.author).where(
                    le.id.in_([j.letter_id, j.to_id]), letter_seen(j.person)
                )
            )
        }
        if row is None or len(seen) < 2:
            return Linked(letter_id=j.to_id, bar=Bar.UNKNOWN)
        citing, cited = seen[j.letter_id], seen[j.to_id]
        if not may_judge(j.person, cited.agency):
            return Linked(letter_id=j.to_id, bar=Bar.NOT_YOURS)
        if row.state != LinkState.PROPOSED.value:
            return Linked(letter_id=j.to_id, state=LinkState(row.state), bar=Bar.SAME)
        state = LinkState.CONFIRMED if j.accept else LinkState.DECLINED
        name = j.name or person_of(j.person.account)
        _settle(conn, j.letter_id, j.to_id, state, j.at_us, by=name)
        if j.accept:
            _join(conn, citing, cited)
            notes.append(
                Note(
                    delivery_id=0,
                    letter_id=j.to_id,
                    event=Event.LINKED,
                    at_us=j.at_us,
                    source="person",
                    reporter=person_of(j.person.account),
                    detail={
                        "answer": citing.number or id_text(citing.id),
                        "author": citing.author,
                        "person": name,
                    },
                )
            )
        return Linked(letter_id=j.to_id, state=state)


def _said(conn: Connection, letter_id: int, agency: str, detail: dict[str, Any], at_us: int) -> list[Note]:
    """That an answer came, where it changes nothing."""
    d = delivery.c
    rows = conn.scalars(
        select(d.id)
        .where(d.letter_id == letter_id, d.agency == agency, d.kind.in_(SHOWN_DELIVERIES), d.attempts > 0)
        .order_by(d.bcc, d.id)
        .limit(1)
    )
    return [
        Note(delivery_id=i, event=Event.LINKED, at_us=at_us, source="answer", detail=dict(detail))
        for i in rows
    ]


def _join(conn: Connection, citing: Any, cited: Any) -> None:
    """Put the citing letter and what hangs on it into the thread of the cited one."""
    le = letter.c
    conn.execute(update(letter).where(le.id == citing.id, le.answers.is_(None)).values(answers=cited.id))
    if citing.thread_id == cited.thread_id:
        return
    along = list(conn.scalars(select(le.id).where(le.thread_id == citing.thread_id).limit(MOVED_AT_ONCE)))
    conn.execute(update(letter).where(le.id.in_(along)).values(thread_id=cited.thread_id))


def _settle(conn: Connection, letter_id: int, to_id: int, state: LinkState, at_us: int, by: str = "") -> None:
    link = letter_link.c
    values: dict[str, Any] = {"state": state.value, "at_us": at_us} | ({"by": by} if by else {})
    conn.execute(update(letter_link).where(link.letter_id == letter_id, link.to_id == to_id).values(values))
