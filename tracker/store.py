"""The database behind the record: SQLite by default, PostgreSQL when several nodes share it.

SQLite runs in WAL mode with ``synchronous=FULL`` and every write begins with BEGIN IMMEDIATE: a
deferred transaction that upgrades fails at once and ignores the busy time-out. PostgreSQL runs at
READ COMMITTED with ``synchronous_commit`` on. Readers have a pool of their own and never write.
A schema that is older or newer than this program raises :class:`~tracker.store_errors.StoreError`
with the way out.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pydantic_core
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, text

from tracker import schema
from tracker.migrate import upgrade
from tracker.store_errors import DatabaseError, NodeTaken, StoreError

__all__ = ["Connection", "Engine", "Store", "meta", "set_meta", "sqlite_url"]

# A PostgreSQL host that has vanished without a word is given up after so long (libpq's names; seconds, and
# milliseconds for the last), not after the hours that TCP would wait. The URL may say otherwise.
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


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
        self._node = 0
        self._session: tuple[Any, ...] | None = None  # of the server, that holds the node's lock for us
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
            event.listen(self.writer, "connect", _prepare_session)
            self.reader = create_engine(
                url, pool_size=pool - 2, max_overflow=0, pool_pre_ping=True, connect_args=patience
            )
        else:
            raise StoreError(f"database {self.dialect!r} is not supported: use sqlite or postgresql+psycopg")

    def create(self) -> None:
        """Bring an empty or older database to this program's schema (Alembic)."""
        upgrade(self.writer)

    def hold_node(self, number: int) -> None:
        """Make sure that no other living process works under this node number.

        PostgreSQL: an advisory lock of a connection that lives as long as the process, so that a
        killed node is free at once. SQLite: the data directory's lock does it (``gateway.instance_lock``).
        Raises :class:`StoreError`.
        """
        if self.dialect != "postgresql":
            return
        self._node = number
        if not self._take_node(None):
            raise NodeTaken(
                f"node {number} is already running on this database: give each node its own gateway.node"
            )

    def keep_node(self) -> bool:
        """Look whether the lock of :meth:`hold_node` is still ours, and take it again; to be called often.

        True when it had to be taken again. Raises :class:`NodeTaken` when another process has it by now,
        and the database's errors while that is away. A session of ours that the server has not yet seen
        to be gone still keeps others out: it is ended, and the next call takes the lock.
        """
        if self.dialect != "postgresql":
            return False
        earlier, held = self._session, self._held
        if held is not None:
            try:
                held.execute(text("SELECT 1"))
                held.commit()
                return False
            except DatabaseError:
                self._held = None
                held.invalidate()
                held.close()
        if self._take_node(earlier):
            return True
        if self._session is None:
            raise NodeTaken(
                f"another process took over node {self._node} on this database while it was away: this one "
                "ends; give each node its own gateway.node"
            )
        return False

    def _take_node(self, earlier: tuple[Any, ...] | None) -> bool:
        """Take the lock if it is free. If not, ``_session`` stays when it is an earlier one of ours."""
        conn = self.reader.connect()
        try:
            free = conn.execute(_LOCK, {"n": self._node}).scalar()
            session = conn.execute(_SESSION if free else _HOLDER, {"n": self._node}).first()
            if not free and earlier is not None and (session is None or tuple(session) == earlier):
                if session is not None:
                    conn.execute(text("SELECT pg_terminate_backend(:p)"), {"p": session[0]})
                self._session = earlier
            else:
                self._session = tuple(session) if free and session is not None else None
            conn.commit()
        except BaseException:
            conn.invalidate()
            conn.close()
            raise
        if free:
            self._held = conn
        else:
            conn.close()
        return bool(free)

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
        self.writer.dispose()
        self.reader.dispose()


_LOCK = text("SELECT pg_try_advisory_lock(7237102, :n)")
_SESSION = text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid() AND :n >= 0")
_HOLDER = text(
    "SELECT pid, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND classid = 7237102 AND objid = :n AND objsubid = 2 AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


# What the server is asked of a writer's session: its name, the value, and the one it takes the place of. A
# cluster that answers COMMIT before it has written is asked to write first: a 250 hangs on it. A node that
# stands still, or has vanished, inside a transaction holds the registers of agencies: the server ends it.
_SESSION_SETTINGS = (
    ("synchronous_commit", "on", "off"),
    ("idle_in_transaction_session_timeout", "60s", "0"),
    ("tcp_keepalives_idle", "10", None),
    ("tcp_keepalives_interval", "5", None),
    ("tcp_keepalives_count", "3", None),
)


def _prepare_session(connection: Any, _record: Any) -> None:
    for name, value, instead in _SESSION_SETTINGS:
        connection.execute(
            "SELECT set_config(%s, %s, false) WHERE %s::text IS NULL OR current_setting(%s) = %s",
            (name, value, instead, name, instead),
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
            "wal_autocheckpoint=30000",  # pages, 120 MB: while they are carried over, letters wait
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
