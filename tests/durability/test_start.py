"""Starting: with much to do, beside another one, on a backup that is too old, and after the clock was set."""

from __future__ import annotations

import itertools
import shutil
import time

import pytest
from sqlalchemy import func, select

from tests.durability.conftest import Living
from tests.durability.life import BUSY, LATER, lives
from tests.servers.place import wait_until
from tests.servers.sink import DROP
from tracker import schema
from tracker.states import State

pytestmark = pytest.mark.servers
QUEUED = 10_000
DAY = 86_400


@pytest.mark.slow
def test_ten_thousand_queued_flow_again_within_five_seconds() -> None:
    """Restart of a gateway killed with 10,000 deliveries to be made; measured from the process's start."""
    with lives(agencies=100, relay={"retry": ["1h"], "letters_per_connection": 200}) as alive:
        began = time.monotonic()
        alive.warm()
        usual = time.monotonic() - began  # a start, and a letter there, with nothing to do
        done = len(alive.sink.received)
        refusing = True
        alive.sink.script = lambda verb, line: b"450 4.2.0 later" if verb == "MAIL" and refusing else None
        everybody = [f"p@a{m:02d}.gov.example" for m in range(100)]  # with many more, a rule would hold it
        for _ in range(QUEUED // len(everybody)):
            alive.until_promised(alive.letter(recipients=everybody))
        alive.kill()
        alive.wait_dead()
        with alive.store() as store, store.writer.begin() as conn:
            d = schema.delivery.c
            conn.execute(schema.delivery.update().where(d.state == State.QUEUED.value).values(next_us=0))
            assert conn.execute(select(func.count()).select_from(schema.delivery)).scalar() == QUEUED + done
        refusing = False
        began = time.monotonic()
        alive.start()
        first = wait_until(lambda: alive.sink.received[done:], "the first letter", timeout=BUSY, pause=0.002)
        waited = time.monotonic() - began
        assert first
        assert waited < 5 + 4 * usual, f"{waited:.1f} s, and {usual:.1f} s with nothing to do"
        wait_until(lambda: len(alive.sink.received) > 300, "the flow", timeout=BUSY)
        alive.kill()


def test_a_second_instance_on_one_data_directory_is_refused(living: Living) -> None:
    alive = living("sqlite")
    alive.warm()
    said = alive.refused()
    assert f"in use by process {alive.wasl.child.pid}" in said
    assert "stop it first" in said
    letter = alive.letter()
    assert alive.send(letter).startswith("250")  # the first one did not notice
    alive.until_delivered()
    alive.audit()
    alive.whole = True


@pytest.mark.parametrize("loss", ["numbers", "ledger"])
def test_an_older_backup_is_refused(living: Living, loss: str) -> None:
    """The database of yesterday under the marks of today: numbers would be given out twice."""
    alive = living("sqlite")
    alive.warm()
    alive.end()
    database = alive.house.data / "wasl.db"
    backup = alive.house.root / "wasl.db.yesterday"
    shutil.copyfile(database, backup)
    alive.warm()
    alive.end()
    today = alive.house.root / "wasl.db.today"
    database.rename(today)
    for more in ("-wal", "-shm"):
        (alive.house.data / f"wasl.db{more}").unlink(missing_ok=True)
    shutil.copyfile(backup, database)
    said = alive.refused()
    assert "behind what this gateway has published" in said
    assert "Restore the newest backup" in said
    assert "high-water.json" in said
    if loss == "numbers":
        assert "MOF/" in said
    today.replace(database)
    alive.until_promised(alive.letter())
    alive.until_delivered()
    alive.audit()
    alive.whole = True


@pytest.mark.parametrize(
    ("days", "restarted"),
    [(-3, True), (-400, False), (40, False), (700, True)],
    ids=["-3 days, restarted", "-400 days", "+40 days", "+700 days, restarted"],
)
def test_the_clock_is_set(days: int, restarted: bool) -> None:
    """Ids, numbers and the year of the register never go backwards; what waits is tried again."""
    with lives(relay={"retry": ["2s"]}) as alive:
        alive.warm()
        first = alive.letter()
        alive.until_promised(first)
        alive.until_delivered()
        waiting = alive.letter()
        with alive.put_off():
            alive.until_promised(waiting)
            alive.wait_put_off()
            if restarted:
                alive.end()
            alive.faults.step_clock(days * DAY)
        second = alive.letter()
        alive.until_promised(second)
        alive.until_delivered()
        assert (alive.came(waiting), alive.came(second)) == (1, 1)
        ahead = alive.letter()  # put off on a clock that is then set right
        with alive.put_off():
            alive.until_promised(ahead)
            alive.wait_put_off()
            alive.faults.step_clock(0)
        alive.until_delivered()
        assert alive.came(ahead) == 1
        third = alive.letter()
        alive.at("MAIL", lambda: b"450 4.2.0 later")
        alive.until_promised(third)
        alive.until_delivered()
        with alive.store() as store, store.reader.connect() as conn:
            c = schema.letter.c
            rows = conn.execute(select(c.message_id, c.id, c.year, c.seq, c.number)).all()
            ids = list(
                conn.execute(select(schema.evidence.c.id).order_by(schema.evidence.c.noted_us)).scalars()
            )
        assert len(set(ids)) == len(ids)
        found = {row.message_id: row for row in rows}
        in_order = [found[one.message_id] for one in (first, second, third)]
        assert [row.id for row in in_order] == sorted(row.id for row in in_order)
        stamps = [(row.year, row.seq) for row in in_order]
        assert stamps == sorted(set(stamps))
        alive.audit()


def test_a_resting_hop_is_tried_again_although_the_clock_was_set_back() -> None:
    with lives() as alive:
        alive.warm()
        waiting = alive.letter()
        alive.at("CONNECT", lambda: DROP)
        alive.until_promised(waiting)
        wait_until(lambda: any(state == "queued" for state, _ in alive.open_deliveries()), "it", timeout=BUSY)
        alive.faults.step_clock(-3 * DAY)
        alive.until_delivered()
        assert alive.came(waiting) == 1
        alive.audit()


def test_a_clock_that_jumps_ahead_returns_nothing_and_sends_nothing_twice() -> None:
    """One letter waits to be tried again, another is just being sent when the clock jumps by forty days."""
    with lives(relay={"retry": ["2s"], "data_timeout": "20s", "lease": "30s"}) as alive:
        alive.warm()
        waiting = alive.letter()
        holding = True
        alive.sink.script = lambda verb, line: (
            LATER if holding and verb == "RCPT" and b"registry@" in line else alive._asked(verb, line)
        )
        alive.until_promised(waiting)
        alive.wait_put_off()
        slow = alive.letter(recipients=["other@moh.gov.example"])

        def dally() -> None:
            nonlocal holding
            alive.faults.step_clock(40 * DAY)
            holding = False
            time.sleep(4)

        alive.at("DATA", dally)
        alive.until_promised(slow)
        refused = itertools.count()
        alive.sink.script = lambda verb, line: (
            b"450 4.2.0 not yet" if verb == "MAIL" and next(refused) < 3 else alive._asked(verb, line)
        )
        alive.until_delivered()
        assert (alive.came(waiting), alive.came(slow)) == (1, 1)
        assert alive.doubts(slow) == 0
        alive.faults.step_clock(0)
        alive.audit()
