"""kill -9 at every named step of accept, relay and note; then the same directory again, and the audit.

A case is a step, before or after its system call, with a small letter (kept in memory until it is stored)
or a spooled one, on SQLite or PostgreSQL. The client that read no 250 sends again, as mail servers do. The
shim kills at calls, the sink arms it where a step is only known by what the next hop was told.

By default each step is tried before its call, where the next one is not as good also after it, in one of its
combinations of size and database, taken in turn; ``WASL_EVERY_KILL=1`` tries the whole product.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.durability.conftest import Living
from tests.durability.letter import SMALL, SPOOLED, Letter
from tests.durability.life import Lives, steady_hour
from tests.faults.faultfs import Call
from tests.servers.sink import Answer

BOTH = (SMALL, SPOOLED)
_WAL = "wasl.db-wal"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call in the life of a letter, the same on both databases or given for each."""

    name: str
    calls: Call
    match: str  # {name}, {hour} and {sink} are filled in
    skip: int = 0
    sizes: tuple[int, ...] = BOTH
    database: str | None = None  # only there
    armed: str = ""  # the verb at the sink before which it cannot be; "": from the beginning
    answer: bytes | None = None  # what the sink then says
    once: bool = True  # killed here, the letter comes exactly once
    last: bool = False  # after it is not just before the next step: tried by default too
    window: bool = False  # killed before the call, the letter comes twice and the record is in doubt


