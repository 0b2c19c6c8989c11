"""Reading the record from the command line: a connection of its own, whether the gateway runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from gateway.settings import Settings
    from tracker.access import Viewer
    from tracker.store import Connection


@contextmanager
def reading(settings: Settings) -> Iterator[Connection]:
    """A reading connection; raises Trouble when there is no database yet."""
    from gateway.opening import open_store

    store = open_store(settings)
    try:
        with store.reader.connect() as conn:
            yield conn
    finally:
        store.close()


def operator() -> Viewer:
    """Who reads at this terminal: somebody with the database file in hand, who sees all of it."""
    from gateway.commands.console import person
    from tracker.access import Role, Viewer

    return Viewer(account=f"console:{person()}", role=Role.COMPLIANCE)


def local_time(us: int, settings: Settings) -> datetime:
    """A stored time in the gateway's zone."""
    from tracker.model import when

    return when(us).astimezone(ZoneInfo(settings.gateway.zone))


def clock(us: int, settings: Settings) -> str:
    """``2026-11-22 11:36:23`` in the gateway's zone."""
    return local_time(us, settings).strftime("%Y-%m-%d %H:%M:%S")
