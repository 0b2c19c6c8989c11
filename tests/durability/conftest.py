"""Gateways that the cases of a module share: a case begins with what the ones before it left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.durability.life import Lives, lives
from tests.servers.postgres import Postgres

Living = Callable[[str], Lives]


@pytest.fixture(scope="module")
def living(request: pytest.FixtureRequest) -> Iterator[Living]:
    """Gives the module's gateway on ``"sqlite"`` or ``"postgres"``; another one after a case that failed."""
    with ExitStack() as stack:
        had: dict[str, Lives] = {}

        def give(database: str) -> Lives:
            known = had.get(database)
            if known is None or not known.whole:
                url = None
                if database == "postgres":
                    server: Postgres = request.getfixturevalue("postgres_server")
                    url = stack.enter_context(server.database())
                known = had[database] = stack.enter_context(lives(url))
            known.whole = False
            return known

        yield give
