"""Core statements that are compiled once and run straight through the driver: the hot path.

SQLAlchemy's per-execution work (some 80 microseconds a statement) is most of the cost of a small group.
A :class:`Prepared` keeps the SQL text, the order of its parameters and their processors for each dialect,
and runs inside the transaction of the connection it is given. A statement with a list for ``IN`` is
compiled for each length that occurs.

Errors are the driver's own (``sqlite3.Error``, ``psycopg.Error``): :func:`tracker.store.lost_connection`
knows both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Boolean, Connection, LargeBinary, bindparam
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement

Processor = Callable[[Any], Any]


class _Text:
    """A statement compiled for one dialect."""

    __slots__ = ("_get", "_processed", "fixed", "named", "names", "sql")

    def __init__(self, statement: ClauseElement, conn: Connection, keys: list[str] | None) -> None:
        compiled: Any = statement.compile(
            dialect=conn.dialect, column_keys=keys, compile_kwargs={"render_postcompile": True}
        )
        self.sql = str(compiled)
        self.named = not compiled.positional
        self.names: list[str] = list(compiled.positiontup or compiled.params)
        processors: dict[str, Processor] = dict(compiled._bind_processors)
        # sqlite3 takes octets and truth values as they are; what is left is JSON.
        idle = (Boolean, LargeBinary) if conn.dialect.name == "sqlite" else ()
        self._processed = [
            (index, processors[name])
            for index, name in enumerate(self.names)
            if name in processors and not isinstance(compiled.binds[name].type, idle)
        ]
        self._get = itemgetter(*self.names) if len(self.names) > 1 else None
        # Values that stand in the statement itself; what the caller must give has none.
        self.fixed = {n: b.effective_value for n, b in compiled.binds.items() if not b.required}

    def bound(self, row: dict[str, Any]) -> Any:
        values: list[Any]
        try:
            values = list(self._get(row)) if self._get is not None else [row[name] for name in self.names]
        except KeyError:
            fixed = self.fixed
            values = [row[n] if n in row else fixed[n] for n in self.names]
        for index, process in self._processed:
            values[index] = process(values[index])
        return dict(zip(self.names, values, strict=True)) if self.named else values


class Prepared:
    """An INSERT, UPDATE or SELECT of the hot path. Make it once, at module level."""

    def __init__(self, statement: Executable, keys: Sequence[str] | None = None) -> None:
        self._statement: Any = statement
        self._keys = list(keys) if keys is not None else None
        self._texts: dict[str, _Text] = {}

    def many(self, conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run once for each row (executemany); every row has the same keys."""
        text = self._texts.get(conn.dialect.name)
        if text is None:
            text = self._texts[conn.dialect.name] = self._compile(conn, list(rows[0]))
        cursor = conn.connection.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(text.sql, text.bound(rows[0]))
            else:
                cursor.executemany(text.sql, [text.bound(row) for row in rows])
        finally:
            cursor.close()

    def all(self, conn: Connection, row: dict[str, Any] | None = None) -> list[Any]:
        """Run once and fetch everything, as tuples of the driver's own values."""
        text = self._texts.get(conn.dialect.name)
        if text is None:
            text = self._texts[conn.dialect.name] = self._compile(conn, None)
        cursor = conn.connection.cursor()
        try:
            cursor.execute(text.sql, text.bound(row or {}))
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def _compile(self, conn: Connection, keys: list[str] | None) -> _Text:
        return _Text(self._statement, conn, self._keys or keys)


class PreparedIn:
    """A SELECT with one ``IN``: ``make`` gives the statement for a list of parameters."""

    def __init__(self, make: Callable[[list[Any]], Executable]) -> None:
        self._make = make
        self._sized: dict[int, Prepared] = {}

    def all(self, conn: Connection, values: Sequence[Any], row: dict[str, Any] | None = None) -> list[Any]:
        """The rows for these values; none for no values."""
        count = len(values)
        if not count:
            return []
        # A few sizes only: the list is filled up with its last value to the next power of two.
        size = 1 << (count - 1).bit_length()
        prepared = self._sized.get(size)
        if prepared is None:
            names: list[Any] = [bindparam(f"in_{i}") for i in range(size)]
            prepared = self._sized[size] = Prepared(self._make(names))
        filled = [*values, *[values[-1]] * (size - count)]
        return prepared.all(conn, {f"in_{i}": v for i, v in enumerate(filled)} | (row or {}))
