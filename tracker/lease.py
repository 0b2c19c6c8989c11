"""A lease in the record: of several nodes one does what must not be done by two at a time.

A lease that ran out, or that an earlier life of the same node held, may be taken by anyone; so may one that
ends later than any lease can, which a clock ahead wrote. A lease saves work, it proves nothing: whoever holds
it still writes so that a second writer finds what the first one wrote. Runs inside the transaction of the
connection it is given; raises what the database does.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, text

from tracker.schema import lease

_TAKE = text(
    "INSERT INTO lease (name, owner, until_us) VALUES (:name, :owner, :until) "
    "ON CONFLICT (name) DO UPDATE SET owner = :owner, until_us = :until "
    "WHERE lease.owner = :owner OR lease.until_us < :now OR lease.until_us > :until "
    "OR substr(lease.owner, 1, :size) = :node"
)


def take(conn: Connection, name: str, owner: str, now_us: int, length_us: int) -> bool:
    """Take or prolong a lease; ``owner`` is ``node/incarnation``. True when the owner holds it now."""
    node = owner.partition("/")[0] + "/"
    until = now_us + length_us
    conn.execute(
        _TAKE,
        {"name": name, "owner": owner, "now": now_us, "until": until, "node": node, "size": len(node)},
    )
    return conn.scalar(select(lease.c.owner).where(lease.c.name == name)) == owner


def release(conn: Connection, name: str, owner: str) -> None:
    """Let go of a lease."""
    conn.execute(delete(lease).where(lease.c.name == name, lease.c.owner == owner))
