"""The record room: the same doors, the same errors, and what happens when either process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.records import HOUR, claim, letter, made_store, rows, sent, whole
from tests.servers.place import PATIENCE
from tracker import schema
from tracker.archive import Archive
from tracker.claims import Claim
from tracker.ledger import LedgerKey
from tracker.model import now_us
from tracker.noting import NoSuchDelivery, Note
from tracker.record import Record
from tracker.record_room import Furnishing, RecordRoom, RoomGone
from tracker.states import Event, State, UnknownMove


class Kept:
    """A record whose letters are written by a room."""

    def __init__(self, url: str, folder: Path) -> None:
        store = made_store(url)
        self.archive = Archive(folder / "archive")
        key = LedgerKey.make("wasl.test/ledger")
        self.record = Record(store, self.archive, key, zone="Asia/Amman")
        self.gone = threading.Event()
        furnishing = Furnishing(
            url=url,
            origin=key.origin,
            key=key.pem(),
            zone="Asia/Amman",
            node=0,
            sequenced=self.record.sequenced,
            archive_root=folder / "archive",
        )
        self.record.open_room(furnishing, self.gone.set)
        self.record.await_room()

    @property
    def pid(self) -> int:
        assert isinstance(self.record.writer, RecordRoom)
        return self.record.writer.pid


@pytest.fixture
def kept(record_url: str, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(record_url, tmp_path)
    yield made
    if not made.gone.is_set():
        made.record.close()
    made.archive.close()


def test_a_letters_way_through_the_room(kept: Kept) -> None:
    record = kept.record
    listener = record.subscribe()
    a = letter(record, "b@moh.gov.example", "c@moe.gov.example", hand_to="0/a", lease_us=now_us() + HOUR)
    accepted = record.accept(a)
    assert accepted.number is not None and accepted.number.endswith("/000001")
    assert listener.get(timeout=PATIENCE) == accepted.letter_id
    assert [c.parcel.octets is a.octets for c in accepted.claims] == [True, True]
    assert record.accept(letter(record, "b@moh.gov.example", "c@moe.gov.example")).repeat
    for c in accepted.claims:
        sent(record, c)
    assert {d.state for d in rows(record, schema.delivery)} == {State.SENT}
    record.accept(letter(record, message_id="<2@mof>", text=b"2\r\n"))
    (due,) = claim(record, "0/a")
    assert isinstance(due, Claim) and due.parcel.octets is None
    whole(record)


def test_a_spooled_letter_is_stored_here_and_recorded_there(kept: Kept) -> None:
    record = kept.record
    spool = kept.archive.spool()
    for _ in range(400):
        spool.write(b"x" * 998 + b"\r\n")
    a = replace(letter(record), octets=spool.finish())
    assert a.octets.spooled
    record.accept(a)
    key = kept.archive.key_for(a.submission_id, a.at_us)
    assert kept.archive.open(key).size == 400_000
    whole(record)


def test_what_cannot_be_comes_back_as_what_it_is(kept: Kept) -> None:
    record = kept.record
    record.accept(letter(record))
    (c,) = claim(record)
    sent(record, c)
    with pytest.raises(UnknownMove, match="held cannot happen"):
        record.note(Note(delivery_id=c.delivery_id, event=Event.HELD, at_us=now_us()))
    with pytest.raises(NoSuchDelivery):
        record.note(Note(delivery_id=12345, event=Event.RELAYED, at_us=now_us()))
    for bad in (object(), lambda: None):  # is no JSON; cannot even cross
        with pytest.raises(Exception, match=r"(?i)serialize|pickle"):
            record.accept(letter(record, facts={"bad": bad}, message_id="<bad@mof>", text=b"b\r\n"))
    assert record.accept(letter(record, message_id="<good@mof>", text=b"g\r\n")).number.endswith("2")
    whole(record)


def test_numbers_have_no_gap_under_many_threads(kept: Kept) -> None:
    numbers: list[int] = []

    def work(n: int) -> None:
        for i in range(20):
            text = f"From: a@mof.gov.example\r\n\r\n{n} {i}\r\n".encode()
            accepted = kept.record.accept(letter(kept.record, text=text, message_id=f"<{n}.{i}@mof>"))
            numbers.append(int(str(accepted.number).rsplit("/", 1)[-1]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(numbers) == list(range(1, 121))
    whole(kept.record)


def test_a_killed_room_promises_nothing_and_says_so(kept: Kept) -> None:
    record = kept.record
    record.accept(letter(record))
    os.kill(kept.pid, signal.SIGSTOP)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            record.accept(letter(record, message_id="<2@mof>", text=b"2\r\n"))
        except BaseException as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    os.kill(kept.pid, signal.SIGKILL)
    asking.join(PATIENCE)
    assert kept.gone.wait(PATIENCE)
    assert [type(error) for error in failed] == [RoomGone]


def test_the_room_dies_with_the_process_it_serves(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from tests.wire.test_record_room import Kept
        kept = Kept("sqlite:///{tmp_path / "wasl.db"}", Path({str(tmp_path)!r}))
        print(kept.pid, flush=True)
        time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        room = int(served.stdout.readline())
        served.kill()
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{room}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the room lives on")
