"""What a registry does with its folders enters its register, against a real Dovecot, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import uvloop
from sqlalchemy import select

from policies.directory import Directory
from policies.watch import Watch
from tests.servers.dovecot import Dovecot
from tests.wire.watch_house import (
    FOLDERS,
    House,
    Registry,
    box_name,
    directory_of,
    events,
    house,
    post,
    watch_of,
)
from tracker import schema
from tracker.access import Role, Viewer
from tracker.filing import Bar, Deed, Filing
from tracker.model import now_us
from tracker.record import Record

CLERK = Viewer(account="rana", role=Role.REGISTRY, agency="MOH")


def assigned(*watches: Watch) -> Directory:
    """MOH with its incoming numbers given by the gateway."""
    agencies = [replace(agency, incoming="assigned") for agency in directory_of(*watches)]
    return Directory(agencies, version="2")


def year() -> int:
    """Of the numbers that are given now."""
    return datetime.now(ZoneInfo("Asia/Amman")).year


def entries(record: Record) -> list[Any]:
    with record.read() as conn:
        return list(conn.execute(select(schema.incoming).order_by(schema.incoming.c.id)))


def run(main: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(), 240))


def test_folders_give_numbers_where_the_agency_wants_them(record: Record, dovecot_server: Dovecot) -> None:
    box, port = box_name(), dovecot_server.imap_port
    with Registry(port, box) as clerk:
        clerk.make(*FOLDERS)

        async def main() -> None:
            async with house(record, watch_of(port, box)) as h:
                h.directory[0] = assigned(watch_of(port, box))
                first, second = post(record, box), post(record, box)
                await put(h, clerk, first.octets, "قيد الإجراء")
                await h.sees(first.number, "delivered", "registered", "in-progress")
                await put(h, clerk, second.octets, "منجز")
                await h.sees(second.number, "delivered", "registered", "processed")
                await asyncio.to_thread(clerk.move, "قيد الإجراء", "منجز")
                await h.sees(first.number, "delivered", "registered", "in-progress", "processed")

        run(main)
        assert [(e.number, e.stage, e.registered_by) for e in entries(record)] == [
            (f"1/{year()}", "closed", ""),
            (f"2/{year()}", "closed", ""),
        ]
        filing = Filing(
            letter_id=entries(record)[0].letter_id,
            agency="MOH",
            deed=Deed.CLOSE,
            at_us=now_us(),
            person=CLERK,
        )
        assert record.file([filing])[0].bar is Bar.SAME, "the folder's act and a person's are one register"


async def put(h: House, clerk: Registry, octets: bytes, folder: str) -> None:
    await asyncio.to_thread(clerk.put, octets, folder)


def test_a_folder_read_anew_takes_no_second_number(record: Record, dovecot_server: Dovecot) -> None:
    box, port = box_name(), dovecot_server.imap_port
    with Registry(port, box) as clerk:
        clerk.make(*FOLDERS)
        letter = post(record, box)

        async def main() -> None:
            for _ in range(2):
                async with house(record, watch_of(port, box)) as h:
                    h.directory[0] = assigned(watch_of(port, box))
                    if not entries(record):
                        await put(h, clerk, letter.octets, "منجز")
                    await h.sees(letter.number, "delivered", "registered", "processed")
                # As if its folder had been numbered anew.
                for table in (schema.watch_folder, schema.watch_message):
                    await asyncio.to_thread(record.write, lambda conn, t=table: conn.execute(t.delete()))

        run(main)
        assert [e.number for e in entries(record)] == [f"1/{year()}"]


def test_a_persons_own_folders_are_no_register(record: Record, dovecot_server: Dovecot) -> None:
    box, port = box_name("person"), dovecot_server.imap_port
    with Registry(port, box) as clerk:
        clerk.make(*FOLDERS)

        async def main() -> None:
            watch = replace(watch_of(port, box), registry=False)
            async with house(record, watch) as h:
                h.directory[0] = assigned(watch)
                letter = post(record, box)
                await put(h, clerk, letter.octets, "منجز")
                await h.sees(letter.number, "delivered", "processed")

        run(main)
        assert entries(record) == []


def test_numbers_of_its_own_come_later(record: Record, dovecot_server: Dovecot) -> None:
    box, port = box_name(), dovecot_server.imap_port
    with Registry(port, box) as clerk:
        clerk.make(*FOLDERS)

        async def main() -> None:
            async with house(record, watch_of(port, box)) as h:
                letter = post(record, box)
                await put(h, clerk, letter.octets, "قيد الإجراء")
                await h.sees(letter.number, "delivered", "in-progress")
                (entry,) = entries(record)
                assert (entry.number, entry.stage) == (None, "in-progress")
                filing = Filing(
                    letter_id=entry.letter_id, agency="MOH", deed=Deed.REGISTER, at_us=now_us(), person=CLERK,
                    number="512",
                )  # fmt: skip
                filed = await asyncio.to_thread(record.file, [filing])
                assert filed[0].incoming == "512"
                assert events(record, letter.number)

        run(main)
        (entry,) = entries(record)
        assert (entry.number, entry.stage, entry.registered_by) == ("512", "in-progress", "rana")
