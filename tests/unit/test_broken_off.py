"""What trouble breaks off in the middle is done later: receipts that are due, reports that are noted."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.exc import DataError

from gateway.crossing import Crossing
from gateway.inbound import Inbound
from gateway.notices import UNREADABLE_US, Notices, NoticeSettings
from gateway.own_mail import OwnMail, OwnPost
from gateway.retry import RetrySchedule
from gateway.reverse_path import ReversePath
from policies.agency import Agency, NextHop
from policies.directory import Directory
from tests.records import claim, letter, rows, sent
from tracker import schema
from tracker.archive import ArchiveError, Octets
from tracker.header import scan
from tracker.model import NULL_PATH, Address, Connection, Door, Envelope, LetterKind, Recipient
from tracker.notice import GatewayIdentity
from tracker.receipt_due import ReceiptSettings
from tracker.record import Record
from tracker.states import Event

SCHEDULE = RetrySchedule(
    waits=(timedelta(minutes=5),), jitter=0, warn_after=timedelta(hours=4), give_up_after=timedelta(days=5)
)
GATEWAY = GatewayIdentity(domain="wasl.gov.example", hostname="wasl.gov.example", zone=ZoneInfo("UTC"))
DIRECTORY = Directory(
    Agency(
        code=code,
        name_ar=code,
        name_en=code,
        domains=(f"{code.lower()}.gov.example",),
        next_hop=NextHop(name=code, host="127.0.0.1"),
    )
    for code in ("MOF", "MOH")
)
PATHS = ReversePath((b"x" * 32,), GATEWAY.domain)
MOH = Connection(door=Door.RELAY, peer="192.0.2.7", agency="MOH")
BOXES = [f"u{n}@moh.gov.example" for n in range(7)]
BOUNCES = b"\r\n".join(
    [
        b"From: MAILER-DAEMON@moh.gov.example",
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
        b"MIME-Version: 1.0\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n",
        b"Reporting-MTA: dns; mail.moh.gov.example\r\n",
        *(b"Final-Recipient: rfc822; %s\r\nAction: failed\r\nStatus: 5.1.1\r\n" % b.encode() for b in BOXES),
        b"--b--\r\n",
    ]
)
WORDS = b"From: b@moh.gov.example\r\nTo: x@y.example\r\nSubject: thanks\r\n\r\nI shall be back on Sunday.\r\n"


class Breaking(Crossing):
    """A way to the record on which one note is lost: ``left`` more get through before."""

    left = -1

    def at_record(self, desk: Any, payload: Any) -> asyncio.Future[Any]:
        if desk is self.record.note_desk:
            self.left -= 1
            if self.left == -1:
                lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                lost.set_exception(ConnectionError("the database is away"))
                return lost
        return super().at_record(desk, payload)


def run(record: Record, work: Callable[[Breaking, ThreadPoolExecutor], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        with ThreadPoolExecutor(1) as executor:
            await work(Breaking(record), executor)

    asyncio.run(within())


@contextmanager
def unreadable(record: Record, code: int = errno.EIO) -> Iterator[None]:
    def fails(key: str) -> Octets:
        raise ArchiveError(code, "cannot be read", key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record.archive, "open", fails)
        yield


def receipts(record: Record) -> dict[str, str]:
    return {row.kind: row.state for row in rows(record, schema.receipt)}


def the_acceptance_is_out(record: Record) -> None:
    for found in claim(record):
        sent(record, found, Event.RELAYED)


def worker(crossing: Crossing, executor: ThreadPoolExecutor) -> Notices:
    """Sends what is due, and gathers next to nothing."""
    return Notices(
        crossing,
        NoticeSettings(gateway=GATEWAY, receipts=ReceiptSettings(), digest_us=1),
        lambda: DIRECTORY,
        OwnPost(crossing, lambda: DIRECTORY, SCHEDULE, None),
        executor,
    )


@pytest.mark.parametrize("waited", [0, UNREADABLE_US])
def test_a_failure_is_told_once_the_letter_can_be_read_or_without_its_header(
    record: Record, waited: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.accept(letter(record))
    (found,) = claim(record)
    sent(record, found, Event.FAILED)

    async def work(crossing: Breaking, executor: ThreadPoolExecutor) -> None:
        notices = worker(crossing, executor)
        assert await notices.send_due() == 1
        the_acceptance_is_out(record)
        monkeypatch.setattr("gateway.notices.UNREADABLE_US", UNREADABLE_US - waited)
        with unreadable(record):
            assert await notices.send_due() == bool(waited)
        assert await notices.send_due() == (not waited)

    run(record, work)
    assert receipts(record) == {"submitted": "sent", "failed": "sent"}


@pytest.mark.parametrize(
    "fault",
    [
        DataError("INSERT", {}, ValueError("no such character")),
        sqlite3.IntegrityError("NOT NULL"),  # a hot statement's, straight from the driver
        ValueError("unforeseen"),
    ],
)
def test_a_receipt_that_the_record_refuses_keeps_no_other_back(record: Record, fault: Exception) -> None:
    """Whatever is wrong with it, only what concerns all of them (the database is away) ends the round."""
    first = record.accept(letter(record))
    record.accept(letter(record, text=b"From: a@mof.gov.example\r\n\r\nagain\r\n", message_id="<2@mof>"))

    async def work(crossing: Breaking, executor: ThreadPoolExecutor) -> None:
        notices = worker(crossing, executor)
        accept = notices._post.accept

        async def picky(mail: OwnMail, at_us: int) -> None:
            if mail.about == first.letter_id:
                raise fault
            await accept(mail, at_us)

        notices._post.accept = picky  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(type(fault)):
                await notices.send_due()

    run(record, work)
    states = {row.letter_id: row.state for row in rows(record, schema.receipt) if row.kind == "submitted"}
    assert sorted(states.values()) == ["due", "sent"]
    assert states[first.letter_id] == "due"


def test_a_report_of_many_that_was_noted_in_part_is_noted_whole(record: Record) -> None:
    record.accept(letter(record, *BOXES))
    lot = claim(record)
    for found in lot:
        sent(record, found, Event.RELAYED)
    back = PATHS.for_letter_hop(lot[0].parcel.letter_id, "MOH")

    async def work(crossing: Breaking, executor: ThreadPoolExecutor) -> None:
        inbound = Inbound(crossing, PATHS, lambda: DIRECTORY, SCHEDULE, executor)
        envelope = Envelope(sender=NULL_PATH, recipients=(Recipient(address=back),))

        async def take() -> str:
            octets = Octets.of(BOUNCES)
            return await inbound.take(MOH, envelope, octets, scan(BOUNCES), [back], ("MOH",))

        crossing.left = 2
        with pytest.raises(ConnectionError):
            await take()
        assert await take() == await take()

    run(record, work)
    assert {row.state for row in rows(record, schema.delivery)} == {"failed"}
    events = [row.event for row in rows(record, schema.evidence)]
    assert events.count("failed") == len(BOXES), "each once"


def test_words_to_a_return_address_are_no_repeat_of_the_copy_beside_them(record: Record) -> None:
    record.accept(letter(record))
    (found,) = claim(record)
    sent(record, found, Event.RELAYED)
    back = PATHS.address_for(found.delivery_id)
    beside = Address.parse("c@moh.gov.example")
    whole = Envelope(
        sender=Address.parse("b@moh.gov.example"),
        recipients=(Recipient(address=back), Recipient(address=beside)),
    )

    async def work(crossing: Breaking, executor: ThreadPoolExecutor) -> None:
        inbound = Inbound(crossing, PATHS, lambda: DIRECTORY, SCHEDULE, executor)
        await inbound.take(MOH, whole, Octets.of(WORDS), scan(WORDS), [back], ("MOH",))

    run(record, work)
    copy = letter(
        record, str(beside), text=WORDS, kind=LetterKind.PASS, agency="MOH", envelope=whole, number_shape=None
    )
    assert not record.accept(copy).repeat
    to = [row.recipient for row in rows(record, schema.delivery)]
    assert to == ["b@moh.gov.example", "a@mof.gov.example", "c@moh.gov.example"]
