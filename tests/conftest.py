"""Fixtures that every test may ask for: real servers, databases, places.

Servers that hold no state of a test live as long as the session (one of each per xdist worker), the others
as long as the test. A server that is not installed makes the test fail, not skip: `make setup` installs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.place import Place
from tests.servers.postgres import Postgres, postgres
from tests.servers.sink import Sink, smtp_sink

if TYPE_CHECKING:
    from tracker.record import Record

# What the tests start finds its code compiled: else each process compiles all of it anew.
os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parents[1] / ".cache" / "bytecode")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The same examples everywhere and each time, however long one takes: a failure is a fault, not chance.
# Other ones are looked for with ``pytest --hypothesis-profile=search``.
SLOW = [HealthCheck.too_slow]
settings.register_profile(
    "wasl", derandomize=True, deadline=None, database=None, suppress_health_check=SLOW, print_blob=True
)
settings.register_profile("search", deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile("wasl")


@pytest.fixture
def place() -> Iterator[Place]:
    """A short folder that servers running as other users may pass through; gone after the test."""
    with Place("test") as at:
        yield at


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """A certificate authority of the tests' own."""
    with Place("ca") as at:
        yield Authority(at.path)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The PostgreSQL cluster of this session."""
    with postgres() as server:
        yield server


class Records:
    """Databases with the tables of a record and without a row: each is given out again when it is empty."""

    def __init__(self, server: Postgres) -> None:
        from tracker.store import Store

        self._server = server
        self._model = server.create()
        store = Store(server.url(self._model))
        store.create()
        store.close()
        self._free: list[str] = []

    @contextmanager
    def database(self) -> Iterator[str]:
        """One for the block; yields its URL."""
        from tracker.schema import metadata

        name = self._free.pop() if self._free else self._server.create(like=self._model)
        yield self._server.url(name)
        self._server.empty(name, [table.name for table in reversed(metadata.sorted_tables)])
        self._free.append(name)


@pytest.fixture(scope="session")
def postgres_records(postgres_server: Postgres) -> Records:
    """The databases of this session's tests that want the tables of a record."""
    return Records(postgres_server)


@pytest.fixture
def pg_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own: ``postgresql+psycopg://…``."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'wasl.db'}"
    url: str = request.getfixturevalue("pg_url")
    return url


@pytest.fixture(scope="session")
def dovecot_server() -> Iterator[Dovecot]:
    """A Dovecot in which every address exists (password ``secret``): take an address no other test uses."""
    with dovecot() as server:
        yield server


@pytest.fixture
def sink() -> Iterator[Sink]:
    """An SMTP sink of the test's own."""
    with smtp_sink() as running:
        yield running


@pytest.fixture
def lmtp_sink() -> Iterator[Sink]:
    """An LMTP sink of the test's own."""
    with smtp_sink(lmtp=True) as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def record_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """As ``db_url``, for those who want tables in it: they are there already, or made in no time."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'wasl.db'}"
        return
    records: Records = request.getfixturevalue("postgres_records")
    with records.database() as url:
        yield url


@pytest.fixture
def record(record_url: str, tmp_path: Path) -> Iterator[Record]:
    """An empty record; the test runs once on SQLite and once on PostgreSQL."""
    from tests.records import record_at

    with record_at(record_url, tmp_path) as made:
        yield made
