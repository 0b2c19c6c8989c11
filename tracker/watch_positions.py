"""How far each watched folder has been read, and which of its messages are letters of ours.

The named door of the record for positions: they are no evidence. Of a message that is no letter of ours
nothing is kept, not even its UID. Each function runs inside the transaction of the connection it is given.
A position that is lost costs a new reading of the folder and no wrong evidence (:mod:`tracker.observing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, text

from tracker import schema
from tracker.model import Address, AddressError
from tracker.sighting import Place, Sighting

_f, _m = schema.watch_folder.c, schema.watch_message.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where the reading of a folder stands (RFC 9051 §2.3.1, RFC 7162)."""

    uidvalidity: int
    uidnext: int  # the lowest UID that was not looked at
    modseq: int | None = None  # None: the server counts no changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A message of a folder that is a letter of ours."""

    uid: int
    delivery_id: int
    letter_id: int
    recipient_key: str
    flags: str

    def own_in(self, place: Place) -> bool:
        """True when the delivery's recipient is this mailbox, or an address whose mail it takes."""
        return self.recipient_key in {_key(name) for name in (place.mailbox, *place.also)}


def positions(conn: Connection, mailbox: str) -> dict[str, Position]:
    """By folder."""
    rows = conn.execute(select(_f.folder, _f.uidvalidity, _f.uidnext, _f.modseq).where(_f.mailbox == mailbox))
    return {
        row.folder: Position(uidvalidity=row.uidvalidity, uidnext=row.uidnext, modseq=row.modseq)
        for row in rows
    }


def keep(
    conn: Connection, place: Place, position: Position, sightings: Iterable[Sighting], at_us: int
) -> None:
    """Write the position of a folder and what was seen up to it."""
    conn.execute(
        _FOLDER,
        {
            "mailbox": place.mailbox,
            "folder": place.folder,
            "agency": place.agency,
            "uidvalidity": position.uidvalidity,
            "uidnext": position.uidnext,
            "modseq": position.modseq,
            "seen": at_us,
        },
    )
    rows = [
        {
            "mailbox": place.mailbox,
            "folder": place.folder,
            "uid": one.uid,
            "delivery": one.delivery_id,
            "flags": one.flags,
        }
        for one in sightings
    ]
    if rows:
        conn.execute(_MESSAGE, rows)


def restart(conn: Connection, mailbox: str, folder: str) -> None:
    """Forget a folder's messages: its numbering has changed, or it is to be read from its beginning."""
    conn.execute(delete(schema.watch_message).where(_m.mailbox == mailbox, _m.folder == folder))
    conn.execute(delete(schema.watch_folder).where(_f.mailbox == mailbox, _f.folder == folder))


def vanished(conn: Connection, mailbox: str, folder: str, ranges: Sequence[tuple[int, int]]) -> None:
    """Forget the messages with UIDs in these ranges: they are no longer in the folder."""
    rows = [{"mailbox": mailbox, "folder": folder, "low": low, "high": high} for low, high in ranges]
    if rows:
        conn.execute(_VANISHED, rows)


def deliveries_in(conn: Connection, mailbox: str, folder: str) -> frozenset[int]:
    """The deliveries that lie in a folder."""
    return frozenset(conn.scalars(select(_m.delivery_id).where(_m.mailbox == mailbox, _m.folder == folder)))


def ours(conn: Connection, mailbox: str, folder: str, uids: Sequence[int]) -> dict[int, Kept]:
    """Of these UIDs, in order, those that are letters of ours."""
    out: dict[int, Kept] = {}
    for i in range(0, len(uids), 500):
        part = uids[i : i + 500]
        rows = conn.execute(_kept(mailbox, folder).where(_m.uid.in_(part)))
        out |= {row.uid: Kept(**row._mapping) for row in rows}
    return out


def page(conn: Connection, mailbox: str, folder: str, after: int, limit: int) -> list[int]:
    """UIDs of letters of ours above ``after``, in order."""
    query = select(_m.uid).where(_m.mailbox == mailbox, _m.folder == folder, _m.uid > after)
    return list(conn.scalars(query.order_by(_m.uid).limit(limit)))


def counts(conn: Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """By mailbox and folder: how many letters lie there, and when it was last read."""
    found = {(row.mailbox, row.folder): (0, row.seen_us) for row in conn.execute(select(schema.watch_folder))}
    many = select(_m.mailbox, _m.folder, func.count()).group_by(_m.mailbox, _m.folder)
    for mailbox, folder, count in conn.execute(many):
        if (mailbox, folder) in found:
            found[mailbox, folder] = count, found[mailbox, folder][1]
    return found


def _kept(mailbox: str, folder: str) -> Any:
    d = schema.delivery.c
    return (
        select(_m.uid, _m.delivery_id, d.letter_id, d.recipient_key, _m.flags)
        .join(schema.delivery, d.id == _m.delivery_id)
        .where(_m.mailbox == mailbox, _m.folder == folder)
    )


def _key(name: str) -> str:
    try:
        return Address.parse(name).key
    except AddressError:
        return ""


_FOLDER = text(
    "INSERT INTO watch_folder (mailbox, folder, agency, uidvalidity, uidnext, modseq, seen_us) "
    "VALUES (:mailbox, :folder, :agency, :uidvalidity, :uidnext, :modseq, :seen) "
    "ON CONFLICT (mailbox, folder) DO UPDATE SET agency = excluded.agency, "
    "uidvalidity = excluded.uidvalidity, uidnext = excluded.uidnext, modseq = excluded.modseq, "
    "seen_us = excluded.seen_us"
)
_MESSAGE = text(
    "INSERT INTO watch_message (mailbox, folder, uid, delivery_id, flags) "
    "VALUES (:mailbox, :folder, :uid, :delivery, :flags) "
    "ON CONFLICT (mailbox, folder, uid) DO UPDATE SET delivery_id = excluded.delivery_id, "
    "flags = excluded.flags"
)
_VANISHED = text(
    "DELETE FROM watch_message WHERE mailbox = :mailbox AND folder = :folder AND uid BETWEEN :low AND :high"
)
