"""Writing what a registry does with the letters of its agency: each act in one transaction, whole or not.

An act is one row of the incoming register brought up to date, with its number where one is due, the evidence
on every recipient of the letter at that agency with the person's name, the ledger entries of that, and one
receipt for the author. A number that the gateway assigns is taken in the same transaction, so none is given
twice or left out. A letter is registered before anything else is done with it, where numbers are assigned or
it is referred; a return alone needs none.

What may not be done is a :class:`tracker.filing.Filed` with a bar, not an error, so that one of many stops no
other. What a watched mailbox of the registry shows is never barred: it is evidence of what happened there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from tracker.access import SHOWN_DELIVERIES, reached
from tracker.evidence import EvidenceBook
from tracker.filing import (
    MAX_SEQ,
    MAX_TARGET,
    MAX_TEXT,
    STAGE_OF,
    Bar,
    Deed,
    Filed,
    Filing,
    IncomingNumber,
    Purpose,
    Stage,
    may_file,
    own_number,
    plain,
)
from tracker.holds import person_of
from tracker.link_work import AnswersDue, LinkJudgement, LinkWork
from tracker.model import IdSource
from tracker.noting import Note, NoteDesk
from tracker.object_store import ObjectStore
from tracker.registers import IN, Registers
from tracker.schema import delivery, incoming, letter, referral
from tracker.states import Event
from tracker.writer import Desk


@dataclass(slots=True)
class _Case:
    """A letter at one agency while an act is done on it."""

    rows: list[Any]  # its recipients there, the one that earns the receipt first
    entry: Row[Any] | None  # its row in the register
    number: IncomingNumber | None = None  # given now
    events: tuple[Event, ...] = ()

    @property
    def stage(self) -> Stage | None:
        return Stage(self.entry.stage) if self.entry is not None else None

    @property
    def incoming(self) -> str | None:
        if self.number is not None:
            return self.number.text
        return self.entry.number if self.entry is not None else None


class RegistryDesk(Desk):
    """Writes acts in groups; answers that have passed through are such acts too."""

    order = 5

    def __init__(self, archive: ObjectStore, book: EvidenceBook, ids: IdSource, registers: Registers) -> None:
        self._notes = NoteDesk(archive, book, ids)  # one of its own: it keeps what to remove of a group
        self._ids = ids
        self._registers = registers
        self._links = LinkWork(self.file)

    def inside(self, conn: Connection, payloads: Sequence[Filing | AnswersDue | LinkJudgement]) -> list[Any]:
        results: list[Any] = []
        notes: list[Note] = []
        self._lock(conn, [p for p in payloads if isinstance(p, Filing)])
        for payload in payloads:
            if isinstance(payload, Filing):
                results.append(self.file(conn, payload, notes))
            elif isinstance(payload, AnswersDue):
                results.append(self._links.answers(conn, payload, notes))
            else:
                results.append(self._links.judge(conn, payload, notes))
        if notes:
            self._notes.inside(conn, notes)
        return results

    def after(self, payloads: Sequence[Any], results: list[Any]) -> None:
        self._notes.after((), [])

    def failed(self) -> None:
        self._notes.failed()

    def _lock(self, conn: Connection, filings: Sequence[Filing]) -> None:
        """PostgreSQL: two nodes act one after the other on a letter and in a register, locks in sorted order.
        SQLite has one writer."""
        if not filings or conn.dialect.name == "sqlite":
            return
        d = delivery.c
        ids = sorted({f.letter_id for f in filings})
        conn.execute(select(d.id).where(d.letter_id.in_(ids)).order_by(d.id).with_for_update())
        self._registers.lock(conn, sorted({(f.agency, self._registers.year(f.at_us)) for f in filings}), IN)

    def file(self, conn: Connection, f: Filing, notes: list[Note]) -> Filed:
        """Do one act; what it gives to note is added to ``notes``."""
        if not f.letter_id and f.observed is not None:
            asked = select(delivery.c.letter_id).where(delivery.c.id == f.observed.delivery_id)
            f = replace(f, letter_id=conn.scalar(asked) or 0)
        rows = _recipients(conn, f)
        entry = conn.execute(_entry(f.letter_id, f.agency)).one_or_none()
        number = conn.scalar(select(letter.c.number).where(letter.c.id == f.letter_id)) if rows else None
        case = _Case(rows=rows, entry=entry)
        bar = Bar.UNKNOWN if not rows else self._bar(conn, f, case)
        if bar is not None:
            known = case.entry if bar is not Bar.UNKNOWN and bar is not Bar.NOT_YOURS else None
            return Filed(
                letter_id=f.letter_id,
                agency=f.agency,
                letter=number if bar is not Bar.UNKNOWN else None,
                incoming=known.number if known is not None else None,
                stage=Stage(known.stage) if known is not None else None,
                bar=bar,
            )
        self._number(conn, f, case)
        stage = self._write(conn, f, case)
        case.events = self._note(f, case, notes)
        return Filed(
            letter_id=f.letter_id,
            agency=f.agency,
            letter=number,
            incoming=case.incoming,
            stage=stage,
            events=case.events,
        )

    def _bar(self, conn: Connection, f: Filing, case: _Case) -> Bar | None:
        if f.observed is not None:
            return None
        if f.answer_id is None and not may_file(f.person, f.agency):
            return Bar.NOT_YOURS
        stage = case.stage
        if f.deed is Deed.REGISTER:
            return self._bar_of_number(conn, f, case)
        if f.deed is Deed.REFER and not plain(f.to, MAX_TARGET):
            return Bar.TARGET
        if f.deed is Deed.RETURN and not plain(f.text, MAX_TEXT):
            return Bar.REASON
        if stage is STAGE_OF[f.deed] and f.deed is not Deed.REFER:
            return Bar.SAME
        if stage is not None and stage.ended and f.deed is not Deed.PROGRESS:
            return Bar.ENDED
        return None

    def _bar_of_number(self, conn: Connection, f: Filing, case: _Case) -> Bar | None:
        if case.entry is not None and case.entry.number is not None:
            return Bar.REGISTERED
        if f.shape is not None:
            return Bar.ASSIGNED if f.number.strip() else None
        number = own_number(f.number, self._registers.year(f.at_us))
        if number is None:
            return Bar.NUMBER
        i = incoming.c
        same = select(i.id).where(i.agency == f.agency, i.year == number.year, i.number_key == number.key)
        return Bar.TAKEN if conn.scalar(same) is not None else None

    def _number(self, conn: Connection, f: Filing, case: _Case) -> None:
        """Give the letter its incoming number, where one is due."""
        if case.entry is not None and case.entry.number is not None:
            return
        year = self._registers.year(f.at_us)
        if f.shape is None:
            if f.deed is Deed.REGISTER and f.number:
                case.number = own_number(f.number, year)
            return
        if f.deed is Deed.RETURN:
            return
        i = incoming.c
        # An agency may have kept numbers of its own before: those are not given again.
        highest = conn.scalar(
            select(func.max(i.seq)).where(i.agency == f.agency, i.year == year, i.seq <= MAX_SEQ)
        )
        seq = self._registers.take_above(conn, f.agency, year, highest or 0, IN)
        shown = f.shape.format(agency=f.agency, year=year, seq=seq)
        case.number = IncomingNumber(text=shown, key=str(seq), year=year, seq=seq)

    def _write(self, conn: Connection, f: Filing, case: _Case) -> Stage:
        """The row of the register as it is after the act, and the referral."""
        before, person = case.stage, f.name or person_of(f.person.account)
        stage = STAGE_OF[f.deed]
        if f.deed is Deed.REGISTER and before is not None:
            stage = before  # a number that came later changes no more
        if f.deed is Deed.REFER and f.purpose is Purpose.INFORMATION:
            stage = before or Stage.REGISTERED
        values: dict[str, Any] = {"stage": stage.value, "by": person, "changed_us": f.at_us}
        if case.number is not None:
            n = case.number
            values |= {"number": n.text, "number_key": n.key, "year": n.year, "seq": n.seq}
        taken_in = case.entry is None or case.entry.registered_us is None
        if taken_in and (case.number is not None or f.deed in (Deed.REGISTER, Deed.REFER)):
            values |= {"registered_us": f.at_us, "registered_by": person}
        if f.deed is Deed.REFER and f.purpose is Purpose.ACTION:
            values["referred_to"] = plain(f.to, MAX_TARGET)
        if f.deed in (Deed.RETURN, Deed.CLOSE, Deed.PROGRESS):
            values["note"] = plain(f.text, MAX_TEXT)
        if f.answer_id is not None:
            values["answer_id"] = f.answer_id
        i = incoming.c
        if case.entry is not None:
            entry_id = case.entry.id
            conn.execute(update(incoming).where(i.id == entry_id).values(values))
        else:
            entry_id = self._ids.next()
            row = {"id": entry_id, "agency": f.agency, "letter_id": f.letter_id}
            conn.execute(insert(incoming).values(row | values))
        if f.deed is Deed.REFER:
            conn.execute(
                insert(referral).values(
                    id=self._ids.next(),
                    incoming_id=entry_id,
                    at_us=f.at_us,
                    by=person,
                    to=plain(f.to, MAX_TARGET),
                    purpose=f.purpose.value,
                    remark=plain(f.remark, MAX_TEXT),
                )
            )
        return stage

    def _note(self, f: Filing, case: _Case, notes: list[Note]) -> tuple[Event, ...]:
        """The evidence of the act on each recipient there; the first one earns the author his receipt."""
        first = case.entry is None or case.entry.registered_us is None
        implied = first and f.deed is not Deed.REGISTER
        implied = implied and (case.number is not None or f.deed is Deed.REFER)
        events = (Event.REGISTERED, f.deed.event) if implied else (f.deed.event,)
        for event in events:
            sample = self._sample(f, case, event)
            for number, row in enumerate(case.rows):
                notes.append(replace(sample, delivery_id=row.id, quiet=sample.quiet or number > 0))
        return events

    def _sample(self, f: Filing, case: _Case, event: Event) -> Note:
        # Who is told that it is closed is told its incoming number with that.
        quiet = event is not f.deed.event and f.deed is Deed.CLOSE
        detail: dict[str, Any] = {}
        if case.incoming is not None:
            detail["incoming_number"] = case.incoming
        if f.observed is not None:
            return replace(f.observed, event=event, detail=f.observed.detail | detail, quiet=quiet)
        if f.answer_id is None:
            detail |= {"person": f.name or person_of(f.person.account), "where": f.where}
        if event is Event.REGISTERED and case.number is not None:
            detail["assigned"] = f.shape is not None
        if event is Event.REFERRED:
            detail |= {"to": plain(f.to, MAX_TARGET), "purpose": f.purpose.value}
        if f.text and event is f.deed.event:
            detail["text"] = plain(f.text, MAX_TEXT)
        detail |= f.detail
        return Note(
            delivery_id=0,
            event=event,
            at_us=f.at_us,
            source="answer" if f.answer_id is not None else "person",
            reporter=person_of(f.person.account),
            detail=detail,
            quiet=quiet,
        )


def _recipients(conn: Connection, f: Filing) -> list[Any]:
    """The recipients of the letter at that agency to whom it was handed over at least once."""
    d = delivery.c
    rows = list(
        conn.execute(
            select(d.id, d.bcc)
            .where(
                d.letter_id == f.letter_id,
                d.agency == f.agency,
                d.kind.in_(SHOWN_DELIVERIES),
                d.attempts > 0,
                reached(),
            )
            .order_by(d.bcc, d.id)
        )
    )
    if f.observed is not None:
        seen = f.observed.delivery_id
        rows.sort(key=lambda row: row.id != seen)
    return rows


def _entry(letter_id: int, agency: str) -> Any:
    i = incoming.c
    return select(incoming).where(i.letter_id == letter_id, i.agency == agency)
