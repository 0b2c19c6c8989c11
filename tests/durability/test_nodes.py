"""Two nodes on one PostgreSQL database and one archive: both accept and relay, either may die.

Circulars to many agencies from sixteen clients at once are where lock orders meet. A dead node's leases run
out and the other takes them over; its own next life takes them at once.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.durability.letter import SPOOLED, Letter
from tests.durability.life import BUSY, KEYWORDS, RELAY, Lives, new_gateway
from tests.faults.faultfs import FaultFs
from tests.servers.place import Place, wait_until
from tests.servers.sink import smtp_sink
from tests.servers.wasl import House

pytestmark = [pytest.mark.servers, pytest.mark.postgres]
AGENCIES = 20
CIRCULAR = tuple(f"registry@a{n:02d}.gov.example" for n in range(AGENCIES))


@contextmanager
def two_nodes(url: str, leases: tuple[str, str] = ("5s", "5s")) -> Iterator[tuple[Lives, Lives]]:
    """Nodes 0 and 1, made the way the handbook says: the same secrets and archive, data apart."""
    with Place("nodes") as place, smtp_sink(keywords=KEYWORDS) as sink:
        first = new_gateway(place.path / "n0", sink.port, url, agencies=AGENCIES)
        first.set("archive", path=str(place.path / "archive"))
        shutil.copytree(first.root, place.path / "n1", ignore=shutil.ignore_patterns("data", "*.log"))
        nodes = []
        for number, lease in enumerate(leases):
            house = House(root=place.path / f"n{number}")
            house.set("gateway", node=number)
            house.set("relay", **{**RELAY, "lease": lease, "data_timeout": "4s"})  # type: ignore[arg-type]
            controls = place.folder(f"faults{number}")
            nodes.append(Lives(house, sink, FaultFs(Path(controls))))
        nodes[1].share(nodes[0])
        try:
            yield nodes[0], nodes[1]
        finally:
            for node in nodes:
                node.close()


def clients(nodes: tuple[Lives, Lives], letters: list[Letter], count: int = 16) -> list[threading.Thread]:
    """Clients that go from node to node until each of their letters has its 250."""
    ports = [node.wasl.relay for node in nodes]

    def send(mine: int) -> None:
        end = time.monotonic() + BUSY
        for n, letter in enumerate(letters[mine::count]):
            turn = mine + n
            while not letter.promised and time.monotonic() < end:
                if not letter.send(ports[turn % 2]):
                    time.sleep(0.05)
                turn += 1

    threads = [threading.Thread(target=send, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads


def joined(threads: list[threading.Thread], letters: list[Letter]) -> None:
    for thread in threads:
        thread.join(BUSY * 2)
    assert all(letter.promised for letter in letters), [one.answers for one in letters if not one.promised]


def test_both_accept_and_relay_and_one_is_killed(pg_url: str) -> None:
    with two_nodes(pg_url) as nodes:
        one, other = nodes
        one.warm()
        other.start()
        letters = [
            one.letter(
                SPOOLED if n % 16 == 5 else 6000, CIRCULAR if n % 4 == 0 else CIRCULAR[n % AGENCIES :][:2]
            )
            for n in range(64)
        ]
        threads = clients(nodes, letters)
        wait_until(lambda: sum(letter.promised for letter in letters) >= 20, "letters", timeout=BUSY)
        one.kill()
        one.wait_dead()
        joined(threads, letters)
        other.until_delivered()
        other.audit()
        logs = other.log() + one.last_log()
        assert "deadlock" not in logs.lower()
        assert "MOF/" in other.log()  # it did accept and relay itself


def test_leases_of_a_dead_node_pass_to_the_other_or_to_its_next_life(pg_url: str) -> None:
    """Node 0 holds short leases, node 1 long ones; each dies with letters in its hands."""
    with two_nodes(pg_url, ("5s", "15m")) as nodes:
        for dying, living in ((nodes[0], nodes[1]), (nodes[1], nodes[1])):
            dying.warm()
            assert living.wasl
            letter = dying.letter()
            dying.at(".", dying.kill)
            dying.until_promised_once(letter)
            dying.wait_dead()
            began = time.monotonic()
            living.until_delivered(timeout=BUSY)
            assert time.monotonic() - began < 300  # long before the fifteen minutes are over
            assert (living.came(letter), living.doubts(letter)) == (2, 1)
            living.audit()


def test_a_node_number_is_used_once(pg_url: str) -> None:
    """A second node 0 on another machine (another data directory) is refused with what to do."""
    with two_nodes(pg_url) as nodes:
        nodes[0].start()
        nodes[1].house.set("gateway", node=0)
        said = nodes[1].refused()
        assert "node 0 is already running on this database" in said
        assert "gateway.node" in said
