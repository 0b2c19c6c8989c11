"""Which delivery a report speaks of, and what it proves (EVIDENCE, "Reading what comes back").

The report came to an address that only this gateway could have made, so the letter (and for a
single recipient the delivery) is known before a word of it is read. What it says is then a claim of
the server it came from: it counts if that server is the receiving agency's own and the delivery had
been sent; anything else is a :class:`Stray` for a person to look at. ``relayed`` and ``expanded``
are not ``delivered``; only ``displayed`` counts as read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from tracker import schema
from tracker.dsn import Report
from tracker.mdn import Disposition
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a report came in, and where it is kept."""

    agency: str | None  # code of the agency whose server handed it in
    peer: str
    at_us: int
    report: str  # id of the kept report, as text
    sha256: str
    auth: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A report, or a part of one, that proves nothing by itself."""

    reason: str
    detail: dict[str, Any]


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
    d, s, le = schema.delivery.c, schema.submission.c, schema.letter.c
    rows = conn.execute(
        select(
            d.id, d.letter_id, d.recipient, d.recipient_key, d.agency, d.hop, d.state, s.sender,
            le.agency.label("sender_agency"), le.number,
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
        )
        for r in rows
    ]


def already_noted(conn: Connection, letters: Sequence[int], report: str) -> bool:
    """True when evidence of this very report stands in the record of these letters."""
    e = schema.evidence.c
    rows = conn.execute(select(e.detail).where(e.letter_id.in_(letters), e.source.in_(("dsn", "mdn"))))
    return any(isinstance(row.detail, dict) and row.detail.get("report") == report for row in rows)


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


def from_disposition(
    sent: Sequence[Sent], disposition: Disposition, origin: Origin
) -> tuple[list[Note], list[Stray]]:
    """What a read receipt proves; anything but ``displayed`` is noted and raises nothing."""
    detail = _detail(origin) | {
        "type": disposition.type,
        "mode": disposition.mode,
        "sending_mode": disposition.sending_mode,
        "modifiers": list(disposition.modifiers),
        "final_recipient": disposition.final_recipient,
        "original_message_id": disposition.original_message_id,
        "reporting_ua": disposition.reporting_ua,
    }
    which = _which(sent, (disposition.original_recipient, disposition.final_recipient), strict=True)
    if which is None:
        return [], [Stray(reason="names no recipient of this letter", detail=detail)]
    why = _doubt(which, origin)
    if why is not None:
        return [], [Stray(reason=why, detail=detail)]
    event = Event.READ if disposition.is_read else Event.AUTO_REPLY
    reporter = disposition.final_recipient or which.recipient
    return [_note(which, event, "mdn", reporter, origin, detail)], []


def from_auto_reply(sent: Sequence[Sent], sender: str, origin: Origin) -> list[Note]:
    """An out-of-office answer: noted, never counted."""
    which = _which(sent, (sender,))
    if which is None or _doubt(which, origin) is not None:
        return []
    return [_note(which, Event.AUTO_REPLY, "auto-reply", sender, origin, _detail(origin))]


def _detail(origin: Origin) -> dict[str, Any]:
    return {"report": origin.report, "sha256": origin.sha256, "peer": origin.peer, "agency": origin.agency}


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
    keys = []
    for name in names:
        if name:
            try:
                keys.append(Address.parse(name).key)
            except AddressError:
                keys.append(name.casefold())
    for key in keys:
        for one in sent:
            if one.recipient_key == key:
                return one
    if len(sent) == 1 and (not strict or not keys):
        return sent[0]
    return None


def _doubt(which: Sent, origin: Origin) -> str | None:
    """Why a report about this delivery cannot be believed, if so."""
    if origin.agency is None or origin.agency != which.agency:
        return "came in from another server than the recipient's agency's own"
    if which.state in (State.QUEUED, State.HELD, State.REFUSED):
        return "speaks of a letter that has not been sent there"
    return None
