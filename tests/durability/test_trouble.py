"""Trouble that lasts: what the log says of it, how a stop ends in the midst of it, and who works on then."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

import psycopg
import pytest

from tests.durability.letter import SMALL, SPOOLED
from tests.durability.life import BUSY, lives
from tests.durability.test_database_gone import restart
from tests.faults.faultfs import Call
from tests.servers.place import read_log, wait_until
from tests.servers.postgres import postgres

pytestmark = pytest.mark.servers


@pytest.mark.postgres
def test_while_the_database_is_away_the_log_stays_short() -> None:
    with postgres() as cluster, cluster.database() as url, lives(url) as alive:
        alive.warm()
        before = len(alive.log().splitlines())
        cluster.child.end()
        began = time.monotonic()
        letter = alive.letter(SMALL)
        assert alive.send(letter).startswith("451")
        time.sleep(max(0.0, 12 - (time.monotonic() - began)))
        lines = alive.log().splitlines()[before:]
        assert not any("Traceback" in line for line in lines), "\n".join(lines)
        assert len(lines) < 20, "\n".join(lines)
        restart(cluster)
        alive.until_promised(letter)
        alive.until_delivered()
        wait_until(lambda: "over after" in alive.log(), "the end of it", timeout=BUSY, hint=alive.log)
        wait_until(lambda: "this node's lock; it is taken again" in alive.log(), "the lock", timeout=BUSY)
        alive.audit()
        alive.end()


@pytest.mark.postgres
def test_a_node_whose_number_another_process_took_ends_and_says_so() -> None:
    with postgres() as cluster, cluster.database() as url, lives(url) as alive:
        alive.warm()
        child = alive.wasl.child
        cluster.child.end()
        restart(cluster)
        with psycopg.connect(
            host="127.0.0.1", port=cluster.port, user="postgres", dbname=url.rpartition("/")[2]
        ) as other:
            # Whoever comes first: the gateway may have been quicker, then its session gives way.
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE classid = 7237102 AND granted"
            )
            other.execute("SELECT pg_advisory_lock(7237102, 0)")
            other.commit()
            wait_until(lambda: not child.alive, "the end", timeout=BUSY, hint=lambda: read_log(child.log))
        assert child.process.returncode == 1
        assert "another process took over node 0" in read_log(child.log)


@pytest.mark.parametrize("trouble", ["EIO", "ENOSPC", "stuck", "database"])
def test_a_stop_amid_failing_storage_ends_within_half_a_minute(trouble: str) -> None:
    with lives() as alive:
        grace = 3 if trouble == "stuck" else 20  # of a stop; ten seconds later what hangs is cut off
        alive.house.set("limits", stop_grace=f"{grace}s")
        alive.warm()
        waiting = alive.letter()
        alive.at("MAIL", lambda: b"450 4.2.0 later")
        alive.until_promised(waiting)
        match trouble:
            case "EIO":
                alive.faults.fail(Call.STORE, "/data/", error=errno.EIO)
            case "ENOSPC":
                alive.faults.fail(Call.STORE, "/data/", error=errno.ENOSPC)
            case "stuck":
                alive.faults.delay(Call.SYNC, 120_000, "/data/")
            case _:
                alive.faults.fail(Call.STORE, "wasl.db", error=errno.EIO)
        crowd = alive.crowd([alive.letter(SMALL), alive.letter(SPOOLED)])
        time.sleep(1)
        child, began = alive.wasl.child, time.monotonic()
        os.kill(child.pid, signal.SIGTERM)
        wait_until(lambda: not child.alive, "the end", timeout=120, hint=lambda: read_log(child.log))
        took = time.monotonic() - began
        alive.faults.lift()
        crowd.join()
        assert took < grace + 40, read_log(child.log)  # and half a minute for a machine that is busy
        alive.until_delivered()
        alive.audit()
        alive.end()


@pytest.mark.parametrize(("at", "doubts"), [("MAIL", 0), (".", 1)])
def test_a_stop_beside_a_slow_next_hop_leaves_in_doubt_only_what_that_may_have(at: str, doubts: int) -> None:
    with lives(relay={"connections_per_hop": 1}) as alive:
        alive.house.set("limits", stop_grace="1s")
        alive.warm()
        asked = threading.Event()

        def slow() -> float:
            asked.set()
            return 60.0

        alive.at(at, slow)
        first = alive.letter()
        alive.until_promised(first)
        assert asked.wait(BUSY)
        behind = [alive.letter(), alive.letter()]
        for letter in behind:
            alive.until_promised(letter)
        child = alive.wasl.child
        os.kill(child.pid, signal.SIGTERM)
        wait_until(lambda: not child.alive, "the end", timeout=BUSY, hint=lambda: read_log(child.log))
        assert child.process.returncode == 0, read_log(child.log)
        states = sorted(state for state, _ in alive.open_deliveries())
        assert states == ["queued"] * (3 - doubts) + ["sending"] * doubts
        alive.until_delivered()
        assert [alive.doubts(one) for one in (first, *behind)] == [doubts, 0, 0]
        alive.audit()
        alive.end()
