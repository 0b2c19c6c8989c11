"""PostgreSQL: a cluster of the tests' own, reached by UNIX socket and by a loopback port.

It refuses to run as root, so under root it runs as the user ``postgres`` that Debian's package made.
``fsync`` is off: what is tested here is our SQL, and durability is tested where we write files ourselves.
How it fails: no ``initdb`` found, or the server's own log inside :class:`ServerFailed`.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.servers.place import Child, Place, ServerFailed, free_port, own_place, program

_SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
fsync = {durable}
full_page_writes = {durable}
synchronous_commit = {durable}
shared_buffers = 32MB
max_connections = 100
autovacuum = off
log_min_messages = warning
timezone = 'UTC'
"""


def _binary(name: str) -> str:
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    return program(name, *map(str, newest))


class Postgres:
    """A running cluster; ``create`` gives a new empty database and its URL."""

    def __init__(self, child: Child, sockets: Path, port: int) -> None:
        self.child = child
        self.sockets = sockets
        self.port = port
        self._numbers = itertools.count(1)

    def url(self, database: str = "postgres", *, by_socket: bool = False) -> str:
        """``postgresql+psycopg://…`` for SQLAlchemy."""
        if by_socket:
            return f"postgresql+psycopg://postgres@/{database}?host={self.sockets}&port={self.port}"
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def _run(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True
        ) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def create(self, like: str = "template0") -> str:
        """Create a database of its own name (UTF-8, collation C.UTF-8 where present) and return the name.

        It is empty, or as the database ``like`` is, to which nobody may be connected.
        """
        name = f"wasl_{os.getpid()}_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {like}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database although somebody may still be connected."""
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def empty(self, name: str, tables: Sequence[str]) -> None:
        """Take all rows out of these tables, in this order, and throw out who is connected.

        That takes a tenth of the time of a new database, which is some three hundred files.
        """
        self._run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' "
            "AND pid <> pg_backend_pid()",
            "; ".join(f"DELETE FROM {table}" for table in tables),
            database=name,
        )

    @contextmanager
    def database(self, like: str = "template0") -> Iterator[str]:
        """A new database for the block, empty or as ``like`` is; yields its URL."""
        name = self.create(like)
        try:
            yield self.url(name)
        finally:
            self.drop(name)


@contextmanager
def postgres(place: Place | None = None, *, durable: bool = False) -> Iterator[Postgres]:
    """Start a cluster (about 1 s) and stop it at the end. ``durable`` switches fsync on, for benchmarks."""
    with own_place("pg", place) as at:
        data = at.folder("data", mode=0o700, owner="postgres")
        sockets = at.folder("s", owner="postgres")
        port = free_port()
        log = at / "postgres.log"
        log.touch()
        log.chmod(0o666)
        init = [_binary("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
        init += ["--locale=C.UTF-8", "--no-instructions"]
        as_user = [program("runuser"), "-u", "postgres", "--"] if os.geteuid() == 0 else []
        made = subprocess.run([*as_user, *init], capture_output=True, text=True, cwd="/")
        if made.returncode:
            raise ServerFailed(f"initdb: {made.stdout}{made.stderr}")
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(_SETTINGS.format(port=port, sockets=sockets, durable="on" if durable else "off"))
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        with Child(
            [_binary("postgres"), "-D", data], log=log, user="postgres", cwd=Path("/"), stop=signal.SIGINT
        ) as child:
            server = Postgres(child, sockets, port)

            def up() -> bool:
                try:
                    server._run("SELECT 1")
                except psycopg.OperationalError:
                    return False
                return True

            child.ready(up, "PostgreSQL")
            yield server
