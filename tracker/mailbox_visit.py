"""What a signed-in client did with letters in a mailbox, as notes: what it proves, and nothing twice.

A letter handed over whole is *fetched* (E4), by whom and with which program. ``\\Seen``, ``\\Answered`` and
``$MDNSent`` are hints, as the watch of mailboxes has them; other keywords, moves, copies and removals are
*noticed*. Whatever is done with it in the mailbox that it was sent to, it is there (E3), and an attempt in
doubt is settled by that, as by the watch. Of one account, one letter and one kind there is one note: how
often somebody looks at a letter is nobody's business (DESIGN, promise 5). Fails: raises what the database
does; what is no delivery of ours to that agency is left out without a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from tracker import schema
from tracker.noting import Note
from tracker.states import Event, Grade, State
from tracker.watching import Found, find_delivery

SOURCE = "imap-proxy"
_MOST = 200  # notes of this kind about one delivery
_FLAGS = {"seen": "\\Seen", "answered": "\\Answered", "mdn-sent": "$MDNSent"}  # RFC 9051 §2.3.2, RFC 3503
_ENDED = (State.QUEUED, State.SENT, State.FAILED)  # no attempt is under way, and no person is to decide
_ACTS = {"moved": "moved", "copied": "copied", "deleted": "removed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One thing that was done with one letter."""

    agency: str
    account: str  # who signed in, folded
    mailbox: str  # whose mailbox it is, folded
    client: str  # the program, as it calls itself
    peer: str
    server: str
    number: str
    message_id: str
    what: str  # fetched, seen, answered, mdn-sent, keyword, moved, copied, deleted
    value: str = ""  # the keyword, or the folder it went to
    folder: str = ""
    at_us: int


def notes_of(conn: Connection, visits: Sequence[Visit]) -> list[Note]:
    """The notes that these visits earn and the record does not have yet."""
    out: list[Note] = []
    past: dict[int, list[tuple[str, str, Any]]] = {}
    there: set[int] = set()
    for visit in visits:
        found = find_delivery(conn, visit.agency, visit.number, visit.message_id, visit.mailbox)
        if found is None:
            continue
        known = past.get(found.delivery_id)
        if known is None:
            known = past[found.delivery_id] = _past(conn, found.letter_id, found.delivery_id)
        note = _note(visit, found.delivery_id, own=found.own)
        about = _about(note.event.value, note.reporter, note.detail)
        if about in known or len(known) >= _MOST:
            continue
        known.append(about)
        if _is_news(found) and found.delivery_id not in there:
            there.add(found.delivery_id)
            out.append(_lies_there(visit, found.delivery_id))
        out.append(note)
    return out


def _is_news(found: Found) -> bool:
    """Whether the record does not know yet that the letter is in the mailbox that it was sent to."""
    return found.own and found.grade < Grade.DELIVERED and found.state in _ENDED


def _lies_there(visit: Visit, delivery_id: int) -> Note:
    detail = {"mailbox": visit.mailbox, "folder": visit.folder, "server": visit.server}
    return Note(
        delivery_id=delivery_id,
        event=Event.DELIVERED,
        at_us=visit.at_us,
        source=SOURCE,
        reporter=visit.account,
        detail={key: value for key, value in detail.items() if value},
    )


def _note(visit: Visit, delivery_id: int, *, own: bool) -> Note:
    detail: dict[str, Any] = {
        "mailbox": visit.mailbox,
        "folder": visit.folder,
        "account": visit.account,
        "client": visit.client,
        "peer": visit.peer,
        "server": visit.server,
    }
    if not own:
        detail["other_mailbox"] = True  # not that of the address it was sent to: a group's, a registry's
    event = Event.NOTICED
    if visit.what == "fetched":
        event = Event.FETCHED
    elif visit.what in _FLAGS:
        event = Event.SEEN
        detail["flag"] = _FLAGS[visit.what]
    elif visit.what == "keyword":
        detail |= {"act": "keyword", "text": visit.value}
    else:
        detail |= {"act": _ACTS.get(visit.what, visit.what), "to": visit.value}
    return Note(
        delivery_id=delivery_id,
        event=event,
        at_us=visit.at_us,
        source=SOURCE,
        reporter=visit.account,
        detail={key: value for key, value in detail.items() if value not in ("", None)},
    )


def _about(event: str, reporter: str, detail: dict[str, Any]) -> tuple[str, str, Any]:
    """What makes two notes the same."""
    keys = () if event == Event.FETCHED.value else ("flag", "act", "text", "to")
    return event, reporter, tuple(str(detail.get(key) or "") for key in keys)


def _past(conn: Connection, letter_id: int, delivery_id: int) -> list[tuple[str, str, Any]]:
    e = schema.evidence.c
    rows = conn.execute(
        select(e.event, e.reporter, e.detail).where(
            e.letter_id == letter_id, e.delivery_id == delivery_id, e.source == SOURCE
        )
    )
    return [_about(r.event, r.reporter, r.detail if isinstance(r.detail, dict) else {}) for r in rows]
