"""What goes wrong with the database, in words of our own: which error means what.

SQLAlchemy stays in this folder; the others tell its errors by these names. Nothing here raises.
"""

from __future__ import annotations

import sqlite3
import sys

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

DatabaseError = SQLAlchemyError


class StoreError(Exception):
    """The database cannot be used as it is; the message says what to do."""


class NodeTaken(StoreError):
    """Another process works under this node's number."""


def lost_connection(error: BaseException) -> bool:
    """True when the database went away or is locked: nothing is wrong with the statement."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    return isinstance(error, (sqlite3.OperationalError, *_postgres("OperationalError", "InterfaceError")))


def unavailable(error: BaseException) -> bool:
    """True for the database's own errors: it is not there, refuses us or is broken."""
    return isinstance(error, (DBAPIError, sqlite3.Error, *_postgres("Error")))


def refused(error: BaseException) -> bool:
    """True when the database is there and does not take this: something else it may take.

    Hot statements run straight through the driver (:mod:`tracker.prepared`), so its own errors count too.
    """
    return (isinstance(error, DatabaseError) or unavailable(error)) and not lost_connection(error)


def _postgres(*names: str) -> tuple[type[BaseException], ...]:
    """Errors of psycopg, none while it is not loaded: 20 MB that a gateway on SQLite does without."""
    driver = sys.modules.get("psycopg")
    return tuple([getattr(driver, name) for name in names]) if driver is not None else ()
