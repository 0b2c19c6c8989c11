"""PostgreSQL stopped, crashed or throwing its clients out while letters come in.

The answer meanwhile is 451; when it is back, the same process goes on by itself, nothing lost or doubled.
The cluster is this module's own, because it is killed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.durability.letter import SMALL, SPOOLED
from tests.durability.life import BUSY, Lives, lives
from tests.servers.cut_proxy import cut_proxy
from tests.servers.place import Child, wait_until
from tests.servers.postgres import Postgres, postgres

pytestmark = [pytest.mark.servers, pytest.mark.postgres]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture
def alive(cluster: Postgres) -> Iterator[Lives]:
    with cluster.database() as url, lives(url) as living:
        yield living


def restart(cluster: Postgres) -> None:
    """Start the cluster again on its directory; the fixture ends what is started here."""
    command = cluster.child.process.args
    assert isinstance(command, list)
    data = Path(command[-1])
    (data / "postmaster.pid").unlink(missing_ok=True)
    log = cluster.child.log
    # The first words of the old command are the wrapper that Child puts before it anew.
    cluster.child = Child(command[-3:], log=log, user="postgres", cwd=Path("/"), stop=signal.SIGINT)
    wait_until(lambda: answers(cluster), "PostgreSQL", timeout=BUSY)


def answers(cluster: Postgres) -> bool:
    try:
        cluster._run("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("how", ["stopped", "crashed"])
def test_the_database_goes_away_and_comes_back(cluster: Postgres, alive: Lives, how: str) -> None:
    alive.warm()
    pid = alive.wasl.child.pid
    before = cluster.child
    if how == "stopped":
        before.end()
    else:
        before.kill()
    try:
        letters = [alive.letter(SMALL), alive.letter(SPOOLED)]
        for letter in letters:
            assert alive.send(letter).startswith("451"), letter.answers
    finally:
        restart(cluster)
    try:
        for letter in letters:
            alive.until_promised(letter)
        alive.until_delivered()
        assert alive.wasl.child.pid == pid
        assert [alive.came(letter) for letter in letters] == [1, 1]
        alive.audit()
    finally:
        alive.end()


def test_connections_are_cut_while_letters_come_in(cluster: Postgres, alive: Lives) -> None:
    """``pg_terminate_backend`` of all connections, again and again, in the midst of transactions."""
    alive.warm()
    pid = alive.wasl.child.pid
    letters = [alive.letter(SPOOLED if n % 10 == 9 else SMALL) for n in range(60)]
    done = threading.Event()

    def send(mine: int) -> None:
        for letter in letters[mine::6]:
            while not letter.promised and not done.is_set():
                letter.send(alive.wasl.relay)

    clients = [threading.Thread(target=send, args=(n,), daemon=True) for n in range(6)]
    for client in clients:
        client.start()
    cuts = 0
    while any(client.is_alive() for client in clients) and cuts < 25:
        cluster._run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname LIKE 'wasl%' AND pid <> pg_backend_pid()"
        )
        cuts += 1
        time.sleep(0.05)
    end = time.monotonic() + BUSY
    for client in clients:
        client.join(max(0.1, end - time.monotonic()))
    done.set()
    assert cuts >= 3
    assert all(letter.promised for letter in letters)
    alive.until_delivered()
    assert alive.wasl.child.pid == pid
    alive.audit()
    assert all(alive.came(letter) == 1 for letter in letters)


def test_a_letter_whose_commit_was_not_answered_is_sent_at_once(cluster: Postgres) -> None:
    """It was handed over to the relay by a transaction of which nobody heard; its lease is long."""
    with (
        cluster.database() as url,
        cut_proxy(cluster.port) as proxy,
        lives(proxy.url(url), relay={"lease": "15m"}) as alive,
    ):
        alive.warm()
        letter = alive.letter()
        proxy.arm(b"INSERT INTO letter")
        assert alive.send(letter).startswith("451"), letter.answers
        assert proxy.cuts == 1
        alive.until_promised(letter)
        alive.until_delivered()
        assert alive.came(letter) == 1
        alive.audit()
        alive.end()
