"""A writer's session of PostgreSQL: what is asked of the server, and what that is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.records import letter, record_at
from tests.servers.postgres import Postgres
from tracker import store
from tracker.store import DatabaseError, Store

pytestmark = pytest.mark.postgres


def _setting(url: str, name: str) -> Any:
    opened = Store(url)
    with opened.writer.connect() as conn:
        value = conn.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar()
    opened.close()
    return value


def test_what_an_administrator_has_set_stays(postgres_server: Postgres) -> None:
    with postgres_server.database() as url:
        name = "idle_in_transaction_session_timeout"
        assert _setting(url, name) == "1min"
        assert _setting(f"{url}?options=-c%20{name}%3D5000", name) == "5s"
        assert _setting(f"{url}?options=-c%20synchronous_commit%3Doff", "synchronous_commit") == "on"


def test_a_node_that_stands_still_in_a_transaction_does_not_stop_the_others(
    pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the register of its agency, which the next letter of that agency needs on any node."""
    with record_at(pg_url, tmp_path) as record:
        first = letter(record)
        assert record.accept(first).number
        for setting in store._SESSION_SETTINGS:
            if setting[0].startswith("idle"):
                monkeypatch.setattr(store, "_SESSION_SETTINGS", ((setting[0], "1s", setting[2]),))
        still = Store(pg_url)
        with still.writer.connect() as conn:
            conn.begin()
            conn.execute(text("SELECT value FROM counter FOR UPDATE"))
            assert record.accept(letter(record, message_id="<2@mof>", digest=b"other")).number
            with pytest.raises(DatabaseError):
                conn.execute(text("SELECT 1"))
            conn.invalidate()
        still.close()
