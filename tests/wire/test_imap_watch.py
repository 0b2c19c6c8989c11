"""The watch against a real Dovecot: arrival, hints, folders, keywords, read-only, restart, renumbering."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.imap_watch_mailbox import Pace
from gateway.imap_watch_words import encode_name
from gateway.mailbox_look import Sought
from policies.watch import Meaning
from tests.records import record_at
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.place import wait_until
from tests.wire.watch_house import (
    FOLDERS,
    Registry,
    box_name,
    directory_of,
    events,
    evidence,
    house,
    post,
    standing,
    watch_of,
)
from tracker import watch_lease, watch_positions
from tracker.model import Address, now_us
from tracker.noting import Note
from tracker.record import Record
from tracker.states import Event

Run = Callable[[Any], Any]


@pytest.fixture
def run() -> Run:
    def drive(main: Any) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(240):
                return await main()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(limited())

    return drive


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with record_at(f"sqlite:///{tmp_path / 'wasl.db'}", tmp_path) as made:
        yield made


def test_a_letter_is_followed_through_the_registrys_folders(
    record: Record, dovecot_server: Dovecot, run: Run
) -> None:
    box, port = box_name(), dovecot_server.imap_port
    with Registry(port, box) as clerk:
        clerk.make(*FOLDERS)

        async def main() -> None:
            pace = Pace(idle_s=600, poll_s=600, connections=10)  # what is seen here is told by IDLE
            async with house(record, watch_of(port, box), pace=pace) as h:
                letter = post(record, box)
                await asyncio.to_thread(clerk.put, letter.octets)
                await h.sees(letter.number, "delivered")
                await asyncio.to_thread(clerk.flag, "\\Seen")
                await h.sees(letter.number, "delivered", "seen")
                await asyncio.to_thread(clerk.flag, "\\Answered $Registered $Label1")
                await h.sees(letter.number, "delivered", "seen", "seen", "registered")
                await asyncio.to_thread(clerk.move, "INBOX", "قيد الإجراء")
                done = ["delivered", "seen", "seen", "registered", "in-progress"]
                await h.sees(letter.number, *done)
                await asyncio.to_thread(clerk.move, "قيد الإجراء", "منجز")
                await h.sees(letter.number, *done, "processed")
                assert standing(record, letter.number) == ("sent", 7, "closed")
                await asyncio.to_thread(clerk.move, "منجز", "معاد")
                await h.sees(letter.number, *done, "processed", "returned")
                other = post(record, box)
                await asyncio.to_thread(clerk.put, other.octets, "منجز")
                await h.sees(other.number, "delivered", "processed")

                def only_there() -> bool:
                    with record.read() as conn:
                        return [n for n, _ in watch_positions.counts(conn).values() if n] == [1, 1]

                await h.wait(only_there, "moved messages to be forgotten where they were")

        run(main)
        said = {event: (source, detail) for event, source, detail in evidence(record, events_of(record)[0])}
        assert said["delivered"][0] == "imap" and said["delivered"][1]["arrived"]
        assert said["processed"] == (
            "folder",
            {
                "mailbox": box,
                "folder": "منجز",
                "uid": 1,
                "server": "127.0.0.1",
                "text": "منجز",
                "by": "registry",
            },
        )
        # Read-only: nothing was set that the clerk did not set.
        assert b"$MDNSent" not in b"".join(clerk.flags("معاد"))


def events_of(record: Record) -> list[str]:
    """The numbers of all letters."""
    from sqlalchemy import select

    from tracker import schema

    with record.read() as conn:
        return [n for n in conn.scalars(select(schema.letter.c.number).order_by(schema.letter.c.id)) if n]


def test_what_is_read_stays_unread_and_recent(record: Record, dovecot_server: Dovecot, run: Run) -> None:
    box, port = box_name(), dovecot_server.imap_port
    letter = post(record, box)
    with Registry(port, box) as clerk:
        clerk.put(letter.octets)

        async def main() -> None:
            async with house(record, watch_of(port, box, folders=(("INBOX", Meaning.ARRIVAL),))) as h:
                await h.sees(letter.number, "delivered")

        run(main)
        assert clerk.flags() == [b"1 (FLAGS (\\Recent))"]
    assert not [line for line in dovecot_server.log().splitlines() if box in line and "Error" in line]


@pytest.mark.parametrize("condstore", [True, False], ids=["condstore", "polling"])
def test_what_happened_while_nobody_watched_is_caught_up_once(
    record: Record, dovecot_server: Dovecot, run: Run, condstore: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not condstore:
        without(monkeypatch, "CONDSTORE", "QRESYNC", "IDLE")
    box, port = box_name(), dovecot_server.imap_port
    letters = [post(record, box) for _ in range(4)]
    with Registry(port, box) as clerk:
        clerk.make(*FOLDERS)
        for letter in letters[:3]:
            clerk.put(letter.octets)

        async def before() -> None:
            async with house(record, watch_of(port, box)) as h:
                for letter in letters[:3]:
                    await h.sees(letter.number, "delivered")

        async def after() -> None:
            async with house(record, watch_of(port, box)) as h:
                await h.sees(letters[0].number, "delivered", "seen")
                await h.sees(letters[1].number, "delivered", "processed")
                await h.sees(letters[2].number, "delivered", "registered")
                await h.sees(letters[3].number, "delivered")
                await asyncio.to_thread(clerk.flag, "\\Seen", "منجز")
                await h.sees(letters[1].number, "delivered", "processed", "seen")

        run(before)
        uids = clerk.uids()
        clerk.flag("\\Seen", uid=uids[0])
        clerk.move("INBOX", "منجز", uid=uids[1])
        clerk.flag("$Registered", uid=uids[2])
        clerk.put(letters[3].octets)
        run(after)
        run(after_again(record, watch_of(port, box), letters[0].number))
    assert [len(events(record, letter.number)) for letter in letters] == [2, 3, 2, 1]


def after_again(record: Record, watch: Any, number: str) -> Any:
    async def main() -> None:
        async with house(record, watch) as h:
            await h.wait(lambda: state_of(record, watch.key)[0] == "watching", "the watch")
            await asyncio.sleep(0.2)

    return main


def state_of(record: Record, mailbox: str) -> tuple[str, str]:
    with record.read() as conn:
        found = watch_lease.states(conn).get(mailbox)
    return ("", "") if found is None else (found.state, found.note)


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have the client believe that the server cannot do these."""
    from gateway.imap_watch_client import WatchClient

    ask = WatchClient.capability

    async def fewer(self: WatchClient) -> None:
        await ask(self)
        self.capabilities -= set(names)

    monkeypatch.setattr(WatchClient, "capability", fewer)


