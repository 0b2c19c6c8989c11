"""Read receipts: what the machine part says, what TNEF says, and what neither of them proves."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker import mdn, tnef
from tracker.mime import walk

MANUAL, AUTOMATIC = "manual-action", "automatic-action"
BY_HAND, UNASKED = "mdn-sent-manually", "mdn-sent-automatically"


def receipt(fields: bytes, header: bytes = b"", words: bytes = b"It was read.", rest: bytes = b"") -> bytes:
    return (
        b"From: diwan@health.example\r\n%bContent-Type: multipart/report;\r\n"
        b" report-type=disposition-notification; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\n%b\r\n"
        b"--b\r\nContent-Type: message/disposition-notification\r\n\r\n%b\r\n%b--b--\r\n"
    ) % (header, words, fields, rest)


def one(octets: bytes) -> mdn.Disposition:
    """The only disposition of a message."""
    (found,) = mdn.read(octets)
    return found


def test_all_fields() -> None:
    found = one(
        receipt(
            b"Reporting-UA: mail.example; Client 1\r\nMDN-Gateway: smtp; gw.example\r\n"
            b"Original-Recipient: rfc822;office@health.example\r\n"
            b"Final-Recipient: rfc822;diwan@health.example\r\n"
            b"Original-Message-ID: <1@finance.example>\r\n"
            b"Disposition: manual-action/MDN-sent-manually; displayed/error,superseded\r\n"
            b"Error: half of it\r\n",
            b"In-Reply-To: <2@finance.example>\r\n",
        )
    )
    assert found == mdn.Disposition(
        final_recipient="diwan@health.example",
        original_recipient="office@health.example",
        original_message_id="<1@finance.example>",
        mode="manual-action",
        sending_mode="mdn-sent-manually",
        type="displayed",
        modifiers=("error", "superseded"),
        reporting_ua="mail.example; Client 1",
        gateway="smtp; gw.example",
        errors=("half of it",),
        in_reply_to="<2@finance.example>",
    )
    assert not found.is_read  # displayed with an error


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"manual-action/MDN-sent-manually; displayed", (MANUAL, BY_HAND, "displayed", True)),
        (b"Automatic-Action/MDN-Sent-Automatically;Displayed", (AUTOMATIC, UNASKED, "displayed", True)),
        (b"automatic-action/MDN-sent-automatically; processed", (AUTOMATIC, UNASKED, "processed", False)),
        (b"manual-action/MDN-sent-manually; deleted", (MANUAL, BY_HAND, "deleted", False)),
        (b"manual-action / MDN-sent-manually ; denied", (MANUAL, BY_HAND, "denied", False)),
        (b"automatic-action; dispatched", (AUTOMATIC, None, "dispatched", False)),
        (b"manual-action/MDN-sent-manually (no; really); displayed", (MANUAL, BY_HAND, "displayed", True)),
        (b"manual-action/MDN-sent-manually;\r\n displayed", (MANUAL, BY_HAND, "displayed", True)),
        (b"displayed", (None, None, "displayed", True)),
        (b"", (None, None, None, False)),
        (b"((((((", (None, None, None, False)),
    ],
)
def test_dispositions(value: bytes, expected: tuple[str | None, str | None, str | None, bool]) -> None:
    found = one(receipt(b"Final-Recipient: rfc822;a@b.example\r\nDisposition: " + value + b"\r\n"))
    assert (found.mode, found.sending_mode, found.type, found.is_read) == expected


@pytest.mark.parametrize(
    ("header", "fields", "rest", "original"),
    [
        (b"In-Reply-To: <r@x>\r\n", b"Original-Message-ID: <o@x>\r\n", b"", "<o@x>"),
        (b"In-Reply-To: <r@x>\r\nReferences: <z@x>\r\n", b"", b"", "<r@x>"),
        (b"References: <y@x> <z@x>\r\n", b"", b"", "<z@x>"),
        (b"", b"", b"--b\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <b@x>\r\n\r\n\r\n", "<b@x>"),
        (b"", b"Original-Message-ID : o@x\r\n", b"", "o@x"),
        (b"", b"Original-Message-ID: <\r\n", b"", None),
    ],
)
def test_which_message_it_is_about(header: bytes, fields: bytes, rest: bytes, original: str | None) -> None:
    found = one(
        receipt(fields + b"Disposition: manual-action/MDN-sent-manually; displayed\r\n", header, rest=rest)
    )
    assert found.original_message_id == original


def test_a_refusal_that_calls_itself_deleted() -> None:
    fields = (
        b"Final-Recipient: rfc822;a@b.example\r\n"
        b"Disposition: automatic-action/MDN-sent-automatically; deleted\r\n"
    )
    refused = one(receipt(fields, words=b"Your message was automatically rejected:\r\nToo large"))
    assert refused.refusal == "Your message was automatically rejected: Too large"
    unread = one(receipt(fields, words=b"Your message was deleted without being read"))
    assert unread.refusal is None
    by_hand = one(receipt(fields.replace(b"automatic-action", b"manual-action"), words=b"I rejected it"))
    assert by_hand.refusal is None


def test_fields_in_the_text() -> None:
    fields = (
        b"Final-Recipient: rfc822; a@b.example\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n"
    )
    found = one(b"From: a@b.example\r\n\r\nThis is a receipt.\r\n\r\n" + fields)
    assert found.is_read and found.final_recipient == "a@b.example"
    quoted = b"From: a@b.example\r\n\r\nWhat is this?\r\n> " + fields.replace(b"\r\n", b"\r\n> ")
    assert mdn.read(quoted) == ()
    assert mdn.read(b"From: a@b.example\r\n\r\nDisposition: friendly\r\n") == ()


def test_an_enclosed_receipt_is_a_letters_attachment() -> None:
    inner = receipt(b"Disposition: manual-action/MDN-sent-manually; displayed\r\n")
    outer = b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n"
    assert mdn.read(outer + inner + b"\r\n--o--") == ()


def _attribute(name: int, data: bytes) -> bytes:
    return struct.pack("<BHHI", 1, name, 6, len(data)) + data + b"\0\0"


def _text(number: int, text: str, *, wide: bool = False) -> bytes:
    raw = text.encode("utf-16-le") + b"\0\0" if wide else text.encode() + b"\0"
    return struct.pack("<HHII", 0x1F if wide else 0x1E, number, 1, len(raw)) + raw + b"\0" * (-len(raw) % 4)


def stream(message_class: bytes, *properties: bytes) -> bytes:
    head = struct.pack("<IH", tnef.SIGNATURE, 1) + _attribute(0x9006, struct.pack("<I", 0x10000))
    return head + _attribute(0x8008, message_class + b"\0") + _attribute(
        0x9003, struct.pack("<I", len(properties)) + b"".join(properties)
    )  # fmt: skip


def wrapped(content: bytes, header: bytes = b"") -> bytes:
    return (
        b"From: D <diwan@health.example>\r\n" + header + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\n\r\n \r\n--b\r\nContent-Type: application/octet-stream; name=WINMAIL.DAT\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(content) + b"--b--\r\n"
    )


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("message_class", "kind"),
    [
        (b"IPM.Microsoft Mail.Read Receipt", "displayed"),
        (b"REPORT.IPM.Note.IPNRN", "displayed"),
        (b"Report.IPM.Note.IPNNRN", "deleted"),
        (b"IPM.Note", None),
        (b"REPORT.IPM.Note.NDR", None),
    ],
)
def test_winmail(message_class: bytes, kind: str | None, wide: bool) -> None:
    number = struct.pack("<HHI", 3, 0x0E08, 5)
    named = struct.pack("<HH", 3, 0x8001) + b"g" * 16 + struct.pack("<II", 0, 7) + struct.pack("<I", 1)
    content = stream(
        message_class, number, named, _text(tnef.IN_REPLY_TO_ID, "<1@finance.example>", wide=wide)
    )
    if kind is None:
        assert mdn.read(wrapped(content)) == ()
        return
    found = one(wrapped(content))
    assert (found.type, found.final_recipient, found.wrapped) == (kind, "diwan@health.example", True)
    assert found.original_message_id == "<1@finance.example>"
    assert found.mode is None  # it does not say whether a person decided
    answered = one(wrapped(content, b"In-Reply-To: <2@finance.example>\r\n"))
    assert answered.original_message_id == "<2@finance.example>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"manual-action/MDN-sent-manually; displayed, deleted", [("displayed", ()), ("deleted", ())]),
        (b"manual-action/MDN-sent-manually; displayed; deleted", [("displayed", ()), ("deleted", ())]),
        (
            b"manual-action/MDN-sent-manually; displayed/error, superseded, deleted",
            [("displayed", ("error", "superseded")), ("deleted", ())],
        ),
        (b"displayed; deleted", [("displayed", ()), ("deleted", ())]),
    ],
)
def test_a_field_that_names_several_types(value: bytes, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    found = mdn.read(receipt(b"Final-Recipient: rfc822;a@b.example\r\nDisposition: " + value + b"\r\n"))
    assert [(d.type, d.modifiers) for d in found] == expected


DISPLAYED = b"Disposition: manual-action/MDN-sent-manually; displayed\r\n"
DELETED = b"Disposition: manual-action/MDN-sent-manually; deleted\r\n"


def test_several_fields_blocks_and_parts() -> None:
    to_a, to_b = b"Final-Recipient: rfc822;a@b.example\r\n", b"Final-Recipient: rfc822;b@b.example\r\n"
    a, b = "a@b.example", "b@b.example"
    second = b"--b\r\nContent-Type: message/disposition-notification\r\n\r\n%b\r\n"
    for octets, expected in (
        (receipt(to_a + DISPLAYED + DELETED), [(a, "displayed"), (a, "deleted")]),
        (receipt(to_a + DISPLAYED + b"\r\n" + to_b + DELETED), [(a, "displayed"), (b, "deleted")]),
        (receipt(to_a + b"\r\n" + DISPLAYED), [(a, "displayed")]),  # one recipient, a stray blank line
        (receipt(to_a + DELETED, rest=second % (to_b + DISPLAYED)), [(a, "deleted"), (b, "displayed")]),
        (receipt(b"\r\n".join([to_a + DISPLAYED] * 500)), [(a, "displayed")] * mdn.MAX_TOLD),
        (receipt(to_a + DISPLAYED, rest=(second % (to_a + DISPLAYED)) * 50), [(a, "displayed")] * 20),
    ):
        assert [(d.final_recipient, d.type) for d in mdn.read(octets)] == expected


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("Read: Budget", "Your message\r\n\r\n  To: Diwan\r\nwas read on 22/11/2026 10:00."),
        ("Return Receipt (displayed) - Budget", "It was displayed on the recipient's computer."),
        ("مقروءة: كتاب", "تمت قراءة رسالتكم."),
        ("إشعار بقراءة الرسالة", "قرئت رسالتكم يوم الأحد."),
        ("Lu : Budget", "Votre message a été lu le 22 novembre."),
        ("Gelesen: Etat", "Ihre Nachricht wurde am Sonntag gelesen."),
        ("Lesebestätigung", "Ihre Nachricht wurde gelesen."),
    ],
)
def test_receipts_in_words_are_a_hint(subject: str, words: str) -> None:
    head = (
        f"From: diwan@health.example\r\nSubject: {subject}\r\nIn-Reply-To: <1@x>\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    octets = (head + words).encode()
    assert mdn.read(octets) == ()
    found = mdn.in_words(octets, walk(octets))
    assert found is not None and (found.type, found.final_recipient) == ("displayed", "diwan@health.example")
    assert found.in_words and not found.is_read and found.mode is None
    for other in (head + "We ask for more.", head.replace(subject, "Budget") + words):
        assert mdn.in_words(other.encode(), walk(other.encode())) is None


def test_tnef_that_lies_about_its_lengths() -> None:
    whole = stream(b"REPORT.IPM.Note.IPNRN", _text(tnef.IN_REPLY_TO_ID, "<1@x>"))
    for cut in range(len(whole)):
        tnef.read(whole[:cut])
    counts = whole.replace(struct.pack("<I", 1), b"\xff\xff\xff\xff")
    assert tnef.read(counts) is not None
    assert tnef.read(b"") is None and tnef.read(b"PK\x03\x04xx") is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_nothing_raises(content: bytes) -> None:
    mdn.read(receipt(content))
    mdn.read(receipt(b"Disposition: " + content))
    tnef.read(struct.pack("<IH", tnef.SIGNATURE, 1) + content)
    tnef.read(struct.pack("<IH", tnef.SIGNATURE, 1) + _attribute(0x9003, content))
    mdn.read(wrapped(content))
