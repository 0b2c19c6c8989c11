"""A held letter that a person refuses before its author was told that it was accepted: he is told both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.unit.test_broken_off import Breaking, receipts, run, the_acceptance_is_out, worker
from tests.unit.test_holds import WHOLE, Act, decide, one_hold
from tracker.record import Record


def test_the_acceptance_is_told_although_nobody_is_left(record: Record) -> None:
    one = one_hold(record)
    assert decide(record, one.id, WHOLE, Act.REFUSE, "the annex is missing").bar is None

    async def work(crossing: Breaking, executor: ThreadPoolExecutor) -> None:
        notices = worker(crossing, executor)
        assert await notices.send_due() == 1, "the acceptance goes first"
        the_acceptance_is_out(record)
        await notices.send_due()

    run(record, work)
    assert receipts(record) == {"submitted": "sent", "held": "sent", "refused": "sent"}
