"""A gateway that lives many times: killed at a named step, started again on the same directory, audited.

Every life runs under the shim of :mod:`tests.faults`, which does nothing unless it is told to. What a test
may ask at any time stands in :meth:`Lives.audit`: every promise made so far is kept, whatever happened.

How it fails: an AssertionError that names the letter, or ``ServerFailed`` with the gateway's log.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from gateway.settings import Settings
from gateway.settings_file import read_settings
from tests.durability.letter import SMALL, Letter
from tests.faults.faultfs import FaultFs
from tests.servers.place import Child, Place, ServerFailed, read_log, wait_until
from tests.servers.sink import Answer, Sink, smtp_sink
from tests.servers.wasl import House, Wasl, copied_house, serving
from tracker import schema
from tracker.archive import Archive
from tracker.audit_ledger import verify_store
from tracker.ledger import LedgerKey
from tracker.states import Event, State
from tracker.store import Store

# Without PIPELINING each command is a call of its own, so that each can be the last one.
KEYWORDS = ("8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "SIZE 0")
BUSY = 90.0  # seconds; a machine with other work to do takes its time
LATER = b"450 4.2.0 later"


class Lives:
    """One gateway, its sink, and all the letters that it was ever given."""

    def __init__(self, house: House, sink: Sink, faults: FaultFs) -> None:
        self.house = house
        self.sink = sink
        self.faults = faults
        self.letters: list[Letter] = []
        self.whole = True  # the last case came to its end
        self._count = itertools.count(1)
        self._life = ExitStack()
        self._wasl: Wasl | None = None
        self._warm: Wasl | None = None
        self._lives = itertools.count(1)
        sink.script = self._asked
        self._script: dict[str, Callable[[], Answer]] = {}

    # Lives.

    @property
    def wasl(self) -> Wasl:
        """The living gateway; started if there is none."""
        if self._wasl is None or not self._wasl.child.alive:
            self.start()
        assert self._wasl is not None
        return self._wasl

    def start(self, env: Mapping[str, str] | None = None) -> None:
        """Begin another life on the same directory."""
        self.end()
        log = self.house.root / f"life{next(self._lives)}.log"
        more = {**self.faults.env, **(env or {})}
        self._wasl = self._life.enter_context(serving(self.house, log, env=more))

    def start_dying(self) -> None:
        """Begin a life that a rule cuts off within its first seconds."""
        with contextlib.suppress(ServerFailed):
            self.start()
            self.wait_dead()
        self.end()

    def refused(self) -> str:
        """Try to start beside or after all that is; what ``serve`` said when it would not."""
        command: list[str | Path] = [
            Path(sys.executable).with_name("wasl"),
            "serve",
            "--config",
            self.house.settings,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUSY)
        assert done.returncode, "it started"
        return str(done.stderr)

    def end(self) -> None:
        """End this life in order, if it lasts."""
        self._life.close()
        self._wasl = None

    def kill(self) -> None:
        """kill -9, from outside."""
        assert self._wasl is not None
        os.kill(self._wasl.child.pid, signal.SIGKILL)

    def wait_dead(self) -> None:
        """Wait until this life was cut off; ``ServerFailed`` if it was not."""
        assert self._wasl is not None
        child: Child = self._wasl.child
        wait_until(lambda: not child.alive, "the kill", timeout=BUSY, hint=lambda: read_log(child.log))
        assert child.process.returncode == -signal.SIGKILL, read_log(child.log)

    def warm(self) -> None:
        """Have one letter of this life behind us: folders are made, the WAL has begun."""
        if self._warm is not self.wasl:
            letter = self.letter()
            self.until_promised(letter)
            self.until_delivered()
            self._warm = self.wasl

    def log(self) -> str:
        """What this life logged."""
        return self.wasl.log()

    def last_log(self) -> str:
        """What the last life logged, dead or alive."""
        assert self._wasl is not None
        return self._wasl.log()

    def share(self, other: Lives) -> None:
        """Be another node of the same record: its letters and what the sink does are the same."""
        self.letters, self._script, self._count = other.letters, other._script, other._count

    # The sink.

    def at(self, verb: str, act: Callable[[], Answer]) -> None:
        """Do ``act`` in the sink when ``verb`` comes next; its answer is the sink's."""
        self._script[verb] = act

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Let the sink answer every MAIL with 450 for the time of the block."""
        before = self.sink.script
        self.sink.script = lambda verb, line: LATER if verb == "MAIL" else before(verb, line)
        try:
            yield
        finally:
            self.sink.script = before

    def wait_put_off(self) -> None:
        """Wait until the record has it that the next hop said so."""
        wait_until(
            lambda: (State.QUEUED.value, LATER.decode()) in self.open_deliveries(),
            "the 450",
            timeout=BUSY,
            hint=lambda: f"{self.open_deliveries()}\n{self.last_log()}",
        )

    def _asked(self, verb: str, line: bytes) -> Answer:
        act = self._script.pop(verb, None)
        return act() if act is not None else None

    # Letters.

    def letter(self, size: int = SMALL, recipients: Sequence[str] = ("registry@moh.gov.example",)) -> Letter:
        """A new letter, not sent yet."""
        letter = Letter(name=f"letter{next(self._count):04d}", size=size, recipients=tuple(recipients))
        self.letters.append(letter)
        return letter

    def send(self, letter: Letter) -> str:
        return letter.send(self.wasl.relay)

    def crowd(self, letters: Sequence[Letter]) -> Crowd:
        """Send each letter from a thread of its own."""
        return Crowd(letters, self.wasl.relay)

    def until_promised(self, letter: Letter, timeout: float = BUSY) -> None:
        """What every mail server does: send again until there is a 250."""
        if not letter.promised:
            wait_until(
                lambda: self.send(letter).startswith("250"),
                f"a 250 for {letter.name}",
                timeout=timeout,
                pause=0.2,
                hint=lambda: f"{letter.answers}\n{read_log(self.wasl.child.log)}",
            )

    def until_promised_once(self, letter: Letter) -> None:
        """Send to this life alone, until it has taken the letter or died of it."""
        port = self.wasl.relay
        wait_until(lambda: letter.send(port)[:3] in ("250", ""), "an answer", timeout=BUSY)

    def until_delivered(self, timeout: float = BUSY) -> None:
        """Wait until nothing is under way."""
        assert self.wasl
        wait_until(
            lambda: not self.open_deliveries(),
            "the deliveries",
            timeout=timeout,
            hint=lambda: f"{self.open_deliveries()}\n{read_log(self.wasl.child.log)}",
        )

    # The record, read beside the gateway.

    @cached_property
    def settings(self) -> Settings:
        """Where the record lies; as the house was when it was first asked."""
        return read_settings(self.house.settings, {})

    @contextmanager
    def store(self) -> Iterator[Store]:
        store = Store(self.settings.database_url)
        try:
            yield store
        finally:
            store.close()

    def open_deliveries(self) -> list[tuple[str, str | None]]:
        """State and last reply of the deliveries that are not done."""
        d = schema.delivery.c
        with self.store() as store, store.reader.connect() as conn:
            rows = conn.execute(
                select(d.state, d.last_reply).where(d.state.in_([State.QUEUED.value, State.SENDING.value]))
            )
            return [(row.state, row.last_reply) for row in rows]

    def doubts(self, letter: Letter) -> int:
        """How often the record says of this letter that what came of an attempt is not known."""
        e = schema.evidence.c
        with self.store() as store, store.reader.connect() as conn:
            found = conn.execute(
                select(func.count())
                .select_from(schema.evidence)
                .join(schema.letter, schema.letter.c.id == e.letter_id)
                .where(
                    schema.letter.c.message_id == letter.message_id,
                    e.event == Event.IN_DOUBT.value,
                )
            ).scalar_one()
            return int(found)

    def came(self, letter: Letter) -> int:
        """How often the sink took this letter."""
        wanted = letter.message_id.encode()
        return sum(1 for one in list(self.sink.received) if one.message_id == wanted)

    def audit(self) -> None:
        """All that was promised, is kept (DESIGN §6, promise 1)."""
        settings = self.settings
        key = LedgerKey.load(settings.ledger_origin, settings.ledger.key)
        with (
            self.store() as store,
            Archive(settings.archive_path) as archive,
            store.reader.connect() as conn,
        ):
            assert verify_store(conn, archive, key) == []
            l, s, d = schema.letter.c, schema.submission.c, schema.delivery.c  # noqa: E741
            rows = conn.execute(
                select(l.message_id, l.number, l.agency, l.year, l.seq, s.archive_key, s.envelope_digest)
                .join(schema.submission, s.letter_id == l.id)
                .where(l.agency.is_not(None))
            ).all()
            found = {row.message_id: row for row in rows}
            assert len(found) == len(rows), "a letter is recorded twice"
            for letter in self.letters:
                if letter.promised:
                    row = found.get(letter.message_id)
                    assert row is not None, f"{letter.name} was promised and is lost"
                    assert letter.number == row.number
                    assert bytes(archive.open(row.archive_key).view()) == letter.octets, letter.name
            known = {letter.message_id for letter in self.letters}
            assert set(found) <= known, "the record holds letters that nobody sent"
            self._audit_numbers(rows, dict(_counters(conn)))
            doubts = Counter(
                conn.execute(
                    select(schema.evidence.c.delivery_id).where(
                        schema.evidence.c.event == Event.IN_DOUBT.value
                    )
                ).scalars()
            )
            deliveries = conn.execute(
                select(l.message_id, d.recipient, d.id, d.state).join(schema.letter, l.id == d.letter_id)
            ).all()
        self._audit_sink(deliveries, doubts)

    def _audit_numbers(self, rows: Sequence[Any], counters: dict[str, int]) -> None:
        registers: dict[str, list[int]] = {}
        for row in rows:
            registers.setdefault(f"{row.agency}/{row.year}", []).append(row.seq)
        for name, numbers in registers.items():
            assert sorted(numbers) == list(range(1, len(numbers) + 1)), f"register {name} has a gap"
            assert counters[name] == len(numbers)

    def _audit_sink(self, deliveries: Sequence[Any], doubts: Counter[int | None]) -> None:
        bodies = {letter.message_id: letter.body for letter in self.letters}
        came: Counter[tuple[str, str]] = Counter()
        for one in list(self.sink.received):
            message_id = one.message_id.decode()
            if message_id in bodies:
                assert one.octets.partition(b"\r\n\r\n")[2] == bodies[message_id], message_id
                for path in one.recipients:
                    came[message_id, path.decode().partition(">")[0].lstrip("<")] += 1
        for row in deliveries:
            times = came[row.message_id, row.recipient]
            if row.state == State.SENT.value:
                assert times >= 1, f"{row.message_id} for {row.recipient} says sent and never came"
            assert times <= 1 + doubts[row.id], f"{row.message_id} came {times} times without a doubt"

    def close(self) -> None:
        self.faults.lift()
        with contextlib.suppress(ServerFailed):
            self.end()
        self.faults.close()


class Crowd:
    """Clients that send at the same time."""

    def __init__(self, letters: Sequence[Letter], port: int) -> None:
        self._threads = [threading.Thread(target=one.send, args=(port,), daemon=True) for one in letters]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(BUSY)
            assert not thread.is_alive()


def steady_hour(seconds: float = 60) -> None:
    """Begin in an hour that lasts: an archive's folder is named after it, and rules match that name."""
    left = 3600 - time.time() % 3600
    if left < seconds:
        time.sleep(left + 0.1)