def test_a_folder_numbered_anew_is_read_again_and_says_nothing_twice(
    record: Record, dovecot_server: Dovecot, run: Run
) -> None:
    box, port = box_name(), dovecot_server.imap_port
    letter = post(record, box)
    with Registry(port, box) as clerk:
        clerk.make(*FOLDERS)
        clerk.put(letter.octets, "قيد الإجراء", "(\\Seen)")

        async def main(*wanted: str) -> None:
            async with house(record, watch_of(port, box)) as h:
                await h.sees(letter.number, *wanted)
                await h.wait(lambda: state_of(record, box)[0] == "watching", "the watch")
                await asyncio.sleep(0.3)
                assert events(record, letter.number) == list(wanted)

        run(lambda: main("delivered", "seen", "in-progress"))
        # The folder goes and comes again under another UIDVALIDITY, with the same letter in it.
        name = f'"{encode_name("قيد الإجراء")}"'
        time.sleep(1.1)  # Dovecot numbers by the clock
        clerk.imap.delete(name)
        clerk.imap.create(name)
        clerk.put(letter.octets, "قيد الإجراء")
        second = post(record, box)
        clerk.put(second.octets, "قيد الإجراء")

        async def again() -> None:
            async with house(record, watch_of(port, box)) as h:
                await h.sees(second.number, "delivered", "in-progress")

        run(again)
    assert events(record, letter.number) == ["delivered", "seen", "in-progress"]


