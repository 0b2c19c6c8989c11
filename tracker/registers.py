"""Register numbers (رقم الصادر، رقم الوارد): gap-free per agency and year.

A number is taken inside the transaction that records its letter or its entry, so a rollback gives it back.
The year is that of the configured zone and never goes backwards, also when the clock does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from tracker import schema
from tracker.prepared import Prepared

OUT = "out"  # الصادر
IN = "in"  # الوارد


class Registers:
    """Takes numbers for the agencies of one gateway."""

    def __init__(self, zone: str = "UTC") -> None:
        self._zone = ZoneInfo(zone)
        self._floor = 0

    def open(self, conn: Connection) -> None:
        """Learn the highest year in the store."""
        self._floor = conn.execute(select(func.max(schema.counter.c.year))).scalar() or 0

    def marks(self, conn: Connection) -> dict[str, int]:
        """The highest number of each register, by ``AGENCY/YEAR/REGISTER``."""
        rows = conn.execute(select(schema.counter))
        return {f"{r.agency}/{r.year}/{r.register}": int(r.value) for r in rows}

    def year(self, at_us: int) -> int:
        """The register year of a moment; remembers it as the lowest from now on."""
        self._floor = max(self._floor, datetime.fromtimestamp(at_us / 1_000_000, self._zone).year)
        return self._floor

    def lock(self, conn: Connection, keys: list[tuple[str, int]], register: str = OUT) -> None:
        """Hold the rows of these counters until the transaction ends; give them in sorted order."""
        for agency, year in keys:
            self._add(conn, agency, year, register, 0)

    def take(self, conn: Connection, agency: str, year: int, count: int, register: str = OUT) -> int:
        """Take ``count`` numbers and return the first of them."""
        return self._add(conn, agency, year, register, count) - count + 1

    def take_above(self, conn: Connection, agency: str, year: int, highest: int, register: str) -> int:
        """Take one number that is higher than ``highest``, which another register already reached."""
        known = self._add(conn, agency, year, register, 0)
        return self._add(conn, agency, year, register, max(highest - known, 0) + 1)

    def _add(self, conn: Connection, agency: str, year: int, register: str, count: int) -> int:
        row = {"agency": agency, "year": year, "register": register, "value": count, "more": count}
        return int(_ADD[conn.dialect.name].all(conn, row)[0][0])


def _adding(upsert: Any) -> Prepared:
    c = schema.counter.c
    return Prepared(
        upsert.on_conflict_do_update(
            index_elements=[c.agency, c.year, c.register], set_={"value": c.value + bindparam("more")}
        ).returning(c.value),
        keys=["agency", "year", "register", "value"],
    )


_ADD = {
    "sqlite": _adding(sqlite.insert(schema.counter)),
    "postgresql": _adding(postgresql.insert(schema.counter)),
}
