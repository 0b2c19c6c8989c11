"""Which delivery a report speaks of, and what it proves (EVIDENCE, "Reading what comes back").

The report came to an address that only this gateway could have made, so the letter (and for a
single recipient the delivery) is known before a word of it is read. What it says is then a claim of
the server it came from: it counts if that server is the receiving agency's own and the delivery had
been sent, or may have been by an attempt in doubt, which is settled by it; anything else is a
:class:`Stray` for a person to look at. ``relayed`` and ``expanded`` are not ``delivered``; only
``displayed`` counts as read, and a read receipt must come from its reader's own agency in the From
field too. A receipt that tells what the record has already says nothing new (:func:`news`), however its
octets differ from the first one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, select

from tracker import schema
from tracker.dsn import Report
from tracker.mdn import TYPES, Disposition
from tracker.model import Address, AddressError
from tracker.noting import Note
from tracker.states import Event, State

_EVENTS = {
    "delivered": Event.DELIVERED,
    "relayed": Event.RELAYED,
    "expanded": Event.RELAYED,
    "delayed": Event.LATE,
    "failed": Event.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A delivery that a report may speak of."""

    delivery_id: int
    letter_id: int
    recipient: str
    recipient_key: str
    agency: str | None
    hop: str
    state: State
    sender: str  # reverse-path of the author's transaction
    sender_agency: str | None
    number: str | None
    in_doubt: bool = False  # how an earlier attempt ended is not known: it may have delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a report came in, and who says that he wrote it."""

    agencies: tuple[str, ...]  # codes of the agencies whose server handed it in: several may share one
    peer: str
    at_us: int
    sha256: str
    author: str = ""  # the one address in From; empty when there is none, or more than one
    author_agency: str | None = None  # code of the agency under whose domains that address is
    account: str | None = None  # who signed in, on submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A report, or a part of one, that proves nothing by itself."""

    reason: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the record has of one report already: part of it, if its noting was broken off."""

    events: frozenset[tuple[int, str]] = frozenset()  # delivery and event
    unclear: bool = False  # what it does not prove is on the worklist


def by_delivery(conn: Connection, delivery_id: int) -> list[Sent]:
    """The one delivery of a return address."""
    return _sent(conn, schema.delivery.c.id == delivery_id)


def by_letter(conn: Connection, letter_id: int) -> list[Sent]:
    """All deliveries of a letter; the caller keeps those of the hop."""
    return _sent(conn, schema.delivery.c.letter_id == letter_id)


def recipients(conn: Connection, number: int, is_delivery: bool) -> frozenset[str]:
    """The keys of everybody whom a letter went to, by its id or by that of one of its deliveries."""
    d = schema.delivery.c
    letter = select(d.letter_id).where(d.id == number).scalar_subquery() if is_delivery else number
    return frozenset(conn.scalars(select(d.recipient_key).where(d.letter_id == letter)))


def _sent(conn: Connection, condition: Any) -> list[Sent]:
    d, s, le, a = schema.delivery.c, schema.submission.c, schema.letter.c, schema.attempt.c
    doubt = exists().where(a.delivery_id == d.id, a.result == Event.IN_DOUBT.value)
    rows = conn.execute(
        select(
            d.id, d.letter_id, d.recipient, d.recipient_key, d.agency, d.hop, d.state, s.sender,
            le.agency.label("sender_agency"), le.number, doubt.label("in_doubt"),
        )
        .join(schema.submission, s.id == d.submission_id)
        .join(schema.letter, le.id == d.letter_id)
        .where(condition)
        .order_by(d.id)
    )  # fmt: skip
    return [
        Sent(
            delivery_id=r.id,
            letter_id=r.letter_id,
            recipient=r.recipient,
            recipient_key=r.recipient_key,
            agency=r.agency,
            hop=r.hop,
            state=State(r.state),
            sender=r.sender,
            sender_agency=r.sender_agency,
            number=r.number,
            in_doubt=bool(r.in_doubt),
        )
        for r in rows
    ]


def already_noted(conn: Connection, letters: Sequence[int], report: str) -> Told:
    """What stands of this very report in the record of these letters, and on the worklist."""
    e, w = schema.evidence.c, schema.worklist.c
    told = select(e.delivery_id, e.event, e.detail).where(
        e.letter_id.in_(letters), e.source.in_(("dsn", "mdn", "auto-reply"))
    )
    unclear = select(w.detail).where(w.letter_id.in_(letters))
    return Told(
        events=frozenset(
            (row.delivery_id or 0, row.event) for row in conn.execute(told) if _is_of(row.detail, report)
        ),
        unclear=any(_is_of(detail, report) for detail in conn.scalars(unclear)),
    )


def _is_of(detail: Any, report: str) -> bool:
    return isinstance(detail, dict) and detail.get("report") == report


def from_reports(
    sent: Sequence[Sent], reports: Sequence[Report], origin: Origin, bounce: bool = False
) -> tuple[list[Note], list[Stray]]:
    """What the parts of a delivery status notification, or of a bounce that is none, prove."""
    notes: list[Note] = []
    strays: list[Stray] = []
    for report in reports:
        detail = _detail(origin) | {
            "action": report.action,
            "status": report.status,
            "diagnostic": report.diagnostic_code,
            "reporting_mta": report.reporting_mta,
            "remote_mta": report.remote_mta,
            "final_recipient": report.final_recipient,
        }
        if bounce:
            detail["machine_readable"] = False
        event = _EVENTS.get(report.action or "")
        which = _which(sent, (report.original_recipient, report.final_recipient))
        if event is None:
            strays.append(Stray(reason="no action that is known", detail=detail))
        elif which is None:
            strays.append(Stray(reason="names no recipient of this letter", detail=detail))
        elif (why := _doubt(which, origin)) is not None:
            strays.append(Stray(reason=why, detail=detail))
        else:
            reporter = report.reporting_mta or origin.peer
            if event is Event.FAILED and report.status and not report.status.startswith("5"):
                detail["claimed_status"] = report.status
            notes.append(_note(which, event, "dsn", reporter, origin, detail))
    return notes, strays


def from_dispositions(
    sent: Sequence[Sent], dispositions: Sequence[Disposition], origin: Origin, named: frozenset[str]
) -> tuple[list[Note], list[Stray]]:
    """What each disposition of a read receipt proves; anything but ``displayed`` is noted and raises nothing.

    ``named`` are the keys of everybody whom the letter went to. What a program says in words only is
    noted as a hint, and is no receipt that could be a stray.
    """
    notes: list[Note] = []
    strays: list[Stray] = []
    for told in dispositions:
        detail = _detail(origin) | _told(told)
        names = (told.original_recipient, told.final_recipient)
        which = _which(sent, names if any(names) else (origin.author,), strict=True)
        why = "names no recipient of this letter" if which is None else _doubt(which, origin)
        if which is not None and why is None:
            why = _reader_doubt(which, told, origin, named, alone=len(sent) == 1)
        if which is not None and why is None:
            event = Event.READ if told.is_read else Event.AUTO_REPLY
            reporter = told.final_recipient or origin.author or which.recipient
            notes.append(_note(which, event, "mdn", reporter, origin, detail))
        elif why is not None and not told.in_words:
            strays.append(Stray(reason=why, detail=detail))
    return notes, strays


def _reader_doubt(
    which: Sent, told: Disposition, origin: Origin, named: frozenset[str], *, alone: bool
) -> str | None:
    """Why a read receipt cannot be the reader's own, if so.

    Of a return address of one's own (``alone``) a deputy may have read; the one address of many
    recipients does not tell them apart, so From must.
    """
    if told.type not in TYPES:
        return "a receipt that says nothing known"
    if origin.author_agency != which.agency:
        return "its From is not of the recipient's agency"
    key = _key(origin.author)
    if key != which.recipient_key and (key in named or not alone):
        return "one recipient speaks for another"
    return None


_MODES = ("manual-action", "automatic-action")
_SENDING = ("mdn-sent-manually", "mdn-sent-automatically")
_MODIFIERS = ("error", "warning", "superseded", "expired", "mailbox-terminated")


def _told(told: Disposition) -> dict[str, Any]:
    """What is kept of a disposition: words that RFC 8098 and its forerunners know, and short texts."""
    detail: dict[str, Any] = {
        "type": told.type if told.type in TYPES else (told.type or "")[:40],
        "mode": told.mode if told.mode in _MODES else None,
        "sending_mode": told.sending_mode if told.sending_mode in _SENDING else None,
        "modifiers": [word for word in told.modifiers if word in _MODIFIERS],
        "final_recipient": (told.final_recipient or "")[:254] or None,
        "original_message_id": told.original_message_id,
        "reporting_ua": (told.reporting_ua or "")[:200] or None,
    }
    if told.errors:
        detail["errors"] = [text[:300] for text in told.errors[:5]]
    if told.refusal is not None:
        detail["refusal"] = told.refusal
    if told.wrapped or told.in_words:
        detail["machine_readable"] = False
    if told.in_words:
        detail["in_words"] = True
    return detail


def news(
    conn: Connection, notes: Sequence[Note], strays: Sequence[Stray], letter_id: int | None
) -> tuple[list[Note], list[Stray]]:
    """What of a read receipt the record does not have yet: a replay leaves nothing.

    Of one delivery each disposition counts once in each mode. Of receipts that prove nothing a letter has
    at most ``MOST_STRAYS`` on the worklist, and no two that a person could not tell apart.
    """
    e, w = schema.evidence.c, schema.worklist.c
    ids = {note.delivery_id for note in notes}
    letters = select(schema.delivery.c.letter_id).where(schema.delivery.c.id.in_(ids))
    rows = conn.execute(
        select(e.delivery_id, e.event, e.detail).where(
            e.letter_id.in_(letters), e.delivery_id.in_(ids), e.source == "mdn"
        )
    )
    have = {(row.delivery_id, row.event, _tale(row.detail)) for row in rows} if ids else set()
    fresh: list[Note] = []
    for note in notes:
        tale = (note.delivery_id, note.event.value, _tale(note.detail))
        if tale not in have:
            have.add(tale)
            fresh.append(note)
    if not strays:
        return fresh, []
    open_ones = conn.execute(
        select(w.reason, w.detail)
        .where(w.letter_id == letter_id, w.kind == "mdn", w.state == "open")
        .limit(MOST_STRAYS)
    ).all()
    seen = {(row.reason, _stray_tale(row.detail)) for row in open_ones}
    room = MOST_STRAYS - len(open_ones)
    left: list[Stray] = []
    for stray in strays:
        tale_of = (stray.reason, _stray_tale(stray.detail))
        if tale_of not in seen and len(left) < room:
            seen.add(tale_of)
            left.append(stray)
    return fresh, left


MOST_STRAYS = 20


def _tale(detail: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two receipts of one delivery say the same."""
    kept = detail if isinstance(detail, dict) else {}
    return (
        kept.get("type"),
        kept.get("mode"),
        "error" in (kept.get("modifiers") or ()),
        bool(kept.get("in_words")),
    )


