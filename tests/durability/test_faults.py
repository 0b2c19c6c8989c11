"""Storage that fails under a running gateway: never a 250, and it goes on by itself when the cause is gone.

Every call that keeps a letter fails in turn, with EIO (after which the data count as lost), ENOSPC, and the
errors of a file system gone read-only and a process out of descriptors. No case restarts the gateway: the
fault is lifted, and the next letter must flow. Faults while the relay notes or claims must neither lose nor
double a letter.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass

import pytest

from tests.durability.conftest import Living
from tests.durability.letter import SMALL, SPOOLED
from tests.durability.life import BUSY, steady_hour
from tests.faults.faultfs import Call
from tests.servers.place import wait_until
from tests.servers.sink import Answer

pytestmark = pytest.mark.servers
_WAL = "wasl.db-wal"
_NAMES = {errno.EIO: "EIO", errno.ENOSPC: "ENOSPC", errno.EROFS: "EROFS", errno.EMFILE: "EMFILE"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What fails, for ever until it is lifted."""

    name: str
    calls: Call
    match: str  # {hour} is filled in
    error: int
    size: int = SMALL
    database: str = "sqlite"
    later: bool = False  # an hour on, so that folders have to be made

    def __str__(self) -> str:
        return f"{self.name} {_NAMES.get(self.error, self.error)}, {self.database}"


FAULTS = (
    Fault(name="object made", calls=Call.CREATE, match=".eml", error=errno.ENOSPC),
    Fault(name="object made", calls=Call.CREATE, match=".eml", error=errno.EMFILE),
    Fault(name="object made", calls=Call.CREATE, match=".eml", error=errno.EROFS),
    Fault(name="object written", calls=Call.WRITE, match=".eml", error=errno.ENOSPC),
    Fault(name="object written", calls=Call.WRITE, match=".eml", error=errno.EIO),
    Fault(name="object synced", calls=Call.FSYNC, match=".eml", error=errno.EIO),
    Fault(name="object synced", calls=Call.FSYNC, match=".eml", error=errno.EIO, database="postgres"),
    Fault(name="object synced", calls=Call.FSYNC, match=".eml", error=errno.ENOSPC),
    Fault(name="folder synced", calls=Call.FSYNC, match="{hour}$", error=errno.EIO),
    Fault(name="folder synced, spooled", calls=Call.FSYNC, match="{hour}$", error=errno.EIO, size=SPOOLED),
    Fault(name="folder made", calls=Call.MKDIR, match="/archive/", error=errno.ENOSPC, later=True),
    Fault(name="new folder synced", calls=Call.FSYNC, match="/archive", error=errno.EIO, later=True),
    Fault(name="spool made", calls=Call.CREATE, match="/archive/spool/", error=errno.ENOSPC, size=SPOOLED),
    Fault(name="spool made", calls=Call.CREATE, match="/archive/spool/", error=errno.EIO, size=SPOOLED),
    Fault(name="spool written", calls=Call.WRITE, match="/archive/spool/", error=errno.ENOSPC, size=SPOOLED),
    Fault(name="spool written", calls=Call.WRITE, match="/archive/spool/", error=errno.EIO, size=SPOOLED),
    Fault(name="spool synced", calls=Call.FSYNC, match="/archive/spool/", error=errno.EIO, size=SPOOLED),
    Fault(
        name="spool synced", calls=Call.FSYNC, match="/archive/spool/", error=errno.EIO, size=SPOOLED,
        database="postgres",
    ),
    Fault(name="object linked", calls=Call.LINK, match=".eml", error=errno.ENOSPC, size=SPOOLED),
    Fault(name="object linked", calls=Call.LINK, match=".eml", error=errno.EIO, size=SPOOLED),
    Fault(name="WAL written", calls=Call.PWRITE, match=_WAL, error=errno.ENOSPC),
    Fault(name="WAL written", calls=Call.PWRITE, match=_WAL, error=errno.EIO),
    Fault(name="WAL written, spooled", calls=Call.PWRITE, match=_WAL, error=errno.EIO, size=SPOOLED),
    Fault(name="WAL synced", calls=Call.SYNC, match=_WAL, error=errno.EIO),
    Fault(name="WAL synced", calls=Call.SYNC, match=_WAL, error=errno.ENOSPC),
    Fault(name="WAL synced, spooled", calls=Call.SYNC, match=_WAL, error=errno.EIO, size=SPOOLED),
    Fault(
        name="rows sent", calls=Call.SEND, match="INSERT INTO letter", error=errno.ECONNRESET,
        database="postgres",
    ),
    Fault(
        name="COMMIT sent", calls=Call.SEND, match="COMMIT", error=errno.ECONNRESET, database="postgres",
    ),
)  # fmt: skip


