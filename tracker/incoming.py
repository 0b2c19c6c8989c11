"""The incoming register of an agency (سجل الوارد): what waits, what is under way, one entry, its gaps.

Reading only; :mod:`tracker.registry_desk` writes. Each page takes a handful of indexed queries, oldest first,
with a cursor. What an agency's people may know of a letter is said by :mod:`tracker.access`; whose act is
taken by :func:`tracker.filing.may_file`. Remarks beside a referral are read by that agency alone and by those
who see everything: the sender's side learns the number, how far it is and to whom it was referred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Row, and_, func, literal_column, select

from tracker.access import SHOWN_DELIVERIES, Viewer, letter_seen, reached, row_with_evidence
from tracker.filing import Bar, Deed, Purpose, Stage, may_file, own_number
from tracker.holds import COUNT_LIMIT
from tracker.model import now_us
from tracker.schema import delivery, evidence, incoming, letter, referral
from tracker.search import fold

PAGE = 50
MOST_GAPS = 200

# As in the index ``ix_delivery_untaken``, word for word: a bound value would not be led by it.
_UNTAKEN = "delivery.state = 'sent' AND delivery.grade < 6 AND delivery.outcome = 'open'"
_SHOWN = "delivery.kind IN ('letter', 'shadow')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Referral:
    """One referral inside an agency. ``remark`` is for that agency's own eyes."""

    at_us: int
    by: str
    to: str
    purpose: Purpose
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A letter at one agency that received it. ``stage`` None: nobody there has taken it in."""

    letter_id: int
    agency: str
    letter: str | None  # its outgoing number
    subject: str
    sender: str | None  # code of the agency that wrote it
    author: str
    author_name: str
    classification: str
    urgency: str
    due_us: int | None
    accepted_us: int
    recipients: tuple[str, ...]
    id: int | None = None
    stage: Stage | None = None
    number: str | None = None
    registered_us: int | None = None
    registered_by: str = ""
    referred_to: str = ""
    note: str = ""
    by: str = ""
    changed_us: int | None = None
    answer: str | None = None  # number of the letter that answers it
    answer_id: int | None = None
    referrals: tuple[Referral, ...] = ()
    may_act: bool = False

    def bar(self, deed: Deed) -> Bar | None:
        """Why the viewer is not offered an act; None: he is. The registry desk has the last word."""
        if not self.may_act:
            return Bar.NOT_YOURS
        if deed is Deed.REGISTER:
            return Bar.REGISTERED if self.number is not None else None
        if self.stage is not None and self.stage.ended:
            return None if deed is Deed.PROGRESS else Bar.ENDED
        if deed is Deed.PROGRESS and self.stage is Stage.IN_PROGRESS:
            return Bar.SAME
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryList:
    """One page; ``next`` is the cursor of the next page."""

    entries: tuple[Entry, ...]
    next: int | None


def waiting(
    conn: Connection, viewer: Viewer, agency: str, *, after: int | None = None, limit: int = PAGE
) -> EntryList:
    """What lies at the agency and nobody there has taken in, the oldest first."""
    if not _may_look(viewer, agency):
        return EntryList(entries=(), next=None)
    asked = _untaken(agency)
    if after is not None:
        asked = asked.where(delivery.c.letter_id > after)
    ids = list(conn.scalars(asked.order_by(delivery.c.letter_id).limit(limit + 1)))
    onward = ids[limit - 1] if len(ids) > limit else None
    return EntryList(entries=_entries(conn, viewer, agency, ids[:limit]), next=onward)


def count_waiting(conn: Connection, viewer: Viewer) -> int:
    """How many letters nobody has taken in at the viewer's own agency; stops at ``COUNT_LIMIT``."""
    if viewer.agency is None:
        return 0
    asked = _untaken(viewer.agency).limit(COUNT_LIMIT).subquery()
    return conn.scalar(select(func.count()).select_from(asked)) or 0


def taken(
    conn: Connection,
    viewer: Viewer,
    agency: str,
    *,
    stages: Sequence[Stage],
    before: int | None = None,
    limit: int = PAGE,
) -> EntryList:
    """The agency's entries in these stages, the newest entry first."""
    if not _may_look(viewer, agency):
        return EntryList(entries=(), next=None)
    i = incoming.c
    asked = select(i.id, i.letter_id).where(i.agency == agency, i.stage.in_([s.value for s in stages]))
    if before is not None:
        asked = asked.where(i.id < before)
    rows = conn.execute(asked.order_by(i.id.desc()).limit(limit + 1)).all()
    onward = rows[limit - 1].id if len(rows) > limit else None
    return EntryList(
        entries=_entries(conn, viewer, agency, [row.letter_id for row in rows[:limit]]), next=onward
    )


