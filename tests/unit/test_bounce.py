"""Notices of non-delivery in words: found when a mail system wrote them, and only then."""

from __future__ import annotations

import pytest

from tracker import bounce
from tracker.mime import walk

DAEMON = b"Return-Path: <>\nFrom: MAILER-DAEMON@mail.health.example\nTo: diwan@finance.example\n"


def read(octets: bytes) -> bounce.Bounce | None:
    return bounce.read(octets, walk(octets))


def recipients(octets: bytes) -> list[tuple[str | None, str | None, str | None]]:
    found = read(octets)
    assert found is not None
    return [(r.final_recipient, r.action, r.status) for r in found.reports]


@pytest.mark.parametrize(
    "words",
    [
        b"<a@health.example>:\nSorry, no such user (#5.1.1)\n",
        b"  a@health.example\n    SMTP error after RCPT TO:<a@health.example>:\n    550 5.1.1 no\n",
        b"a@health.example: 550 5.1.1 no such user\n",
        b"   ----- The following addresses had permanent fatal errors -----\n<a@health.example>\n"
        b"    (reason: 550 5.1.1 no such user)\n",
        b"Unable to deliver message to: <a@health.example>\n"
        b"Server mx.health.example failed with: 550 5.1.1 no\n",
        b"User unknown: a@health.example\n\n550 5.1.1\n",
        b"There was an error delivering your mail to <a@health.example>.\n\nmx.x [192.0.2.1] said:\n"
        b"550 5.1.1 no\n",
        b">>> RCPT To:<a@health.example>\n<<< 550 5.1.1 no such user\n",
    ],
)
def test_one_recipient_in_many_forms(words: bytes) -> None:
    octets = DAEMON + b"Subject: failure notice\n\n" + words
    assert recipients(octets) == [("a@health.example", "failed", "5.1.1")]


def test_the_returned_message_names_nobody() -> None:
    copy = (
        b"Return-Path: <diwan@finance.example>\nReceived: by x\nFrom: diwan@finance.example\n"
        b"Message-ID: <1@x>\n\n"
    )
    words = b"<a@health.example>:\nno such user\n\n"
    for mark in (
        b"",
        b"--- Below this line is a copy of the message.\n\n",
        b"    Message headers follow.\n\n",
    ):
        octets = (
            DAEMON + b"Subject: failure notice\n\n" + words + mark + copy + b"<stranger@elsewhere.example>:\n"
        )
        found = read(octets)
        assert found is not None
        assert [r.final_recipient for r in found.reports] == ["a@health.example"]
        assert found.original_message_id == "<1@x>"


def test_several_recipients_with_their_own_words() -> None:
    octets = (
        DAEMON + b"Subject: Undelivered Mail Returned to Sender\n\n"
        b"<a@health.example>: host mx.health.example[192.0.2.1]\n"
        b"    said: 550 5.1.1 no such user\n\n<b@health.example>: connect to mx2.health.example: timed out\n"
    )
    found = read(octets)
    assert found is not None
    assert [(r.final_recipient, r.status, r.remote_mta) for r in found.reports] == [
        ("a@health.example", "5.1.1", "mx.health.example"),
        ("b@health.example", None, "mx2.health.example"),
    ]
    assert (
        found.reports[0].diagnostic_code == "host mx.health.example[192.0.2.1] said: 550 5.1.1 no such user"
    )


def test_delay_is_not_failure() -> None:
    octets = (
        DAEMON
        + b"Subject: Warning: could not send message for past 4 hours\n\n<a@health.example>: 451 4.4.1 busy\n"
    )
    assert recipients(octets) == [("a@health.example", "delayed", "4.4.1")]
    both = (
        DAEMON + b"Subject: Returned mail\n\n -- The following addresses had transient non-fatal errors --\n"
        b"<a@health.example>\n\n -- The following addresses had permanent fatal errors --\n"
        b"<b@health.example>\n"
    )
    assert [x[:2] for x in recipients(both)] == [
        ("a@health.example", "delayed"),
        ("b@health.example", "failed"),
    ]


def test_a_reply_code_alone_gives_its_class() -> None:
    octets = DAEMON + b"Subject: failure notice\n\n<a@health.example>:\n554 rejected\n"
    assert recipients(octets) == [("a@health.example", "failed", "5.0.0")]


