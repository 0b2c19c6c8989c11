"""A held letter that a person refuses before its author was told that it was accepted: he is told both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from gateway.notices import Notices, NoticeSettings
from gateway.own_mail import OwnPost
from tests.unit.test_broken_off import (
    DIRECTORY,
    GATEWAY,
    SCHEDULE,
    Breaking,
    receipts,
    run,
    the_acceptance_is_out,
)
from tests.unit.test_holds import WHOLE, Act, decide, one_hold
from tracker.receipt_due import ReceiptSettings
from tracker.record import Record


def test_the_acceptance_is_told_although_nobody_is_left(record: Record) -> None:
    one = one_hold(record)
    assert decide(record, one.id, WHOLE, Act.REFUSE, "the annex is missing").bar is None

    async def work(crossing: Breaking, executor: ThreadPoolExecutor) -> None:
        notices = Notices(
            crossing,
            NoticeSettings(gateway=GATEWAY, receipts=ReceiptSettings(), digest_us=1),
            lambda: DIRECTORY,
            OwnPost(crossing, lambda: DIRECTORY, SCHEDULE, None),
            executor,
        )
        assert await notices.send_due() == 1, "the acceptance goes first"
        the_acceptance_is_out(record)
        await notices.send_due()

    run(record, work)
    assert receipts(record) == {"submitted": "sent", "held": "sent", "refused": "sent"}