def marked(fault: Fault) -> object:
    marks = [pytest.mark.postgres] if fault.database == "postgres" else []
    return pytest.param(fault, id=str(fault), marks=marks)


@pytest.mark.parametrize("fault", [marked(fault) for fault in FAULTS])
def test_no_promise_while_storage_fails(living: Living, fault: Fault) -> None:
    lives = living(fault.database)
    lives.warm()
    pid = lives.wasl.child.pid
    letter, other = lives.letter(fault.size), lives.letter(fault.size)
    steady_hour()
    ahead = 3600 if fault.later else 0
    lives.faults.step_clock(ahead)
    hour = time.strftime("/%m%d/%H", time.gmtime(time.time() + ahead))
    rule = lives.faults.fail(fault.calls, fault.match.format(hour=hour), error=fault.error)
    try:
        for one in (letter, other, letter):
            answer = lives.send(one)
            assert answer[:1] == "4", answer
            if fault.error == errno.ENOSPC and "WAL" not in fault.name:
                assert answer.startswith("452 4.3.1")
        assert lives.faults.hits(rule) >= 3
    finally:
        lives.faults.lift()
    for one in (letter, other):
        lives.until_promised(one)
    lives.until_delivered()
    lives.faults.step_clock(0)
    assert lives.wasl.child.pid == pid
    assert (lives.came(letter), lives.came(other)) == (1, 1)
    lives.audit()
    lives.whole = True


@pytest.mark.parametrize(
    ("calls", "match", "size"),
    [
        (Call.FSYNC, ".eml", SMALL),
        (Call.FSYNC, "/archive/spool/", SPOOLED),
        (Call.PWRITE, _WAL, SMALL),
        (Call.SYNC, _WAL, SMALL),
    ],
    ids=["object", "spool file", "WAL written", "WAL synced"],
)
def test_one_failure_among_many(living: Living, calls: Call, match: str, size: int) -> None:
    """A sync that failed once reports success when it is asked again (the kernel forgets): never believed.

    A slow commit lets the letters gather into one group; the failure then meets one of them.
    """
    lives = living("sqlite")
    lives.warm()
    lives.faults.forget()
    lives.faults.watch(Call.SYNC)
    slow = lives.faults.delay(Call.SYNC, 300, _WAL)
    first = lives.crowd([lives.letter()])
    wait_until(lambda: lives.faults.hits(slow), "the first letter's commit", timeout=BUSY)
    letters = [lives.letter(size) for _ in range(6)]
    rule = lives.faults.fail(calls, match, times=1, skip=1 if match == _WAL else 0)
    crowd = lives.crowd(letters)
    first.join()
    crowd.join()
    wait_until(lambda: lives.faults.hits(rule), "the failure", timeout=BUSY)  # at the latest of a note
    assert lives.faults.hits(rule) == 1
    lives.faults.lift(slow)
    lives.faults.lift()
    lives.faults.watch(Call(0))
    asked = [(call.subject, call.error) for call in lives.faults.done() if "/spool/" in call.subject]
    for path in {path for path, error in asked if error}:
        assert [error for p, error in asked if p == path][-1] != 0, f"{path} was believed after a failed sync"
    for letter in letters:
        assert all(answer[:1] in "24" for answer in letter.answers), letter.answers
        lives.until_promised(letter)
    lives.until_delivered()
    lives.audit()
    lives.whole = True