def _stray_tale(detail: dict[str, Any]) -> tuple[Any, ...]:
    kept = detail if isinstance(detail, dict) else {}
    return *_tale(kept), kept.get("final_recipient"), kept.get("agency"), kept.get("from")


def from_auto_reply(sent: Sequence[Sent], sender: str, origin: Origin) -> list[Note]:
    """An out-of-office answer: noted, never counted."""
    which = _which(sent, (sender,))
    if which is None or _doubt(which, origin) is not None:
        return []
    return [_note(which, Event.AUTO_REPLY, "auto-reply", sender, origin, _detail(origin))]


def _detail(origin: Origin) -> dict[str, Any]:
    agency = origin.agencies[0] if len(origin.agencies) == 1 else None
    detail: dict[str, Any] = {"sha256": origin.sha256, "peer": origin.peer, "agency": agency}
    if origin.author:
        detail["from"] = origin.author[:254]
    if origin.account is not None:
        detail["account"] = origin.account
    return detail


def _note(
    which: Sent, event: Event, source: str, reporter: str, origin: Origin, detail: dict[str, Any]
) -> Note:
    return Note(
        delivery_id=which.delivery_id,
        event=event,
        at_us=origin.at_us,
        source=source,
        reporter=reporter,
        detail=detail,
    )


def _which(sent: Sequence[Sent], names: Sequence[str | None], strict: bool = False) -> Sent | None:
    """The delivery meant: the one whose recipient is named, or the only one there is.

    ``strict``: even the only one must be named, by some spelling of its address (an MDN proves what a
    person at that address did; a DSN after a redirection may well name another one).
    """
    keys = [_key(name) for name in names if name]
    for key in keys:
        for one in sent:
            if one.recipient_key == key:
                return one
    if len(sent) == 1 and (not strict or not keys):
        return sent[0]
    return None


def _key(name: str) -> str:
    try:
        return Address.parse(name).key
    except AddressError:
        return name.casefold()


def _doubt(which: Sent, origin: Origin) -> str | None:
    """Why a report about this delivery cannot be believed, if so."""
    if which.agency is None or which.agency not in origin.agencies:
        return "came in from another server than the recipient's agency's own"
    if which.state is State.QUEUED and which.in_doubt:
        return None  # its own server speaks of it: so the attempt in doubt was a good one
    if which.state in (State.QUEUED, State.HELD, State.REFUSED):
        return "speaks of a letter that has not been sent there"
    return None
