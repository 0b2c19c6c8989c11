"""The schema and its migrations: what an older program wrote comes through, what a newer did is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import insert, select, update

from tests.records import letter, rows, whole
from tracker import schema
from tracker.archive import Archive
from tracker.ledger import LedgerKey
from tracker.record import Record
from tracker.store import Store


def _upgrade(store: Store, revision: str) -> None:
    """As an older program made its tables, or brought them there."""
    from alembic import command

    from tracker.migrate import _tables_apart, config

    settings = config()
    with store.writer.connect() as conn, _tables_apart(conn), conn.begin():
        settings.attributes["connection"] = conn
        command.upgrade(settings, revision)


def test_the_migrations_make_the_schema(db_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    store = Store(db_url)
    store.create()
    store.create()
    with store.writer.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn), schema.metadata) == []
    store.close()


def test_rows_of_an_older_sqlite_database_come_through_new_keys(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/old.db")
    _upgrade(store, "0002")
    with store.writer.begin() as conn:
        for key in (1 << 62, 7):
            row = {"id": key, "kind": "letter", "thread_id": 7, "accepted_us": 1}
            conn.execute(insert(schema.letter).values(row))
        event = {
            "letter_id": 7,
            "event": "submitted",
            "grade": 1,
            "at_us": 1,
            "noted_us": 1,
            "source": "wasl",
        }
        conn.execute(insert(schema.evidence).values(id=1, detail={}, **event))
        before = _indexes(conn)
    _upgrade(store, "0003")
    with store.writer.connect() as conn:
        after = _indexes(conn)
    store.create()
    with store.writer.connect() as conn:
        ids = conn.execute(select(schema.letter.c.id).order_by(schema.letter.c.id)).scalars().all()
        assert ids == [7, 1 << 62]
        assert conn.execute(select(schema.evidence.c.letter_id)).scalars().all() == [7]
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    store.close()
    assert {made for made in before if made[1]} <= after
    assert ("sqlite_autoindex_attempt_1", None) in before - after


def test_a_repeat_of_what_an_older_program_accepted_is_one(db_url: str, tmp_path: Path) -> None:
    """It wrote no digest where a letter has none of its own, and the rules that applied elsewhere."""
    store, key = Store(db_url), LedgerKey.make("wasl.test/ledger")
    _upgrade(store, "0003")
    with Archive(tmp_path / "archive") as archive:
        old = Record(store, archive, key, zone="Asia/Amman")
        first = letter(old, "b@moh.gov.example", digest=None, hits=("inter-agency-letter",))
        accepted = old.accept(first)
        old.write(lambda conn: conn.execute(update(schema.letter).values(digest=None)))
        old.close()
        store = Store(db_url)
        store.create()
        new = Record(store, archive, key, zone="Asia/Amman")
        again = new.accept(replace(first, submission_id=new.ids.next()))
        assert again.repeat and again.letter_id == accepted.letter_id
        assert [r.rule for r in rows(new, schema.rule_hit)] == ["inter-agency-letter"]
        whole(new)
        new.close()


def _indexes(conn: sqlalchemy.Connection) -> set[tuple[str, str | None]]:
    """Indexes, and how they were made; nothing where a key made them."""
    asked = "SELECT name, sql FROM sqlite_master WHERE type = 'index'"
    return {(name, sql) for name, sql in conn.exec_driver_sql(asked).all()}


def test_a_newer_database_is_refused(db_url: str) -> None:
    from tracker.store_errors import StoreError

    store = Store(db_url)
    store.create()
    with store.writer.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = 'from the future'")
    with pytest.raises(StoreError, match="newer Wasl"):
        store.create()
    store.close()