@pytest.mark.parametrize(
    ("database", "calls", "match"),
    [
        ("sqlite", Call.PWRITE, _WAL),
        ("sqlite", Call.SYNC, _WAL),
        pytest.param("postgres", Call.SEND, "UPDATE delivery", marks=pytest.mark.postgres),
        pytest.param("postgres", Call.SEND, "COMMIT", marks=pytest.mark.postgres),
    ],
    ids=["WAL written", "WAL synced", "rows sent", "COMMIT sent"],
)
def test_a_note_waits_for_the_database(living: Living, database: str, calls: Call, match: str) -> None:
    """The next hop took the letter and the record cannot say so yet: it is not sent again."""
    lives = living(database)
    if match.startswith("UPDATE"):
        lives.start()  # a connection sends a statement that it was given five times by its name
    lives.warm()
    letter = lives.letter()
    rules: list[int] = []

    def fail() -> Answer:
        error = errno.ENOSPC if database == "sqlite" else errno.ECONNRESET
        rules.append(lives.faults.fail(calls, match, error=error))
        return None

    lives.at(".", fail)
    lives.until_promised(letter)
    wait_until(lambda: rules and lives.faults.hits(rules[0]) >= 2, "two failed notes", timeout=BUSY)
    other = lives.letter()
    assert lives.send(other)[:1] == ("2" if match.startswith("UPDATE") else "4")
    lives.faults.lift()
    lives.until_promised(other)
    lives.until_delivered()
    assert (lives.came(letter), lives.doubts(letter)) == (1, 0)
    lives.audit()
    lives.whole = True


def test_a_claim_waits_for_the_database(living: Living) -> None:
    """A letter put off by the next hop is claimed again once the database takes claims."""
    lives = living("sqlite")
    lives.warm()
    letter = lives.letter()
    rules: list[int] = []

    def put_off() -> Answer:
        rules.append(lives.faults.fail(Call.SYNC, _WAL, skip=1))
        return b"450 4.2.0 later"

    lives.at("MAIL", put_off)
    lives.until_promised(letter)
    wait_until(lambda: rules and lives.faults.hits(rules[0]) >= 2, "two failed claims", timeout=BUSY)
    lives.faults.lift()
    lives.until_delivered()
    assert (lives.came(letter), lives.doubts(letter)) == (1, 0)
    lives.audit()
    lives.whole = True


def test_the_database_file_fails_behind_its_wal(living: Living) -> None:
    """SQLite moves pages from the WAL into its file now and then; that may fail as long as it wants."""
    lives = living("sqlite")
    lives.warm()
    letter = lives.letter()
    lives.until_promised(letter)
    rule = lives.faults.fail(Call.PWRITE | Call.SYNC, "wasl.db$")
    lives.end()
    assert lives.faults.hits(rule) >= 1
    lives.until_promised(lives.letter())  # the WAL keeps it all
    lives.until_delivered()
    lives.audit()
    lives.faults.lift()
    lives.end()
    lives.until_delivered()
    lives.audit()
    lives.whole = True


def test_marks_that_cannot_be_kept_stop_no_letter(living: Living) -> None:
    lives = living("sqlite")
    lives.end()
    rule = lives.faults.fail(Call.CREATE, "high-water.part", error=errno.ENOSPC)
    lives.warm()
    wait_until(lambda: lives.faults.hits(rule), "the marks", timeout=BUSY)
    letter = lives.letter()
    assert lives.send(letter).startswith("250")
    assert "high-water" in lives.log()
    lives.faults.lift()
    lives.until_delivered()
    lives.audit()
    lives.whole = True


def test_what_cannot_be_removed_costs_no_letter(living: Living) -> None:
    """The object of a repeat is in nobody's way; that it stays must not undo the group it came in."""
    lives = living("sqlite")
    lives.warm()
    repeated = lives.letter()
    lives.until_promised(repeated)
    slow = lives.faults.delay(Call.SYNC, 400, _WAL)
    first = lives.crowd([lives.letter()])
    letters = [lives.letter(), lives.letter(), lives.letter()]
    rule = lives.faults.fail(Call.UNLINK, ".eml", times=1)
    crowd = lives.crowd([letters[0], repeated, *letters[1:]])
    first.join()
    crowd.join()
    assert lives.faults.hits(rule) == 1
    lives.faults.lift(slow)
    lives.faults.lift()
    assert len({answer.split()[-1] for answer in repeated.answers}) == 1  # the first number, again
    assert all(letter.promised for letter in letters)
    lives.until_delivered()
    lives.audit()
    lives.whole = True