STEPS = (
    # Accept: spool, object, folder, rows, commit, answer.
    Step(name="spool made", calls=Call.CREATE, match="/archive/spool/", sizes=(SPOOLED,)),
    Step(name="spool written", calls=Call.WRITE, match="/archive/spool/", skip=2, sizes=(SPOOLED,)),
    Step(name="spool synced", calls=Call.FSYNC, match="/archive/spool/", sizes=(SPOOLED,)),
    Step(name="object made", calls=Call.CREATE, match=".eml", sizes=(SMALL,)),
    Step(name="object written", calls=Call.WRITE, match=".eml", sizes=(SMALL,)),
    Step(name="object synced", calls=Call.FSYNC, match=".eml", sizes=(SMALL,)),
    Step(name="object linked", calls=Call.LINK, match=".eml", sizes=(SPOOLED,), last=True),
    Step(name="folder synced", calls=Call.FSYNC, match="{hour}$", last=True),
    Step(name="spool name gone", calls=Call.UNLINK, match="/archive/spool/", sizes=(SPOOLED,)),
    Step(name="rows written", calls=Call.PWRITE, match=_WAL, skip=3, database="sqlite"),
    Step(name="rows sent", calls=Call.SEND, match="INSERT INTO delivery", database="postgres"),
    Step(name="committed", calls=Call.SYNC, match=_WAL, database="sqlite", last=True),
    Step(name="commit said", calls=Call.SEND, match="COMMIT", database="postgres", last=True),
    Step(name="250 sent", calls=Call.SEND, match="250 2.0.0 Ok: queued", once=False, last=True),
    # Relay: each word to the next hop.
    Step(name="connected", calls=Call.CONNECT, match="{sink}$"),
    Step(name="EHLO sent", calls=Call.SEND, match="EHLO "),
    Step(name="MAIL sent", calls=Call.SEND, match="MAIL FROM:"),
    Step(name="RCPT sent", calls=Call.SEND, match="RCPT TO:"),
    Step(name="DATA sent", calls=Call.SEND, match="DATA\r\n$", last=True),
    Step(name="head sent", calls=Call.SEND, match="Authentication-Results: ", once=False, last=True),
    Step(name="content sent", calls=Call.SEND, match="{name} stands", skip=1, sizes=(SPOOLED,)),
    # Note: what came of it.
    Step(name="note's rows", calls=Call.PWRITE, match=_WAL, database="sqlite", armed=".", window=True),
    Step(
        name="note's rows", calls=Call.SEND, match="UPDATE delivery", database="postgres", armed=".",
        window=True,
    ),
    Step(
        name="note's commit", calls=Call.SYNC, match=_WAL, database="sqlite", armed=".", once=False,
        last=True,
    ),
    Step(
        name="note's commit", calls=Call.SEND, match="COMMIT", database="postgres", armed=".", once=False,
        window=True, last=True,
    ),
    # Put off by the next hop: noted, claimed again, tried again.
    Step(
        name="deferral's commit", calls=Call.SYNC, match=_WAL, database="sqlite", armed="MAIL",
        answer=b"450 4.2.0 later", last=True,
    ),
    Step(
        name="deferral's rows", calls=Call.SEND, match="UPDATE delivery", database="postgres", armed="MAIL",
        answer=b"450 4.2.0 later",
    ),
    Step(
        name="claim's commit", calls=Call.SYNC, match=_WAL, skip=1, database="sqlite", armed="MAIL",
        answer=b"450 4.2.0 later", last=True,
    ),
    Step(
        name="claim's rows", calls=Call.SEND, match="INSERT INTO attempt", database="postgres", armed="MAIL",
        answer=b"450 4.2.0 later", last=True,
    ),
    Step(
        name="MAIL sent again", calls=Call.SEND, match="MAIL FROM:", armed="MAIL", answer=b"450 4.2.0 later",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    step: Step
    after: bool
    size: int
    database: str

    def __str__(self) -> str:
        size = "small" if self.size == SMALL else "spooled"
        return f"{self.step.name}, {'after' if self.after else 'before'}, {size}, {self.database}"


def cases() -> Iterator[Case]:
    everything = os.environ.get("WASL_EVERY_KILL") == "1"
    turn = 0
    for step in STEPS:
        databases = (step.database,) if step.database else ("sqlite", "postgres")
        combinations = [(size, database) for database in databases for size in step.sizes]
        for after in (False, True) if everything or step.last else (False,):
            turn += 1
            for size, database in combinations if everything else [combinations[turn % len(combinations)]]:
                yield Case(step=step, after=after, size=size, database=database)


def marked(case: Case) -> object:
    marks = [pytest.mark.postgres] if case.database == "postgres" else []
    return pytest.param(case, id=str(case), marks=marks)


@pytest.mark.servers
@pytest.mark.parametrize("case", [marked(case) for case in cases()])
def test_killed_at(living: Living, case: Case) -> None:
    lives = living(case.database)
    lives.warm()
    steady_hour()
    letter = lives.letter(case.size)
    arm(lives, letter, case)
    lives.send(letter)
    lives.wait_dead()
    lives.faults.lift()
    lives.until_promised(letter)
    lives.until_delivered()
    if case.step.once:
        assert lives.came(letter) == (2 if case.step.window else 1)
    if case.step.window and not case.after:
        assert lives.came(letter) == 2
        assert lives.doubts(letter) == 1
    lives.audit()
    lives.whole = True


def arm(lives: Lives, letter: Letter, case: Case) -> None:
    """Let the step be the last one."""
    step = case.step
    match = step.match.format(
        name=letter.name, hour=time.strftime("/%m%d/%H", time.gmtime()), sink=lives.sink.port
    )

    def now() -> Answer:
        lives.faults.kill(step.calls, match, after=case.after, skip=step.skip)
        return step.answer

    if step.armed:
        lives.at(step.armed, now)
    else:
        now()


@pytest.mark.servers
@pytest.mark.parametrize("size", BOTH, ids=["small", "spooled"])
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_killed_with_the_answer_on_its_way(living: Living, database: str, size: int) -> None:
    """The next hop has the letter and nobody read its 250: once more, and the record says why."""
    lives = living(database)
    lives.warm()
    letter = lives.letter(size)
    lives.at(".", lives.kill)
    lives.until_promised(letter)
    lives.wait_dead()
    lives.until_delivered()
    assert (lives.came(letter), lives.doubts(letter)) == (2, 1)
    lives.audit()
    lives.whole = True


@pytest.mark.servers
@pytest.mark.parametrize(
    ("at", "after"),
    [("the first sync", False), ("the first sync", True), ("high water synced", True), ("in place", True)],
    ids=["first sync, before", "first sync, after", "high water synced", "high water in place"],
)
def test_killed_in_its_first_seconds(living: Living, at: str, after: bool) -> None:
    """Opening the record, signing the head, keeping the marks: the next start needs no special case."""
    lives = living("sqlite")
    lives.warm()
    letter = lives.letter()
    lives.until_promised(letter)
    lives.kill()
    lives.wait_dead()
    calls, match = {
        "the first sync": (Call.SYNC, "wasl.db"),
        "high water synced": (Call.SYNC, "high-water.part"),
        "in place": (Call.RENAME, "high-water.json"),
    }[at]
    rule = lives.faults.kill(calls, match, after=after)
    lives.start_dying()
    assert lives.faults.hits(rule) == 1
    lives.faults.lift()
    lives.until_delivered()
    lives.audit()
    lives.whole = True


@pytest.mark.servers
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_killed_at_any_moment(living: Living, database: str) -> None:
    """Killed from outside at moments that nobody chose, with sixteen letters under way."""
    lives = living(database)
    for pause in (0.02, 0.15):
        lives.warm()
        letters = [lives.letter(SPOOLED if n % 8 == 7 else SMALL) for n in range(16)]
        crowd = lives.crowd(letters)
        time.sleep(pause)
        lives.kill()
        lives.wait_dead()
        crowd.join()
        for letter in letters:
            lives.until_promised(letter)
        lives.until_delivered()
        lives.audit()
    lives.whole = True
