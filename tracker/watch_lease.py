"""Which process watches a mailbox: a lease in the record, so that of several nodes only one does.

A lease that ran out, or that an earlier life of the same node held, may be taken by anyone. With it
stands how the watching goes, for ``wasl watch list`` on any node. Runs inside the transaction of the
connection it is given; raises what the database does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, text, update

from tracker import schema

_w = schema.watch_mailbox.c


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """How the watching of a mailbox goes."""

    mailbox: str
    agency: str
    state: str  # connecting, watching, waiting (to try again)
    note: str  # what is wrong, in words
    changed_us: int
    seen_us: int  # when the mailbox last answered
    owner: str | None = None
    lease_us: int | None = None


def take(
    conn: Connection, wanted: Mapping[str, str], owner: str, now_us: int, until_us: int
) -> frozenset[str]:
    """Take or prolong the leases of ``wanted`` (mailbox → agency); returns those that ``owner`` holds."""
    if not wanted:
        return frozenset()
    names = sorted(wanted)  # in one order on every node
    conn.execute(_NEW, [{"mailbox": name, "agency": wanted[name]} for name in names])
    conn.execute(
        _TAKE,
        [
            {
                "mailbox": name,
                "agency": wanted[name],
                "owner": owner,
                "node": owner.partition("/")[0] + "/",
                "size": len(owner.partition("/")[0]) + 1,
                "now": now_us,
                "until": until_us,
            }
            for name in names
        ],
    )
    held = conn.scalars(select(_w.mailbox).where(_w.lease_owner == owner, _w.lease_us == until_us))
    return frozenset(held) & frozenset(names)


def release(conn: Connection, mailboxes: Sequence[str], owner: str) -> None:
    """Let go of leases."""
    if mailboxes:
        conn.execute(
            update(schema.watch_mailbox)
            .where(_w.mailbox == bindparam("b_box"), _w.lease_owner == owner)
            .values(lease_owner=None, lease_us=None, state="", note=""),
            [{"b_box": name} for name in sorted(mailboxes)],
        )


def report(conn: Connection, states: Sequence[WatchState], owner: str) -> None:
    """Write how it goes, for mailboxes that ``owner`` holds."""
    if states:
        conn.execute(
            update(schema.watch_mailbox)
            .where(_w.mailbox == bindparam("b_box"), _w.lease_owner == owner)
            .values(
                state=bindparam("b_state"),
                note=bindparam("b_note"),
                changed_us=bindparam("b_changed"),
                seen_us=bindparam("b_seen"),
            ),
            [
                {
                    "b_box": s.mailbox,
                    "b_state": s.state,
                    "b_note": s.note[:500],
                    "b_changed": s.changed_us,
                    "b_seen": s.seen_us,
                }
                for s in sorted(states, key=lambda s: s.mailbox)
            ],
        )


def states(conn: Connection) -> dict[str, WatchState]:
    """By mailbox."""
    return {
        row.mailbox: WatchState(
            mailbox=row.mailbox,
            agency=row.agency,
            state=row.state,
            note=row.note,
            changed_us=row.changed_us,
            seen_us=row.seen_us,
            owner=row.lease_owner,
            lease_us=row.lease_us,
        )
        for row in conn.execute(select(schema.watch_mailbox))
    }


_NEW = text(
    "INSERT INTO watch_mailbox (mailbox, agency, state, note, changed_us, seen_us) "
    "VALUES (:mailbox, :agency, '', '', 0, 0) ON CONFLICT (mailbox) DO NOTHING"
)
_TAKE = text(
    "UPDATE watch_mailbox SET agency = :agency, lease_owner = :owner, lease_us = :until "
    "WHERE mailbox = :mailbox AND (lease_owner IS NULL OR lease_us < :now "
    "OR lease_owner = :owner OR substr(lease_owner, 1, :size) = :node)"
)
