"""The database behind the record: SQLite by default, PostgreSQL when several nodes share it.

SQLite runs in WAL mode with ``synchronous=FULL`` and every write begins with BEGIN IMMEDIATE: a
deferred transaction that upgrades fails at once and ignores the busy time-out. PostgreSQL runs at
READ COMMITTED with ``synchronous_commit`` on. Readers have a pool of their own and never write.
A schema that is older or newer than this program raises :class:`StoreError` with the way out.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pydantic_core
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tracker import schema

__all__ = [
    "Connection",
    "DatabaseError",
    "Engine",
    "Store",
    "StoreError",
    "lost_connection",
    "meta",
    "set_meta",
    "sqlite_url",
    "unavailable",
]

# What the other folders need to name of SQLAlchemy, which stays in this one.
DatabaseError = SQLAlchemyError


# A PostgreSQL host that has vanished without a word is given up after so long (libpq's names; seconds, and
# milliseconds for the last), not after the hours that TCP would wait. The URL may say otherwise.
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class StoreError(Exception):
    """The database cannot be used as it is; the message says what to do."""


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path}"


class Store:
    """Two engines on one database: ``writer`` (a connection, two on PostgreSQL) and ``reader`` (a pool).

    ``pool`` is how many connections to PostgreSQL there are at most, at least 4.
    """

    def __init__(self, url: str, pool: int = 10) -> None:
        self.url = url
        self._held: Connection | None = None
        self.dialect = make_url(url).get_backend_name()
        if self.dialect == "sqlite":
            self.writer = _sqlite_engine(url, "BEGIN IMMEDIATE", pool_size=1)
            self.reader = _sqlite_engine(url, "BEGIN", pool_size=8)
        elif self.dialect == "postgresql":
            patience = {key: value for key, value in _PATIENCE.items() if key not in make_url(url).query}
            self.writer = create_engine(
                url,
                pool_size=2,
                max_overflow=0,
                pool_pre_ping=True,
                json_serializer=_json,
                connect_args=patience,
            )
            event.listen(self.writer, "connect", _durable)
            self.reader = create_engine(
                url, pool_size=pool - 2, max_overflow=0, pool_pre_ping=True, connect_args=patience
            )
        else:
            raise StoreError(f"database {self.dialect!r} is not supported: use sqlite or postgresql+psycopg")

    def create(self) -> None:
        """Bring an empty or older database to this program's schema (Alembic)."""
        from tracker.migrate import upgrade

        upgrade(self.writer)

    def hold_node(self, number: int) -> None:
        """Make sure that no other living process works under this node number.

        PostgreSQL: an advisory lock of a connection that lives as long as the process, so that a
        killed node is free at once. SQLite: the data directory's lock does it (``gateway.instance_lock``).
        Raises :class:`StoreError`.
        """
        if self.dialect != "postgresql":
            return
        self._held = self.reader.connect()
        free = self._held.execute(text("SELECT pg_try_advisory_lock(7237102, :n)"), {"n": number}).scalar()
        self._held.commit()
        if not free:
            raise StoreError(
                f"node {number} is already running on this database: give each node its own gateway.node"
            )

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
        self.writer.dispose()
        self.reader.dispose()


def _durable(connection: Any, _record: Any) -> None:
    """A cluster that answers COMMIT before it has written is asked to write first: a 250 hangs on it."""
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def _json(value: Any) -> str:
    """JSON as the columns keep it; several times as quick as the standard library's."""
    return pydantic_core.to_json(value).decode()


def _sqlite_engine(url: str, begin: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=4 if pool_size > 1 else 0,
        connect_args={"timeout": 30, "check_same_thread": False},
        json_serializer=_json,
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's begin event speaks BEGIN itself
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-65536",
            "mmap_size=268435456",
            "wal_autocheckpoint=4000",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        cursor = connection.connection.cursor()  # straight to the driver: every group begins so
        try:
            cursor.execute(begin)
        finally:
            cursor.close()

    return engine


def lost_connection(error: BaseException) -> bool:
    """True when the database went away or is locked: nothing is wrong with the statement."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    return isinstance(error, (sqlite3.OperationalError, *_postgres("OperationalError", "InterfaceError")))


def meta(conn: Connection, key: str) -> str | None:
    """A value of the ``meta`` table."""
    value = conn.execute(select(schema.meta.c.value).where(schema.meta.c.key == key)).scalar()
    return None if value is None else str(value)


def set_meta(conn: Connection, key: str, value: str) -> None:
    """Write a value of the ``meta`` table."""
    conn.execute(
        text(
            "INSERT INTO meta (key, value) VALUES (:key, :value) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        ),
        {"key": key, "value": value},
    )


def unavailable(error: BaseException) -> bool:
    """True for the database's own errors: it is not there, refuses us or is broken."""
    return isinstance(error, (DBAPIError, sqlite3.Error, *_postgres("Error")))


def _postgres(*names: str) -> tuple[type[BaseException], ...]:
    """Errors of psycopg, none while it is not loaded: 20 MB that a gateway on SQLite does without."""
    driver = sys.modules.get("psycopg")
    return tuple([getattr(driver, name) for name in names]) if driver is not None else ()
