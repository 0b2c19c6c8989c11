"""Which events earn a receipt, by what the author asked and what the settings say, and what is gathered."""

from __future__ import annotations

import pytest

from tests.unit.test_receipts import FAILED, notice, read, recipient
from tracker import receipt_due
from tracker.notice import Kind
from tracker.receipt_due import DEFAULT_EVENTS, PLAIN_MAIL, ReceiptSettings, asks, bundles, due_for, gathered
from tracker.receipts import compose
from tracker.states import Event

PLAIN = {"automatic": False, "mailing_list": False, "null_sender": False}


def due(event: Event, notify: str | None, **more: bool) -> bool:
    return due_for(event, notify, ReceiptSettings(), **{**PLAIN, **more})


@pytest.mark.parametrize("event", list(Event))
def test_never_means_never(event: Event) -> None:
    assert not due(event, "NEVER")


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("who", ["automatic", "mailing_list", "null_sender"])
@pytest.mark.parametrize("notify", [None, "SUCCESS,FAILURE,DELAY"])
def test_nothing_automatic_is_ever_answered(event: Event, who: str, notify: str | None) -> None:
    assert not due(event, notify, **{who: True})


@pytest.mark.parametrize(
    ("notify", "events"),
    [
        ("SUCCESS", {Event.RELAYED, Event.DELIVERED}),
        ("FAILURE", {Event.REFUSED, Event.FAILED, Event.CANCELLED}),
        ("DELAY", {Event.HELD, Event.LATE}),
        ("delay, success", {Event.HELD, Event.LATE, Event.RELAYED, Event.DELIVERED}),
    ],
)
def test_an_explicit_notify_governs_delivery_reports_exactly(notify: str, events: set[Event]) -> None:
    reports = {Event.REFUSED, Event.HELD, Event.RELAYED, Event.DELIVERED, Event.LATE, Event.FAILED}
    reports |= {Event.CANCELLED}
    assert {e for e in Event if due(e, notify)} & reports == events
    assert {e for e in Event if due(e, notify)} - reports == DEFAULT_EVENTS - reports


def test_relay_is_no_end_where_the_next_hop_reports_itself() -> None:
    assert due(Event.RELAYED, "SUCCESS")
    assert not due(Event.RELAYED, "SUCCESS", hop_reports=True)
    assert due(Event.DELIVERED, "SUCCESS", hop_reports=True)


def test_without_notify_the_settings_decide() -> None:
    assert {e for e in Event if due(e, None)} == DEFAULT_EVENTS
    assert not due(Event.RELAYED, None)
    assert due(Event.SUBMITTED, None)
    quiet = ReceiptSettings(events=frozenset())
    assert asks(None, quiet, automatic=False, mailing_list=False, null_sender=False) == ()
    found = asks(None, PLAIN_MAIL, automatic=False, mailing_list=False, null_sender=False)
    assert set(found) == {Event.REFUSED, Event.HELD, Event.LATE, Event.FAILED, Event.CANCELLED}


def test_a_receipt_never_earns_a_receipt() -> None:
    message = read(compose(notice(Kind.FAILED, FAILED)))
    assert message["Auto-Submitted"] != "no"
    for event in Event:
        assert not due(event, "SUCCESS,FAILURE,DELAY", automatic=True, null_sender=True)


def test_good_news_of_many_recipients_is_gathered_and_bad_news_is_not() -> None:
    few, many = 5, 6
    assert not gathered(Event.DELIVERED, few, ReceiptSettings())
    assert gathered(Event.DELIVERED, many, ReceiptSettings())
    for event in (Event.FAILED, Event.REFUSED, Event.LATE, Event.HELD, Event.RETURNED, Event.SUBMITTED):
        assert not gathered(event, 100, ReceiptSettings())


def test_what_is_due_at_once_makes_few_messages() -> None:
    facts = [recipient(Event.DELIVERED, f"a{i}@x.example") for i in range(3)]
    facts += [recipient(Event.READ, f"b{i}@x.example") for i in range(2)]
    facts += [recipient(Event.SEEN)]
    found = [(kind, len(people)) for kind, people in bundles(facts, digest=False)]
    assert found == [(Kind.DELIVERED, 3), (Kind.READ, 1), (Kind.READ, 1)]
    found = [(kind, len(people)) for kind, people in bundles(facts, digest=True)]
    assert found == [(Kind.DIGEST, 5)]
    found = [(kind, len(people)) for kind, people in bundles(facts[:1], digest=True)]
    assert found == [(Kind.DELIVERED, 1)]
    assert receipt_due.wishes("garbage") == frozenset()
