"""Delivery reports: one Report a recipient, whatever the habits of the server that wrote them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker import dsn


def report(
    machine: bytes, content_type: bytes = b"message/delivery-status", encoding: bytes = b"7bit"
) -> bytes:
    return (
        b"From: MAILER-DAEMON@relay.example\r\nContent-Type: multipart/report; boundary=b\r\n\r\n"
        b"--b\r\n\r\nwords\r\n--b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n"
        b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <1@finance.example>\r\n--b--\r\n"
    ) % (content_type, encoding, machine)


WHOLE = (
    b"Reporting-MTA: dns; relay.finance.example\r\nOriginal-Envelope-Id: QQ+3D1\r\n"
    b"Arrival-Date: Sun, 1 Nov 2026 09:00:00 +0300\r\n\r\n"
    b"Original-Recipient: rfc822;diwan@health.example\r\nFinal-Recipient: RFC822; <mbx@health.example>\r\n"
    b"Action: Failed (bad address)\r\nStatus: 5.1.1 (no such user)\r\nRemote-MTA: dns; mx.health.example\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 no\r\n such user\r\n"
    b"Last-Attempt-Date: Sun, 1 Nov 2026 06:00:05 +0000\r\n"
    b"Will-Retry-Until: never\r\n"
)


def test_all_fields() -> None:
    assert dsn.read(report(WHOLE)) == [
        dsn.Report(
            original_recipient="diwan@health.example",
            final_recipient="mbx@health.example",
            action="failed",
            status="5.1.1",
            diagnostic_code="smtp; 550 5.1.1 no such user",
            remote_mta="mx.health.example",
            reporting_mta="relay.finance.example",
            original_envelope_id="QQ+3D1",
            arrival=datetime(2026, 11, 1, 6, 0, 0, tzinfo=UTC),
            last_attempt=datetime(2026, 11, 1, 6, 0, 5, tzinfo=UTC),
        )
    ]


@pytest.mark.parametrize("action", ["delivered", "relayed", "expanded", "delayed", "failed"])
def test_actions_stay_apart(action: str) -> None:
    (found,) = dsn.read_fields(
        b"Final-Recipient: rfc822; a@b.example\nAction: %b\n" % action.upper().encode()
    )
    assert found.action == action


@pytest.mark.parametrize(
    ("fields", "action", "status"),
    [
        (b"Action: failure\nStatus: 5.0.0\n", "failed", "5.0.0"),
        (b"Action: error\nStatus: 5.0.0\n", "failed", "5.0.0"),
        (b"Status: 5.2.2\n", "failed", "5.2.2"),  # no Action
        (b"Status: 4.2.2\n", "delayed", "4.2.2"),
        (b"Status: 2.0.0\n", None, "2.0.0"),  # no Action: relayed and delivered are not told apart
        (b"Action: failed\nDiagnostic-Code: smtp; 550 5.7.1 no\n", "failed", "5.7.1"),
        (b"Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 5.7.1 no\n", "failed", "5.7.1"),
        (b"Action: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 450 4.7.1 no\n", "failed", "5.0.0"),
        (b"Action: failed\nStatus: 550\n", "failed", None),
        (b"Action: failed\nStatus: 192.0.2.5.1.1.1\n", "failed", None),
    ],
)
def test_habits_of_action_and_status(fields: bytes, action: str | None, status: str | None) -> None:
    (found,) = dsn.read_fields(b"Final-Recipient: rfc822; a@b.example\n" + fields)
    assert (found.action, found.status) == (action, status)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("rfc822;a@b.example", "a@b.example"),
        ("RFC822; <a@b.example>", "a@b.example"),
        ("rfc/822;a@b.example", "a@b.example"),
        ("a@b.example", "a@b.example"),
        ("rfc822; a@b.example (expanded from: x)", "a@b.example"),
        ("rfc822;user+2Btag@b.example", "user+tag@b.example"),
        ("rfc822;user+3Dx@b.example", "user=x@b.example"),
        ("rfc822;user+40b.example", "user@b.example"),
        ("rfc822;user+42@b.example", "user+42@b.example"),  # somebody's tag
        ("utf-8;\\x{62F}@b.example", "د@b.example"),
        ("utf-8;د@b.example", "د@b.example"),
        ("utf-8;\\x{D800}@b.example", "\ufffd@b.example"),
        ("X400; /S=a/", "/S=a/"),
        ("rfc822;", None),
        ("", None),
        (None, None),
    ],
)
def test_addresses(value: str | None, address: str | None) -> None:
    assert dsn.recipient(value, decode_xtext=True) == address


@pytest.mark.parametrize(
    "machine",
    [
        b"Final-Recipient: rfc822; a@b.example\nAction: failed\n\n"
        b"Final-Recipient: rfc822; c@d.example\nAction: failed\n",
        b"Reporting-MTA: dns; x\n\n\n\nFinal-Recipient: rfc822; a@b.example\n \t\n"
        b"Final-Recipient: rfc822; c@d.example\n",
        b"Reporting-MTA: dns; x\nFinal-Recipient: rfc822; a@b.example\nAction: failed\n"
        b"Final-Recipient: rfc822; c@d.example\nAction: failed\n",
        b"Final-Recipient: rfc822; a@b.example\n\nStatus: 5.1.1\n\nFinal-Recipient: rfc822; c@d.example\n",
        b"Action: failed\nFinal-Recipient: rfc822; a@b.example\n\nAction: failed\n"
        b"Original-Recipient: rfc822; c@d.example",
        b"Final-Recipient: rfc822; a@b.example\r\rFinal-Recipient: rfc822; c@d.example\r",
    ],
)  # fmt: skip
def test_recipients_are_told_apart(machine: bytes) -> None:
    assert [r.recipient for r in dsn.read_fields(machine)] == ["a@b.example", "c@d.example"]


def test_an_action_said_once_for_all() -> None:
    machine = (
        b"Reporting-MTA: dns; x\nAction: failed\n\nFinal-Recipient: rfc822; a@b.example\nStatus: 4.7.0\n"
    )
    assert [(r.recipient, r.action) for r in dsn.read_fields(machine)] == [("a@b.example", "failed")]


def test_the_part_is_found_wherever_it_is() -> None:
    plain = report(WHOLE)
    expected = dsn.read(plain)
    assert expected
    import base64

    assert dsn.read(report(base64.encodebytes(WHOLE), encoding=b"base64")) == expected
    assert dsn.read(plain.replace(b"multipart/report", b"multipart/mixed")) == expected
    assert dsn.read(report(WHOLE, b"message/global-delivery-status; charset=utf-8")) == expected
    assert dsn.read(plain.replace(b"\r\n", b"\n")) == expected


def test_what_is_no_report() -> None:
    assert dsn.read(b"From: a@b.example\r\n\r\nFinal-Recipient: rfc822; a@b.example\r\n") is None
    assert dsn.read(report(b"")) == []
    enclosed = b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n"
    assert dsn.read(enclosed + report(WHOLE) + b"\r\n--o--") is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_nothing_raises(content: bytes) -> None:
    dsn.read_fields(content)
    dsn.read_fields(b"Final-Recipient: rfc822; " + content + b"\nArrival-Date: " + content)
    dsn.read(report(content))


@pytest.mark.parametrize(
    "value", ["Sun, 1 Nov 99999 09:00:00 +0300", "x" * 1000, "1 Nov 2026 99:99:99 +9999", "()"]
)
def test_odd_dates_are_none(value: str) -> None:
    fields = b"Arrival-Date: %b\n\nFinal-Recipient: rfc822; a@b.example\n" % value.encode()
    (found,) = dsn.read_fields(fields)
    assert found.arrival is None