def found(conn: Connection, viewer: Viewer, agency: str, text: str, year: int) -> tuple[Entry, ...]:
    """The agency's letters of that incoming or outgoing number; at most 50."""
    if not _may_look(viewer, agency) or not text.strip():
        return ()
    i = incoming.c
    ids: list[int] = []
    number = own_number(text, year)
    if number is not None:
        asked = select(i.letter_id).where(i.agency == agency, i.number_key == number.key)
        named = str(number.year) in fold(text)
        asked = asked.where(i.year == number.year) if named else asked.order_by(i.year.desc())
        ids += conn.scalars(asked.limit(PAGE))
    plain = fold(text).upper().replace(" ", "")
    d = delivery.c
    ids += conn.scalars(
        select(letter.c.id)
        .join(delivery, d.letter_id == letter.c.id)
        .where(letter.c.number == plain, d.agency == agency)
        .limit(1)
    )
    return _entries(conn, viewer, agency, list(dict.fromkeys(ids)))


def entry(conn: Connection, viewer: Viewer, letter_id: int, agency: str) -> Entry | None:
    """A letter at one agency, if it reached for it and the viewer may see that."""
    made = _entries(conn, viewer, agency, [letter_id])
    return made[0] if made else None


def entries(conn: Connection, viewer: Viewer, ids: Sequence[int], agency: str) -> tuple[Entry, ...]:
    """Letters at one agency that the viewer may know of, in their order; at most 500."""
    return _entries(conn, viewer, agency, ids[:500])


def of_letter(conn: Connection, viewer: Viewer, letter_id: int) -> tuple[Entry, ...]:
    """The letter at each agency where somebody did something with it, and at the viewer's own."""
    d = delivery.c
    agencies = list(
        conn.scalars(
            select(d.agency)
            .join(letter, letter.c.id == d.letter_id)
            .where(d.letter_id == letter_id, d.agency.is_not(None), row_with_evidence(viewer))
            .distinct()
            .order_by(d.agency)
        )
    )
    entries = [one for code in agencies if code for one in _entries(conn, viewer, code, [letter_id])]
    return tuple(one for one in entries if one.stage is not None or one.agency == viewer.agency)


def agencies_reached(conn: Connection, letter_id: int) -> list[str]:
    """The agencies that a letter reached for, in the order of their codes; for who sees everything."""
    d = delivery.c
    asked = select(d.agency).where(
        d.letter_id == letter_id, d.agency.is_not(None), d.kind.in_(SHOWN_DELIVERIES), reached()
    )
    return sorted({code for code in conn.scalars(asked) if code})


def first_delivery(conn: Connection, letter_id: int, agency: str) -> int | None:
    """The first copy of a letter that was handed to the agency; for who sees everything."""
    d = delivery.c
    asked = select(d.id).where(
        d.letter_id == letter_id, d.agency == agency, d.kind.in_(SHOWN_DELIVERIES), d.attempts > 0
    )
    return conn.scalar(asked.order_by(d.bcc, d.id).limit(1))


def acted_by(conn: Connection, letter_id: int, report: str) -> bool:
    """True when an act on the letter stands in the record that came by this very mail."""
    e = evidence.c
    rows = conn.scalars(select(e.detail).where(e.letter_id == letter_id, e.source == "person"))
    return any(isinstance(detail, dict) and detail.get("report") == report for detail in rows)


def thread_of(conn: Connection, letter_id: int) -> str | None:
    """The Message-ID of a letter."""
    return conn.scalar(select(letter.c.message_id).where(letter.c.id == letter_id))


def gaps(conn: Connection, viewer: Viewer, agency: str, year: int) -> tuple[tuple[int, int], ...]:
    """Numbers of the year that no letter has, as first and last of each gap; the first 200 gaps."""
    if not _may_look(viewer, agency):
        return ()
    i = incoming.c
    ordered = (
        select(i.seq, func.lag(i.seq, 1, 0).over(order_by=i.seq).label("before"))
        .where(i.agency == agency, i.year == year, i.seq.is_not(None))
        .subquery()
    )
    rows = conn.execute(
        select(ordered.c.before, ordered.c.seq)
        .where(ordered.c.seq > ordered.c.before + 1)
        .order_by(ordered.c.seq)
        .limit(MOST_GAPS)
    )
    return tuple((row.before + 1, row.seq - 1) for row in rows)


