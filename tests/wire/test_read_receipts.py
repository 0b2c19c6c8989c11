"""Read receipts over the wire: asked for outward, weighed when they come back, passed on to the author."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import SMTP
from pathlib import Path

import pytest

from tests.servers.dovecot import PASSWORD
from tests.servers.place import wait_until
from tests.wire.gateway_front import DOMAIN, MOF, MOH, MOJ, SHADOW, STRANGER, Agency, Front, transaction
from tests.wire.wire_letters import body, header, letter, new_id, report, return_address

pytestmark = pytest.mark.servers

AUTHOR = "author@mof.gov.example"
DIWAN = "diwan@moh.gov.example"
CLERK = "clerk@moh.gov.example"
SENT = ("sent", 2, "open")
READ = ("sent", 5, "open")
SAMPLES = Path(__file__).parents[1] / "messages"
MANUAL = "manual-action/MDN-sent-manually; displayed"
ELSEWHERE = "came in from another server than the recipient's agency's own"
NOT_SENT = "speaks of a letter that has not been sent there"
NOBODY = "names no recipient of this letter"
ODD_FROM = "its From is not of the recipient's agency"
FOR_ANOTHER = "one recipient speaks for another"


def mdn(
    back: str,
    message_id: str = "",
    *,
    author: str | None = DIWAN,
    reader: str | None = DIWAN,
    told: str = MANUAL,
    subject: str = "Read: Budget",
    rest: str = "",
    words: str = "It was read.",
) -> bytes:
    """A receipt as a mail program writes it; None leaves a field out."""
    return (
        (f"From: {author}\r\n" if author is not None else "")
        + f"To: {back}\r\nSubject: {subject}\r\nMessage-ID: {new_id()}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="b"\r\n\r\n'
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{words}\r\n"
        "--b\r\nContent-Type: message/disposition-notification\r\n\r\nReporting-UA: a client\r\n"
        + (f"Final-Recipient: rfc822; {reader}\r\n" if reader is not None else "")
        + (f"Original-Message-ID: {message_id}\r\n" if message_id else "")
        + f"Disposition: {told}\r\n\r\n{rest}--b--\r\n"
    ).encode()


def told(front: Front, message_id: str) -> list[tuple[str, str | None, str | None]]:
    """Event, type and mode of what read receipts left as evidence."""
    found = [e for e in front.evidence(message_id) if e.source == "mdn"]
    return [(e.event, e.detail.get("type"), e.detail.get("mode")) for e in found]


def strays(front: Front, message_id: str) -> list[str]:
    return [item.reason for item in front.worklist(front.letter(message_id).id)]


def parsed(octets: bytes) -> Message:
    return message_from_bytes(octets, policy=SMTP)


# Asked for.


def test_a_copy_asks_at_the_address_that_it_comes_from(front: Front) -> None:
    octets, message_id = letter()
    front.accept(octets, DIWAN)
    (copy,) = front.arrived(MOH, message_id)
    assert header(copy.octets, "Disposition-Notification-To") == return_address(copy)  # RFC 8098 §2.1
    assert front.signatures(copy.octets) == ["ed25519-sha256", "rsa-sha256"]
    assert "disposition-notification-to" in header(copy.octets, "DKIM-Signature")


WISHES = {
    "Disposition-Notification-To": f"An Author <{AUTHOR}>",
    "Disposition-Notification-Options": "x-thing=required,y",
    "Return-Receipt-To": AUTHOR,
    "X-Confirm-Reading-To": AUTHOR,
}


def test_the_authors_own_request_stays_in_the_record_only(front: Front) -> None:
    octets, message_id = letter(more=WISHES)
    front.accept(octets, DIWAN)
    (copy,) = front.arrived(MOH, message_id)
    assert copy.octets.count(b"isposition-Notification-To") == 1
    assert header(copy.octets, "Disposition-Notification-To") == return_address(copy)
    for name in list(WISHES)[1:]:
        assert header(copy.octets, name) == "", name
    assert body(copy.octets) == body(octets)
    assert front.signatures(copy.octets) == ["ed25519-sha256", "rsa-sha256"]
    assert front.original(front.letter(message_id).id) == octets
    (submission,) = front.submissions(front.letter(message_id).id)
    assert submission.facts["read_wish"] == {"to": [AUTHOR]}


def test_a_shadow_copy_and_private_mail_keep_what_the_author_asks(front: Front) -> None:
    for agency, to in ((SHADOW, "a@shadow.gov.example"), (MOF, "colleague@mof.gov.example")):
        octets, message_id = letter(to, more=WISHES)
        front.accept(octets, to)
        (copy,) = front.arrived(agency, message_id)
        for name, value in WISHES.items():
            assert header(copy.octets, name) == value
        assert DOMAIN not in header(copy.octets, "Disposition-Notification-To")


def test_an_address_for_each_recipient_or_one_above_five(front: Front) -> None:
    octets, message_id = letter()
    front.accept(octets, DIWAN, CLERK)
    first, second = front.arrived(MOH, message_id, 2)
    asked = {header(copy.octets, "Disposition-Notification-To") for copy in (first, second)}
    assert asked == {return_address(first), return_address(second)} and len(asked) == 2
    octets, message_id = letter()
    front.accept(octets, *(f"p{i}@moh.gov.example" for i in range(6)))
    (copy,) = front.arrived(MOH, message_id)
    assert header(copy.octets, "Disposition-Notification-To") == return_address(copy) not in asked


@pytest.mark.parametrize(
    "more", [{"Auto-Submitted": "auto-generated"}, {"List-Id": "<x.example>"}], ids=["automatic", "list"]
)
def test_automatic_mail_asks_for_nothing(front: Front, more: dict[str, str]) -> None:
    octets, message_id = letter(more=more | {"Disposition-Notification-To": AUTHOR})
    front.accept(octets, DIWAN)
    (copy,) = front.arrived(MOH, message_id)
    assert header(copy.octets, "Disposition-Notification-To") == ""
    front.quiet()
    front.receipts(message_id)


# Passed on to the author.


def test_the_author_gets_a_read_receipt_in_the_thread(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    front.accept(mdn(back, message_id, told="automatic-action/MDN-sent-automatically; displayed"), back,
                 sender=DIWAN, agency=MOH)  # fmt: skip
    front.wait_standing(message_id, DIWAN, *READ)
    assert told(front, message_id) == [("read", "displayed", "automatic-action")]
    receipt, _ = front.receipts(message_id, "read", "submitted")
    assert receipt.sender.startswith(b"<>")
    assert receipt.recipients[0].startswith(f"<{AUTHOR}>".encode())
    message = parsed(receipt.octets)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "disposition-notification"
    assert message["In-Reply-To"] == message_id and message["References"].split()[-1] == message_id
    assert message["Auto-Submitted"] == "auto-generated"
    (machine,) = [p for p in message.walk() if p.get_content_type() == "message/disposition-notification"]
    fields = dict(machine.get_payload(0).items())  # type: ignore[union-attr]
    assert fields == {
        "Reporting-UA": f"{DOMAIN}; Wasl",
        "Final-Recipient": f"rfc822; {DIWAN}",
        "Original-Message-ID": message_id,
        "Disposition": "automatic-action/MDN-sent-automatically; displayed",
    }
    assert [p.get_content_type() for p in message.iter_parts()][:3] == [  # type: ignore[attr-defined]
        "multipart/alternative",
        "message/disposition-notification",
        "text/rfc822-headers",
    ]


@pytest.mark.parametrize(
    ("asked", "gets"),
    [
        ("boss@mof.gov.example", ["boss@mof.gov.example"]),
        (f"boss@mof.gov.example, {AUTHOR}", ["boss@mof.gov.example", AUTHOR]),
        ("spy@moj.gov.example", [AUTHOR]),
        ("spy@outside.example, boss@mof.gov.example", ["boss@mof.gov.example"]),
        ("not an address", [AUTHOR]),
    ],
)
def test_nobody_outside_the_authors_agency_is_told(front: Front, asked: str, gets: list[str]) -> None:
    octets, message_id = letter()
    octets = f"Disposition-Notification-To: {asked}\r\n".encode() + octets
    front.accept(octets, DIWAN)
    back = return_address(front.arrived(MOH, message_id)[0])
    front.wait_standing(message_id, DIWAN, *SENT)
    front.accept(mdn(back, message_id), back, sender=DIWAN, agency=MOH)
    receipt, _ = front.receipts(message_id, "read", "submitted")
    assert [to.split(b">")[0][1:].decode() for to in receipt.recipients] == gets
    front.quiet()
    for agency in (MOJ, MOH):
        assert not [r for r in front.sink(agency).received if header(r.octets, "In-Reply-To") == message_id]


def test_notify_never_silences_no_read_receipt_that_was_asked_for(front: Front) -> None:
    for more, kinds in (({}, ()), ({"Disposition-Notification-To": AUTHOR}, ("read",))):
        octets, message_id = letter(more=more)
        front.accept(octets, DIWAN, rcpt_params="NOTIFY=NEVER")
        back = return_address(front.arrived(MOH, message_id)[0])
        front.wait_standing(message_id, DIWAN, *SENT)
        front.accept(mdn(back, message_id), back, sender=DIWAN, agency=MOH)
        front.wait_standing(message_id, DIWAN, *READ)
        front.quiet()
        front.receipts(message_id, *kinds)


def test_who_asks_gets_every_read_receipt_of_many_recipients(front: Front) -> None:
    people = [f"p{i}@moh.gov.example" for i in range(7)]
    octets, message_id = letter(more={"Disposition-Notification-To": AUTHOR})
    front.accept(octets, *people)
    back = return_address(front.arrived(MOH, message_id)[0])
    for reader in people[:3]:
        front.wait_standing(message_id, reader, *SENT)
        front.accept(mdn(back, author=reader, reader=reader), back, sender=reader, agency=MOH)
    found = front.receipts(message_id, "read", "read", "read", "submitted")
    assert all(b"report-type=disposition-notification" in r.octets for r in found[:3])


# Weighed.


@pytest.mark.parametrize(
    ("said", "event", "kind", "mode"),
    [
        ("manual-action/MDN-sent-automatically; displayed", "read", "displayed", "manual-action"),
        ("displayed", "read", "displayed", None),
        ("manual-action/MDN-sent-manually; deleted", "auto-reply", "deleted", "manual-action"),
        ("automatic-action/MDN-sent-automatically; processed", "auto-reply", "processed", "automatic-action"),
        ("automatic-action/MDN-sent-manually; dispatched", "auto-reply", "dispatched", "automatic-action"),
        ("manual-action/MDN-sent-manually; denied", "auto-reply", "denied", "manual-action"),
        ("manual-action/MDN-sent-manually; failed", "auto-reply", "failed", "manual-action"),
        ("manual-action/MDN-sent-manually; displayed/error", "auto-reply", "displayed", "manual-action"),
    ],
)
def test_only_displayed_counts_as_read(
    front: Front, sent: tuple[str, str], said: str, event: str, kind: str, mode: str | None
) -> None:
    message_id, back = sent
    front.accept(mdn(back, message_id, told=said), back, sender=DIWAN, agency=MOH)
    wait_until(lambda: bool(told(front, message_id)), "the evidence of a receipt")
    assert told(front, message_id) == [(event, kind, mode)]
    assert front.standing(message_id)[DIWAN] == (READ if event == "read" else SENT)
    front.quiet()
    front.receipts(message_id, "submitted", *(["read"] if event == "read" else []))
    assert strays(front, message_id) == []


def test_an_unknown_disposition_is_looked_at_by_a_person(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    front.accept(mdn(back, told="manual-action/MDN-sent-manually; admired"), back, sender=DIWAN, agency=MOH)
    assert told(front, message_id) == []
    assert strays(front, message_id) == ["a receipt that says nothing known"]


def tnef_receipt(back: str) -> bytes:
    """What Exchange sends when it takes the other side for Outlook."""
    data = b"REPORT.IPM.Note.IPNRN\0"
    stream = (
        struct.pack("<IH", 0x223E9F78, 1) + struct.pack("<BHHI", 1, 0x8008, 7, len(data)) + data + b"\0\0"
    )
    return (
        f"From: Diwan <{DIWAN}>\r\nTo: {back}\r\nSubject: مقروءة: كتاب\r\nMessage-ID: {new_id()}\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n \r\n--b\r\n"
        "Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        f"{base64.b64encode(stream).decode()}\r\n--b--\r\n"
    ).encode()


def in_text(back: str) -> bytes:
    return (
        f"From: {DIWAN}\r\nTo: {back}\r\nSubject: Receipt\r\nMessage-ID: {new_id()}\r\n\r\n"
        f"Final-Recipient: rfc822; {DIWAN}\r\nDisposition: {MANUAL}\r\n"
    ).encode()


def of_thunderbird(back: str) -> bytes:
    """The receipt of a real Thunderbird (tests/messages/README.md), for this copy."""
    octets = (SAMPLES / "mdn-thunderbird.eml").read_bytes()
    return re.sub(rb"wasl-[a-z2-7]+@wasl\.gov\.example", back.encode(), octets)


@pytest.mark.parametrize(
    ("made", "sender"),
    [
        (of_thunderbird, DIWAN),
        (tnef_receipt, ""),
        (in_text, DIWAN),
        (lambda back: mdn(back, subject="=?utf-8?B?2KrZhdiqINin2YTZgtix2KfYodip?=", words="تمت القراءة"), ""),
        (lambda back: mdn(back).replace(b"Message-ID:", b"In-Reply-To: <none@x>\r\nMessage-ID:", 1), ""),
        (lambda back: mdn(back, reader=None), DIWAN),  # From tells
        (lambda back: mdn(back, author=f"A Deputy <{CLERK}>"), CLERK),  # reads the registry's mailbox
        (lambda back: mdn(back, author="postmaster@mail.moh.gov.example"), ""),  # the server itself
    ],
    ids=["thunderbird", "tnef", "text", "arabic", "exchange", "no-recipient", "deputy", "server"],
)
def test_every_shape_is_read(front: Front, sent: tuple[str, str], made: object, sender: str) -> None:
    message_id, back = sent
    assert callable(made)
    front.accept(made(back), back, sender=sender, agency=MOH)
    front.wait_standing(message_id, DIWAN, *READ)
    front.receipts(message_id, "read", "submitted")


def test_words_alone_are_a_hint_and_go_to_the_author(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    own = new_id()
    octets = (
        f"From: {DIWAN}\r\nTo: {back}\r\nSubject: Read: Budget\r\nMessage-ID: {own}\r\n\r\n"
        "Your message was read on Sunday.\r\n"
    )
    front.accept(octets.encode(), back, sender=DIWAN, agency=MOH)
    front.arrived(MOF, own)
    assert told(front, message_id) == [("auto-reply", "displayed", None)]
    assert front.standing(message_id)[DIWAN] == SENT
    front.quiet()
    front.receipts(message_id, "submitted")


def test_a_refusal_called_deleted_is_told_and_fails_nothing(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    octets = mdn(
        back,
        message_id,
        author="postmaster@moh.gov.example",
        told="automatic-action/MDN-sent-automatically; deleted",
        words="Your message was automatically rejected: quota exceeded",
    )
    front.accept(octets, back, sender="", agency=MOH)
    (copy,) = front.arrived(MOF, header(octets, "Message-ID"))
    assert copy.recipients[0].startswith(f"<{AUTHOR}>".encode())
    assert front.standing(message_id)[DIWAN] == SENT
    (noted,) = [e for e in front.evidence(message_id) if e.source == "mdn"]
    assert noted.event == "auto-reply" and "quota exceeded" in noted.detail["refusal"]
    front.quiet()
    front.receipts(message_id, "submitted")


def test_a_signed_in_reader_may_hand_it_in(front: Front) -> None:
    reader = "reader@mof.gov.example"
    octets, message_id = letter(reader, author="a@moj.gov.example")
    front.accept(octets, reader, sender="a@moj.gov.example", agency=MOJ)
    back = return_address(front.arrived(MOF, message_id)[0])
    front.wait_standing(message_id, reader, *SENT)
    with front.signed_in(reader, PASSWORD) as smtp:
        for sender in ("", reader):  # clients differ: RFC 8098 §3 wants the null path
            code, text = transaction(smtp, mdn(back, author=reader, reader=reader), back, sender=sender)
            assert code == 250, text
    front.wait_standing(message_id, reader, *READ)
    (noted,) = [e for e in front.evidence(message_id) if e.source == "mdn"]
    assert noted.detail["account"] == reader


# Forged, foreign, twice.


@pytest.mark.parametrize(
    ("origin", "more", "why"),
    [
        (STRANGER, {}, ELSEWHERE),
        (MOJ, {}, ELSEWHERE),
        (MOJ, {"author": "diwan@moj.gov.example", "reader": "diwan@moj.gov.example"}, NOBODY),
        (MOF, {}, ELSEWHERE),
        (MOF, {"author": AUTHOR}, ELSEWHERE),
        (MOH, {"author": AUTHOR}, ODD_FROM),
        (MOH, {"author": "x@outside.example"}, ODD_FROM),
        (MOH, {"author": None}, ODD_FROM),
        (MOH, {"author": f"{DIWAN}, {CLERK}"}, ODD_FROM),
        (MOH, {"author": f"{DIWAN}\r\nFrom: {DIWAN}"}, ODD_FROM),
        (MOH, {"author": "<@@>"}, ODD_FROM),
        (MOH, {"reader": "nobody@moh.gov.example"}, NOBODY),
        (MOH, {"reader": AUTHOR}, NOBODY),
        (MOH, {"reader": f"{CLERK}", "author": CLERK}, NOBODY),
        (MOH, {"reader": None, "author": CLERK}, NOBODY),
    ],
    ids=[
        "stranger", "another-agency", "another-agency-for-itself", "the-senders-server",
        "the-author-himself", "in-the-authors-name", "in-an-outsiders-name", "no-from", "two-authors",
        "two-froms", "broken-from",
        "for-nobody", "for-the-author", "from-somebody-else", "somebody-else-unnamed",
    ],
)  # fmt: skip
def test_a_forged_receipt_proves_nothing(
    front: Front, sent: tuple[str, str], origin: Agency | str, more: dict[str, str | None], why: str
) -> None:
    message_id, back = sent
    before = len(front.evidence(message_id))
    octets = mdn(back, message_id, **more)  # type: ignore[arg-type]
    for _ in range(2):  # and again: nothing more of it
        front.accept(octets, back, sender="", agency=origin)
        octets = octets.replace(b"Message-ID: <", b"Message-ID: <again.", 1)
    front.quiet()
    assert front.standing(message_id)[DIWAN] == SENT
    assert len(front.evidence(message_id)) == before
    assert strays(front, message_id) == [why]
    front.receipts(message_id, "submitted")


def test_a_receipt_before_delivery_is_a_claim_for_a_person(front: Front) -> None:
    sink = front.sink(MOH)
    before = sink.script
    octets, message_id = letter()
    asked = len(sink.verbs)
    with later(sink):
        front.accept(octets, DIWAN)
        wait_until(lambda: any(b"wasl-" in v for v in sink.verbs[asked:]), "an attempt")
        (back,) = {m[1].decode() for v in sink.verbs[asked:] if (m := re.search(rb"<(wasl-[^>]+)>", v))}
        front.wait_standing(message_id, DIWAN, "queued", 1, "open")
        front.accept(mdn(back, message_id), back, sender=DIWAN, agency=MOH)
    assert sink.script is before
    front.arrived(MOH, message_id)
    front.wait_standing(message_id, DIWAN, *SENT)
    assert told(front, message_id) == [] and strays(front, message_id) == [NOT_SENT]


@contextmanager
def later(sink: object) -> Iterator[None]:
    """A server that puts everything off."""
    before = sink.script  # type: ignore[attr-defined]
    sink.script = lambda verb, line: b"450 4.2.0 later" if verb == "RCPT" else None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        sink.script = before  # type: ignore[attr-defined]


def counts(front: Front) -> list[int]:
    """How much there is in the record, whatever it is."""
    from sqlalchemy import func, select

    from tracker import schema

    tables = (schema.letter, schema.submission, schema.evidence, schema.worklist, schema.receipt)
    with front.engine.connect() as conn:
        return [conn.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


def test_a_replay_leaves_nothing(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    octets = mdn(back, message_id)
    front.accept(octets, back, sender=DIWAN, agency=MOH)
    front.receipts(message_id, "read", "submitted")
    front.quiet()
    before = counts(front)
    files = sum(1 for _ in (front.house.data / "archive").rglob("*.eml"))
    front.accept(octets, back, sender=DIWAN, agency=MOH)
    front.accept(mdn(back, message_id), back, sender="", agency=MOH)  # the same news in other octets
    front.accept(mdn(back, told=MANUAL.upper()), back.upper(), sender=CLERK, agency=MOH)
    front.quiet()
    assert counts(front) == before
    assert sum(1 for _ in (front.house.data / "archive").rglob("*.eml")) == files
    front.receipts(message_id, "read", "submitted")


def test_many_at_one_time_are_one(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(
            lambda i: front.accept(mdn(back, message_id), back, sender=DIWAN, agency=MOH), range(8)
        ):
            pass
    assert told(front, message_id) == [("read", "displayed", "manual-action")]
    front.receipts(message_id, "read", "submitted")


def test_later_news_is_evidence_and_no_second_receipt(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    for said in (
        "automatic-action/MDN-sent-automatically; deleted",
        "automatic-action/MDN-sent-automatically; displayed",
        MANUAL,
        "manual-action/MDN-sent-manually; deleted",
    ):
        front.accept(mdn(back, message_id, told=said), back, sender=DIWAN, agency=MOH)
    assert [event for event, _, _ in told(front, message_id)] == ["auto-reply", "read", "read", "auto-reply"]
    front.quiet()
    assert front.standing(message_id)[DIWAN] == READ
    front.receipts(message_id, "read", "submitted")


def test_two_parts_are_judged_each_by_itself(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    second = (
        "--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
        f"Final-Recipient: rfc822; nobody@moh.gov.example\r\nDisposition: {MANUAL}\r\n\r\n"
    )
    third = second.replace("nobody@moh", "diwan@moh").replace("displayed", "displayed, deleted")
    front.accept(mdn(back, message_id, rest=second + third), back, sender=DIWAN, agency=MOH)
    assert told(front, message_id) == [
        ("read", "displayed", "manual-action"),
        ("auto-reply", "deleted", "manual-action"),
    ]
    assert strays(front, message_id) == [NOBODY]


def test_of_many_recipients_none_speaks_for_another(front: Front) -> None:
    people = [f"p{i}@moh.gov.example" for i in range(6)]
    octets, message_id = letter(more={"Disposition-Notification-To": AUTHOR})  # else a digest waits
    front.accept(octets, *people)
    back = return_address(front.arrived(MOH, message_id)[0])
    for reader in people:
        front.wait_standing(message_id, reader, *SENT)
    for author in (people[1], CLERK):
        front.accept(mdn(back, author=author, reader=people[0]), back, sender="", agency=MOH)
    front.accept(mdn(back, author=people[1], reader=None), back, sender="", agency=MOH)
    front.wait_standing(message_id, people[1], *READ)
    assert front.standing(message_id)[people[0]] == SENT
    assert strays(front, message_id) == [FOR_ANOTHER, FOR_ANOTHER]


def test_the_worklist_of_one_letter_is_bounded(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    for i in range(25):
        front.accept(mdn(back, reader=f"n{i}@moh.gov.example"), back, sender="", agency=MOH)
    assert len(strays(front, message_id)) == 20


def test_a_report_of_both_kinds_is_what_comes_first(front: Front, sent: tuple[str, str]) -> None:
    message_id, back = sent
    status = report("failed", DIWAN).partition(b"--b\r\nContent-Type: message/delivery-status")[2]
    both = "--b\r\nContent-Type: message/delivery-status" + status.decode().removesuffix("--b--\r\n")
    front.accept(mdn(back, message_id, rest=both), back, sender="", agency=MOH)
    front.wait_standing(message_id, DIWAN, *READ)
    assert [e.event for e in front.evidence(message_id)][-1] == "read"
