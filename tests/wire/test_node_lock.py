"""The lock of a node's number on PostgreSQL: lost with its session, taken again, or another's by then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.servers.place import wait_until
from tests.servers.postgres import Postgres
from tracker.store import Store
from tracker.store_errors import NodeTaken, StoreError

pytestmark = [pytest.mark.servers, pytest.mark.postgres]


@pytest.fixture
def stores(pg_url: str) -> Iterator[tuple[Store, Store]]:
    both = Store(pg_url), Store(pg_url)
    yield both
    for store in both:
        store.close()


def cut(server: Postgres, url: str) -> None:
    name = url.rpartition("/")[2]
    server._run(
        f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "  # and waits until it is gone
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )


def test_a_number_is_one_nodes(stores: tuple[Store, Store]) -> None:
    one, other = stores
    one.hold_node(3)
    assert not one.keep_node()
    with pytest.raises(StoreError, match="node 3 is already running"):
        other.hold_node(3)
    other.hold_node(4)


def test_a_lock_that_the_server_let_go_is_taken_again(
    stores: tuple[Store, Store], postgres_server: Postgres, pg_url: str
) -> None:
    one, other = stores
    one.hold_node(3)
    cut(postgres_server, pg_url)
    assert one.keep_node()
    assert not one.keep_node()
    with pytest.raises(NodeTaken):
        other.hold_node(3)


def test_a_number_that_another_process_took_meanwhile_is_lost(
    stores: tuple[Store, Store], postgres_server: Postgres, pg_url: str
) -> None:
    one, other = stores
    one.hold_node(3)
    cut(postgres_server, pg_url)
    other.hold_node(3)
    with pytest.raises(NodeTaken, match="took over node 3"):
        one.keep_node()


def test_a_session_of_ours_that_the_server_still_sees_is_no_other_process(
    stores: tuple[Store, Store],
) -> None:
    """The network was cut: the server does not know yet, and its session still has the lock."""
    one, other = stores
    one.hold_node(3)
    left, one._held = one._held, None
    assert not one.keep_node()  # it ends that session
    locks = text("SELECT count(*) FROM pg_locks WHERE classid = 7237102")
    with other.reader.connect() as conn:
        wait_until(lambda: not conn.execute(locks).scalar(), "the end of that session")
    assert one.keep_node()
    assert not one.keep_node()
    assert left is not None
    left.invalidate()
    left.close()