def _counters(conn: object) -> Iterator[tuple[str, int]]:
    for row in conn.execute(select(schema.counter)):  # type: ignore[attr-defined]
        yield f"{row.agency}/{row.year}", row.value


@contextmanager
def lives(
    url: str | None = None,
    *,
    keywords: Sequence[str] = KEYWORDS,
    receipts: bool = False,
    agencies: int = 0,
    relay: Mapping[str, object] | None = None,
) -> Iterator[Lives]:
    """A new gateway on SQLite, or on the PostgreSQL database at ``url``, that nobody has started yet."""
    with Place("life") as place, smtp_sink(keywords=keywords) as sink:
        house = new_gateway(place.path / "g", sink.port, url, receipts=receipts, agencies=agencies)
        house.set("relay", **{**RELAY, **(relay or {})})  # type: ignore[arg-type]
        living = Lives(house, sink, FaultFs(place.path))
        try:
            yield living
        finally:
            living.close()


# A second is the shortest wait that the settings take; a lease must outlast the wait for the final reply.
RELAY: dict[str, object] = {
    "retry": ["1s"],
    "data_timeout": "20s",
    "lease": "30s",
    "letters_per_connection": 1,
}


def new_gateway(
    root: Path, sink: int, url: str | None, *, receipts: bool = False, agencies: int = 0
) -> House:
    """Made by ``wasl init``; MOF writes, MOH and ``agencies`` more receive, all of them at one sink."""
    house = copied_house(root)
    hop = f"{{host: 127.0.0.1, port: {sink}, tls: none}}"
    house.agency(
        "MOF",
        "code: MOF\nname_ar: المالية\nname_en: Finance\ndomains: [mof.gov.example]\n"
        f"networks: [127.0.0.1/32]\nnext_hop: {hop}\n",
    )
    house.agency(
        "MOH", f"code: MOH\nname_ar: الصحة\nname_en: Health\ndomains: [moh.gov.example]\nnext_hop: {hop}\n"
    )
    for n in range(agencies):
        house.agency(
            f"A{n:02d}",
            f"code: A{n:02d}\nname_ar: جهة {n}\nname_en: Body {n}\ndomains: [a{n:02d}.gov.example]\n"
            f"next_hop: {hop}\n",
        )
    if url is not None:
        house.set("database", url=url)
    house.set("receipts", accepted=receipts, delivered=receipts, relayed=receipts)
    house.set("dashboard", enabled=False)
    house.set("metrics", enabled=False)
    house.set("archive", keep_free=1_000_000, warn_free=2_000_000)
    return house
