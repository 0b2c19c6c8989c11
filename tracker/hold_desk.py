"""Deciding on held letters: approvals, refusals and what happens when nobody decides in time.

Each act is written in one transaction with all that follows from it: the approval, the state of the
hold, the evidence with the person's name and its ledger entry, the delivery's new state and the receipt
that it earns. A kill leaves either all of it or nothing. The last approval that a rule asks for releases;
one refusal refuses, whatever was approved before; whoever approved may still refuse. A refusal says why.

What may not be done is a :class:`Decided` with a bar, not an error, so that one of many stops no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from tracker import holds
from tracker.access import Role, Viewer
from tracker.evidence import EvidenceBook
from tracker.holds import CONSOLE, Act, Bar, Hold, HoldState, person_of
from tracker.model import IdSource
from tracker.noting import Note, NoteDesk
from tracker.object_store import ObjectStore
from tracker.schema import approval, delivery, evidence, hold
from tracker.states import Event, State
from tracker.writer import Desk

NOTE_LIMIT = 1000  # characters of what a person writes beside an act
REFUSED_STATUS = "5.7.1"  # RFC 3463: delivery not authorized, message refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One person's act on one hold."""

    hold_id: int
    person: Viewer
    act: Act
    at_us: int
    expires_us: int  # when the relay gives up what is released
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """Ask for what nobody decided in time; the answer is a list of :class:`Decided`."""

    at_us: int
    expires_us: int
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Where a hold stands after an act. ``bar``: the act was not taken, and why."""

    hold_id: int
    letter_id: int = 0
    delivery_id: int = 0
    recipient: str = ""
    number: str | None = None
    state: HoldState | None = None
    given: int = 0  # persons who approved
    needs: int = 0
    released: bool = False  # on its way now
    bar: Bar | None = None


_TIMER = Viewer(account="", role=Role.ADMIN)


class HoldDesk(Desk):
    """Writes decisions in groups."""

    order = 4

    def __init__(self, archive: ObjectStore, book: EvidenceBook, ids: IdSource) -> None:
        self._notes = NoteDesk(archive, book, ids)  # one of its own: it keeps what to remove of a group
        self._ids = ids

    def inside(self, conn: Connection, payloads: Sequence[Decision | Expiry]) -> list[Any]:
        results: list[Any] = []
        notes: list[Note] = []
        _lock(conn, [p.hold_id for p in payloads if isinstance(p, Decision)])
        for payload in payloads:
            if isinstance(payload, Expiry):
                results.append(self._expire(conn, payload, notes))
            else:
                results.append(self._decide(conn, payload, notes))
        if notes:
            self._notes.inside(conn, notes)
        return results

    def after(self, payloads: Sequence[Any], results: list[Any]) -> None:
        self._notes.after((), [])

    def failed(self) -> None:
        self._notes.failed()

    def _decide(self, conn: Connection, d: Decision, notes: list[Note]) -> Decided:
        one = holds.hold_page(conn, d.person, d.hold_id)
        if one is None:
            return Decided(hold_id=d.hold_id, bar=Bar.UNKNOWN)
        bar = holds.bar_of(one, d.person, d.act)
        if bar is None and not _still_held(conn, one.delivery_id):
            bar = Bar.DECIDED  # by an act on the queue of an earlier version
        note = d.note.strip()[:NOTE_LIMIT]
        if bar is None and d.act is Act.REFUSE and not note:
            bar = Bar.REASON
        if bar is not None:
            return _stands(one, one.state, one.given, bar=bar)
        self._approve(conn, one, d, note)
        given = len({person_of(a.account) for a in one.approvals if a.act is Act.RELEASE})
        given += d.act is Act.RELEASE
        if d.act is Act.REFUSE:
            given = 0
            event, state = Event.REFUSED, HoldState.REFUSED
        elif given >= one.needs:
            event, state = Event.RELEASED, HoldState.RELEASED
        else:
            event, state = Event.APPROVED, HoldState.OPEN
        detail = _about(conn, one, event) | {
            "person": person_of(d.person.account),
            "where": "console" if d.person.account.startswith(CONSOLE) else "dashboard",
            "approvals": given,
            "needs": one.needs,
        }
        if note:
            detail["note"] = note
        if event is Event.RELEASED and one.approvals:
            detail["persons"] = [*(a.account for a in one.approvals), detail["person"]]
        notes.append(_note(one, event, d.at_us, d.expires_us, "person", detail))
        if state is not HoldState.OPEN:
            _close(conn, one.id, state, d.at_us)
        return _stands(one, state, given, released=event is Event.RELEASED)

    def _approve(self, conn: Connection, one: Hold, d: Decision, note: str) -> None:
        person, a = person_of(d.person.account), approval.c
        values = {"act": d.act.value, "at_us": d.at_us, "note": note}
        if any(person_of(known.account) == person for known in one.approvals):  # thought better of it
            conn.execute(update(approval).where(a.hold_id == one.id, a.account == person).values(values))
            return
        row = {"id": self._ids.next(), "hold_id": one.id, "account": person}
        conn.execute(insert(approval).values(row | values))

    def _expire(self, conn: Connection, asked: Expiry, notes: list[Note]) -> list[Decided]:
        h = hold.c
        due = (
            select(h.id)
            .where(h.state == HoldState.OPEN.value, h.expires_us <= asked.at_us)
            .order_by(h.expires_us)
            .limit(asked.limit)
        )
        if conn.dialect.name != "sqlite":
            due = due.with_for_update(skip_locked=True)
        ids = list(conn.scalars(due))
        out = []
        for one in holds.holds_of(conn, _TIMER, h.id.in_(ids)) if ids else ():
            _close(conn, one.id, HoldState.EXPIRED, asked.at_us)
            if not _still_held(conn, one.delivery_id):
                continue
            event = Event.RELEASED if one.at_expiry is Act.RELEASE else Event.REFUSED
            detail = _about(conn, one, event) | {
                "expired": True,
                "approvals": one.given,
                "needs": one.needs,
                "person": "",
            }
            notes.append(_note(one, event, asked.at_us, asked.expires_us, "timer", detail))
            out.append(_stands(one, HoldState.EXPIRED, one.given, released=event is Event.RELEASED))
        return out


def _about(conn: Connection, one: Hold, event: Event) -> dict[str, Any]:
    """What every act on a hold says of it."""
    detail: dict[str, Any] = {"hold": True, "rule": one.rule, "ar": one.reason_ar, "en": one.reason_en}
    if event is Event.REFUSED:
        detail["status"] = REFUSED_STATUS
        e = evidence.c
        asked = select(e.detail).where(
            e.letter_id == one.letter_id, e.delivery_id == one.delivery_id, e.event == Event.HELD.value
        )
        known = conn.scalar(asked.order_by(e.id).limit(1))
        if isinstance(known, dict) and known.get("refusal"):
            detail["reply"] = str(known["refusal"])  # in the rule's own words
    return detail


def _note(one: Hold, event: Event, at_us: int, expires_us: int, source: str, detail: dict[str, Any]) -> Note:
    free = event is Event.RELEASED
    return Note(
        delivery_id=one.delivery_id,
        event=event,
        at_us=at_us,
        source=source,
        reporter=str(detail["person"]),
        detail=detail,
        next_us=at_us if free else None,
        extend_us=expires_us if free else None,  # it waited here: the time of trying begins now
    )


def _stands(
    one: Hold, state: HoldState, given: int, *, released: bool = False, bar: Bar | None = None
) -> Decided:
    return Decided(
        hold_id=one.id,
        letter_id=one.letter_id,
        delivery_id=one.delivery_id,
        recipient=one.recipient,
        number=one.number,
        state=state,
        given=given,
        needs=one.needs,
        released=released,
        bar=bar,
    )


def _lock(conn: Connection, ids: Sequence[int]) -> None:
    """PostgreSQL: two nodes decide one after the other. SQLite has one writer."""
    if not ids or conn.dialect.name == "sqlite":
        return
    kept = select(hold.c.delivery_id).where(hold.c.id.in_(list(ids)))
    d = delivery.c
    conn.execute(select(d.id).where(d.id.in_(kept)).order_by(d.id).with_for_update())
    conn.execute(select(hold.c.id).where(hold.c.id.in_(list(ids))).order_by(hold.c.id).with_for_update())


def _still_held(conn: Connection, delivery_id: int) -> bool:
    state = conn.scalar(select(delivery.c.state).where(delivery.c.id == delivery_id))
    return state == State.HELD.value


def _close(conn: Connection, hold_id: int, state: HoldState, at_us: int) -> None:
    conn.execute(update(hold).where(hold.c.id == hold_id).values(state=state.value, decided_us=at_us))
