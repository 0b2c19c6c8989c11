"""Lasting trouble: a line now and then, its end once, and a trace only of what nobody foresaw."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy.exc import OperationalError

from tracker.outage import EVERY_S, Outage, in_a_line

GONE = OperationalError("SELECT 1", {}, Exception("connection refused\nIs the server running?"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_an_outage_is_said_at_once_each_minute_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage(logging.getLogger("wasl.test"), "receipts cannot be sent", clock=clock)
    with caplog.at_level(logging.INFO):
        outage.over()
        for second in range(130):
            clock.now = second
            outage.failed(GONE)
        outage.over()
        outage.over()
    assert said(caplog) == [
        "receipts cannot be sent, trying again: connection refused",
        "receipts cannot be sent, trying again: connection refused (61 times in 60 s)",
        "receipts cannot be sent, trying again: connection refused (121 times in 120 s)",
        "over after 130 failures in 129 s: receipts cannot be sent",
    ]
    assert not any(record.exc_info for record in caplog.records)


def test_what_nobody_foresaw_has_its_trace_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage(logging.getLogger("wasl.test"), "it fails", clock=clock)
    for second in range(3):
        clock.now = second
        outage.failed(KeyError("x"))
        outage.failed(GONE)
    outage.failed(ValueError("another"))
    assert [bool(record.exc_info) for record in caplog.records] == [True, True]
    clock.now = 3 * EVERY_S  # nobody told that it was over
    outage.failed(GONE)
    assert said(caplog)[-1] == "it fails, trying again: connection refused"


def test_a_line_has_no_statement_in_it() -> None:
    assert in_a_line(GONE) == "connection refused"
    assert in_a_line(TimeoutError()) == "TimeoutError"
