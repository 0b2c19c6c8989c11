"""What is seen in a watched mailbox, turned into notes: what it proves, and nothing twice.

A message that is a letter of ours proves that it is in the mailbox (E3). ``\\Seen``, ``\\Answered`` and
``$MDNSent`` are hints beside the ladder. A folder or keyword to which the agency gave a meaning is an act
of whoever keeps the mailbox, the person unknown. What the record already knows from this mailbox is not
noted again, so that a folder may be read anew from its beginning at any time.

Fails: raises what the database does. What cannot be matched is left out without a trace.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from tracker import schema
from tracker.noting import Note
from tracker.sighting import HINTS, Place, Seen, Sighting
from tracker.states import Event, State
from tracker.watch_positions import ours
from tracker.watching import Found, find_delivery

SOURCES = ("imap", "folder", "keyword")


def arrivals(
    conn: Connection, place: Place, seen: Sequence[Seen], at_us: int, here: Collection[int] = ()
) -> tuple[list[Sighting], list[int]]:
    """What messages that are new in the folder prove, and the UIDs to be looked at again soon.

    ``here``: deliveries that lay in this folder before its numbering changed; that they are there is no
    news. A delivery whose attempt is still under way waits until the relay has noted its end.
    """
    found: list[tuple[Seen, Found]] = []
    later: list[int] = []
    for one in seen:
        hit = find_delivery(conn, place.agency, one.number, one.message_id, place.mailbox, place.also)
        if hit is None or not (hit.own or place.registry):
            continue
        if hit.state is State.SENDING:
            later.append(one.uid)
        else:
            found.append((one, hit))
    known = _known(conn, place, {hit.letter_id for _, hit in found})
    out = []
    for one, hit in found:
        past = known.setdefault(hit.delivery_id, [])
        notes = _arrival(place, one, hit, past, at_us, hit.delivery_id not in here)
        past += [(n.event.value, n.source, n.detail) for n in notes]
        flags = place.kept(one.flags)
        out.append(Sighting(uid=one.uid, delivery_id=hit.delivery_id, flags=flags, notes=tuple(notes)))
    return out, later


def flag_changes(
    conn: Connection, place: Place, flags: Mapping[int, frozenset[str]], at_us: int
) -> list[Sighting]:
    """What changed flags of the folder's messages prove; what is no letter of ours is passed over."""
    before = ours(conn, place.mailbox, place.folder, sorted(flags))
    changed = {uid: row for uid, row in before.items() if place.kept(flags[uid]) != row.flags}
    if not changed:
        return []
    known = _known(conn, place, {row.letter_id for row in changed.values()})
    out = []
    for uid, row in changed.items():
        kept = place.kept(flags[uid])
        new = set(kept.split()) - set(row.flags.split())
        past = known.setdefault(row.delivery_id, [])
        notes = _hints(place, uid, row.delivery_id, new, past, at_us) if row.own_in(place) else []
        for word, event in place.keywords:
            if word in new and _last_state(past) is not event:
                notes.append(_state(place, uid, row.delivery_id, event, "keyword", word, at_us))
        past += [(n.event.value, n.source, n.detail) for n in notes]
        out.append(Sighting(uid=uid, delivery_id=row.delivery_id, flags=kept, notes=tuple(notes)))
    return out


_Past = list[tuple[str, str, dict[str, Any]]]


def _arrival(place: Place, one: Seen, hit: Found, past: _Past, at_us: int, news: bool) -> list[Note]:
    notes: list[Note] = []
    flags = set(place.kept(one.flags).split())
    if hit.own:
        if not any(event == Event.DELIVERED.value for event, _, _ in past):
            detail = _where(place, one.uid) | {"arrived": one.arrived}
            notes.append(_note(hit.delivery_id, Event.DELIVERED, "imap", place.server, detail, at_us))
        notes += _hints(place, one.uid, hit.delivery_id, flags, past, at_us)
    for word, event in place.keywords:
        told = any(e == event.value and s == "keyword" and d.get("flag") == word for e, s, d in past)
        if word in flags and not told:
            notes.append(_state(place, one.uid, hit.delivery_id, event, "keyword", word, at_us))
    if place.event is not None and news and _last_state(past) is not place.event:
        notes.append(_state(place, one.uid, hit.delivery_id, place.event, "folder", place.folder, at_us))
    return notes


def _hints(place: Place, uid: int, delivery: int, flags: set[str], past: _Past, at_us: int) -> list[Note]:
    told = {d.get("flag") for event, _, d in past if event == Event.SEEN.value}
    return [
        _note(delivery, Event.SEEN, "imap", place.server, _where(place, uid) | {"flag": flag}, at_us)
        for flag in HINTS
        if flag in flags and flag not in told
    ]


def _state(place: Place, uid: int, delivery: int, event: Event, source: str, what: str, at_us: int) -> Note:
    detail = _where(place, uid) | {"text": what, "by": "registry" if place.registry else "mailbox"}
    if source == "keyword":
        detail["flag"] = what
    # The registry's act has no reporter: the person is unknown, and is shown so.
    return _note(delivery, event, source, "" if place.registry else place.mailbox, detail, at_us)


def _where(place: Place, uid: int) -> dict[str, Any]:
    return {"mailbox": place.mailbox, "folder": place.folder, "uid": uid, "server": place.server}


def _note(
    delivery: int, event: Event, source: str, reporter: str, detail: dict[str, Any], at_us: int
) -> Note:
    return Note(
        delivery_id=delivery, event=event, at_us=at_us, source=source, reporter=reporter, detail=detail
    )


def _last_state(past: _Past) -> Event | None:
    """The last thing that a folder or keyword of this mailbox said."""
    for event, source, _ in reversed(past):
        if source in ("folder", "keyword"):
            return Event(event)
    return None


def _known(conn: Connection, place: Place, letters: Collection[int]) -> dict[int, _Past]:
    """What the record has of these letters from this mailbox, per delivery, in order."""
    e = schema.evidence.c
    out: dict[int, _Past] = {}
    ids = sorted(letters)
    for i in range(0, len(ids), 500):
        rows = conn.execute(
            select(e.delivery_id, e.event, e.source, e.detail)
            .where(e.letter_id.in_(ids[i : i + 500]), e.source.in_(SOURCES))
            .order_by(e.id)
        )
        for row in rows:
            detail = row.detail if isinstance(row.detail, dict) else {}
            if row.delivery_id is not None and detail.get("mailbox") == place.mailbox:
                out.setdefault(row.delivery_id, []).append((row.event, row.source, detail))
    return out