def test_nothing_is_kept_of_what_is_no_letter_of_ours(
    record: Record, dovecot_server: Dovecot, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    box, port = box_name(), dovecot_server.imap_port
    letter, elsewhere = post(record, box), post(record, "other@moh.gov.example", "third@moh.gov.example")
    forged = letter.octets.replace(b"Message-ID: <", b"Message-ID: <forged-private-")
    with Registry(port, box) as clerk:
        for octets in (
            b"From: wife@home.example\r\nSubject: secret-private\r\nMessage-ID: <private@x>\r\n\r\nhi\r\n",
            forged,
            elsewhere.octets,
            letter.octets.replace(b"Wasl-Letter: ", b"Wasl-Letter: X"),
            b"Wasl-Letter: private\r\n" + letter.octets,
            b"Wasl-Letter: " + b"p" * 9000 + b"\r\nMessage-ID: <" + b"q" * 90000 + b"@x>\r\n\r\nhi\r\n",
        ):
            clerk.put(octets, flags="(\\Seen)")
        clerk.put(letter.octets)

        async def main() -> None:
            async with house(record, watch_of(port, box, folders=(("INBOX", Meaning.ARRIVAL),))) as h:
                await h.sees(letter.number, "delivered")
                await asyncio.to_thread(clerk.flag, "\\Flagged", uid="1")
                await asyncio.sleep(0.3)

        run(main)
    assert events(record, letter.number) == ["delivered"]
    assert events(record, elsewhere.number) == []
    with record.read() as conn:
        rows = conn.exec_driver_sql("SELECT uid, flags FROM watch_message").all()
        everything = str([conn.exec_driver_sql(f"SELECT * FROM {t}").all() for t in TABLES])
    assert [tuple(r) for r in rows] == [(7, "")]
    assert "private" not in everything and "private" not in caplog.text


TABLES = ("watch_mailbox", "watch_folder", "watch_message", "evidence", "worklist", "audit", "meta")


def test_a_letter_still_under_way_is_noted_when_its_attempt_has_ended(
    record: Record, dovecot_server: Dovecot, run: Run
) -> None:
    box, port = box_name(), dovecot_server.imap_port
    letter = post(record, box, noted=False)
    with Registry(port, box) as clerk:
        clerk.put(letter.octets)

        async def main() -> None:
            async with house(record, watch_of(port, box, folders=(("INBOX", Meaning.ARRIVAL),))) as h:
                await h.wait(lambda: state_of(record, box)[0] == "watching", "the watch")
                await asyncio.sleep(0.3)
                assert events(record, letter.number) == []
                note = Note(delivery_id=letter.deliveries[0], event=Event.IN_DOUBT, at_us=now_us())
                await h.crossing.at_record(record.note_desk, note)
                await h.sees(letter.number, "delivered")

        run(main)
    assert standing(record, letter.number) == ("sent", 3, "open")  # and is not sent again


def test_several_folders_on_one_connection_and_one_that_is_missing(
    record: Record, dovecot_server: Dovecot, run: Run
) -> None:
    box, port = box_name(), dovecot_server.imap_port
    letter = post(record, box)
    with Registry(port, box) as clerk:
        clerk.make("منجز", "مسجل")

        async def main() -> None:
            pace = Pace(idle_s=60, poll_s=0.2, connections=1)
            async with house(record, watch_of(port, box), pace=pace) as h:
                await h.wait(lambda: state_of(record, box)[0] == "watching", "the watch")
                await asyncio.to_thread(clerk.put, letter.octets)
                await h.sees(letter.number, "delivered")
                await asyncio.to_thread(clerk.move, "INBOX", "منجز")
                await h.sees(letter.number, "delivered", "processed")
                await h.wait(lambda: "قيد الإجراء" in state_of(record, box)[1], "the missing folder said")

        run(main)


def test_a_long_stretch_is_searched_and_the_search_is_tried(
    record: Record, dovecot_server: Dovecot, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.imap_watch_folder.GAP", 20)
    monkeypatch.setattr("gateway.imap_watch_folder.SAMPLE", 10)
    box, port = box_name(), dovecot_server.imap_port
    first, last = post(record, box), post(record, box)
    with Registry(port, box) as clerk:
        clerk.put(first.octets)
        for i in range(60):
            clerk.put(f"From: x@y\r\nMessage-ID: <{i}@z>\r\n\r\nprivate\r\n".encode())
        clerk.put(last.octets)

        async def main() -> None:
            async with house(record, watch_of(port, box, folders=(("INBOX", Meaning.ARRIVAL),))) as h:
                await h.sees(first.number, "delivered")
                await h.sees(last.number, "delivered")

        run(main)


def test_tls_in_both_forms_with_the_certificate_checked(
    record: Record, run: Run, authority: Authority
) -> None:
    with dovecot(tls=authority.issue("localhost")) as server:
        assert server.imaps_port is not None
        boxes = [box_name(), box_name(), box_name()]
        inbox = (("INBOX", Meaning.ARRIVAL),)
        good = [
            watch_of(port, box, host="localhost", tls=kind, ca=authority.file, folders=inbox)
            for port, box, kind in (
                (server.imap_port, boxes[0], "required"),
                (server.imaps_port, boxes[1], "implicit"),
            )
        ]
        bad = watch_of(server.imaps_port, boxes[2], host="localhost", tls="implicit", folders=inbox)
        letters = [post(record, box) for box in boxes]
        for box, letter in zip(boxes, letters, strict=True):
            with Registry(server.imap_port, box) as clerk:
                clerk.put(letter.octets)

        async def main() -> None:
            async with house(record, *good, bad) as h:
                await h.sees(letters[0].number, "delivered")
                await h.sees(letters[1].number, "delivered")
                await h.wait(lambda: "certificate" in state_of(record, boxes[2])[1], "the refusal")

        run(main)
        assert events(record, letters[2].number) == []


def test_of_two_nodes_one_watches_and_the_other_takes_over(
    record: Record, dovecot_server: Dovecot, run: Run
) -> None:
    box, port = box_name(), dovecot_server.imap_port
    watch = watch_of(port, box, folders=(("INBOX", Meaning.ARRIVAL),))
    letter, late = post(record, box), post(record, box)
    with Registry(port, box) as clerk:
        clerk.put(letter.octets)

        def owner() -> str | None:
            with record.read() as conn:
                return watch_lease.states(conn)[box].owner

        async def main() -> None:
            async with house(record, watch, owner="2/b") as second:
                await second.sees(letter.number, "delivered")
                assert await asyncio.to_thread(owner) == "2/b"
                async with house(record, watch, owner="1/a", lease_s=3) as first:
                    await asyncio.sleep(1.0)
                    assert not first.watch._boxes and second.watch._boxes
                    second.directory[0] = directory_of(version="2")  # this node lets go of it
                    await first.wait(lambda: owner() == "1/a", "the take-over")
                    await asyncio.to_thread(clerk.put, late.octets)
                    await first.sees(late.number, "delivered")

        run(main)
    assert events(record, letter.number) == ["delivered"]


def test_a_delivery_in_doubt_is_looked_for(record: Record, dovecot_server: Dovecot, run: Run) -> None:
    box, port = box_name(), dovecot_server.imap_port
    there, absent = post(record, box, noted=False), post(record, box, noted=False)
    watch = watch_of(port, box, folders=(("INBOX", Meaning.ARRIVAL), ("منجز", Meaning.PROCESSED)))
    with Registry(port, box) as clerk:
        clerk.make("منجز")
        clerk.put(there.octets, "منجز")

        async def main() -> None:
            async with house(record, watch) as h:

                def sought(letter: Any, to: str = box) -> Sought:
                    return Sought(
                        agency="MOH",
                        number=letter.number,
                        message_id=letter.message_id,
                        recipient=Address.parse(to),
                    )

                found = await h.watch.look_for(sought(there))
                assert found.found is True
                assert (found.detail["folder"], found.detail["uid"]) == ("منجز", 1)
                assert (await h.watch.look_for(sought(absent))).found is False
                assert (await h.watch.look_for(sought(absent, "ali@moh.gov.example"))).found is None
                broken = replace(watch, port=1)
                h.directory[0] = directory_of(broken, version="2")
                assert (await h.watch.look_for(sought(there))).found is None

        run(main)


def test_a_refused_password_is_said_and_not_tried_again_at_once(
    record: Record, run: Run, dovecot_server: Dovecot
) -> None:
    box, port = box_name(), dovecot_server.imap_port

    async def main() -> None:
        async with house(record, watch_of(port, box, password="wrong")) as h:  # five folders
            await h.wait(lambda: state_of(record, box)[0] == "waiting", "the refusal")
            await asyncio.sleep(1.5)
            assert "LOGIN" in state_of(record, box)[1]

    run(main)
    wait_until(lambda: f"user=<{box}>" in dovecot_server.log(), "the log of it")
    assert dovecot_server.log().count(f"user=<{box}>") == 1
