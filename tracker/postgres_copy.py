"""Copying a PostgreSQL database with its own tools, ``pg_dump`` and, into an empty one, ``pg_restore``.

A dump is one snapshot, whatever is written meanwhile. Passwords go by the environment, never by the command
line, which every user of the machine may read. The tools must not be older than the server: the newest that
is installed is taken. Raises :class:`tracker.store_errors.StoreError` with what the tool said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from tracker.outage import in_a_line
from tracker.store_errors import StoreError

_HOMES = Path("/usr/lib/postgresql")  # where Debian keeps those of each version


def tool(name: str) -> Path | None:
    """The newest installed ``pg_dump`` or ``pg_restore``; None when there is none."""
    homes = [home for home in _HOMES.glob("*/bin") if home.parent.name.isdecimal()]
    for home in sorted(homes, key=lambda home: int(home.parent.name), reverse=True):
        if os.access(home / name, os.X_OK):
            return home / name
    found = shutil.which(name)
    return Path(found) if found else None


def dump(url: str, target: Path) -> str | None:
    """Write the database at ``url`` to ``target``; the tool's version, or None when it is not installed."""
    pg_dump = tool("pg_dump")
    if pg_dump is None:
        return None
    _run([pg_dump, "--format=custom", "--no-owner", "--no-privileges", "--file", target], url)
    with target.open("rb+") as out:
        os.fsync(out.fileno())
    return subprocess.run([pg_dump, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def load(url: str, source: Path) -> bool:
    """Restore ``source`` into the database at ``url``, all or nothing; False: ``pg_restore`` is not there."""
    pg_restore = tool("pg_restore")
    if pg_restore is None:
        return False
    _run(
        [pg_restore, "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", source], url
    )
    return True


def must_be_empty(url: str) -> None:
    """Raise :class:`StoreError` unless the database is there and holds no table."""
    shown = make_url(url).render_as_string(hide_password=True)
    engine = create_engine(url)
    try:
        with engine.connect() as conn:
            asked = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
            found = conn.execute(text(asked)).scalar()
    except SQLAlchemyError as error:
        raise StoreError(f"{shown}: {in_a_line(error)}: make it first, empty, with `createdb`") from None
    finally:
        engine.dispose()
    if found:
        raise StoreError(f"{shown} holds tables already: name an empty database with --database")


def _run(command: Sequence[str | Path], url: str) -> None:
    from psycopg.conninfo import make_conninfo

    parsed = make_url(url)
    given = dict(parsed.query) | parsed.translate_connect_args(username="user", database="dbname")
    env = dict(os.environ)
    if given.get("password"):
        env["PGPASSWORD"] = str(given.pop("password"))
    words = [command[0], "--dbname", make_conninfo(**given), *command[1:]]
    done = subprocess.run(words, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise StoreError(f"{Path(command[0]).name}: {said}")
