"""How long an attempt is its relay's own: a lease, counted from when it is granted, by one clock for all.

A relay asks before the writer's turn comes, and that may take its time: what was reckoned then may be over
when it is written. Whose clock counts: on SQLite there is one node, and it brings a time that believes no
jump (:mod:`gateway.steady_clock`); two nodes on PostgreSQL may be hours apart, so there the server's counts.
It fails as the database does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, text

_SERVER = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)")


def counter_s() -> float:
    """Seconds that only count on, also while the machine sleeps; the same for all processes of a machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as a relay of this machine asks for it."""

    length_us: int
    now_us: int  # the time that the relay believes
    asked_s: float  # counter_s() then

    def clock_us(self, conn: Connection) -> int:
        """The present time, as leases count it."""
        if conn.dialect.name == "postgresql":
            return int(conn.execute(_SERVER).scalar_one())
        return self.now_us + int((counter_s() - self.asked_s) * 1_000_000)

    def until_us(self, conn: Connection) -> int:
        """When it ends, if it is granted now."""
        return self.clock_us(conn) + self.length_us
