"""Bringing a database to this program's schema (Alembic), forwards only.

A database that a newer program wrote is refused with :class:`tracker.store_errors.StoreError`; an empty
one is built from the first migration on, so that new and old installations are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from tracker.store_errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).parent / "migrations"


def config() -> Config:
    """Alembic's configuration, without a file."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_FOLDER))
    return made


def upgrade(engine: Engine) -> None:
    """Run what migrations are missing, in one transaction."""
    if _is_current(engine):
        return  # and Alembic, which takes a quarter of a second to load, is not needed
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    settings = config()
    script = ScriptDirectory.from_config(settings)
    head = script.get_current_head()
    with engine.connect() as conn, _tables_apart(conn), conn.begin():
        present = MigrationContext.configure(conn).get_current_revision()
        if present == head:
            return
        if present is not None and present not in {r.revision for r in script.walk_revisions()}:
            raise StoreError(
                f"the database was written by a newer Wasl (schema {present}, this program knows {head}): "
                "install that version, or restore a backup made before the upgrade"
            )
        if conn.dialect.name == "postgresql":
            conn.exec_driver_sql("SELECT pg_advisory_xact_lock(7237101)")  # nodes that start at once
        settings.attributes["connection"] = conn
        command.upgrade(settings, "head")


@contextmanager
def _tables_apart(conn: Connection) -> Iterator[None]:
    """SQLite: a table may be dropped and made anew without those that refer to it losing their rows."""
    if conn.dialect.name != "sqlite":
        yield
        return
    driver = conn.connection.driver_connection
    assert driver is not None
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _is_current(engine: Engine) -> bool:
    """True when the database says that it is at the newest of our revisions (``vNNNN.py``)."""
    newest = max(path.stem[1:] for path in (_FOLDER / "versions").glob("v[0-9]*.py"))
    with engine.connect() as conn:
        if not inspect(conn).has_table("alembic_version"):
            return False
        found = list(conn.execute(text("SELECT version_num FROM alembic_version")).scalars())
    return found == [newest]