def test_listed_recipients_come_first() -> None:
    octets = (
        b"X-Failed-Recipients: a@health.example, b@health.example\n"
        + DAEMON
        + b"Subject: Mail delivery failed\n\n"
        b"  a@health.example\n    550 5.2.2 full\n\nWrite to helper@elsewhere.example\n"
    )
    assert [x[0] for x in recipients(octets)] == ["a@health.example", "b@health.example"]


def test_a_sender_without_a_name_is_a_mailer() -> None:
    octets = b"From: <>\nAuto-Submitted: auto-replied\n\nThat is not a valid user here: a@b.example\n"
    found = read(octets)
    assert found is not None and [r.final_recipient for r in found.reports] == ["a@b.example"]


def test_html_notices() -> None:
    octets = (
        DAEMON + b"Subject: Undeliverable: x\nContent-Type: text/html\n\n"
        b"<html><head><style>p { color: red }</style></head>"
        b"<body><p>Delivery has failed to these recipients:<br>&lt;a@health.example&gt;</p><p>550 5.1.1</p>"
    )
    assert recipients(octets) == [("a@health.example", "failed", "5.1.1")]


def test_the_one_addressee_of_the_copy_where_nobody_is_named() -> None:
    octets = (
        DAEMON
        + b"Subject: Returned mail\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nIt failed.\n--b\n"
        b"Content-Type: message/rfc822\n\nTo: a@health.example\nMessage-ID: <1@x>\n\n\n--b--\n"
    )
    found = read(octets)
    assert found is not None and found.original_message_id == "<1@x>"
    assert [r.final_recipient for r in found.reports] == ["a@health.example"]


@pytest.mark.parametrize(
    "octets",
    [
        b"From: clerk@health.example\nSubject: your letter\n\n"
        b"It could not be delivered to <a@health.example>:\n550\n",
        b"From: clerk@health.example\nSubject: Re: Undelivered Mail\n\n"
        b"Your mail was not delivered to a@health.example\n",
        b"From: clerk@health.example\nSubject: Delivery report of the printers\n\n"
        b"Ten were brought on Monday.\n",
        b"From: postmaster@health.example\nSubject: Maintenance on Sunday\n\n"
        b"The server will be down for an hour.\n",
        b"Return-Path: <>\nFrom: clerk@health.example\nSubject: Re: Budget\n"
        b"Auto-Submitted: auto-replied\n\nI am away.\n",
    ],
)
def test_what_is_no_bounce(octets: bytes) -> None:
    assert read(octets) is None


def test_a_letter_that_confuses_flufl_is_read_all_the_same() -> None:
    # Without From it raises IndexError, on raw 8-bit fields AttributeError.
    for octets in (
        b"Return-Path: <>\nSubject: failure notice\n\nnothing\n",
        b"Return-Path: <>\nFrom: \xe3\xcf\xed\xd1\nSubject: failure notice \xe3\n\nnothing\n",
        DAEMON + b"Subject: failure notice\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n--b--",
    ):
        found = read(octets)
        assert found is not None and found.reports == ()


def test_raw_octets_in_a_field_hide_nothing_that_flufl_knows(caplog: pytest.LogCaptureFixture) -> None:
    octets = (
        b"From: Mail Delivery System \xe9 <MAILER-DAEMON@mail.example>\nSubject: Undelivered mail\n"
        b"X-Mailer: \xe9\nContent-Description: \xe9\nTo: a@b.example\n\n"
    )
    words = (
        b"Message could not be delivered to some recipients.\n"
        b"Recipient: [SMTP:a@health.example]\nRecipient: [SMTP:b@health.example]\nMessage headers follow\n"
    )
    found = read(octets + words)
    assert found is not None
    assert [r.final_recipient for r in found.reports] == ["a@health.example", "b@health.example"]
    found = read(octets + b"sorry.\n")
    assert found is not None and found.reports == ()
    assert caplog.records == []


def test_what_flufl_stumbles_over_writes_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        found = read(b"Return-Path: <>\nSubject: failure notice\n\nnothing\n")  # no From: IndexError
    assert found is not None and found.reports == ()
    assert caplog.records == []
