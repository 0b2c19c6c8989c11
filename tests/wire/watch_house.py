"""A record, a directory with watched mailboxes, and a registry at work, for the tests of the watch."""

from __future__ import annotations

import asyncio
import imaplib
import itertools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select

from gateway.crossing import Crossing
from gateway.imap_watch import ImapWatch
from gateway.imap_watch_mailbox import Pace
from gateway.imap_watch_words import encode_name
from policies.agency import Agency
from policies.directory import Directory
from policies.watch import Meaning, Watch
from tests.records import HOUR, letter
from tests.servers.place import PATIENCE, ServerFailed
from tracker import schema
from tracker.claims import Claim, Want
from tracker.model import Address, now_us
from tracker.noting import Note
from tracker.record import Record
from tracker.states import Event

FOLDERS = {
    "INBOX": Meaning.ARRIVAL,
    "مسجل": Meaning.REGISTERED,
    "قيد الإجراء": Meaning.IN_PROGRESS,
    "منجز": Meaning.PROCESSED,
    "معاد": Meaning.RETURNED,
}
_count = itertools.count(1)


def box_name(local: str = "registry") -> str:
    """A mailbox that no other test uses."""
    return f"{local}{next(_count)}@moh.gov.example"


@dataclass(frozen=True)
class Posted:
    """A letter as it goes to the agency's server."""

    number: str
    message_id: str
    octets: bytes
    deliveries: tuple[int, ...]


def claim_all(record: Record) -> list[Claim]:
    """Take everything that is due."""
    at = now_us()
    return record.claim(Want(owner="0/a", limit=100_000, now_us=at, lease_us=at + HOUR))


def post(record: Record, *to: str, sent: bool = True, noted: bool = True, message_id: str = "") -> Posted:
    """Accept a letter from MOF to these; ``sent``: it is handed over, ``noted``: and its 250 is noted."""
    n = next(_count)
    message_id = message_id or f"<{n}.{id(record)}@mof.gov.example>"
    text = f"From: a@mof.gov.example\r\nSubject: {n}\r\nMessage-ID: {message_id}\r\n\r\nhello {n}\r\n"
    accepted = record.accept(letter(record, *to, text=text.encode(), message_id=message_id))
    assert accepted.number is not None
    number = str(accepted.number)
    ids: tuple[int, ...] = ()
    if sent:
        ids = tuple(c.delivery_id for c in claim_all(record))
        if noted:
            for i in ids:
                record.note(Note(delivery_id=i, event=Event.RELAYED, at_us=now_us(), source="smtp"))
    return Posted(number, message_id, f"Wasl-Letter: {number}\r\n{text}".encode(), ids)


def evidence(record: Record, number: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Event, source and detail of what the record has of a letter from mailboxes, in order."""
    e, le = schema.evidence.c, schema.letter.c
    with record.read() as conn:
        rows = conn.execute(
            select(e.event, e.source, e.detail)
            .join(schema.letter, le.id == e.letter_id)
            .where(le.number == number, e.source.in_(("imap", "folder", "keyword")))
            .order_by(e.id)
        )
        return [(r.event, r.source, r.detail) for r in rows]


def events(record: Record, number: str) -> list[str]:
    return [event for event, _, _ in evidence(record, number)]


def standing(record: Record, number: str) -> tuple[str, int, str]:
    """State, grade and outcome of a letter's only delivery."""
    d, le = schema.delivery.c, schema.letter.c
    with record.read() as conn:
        row = conn.execute(
            select(d.state, d.grade, d.outcome)
            .join(schema.letter, le.id == d.letter_id)
            .where(le.number == number)
        ).one()
    return row.state, row.grade, row.outcome


class Registry:
    """The registry's own client at its mailbox."""

    def __init__(self, port: int, mailbox: str, password: str = "secret") -> None:
        self.imap = imaplib.IMAP4("127.0.0.1", port, timeout=PATIENCE)
        self.imap.login(mailbox, password)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.imap.logout()

    def _ok(self, answer: tuple[str, list[Any]]) -> list[Any]:
        assert answer[0] == "OK", answer
        return answer[1]

    def make(self, *folders: str) -> None:
        for folder in folders:
            if folder != "INBOX":
                self._ok(self.imap.create(f'"{encode_name(folder)}"'))

    def put(self, octets: bytes, folder: str = "INBOX", flags: str = "") -> None:
        self._ok(self.imap.append(f'"{encode_name(folder)}"', flags, None, octets))

    def uids(self, folder: str = "INBOX") -> list[str]:
        self._ok(self.imap.select(f'"{encode_name(folder)}"'))
        return [u.decode() for u in self._ok(self.imap.uid("SEARCH", "ALL"))[0].split()]

    def flag(self, flags: str, folder: str = "INBOX", uid: str = "") -> None:
        last = uid or self.uids(folder)[-1]
        if uid:
            self._ok(self.imap.select(f'"{encode_name(folder)}"'))
        self._ok(self.imap.uid("STORE", last, "+FLAGS", f"({flags})"))

    def move(self, source: str, target: str, uid: str = "") -> None:
        last = uid or self.uids(source)[-1]
        if uid:
            self._ok(self.imap.select(f'"{encode_name(source)}"'))
        self._ok(self.imap.uid("MOVE", last, f'"{encode_name(target)}"'))

    def flags(self, folder: str = "INBOX") -> list[bytes]:
        self._ok(self.imap.select(f'"{encode_name(folder)}"', readonly=True))
        return self._ok(self.imap.fetch("1:*", "(FLAGS)"))


def watch_of(port: int, mailbox: str, **changes: Any) -> Watch:
    base = Watch(
        mailbox=Address.parse(mailbox),
        registry=True,
        host="127.0.0.1",
        port=port,
        tls="none",
        username=mailbox,
        password="secret",
        folders=tuple(FOLDERS.items()),
        keywords=(("$Registered", Meaning.REGISTERED),),
    )
    return replace(base, **changes)


@dataclass
class House:
    record: Record
    crossing: Crossing
    watch: ImapWatch
    directory: list[Directory] = field(default_factory=list)

    async def wait(self, found: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while not await asyncio.to_thread(found):
            if asyncio.get_running_loop().time() > end:
                raise ServerFailed(f"waited {seconds:g} s for {what}")
            await asyncio.sleep(0.02)

    async def sees(self, number: str, *wanted: str, seconds: float = PATIENCE) -> None:
        """Wait until the record has exactly these events of the letter from mailboxes."""
        expected = list(wanted)
        try:
            await self.wait(lambda: events(self.record, number) == expected, f"{expected}", seconds)
        except ServerFailed:
            raise ServerFailed(f"expected {expected}, have {events(self.record, number)}") from None


def directory_of(*watches: Watch, version: str = "1") -> Directory:
    agency = Agency(
        code="MOH",
        name_ar="الصحة",
        name_en="Health",
        domains=("moh.gov.example",),
        watches=tuple(watches),
    )
    return Directory([agency], version=version)


PACE = Pace(idle_s=60, poll_s=0.2, connections=10)


@asynccontextmanager
async def house(
    record: Record, *watches: Watch, pace: Pace = PACE, owner: str = "0/test", lease_s: float = 60
) -> AsyncIterator[House]:
    """Watch these mailboxes for the time of the block."""
    crossing = Crossing(record)
    current = [directory_of(*watches)]
    with ThreadPoolExecutor(2) as executor:
        made = ImapWatch(crossing, lambda: current[0], executor, owner=owner, pace=pace, lease_s=lease_s)
        task = asyncio.get_running_loop().create_task(made.run())
        try:
            yield House(record, crossing, made, current)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
