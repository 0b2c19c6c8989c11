"""Rows that somebody may have damaged, read without falling over them.

SQLite keeps what it is given: text where octets belong, words where a number belongs, JSON that is none. A
statement that meets such a cell fails as a whole. :func:`read_rows` then reads its rows one by one, by their
key, and says which of them cannot be read and why; the others are had all the same.

How it fails: only as the database does when it cannot be asked at all.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Row, Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import KeyedColumnElement

Rows = list[Row[*tuple[Any, ...]]]

# What the conversion of a cell raises: JSON, octets, text that is no UTF-8 (the driver's own error).
DAMAGE = (ValueError, TypeError, OverflowError, MemoryError, RecursionError, DBAPIError)


def read_rows(
    conn: Connection, statement: Select[Any], key: Column[Any] | KeyedColumnElement[Any]
) -> tuple[Rows, dict[Any, str]]:
    """The rows of ``statement`` that can be read, and why those of the other ``key`` cannot."""
    octets = [i for i, c in enumerate(statement.selected_columns) if isinstance(c.type, LargeBinary)]
    try:
        found: Rows = list(conn.execute(statement).all())
    except DAMAGE as error:
        _must_be_damage(conn, error)
        found, bad = _one_by_one(conn, statement, key)
    else:
        bad = {}
    rows = found
    for i in octets:
        rows = [row for row in rows if row[i] is None or isinstance(row[i], bytes)]
    if len(rows) < len(found):
        whole = {row._mapping[key] for row in rows}
        others = [row._mapping[key] for row in found if row._mapping[key] not in whole]
        bad |= dict.fromkeys(others, "no octets, where these belong")
    return rows, bad


def _one_by_one(
    conn: Connection, statement: Select[Any], key: Column[Any] | KeyedColumnElement[Any]
) -> tuple[Rows, dict[Any, str]]:
    rows: Rows = []
    bad: dict[Any, str] = {}
    keys = statement.with_only_columns(key, maintain_column_froms=True)
    for one in dict.fromkeys(conn.execute(keys).scalars()):
        try:
            rows += conn.execute(statement.where(key == one)).all()
        except DAMAGE as error:
            _must_be_damage(conn, error)
            bad[one] = why(error)
    return rows, bad


def why(error: BaseException) -> str:
    """What is wrong with a cell, in one line."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return (str(said).splitlines() or [type(error).__name__])[0][:200]


def _must_be_damage(conn: Connection, error: BaseException) -> None:
    """Other databases hold no cell of a wrong type: there an error of theirs is one of the whole."""
    if isinstance(error, DBAPIError) and (conn.dialect.name != "sqlite" or error.connection_invalidated):
        raise error