def year_of(zone: ZoneInfo, at_us: int | None = None) -> int:
    """The register year of a moment."""
    return datetime.fromtimestamp((at_us or now_us()) / 1_000_000, zone).year


def _may_look(viewer: Viewer, agency: str) -> bool:
    return viewer.sees_all or viewer.agency == agency


def _untaken(agency: str) -> Any:
    d, i = delivery.c, incoming.c
    entered = select(i.id).where(i.agency == agency, i.letter_id == d.letter_id).exists()
    return (
        select(d.letter_id)
        .where(d.agency == agency, literal_column(_UNTAKEN), literal_column(_SHOWN), ~entered)
        .distinct()
    )


def _seen(viewer: Viewer, agency: str) -> ColumnElement[bool]:
    """Rows of the letter at that agency that the viewer may know of with their evidence."""
    d = delivery.c
    return and_(d.agency == agency, d.kind.in_(SHOWN_DELIVERIES), row_with_evidence(viewer))


def _entries(conn: Connection, viewer: Viewer, agency: str, ids: Sequence[int]) -> tuple[Entry, ...]:
    """The letters of these ids at the agency, in their order."""
    if not ids:
        return ()
    d, i = delivery.c, incoming.c
    names: dict[int, list[str]] = {}
    rows = conn.execute(
        select(d.letter_id, d.recipient)
        .join(letter, letter.c.id == d.letter_id)
        .where(d.letter_id.in_(ids), _seen(viewer, agency), letter_seen(viewer))
        .order_by(d.letter_id, d.id)
    )
    for row in rows:
        names.setdefault(row.letter_id, []).append(row.recipient)
    letters = {row.id: row for row in conn.execute(select(letter).where(letter.c.id.in_(list(names))))}
    known = {
        row.letter_id: row
        for row in conn.execute(select(incoming).where(i.agency == agency, i.letter_id.in_(list(names))))
    }
    within = viewer.sees_all or viewer.agency == agency
    referrals = _referrals(conn, [row.id for row in known.values()]) if within else {}
    answers = _answers(conn, viewer, [row.answer_id for row in known.values() if row.answer_id])
    acts = may_file(viewer, agency)
    return tuple(
        _entry(letters[n], agency, known.get(n), tuple(names[n]), referrals, answers, acts)
        for n in ids
        if n in letters
    )


def _entry(
    head: Row[Any],
    agency: str,
    row: Row[Any] | None,
    recipients: tuple[str, ...],
    referrals: dict[int, list[Referral]],
    answers: dict[int, str],
    may_act: bool,
) -> Entry:
    known: dict[str, Any] = {}
    if row is not None:
        known = {
            "id": row.id,
            "stage": Stage(row.stage),
            "number": row.number,
            "registered_us": row.registered_us,
            "registered_by": row.registered_by,
            "referred_to": row.referred_to,
            "note": row.note,
            "by": row.by,
            "changed_us": row.changed_us,
            "answer": answers.get(row.answer_id),
            "answer_id": row.answer_id if row.answer_id in answers else None,
            "referrals": tuple(referrals.get(row.id, ())),
        }
    return Entry(
        letter_id=head.id,
        agency=agency,
        letter=head.number,
        subject=head.subject,
        sender=head.agency,
        author=head.author,
        author_name=head.author_name,
        classification=head.classification,
        urgency=head.urgency,
        due_us=head.due_us,
        accepted_us=head.accepted_us,
        recipients=recipients,
        may_act=may_act,
        **known,
    )


def _referrals(conn: Connection, ids: Sequence[int]) -> dict[int, list[Referral]]:
    out: dict[int, list[Referral]] = {}
    if not ids:
        return out
    r = referral.c
    for row in conn.execute(select(referral).where(r.incoming_id.in_(list(ids))).order_by(r.id)):
        out.setdefault(row.incoming_id, []).append(
            Referral(at_us=row.at_us, by=row.by, to=row.to, purpose=Purpose(row.purpose), remark=row.remark)
        )
    return out


def _answers(conn: Connection, viewer: Viewer, ids: Sequence[int]) -> dict[int, str]:
    """The numbers of answers that the viewer may see."""
    if not ids:
        return {}
    le = letter.c
    rows = conn.execute(select(le.id, le.number).where(le.id.in_(list(ids)), letter_seen(viewer)))
    return {row.id: row.number or "" for row in rows}
