"""The edit of the header: what goes, what comes, and that the way back gives every octet again."""

from __future__ import annotations

import json
import mmap
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tag import Cut, Edit, EditError, Received, Tags, edit_for
from tracker.field_value import decode_words
from tracker.header import scan
from tracker.header_writer import HeaderError
from tracker.model import Address, Connection, Door, TlsInfo

US = "wasl.gov.jo"
NUMBER = "MOF/2026/000123"
MARK = f"[{NUMBER}]"
PLAIN = Tags(authserv_id=US)
FULL = Tags(
    authserv_id=US,
    received=Received(
        hostname=US,
        connection=Connection(
            door=Door.SUBMISSION,
            peer="192.0.2.7",
            helo="pc-7.mof.gov.jo",
            tls=TlsInfo(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"),
            account="a@mof.gov.jo",
        ),
        letter_id=1 << 50,
        at_us=1_793_000_000_000_000,
        zone=timezone(timedelta(hours=3)),
    ),
    authentication_results="spf=pass smtp.mailfrom=mof.gov.jo; dkim=none",
    number=NUMBER,
    subject_tag=MARK,
    classification="سري",
    urgency="عاجل جداً",
    due="2026-11-20",
    verify="https://wasl.gov.jo/v/abc",
    instance="wasl.gov.jo; id=0000000000000; mac=00",
    notify_to=Address.parse("wasl-abc@wasl.gov.jo"),
)


def sent(octets: bytes, tags: Tags = PLAIN) -> bytes:
    edit = edit_for(octets, scan(octets), tags)
    out = edit.apply(octets)
    assert edit.restore(out) == octets
    return out


def names(octets: bytes) -> list[str]:
    return [item.name.decode() for item in scan(octets).fields]


def test_everything_that_is_put_on_a_letter() -> None:
    letter = (
        b"Received: from outside\r\nAuthentication-Results: wasl.gov.jo; spf=pass\r\n"
        b"Authentication-Results: mx.moh.gov.jo; spf=fail\r\n"
        b"Wasl-Letter: MOF/2026/999999\r\nWASL-Foo: 1\r\nWasl-Instance: b.example; id=1; mac=2\r\n"
        b"From: a@mof.gov.jo\r\nBcc: secret@moh.gov.jo,\r\n\tother@moh.gov.jo\r\n"
        b"Disposition-Notification-To: a@mof.gov.jo\r\nSubject: =?utf-8?B?2YPYqtin2Kg=?=\r\n\r\n"
        b"Bcc: in the body\r\nno final newline"
    )
    out = sent(letter, FULL)
    headers = scan(out)
    assert names(out) == [
        "authentication-results", "received", "wasl-letter", "wasl-classification", "wasl-urgency",
        "wasl-due", "wasl-verify", "wasl-instance", "disposition-notification-to", "received",
        "authentication-results", "wasl-instance", "from", "subject",
    ]  # fmt: skip
    assert headers.faults == []
    assert headers.all("Authentication-Results") == [
        b"wasl.gov.jo; spf=pass smtp.mailfrom=mof.gov.jo; dkim=none",
        b"mx.moh.gov.jo; spf=fail",
    ]
    assert headers.text("Wasl-Classification") == "سري"
    assert headers.text("Wasl-Urgency") == "عاجل جداً"
    assert headers.raw("Disposition-Notification-To") == b"wasl-abc@wasl.gov.jo"
    assert headers.text("Subject") == f"{MARK} كتاب"
    assert out.endswith(b"\r\n\r\nBcc: in the body\r\nno final newline")
    assert all(len(line) <= 78 for line in out[: headers.body_start].split(b"\r\n"))


def test_what_the_caller_does_not_ask_for_stays() -> None:
    letter = b"Bcc: x\r\nDisposition-Notification-To: a@b\r\nWasl-Due: 1\r\nSubject: s\r\n\r\nbody\r\n"
    edit = edit_for(letter, scan(letter), Tags(authserv_id=US, drop_ours=False, drop_bcc=False))
    assert edit == Edit(body_at=len(letter) - 6)
    assert edit.pieces(letter) == [letter]


def test_the_authors_requests_for_a_read_receipt() -> None:
    letter = (
        b"disposition-notification-TO : a@b\r\nDisposition-Notification-Options: x=required,y\r\n"
        b"Return-Receipt-To: a@b,\r\n c@d\r\nX-Confirm-Reading-To: a@b\r\n"
        b"Disposition-Notification-To: second@b\r\nSubject: s\r\n\r\nReturn-Receipt-To: body\r\n"
    )
    plain = Tags(authserv_id=US, drop_ours=False, drop_bcc=False)
    assert names(sent(letter, replace(plain, drop_wishes=True))) == ["subject"]
    ours = Address.parse("wasl-abc@wasl.gov.jo")
    out = sent(letter, replace(plain, notify_to=ours, drop_wishes=True))
    assert names(out) == ["disposition-notification-to", "subject"]
    assert scan(out).raw("Disposition-Notification-To") == b"wasl-abc@wasl.gov.jo"
    # Two requests in one header would be one too many (RFC 8098 §2.1), whatever else stays.
    assert names(sent(letter, replace(plain, notify_to=ours))) == [
        "disposition-notification-to", "return-receipt-to", "x-confirm-reading-to", "subject",
    ]  # fmt: skip


def test_received_says_how_it_came() -> None:
    assert FULL.received is not None
    text = scan(FULL.received.field()).raw("received")
    assert text == (
        b"from pc-7.mof.gov.jo ([192.0.2.7]) (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384) "
        b"by wasl.gov.jo with ESMTPSA id 0010000000000; Mon, 26 Oct 2026 10:33:20 +0300"
    )


@pytest.mark.parametrize(
    ("tls", "account", "utf8", "esmtp", "want"),
    [
        (False, False, False, True, "ESMTP"),
        (True, False, False, True, "ESMTPS"),
        (False, True, False, True, "ESMTPA"),
        (True, True, False, True, "ESMTPSA"),
        (True, True, True, True, "UTF8SMTPSA"),
        (False, False, True, True, "UTF8SMTP"),
        (False, False, False, False, "SMTP"),
    ],
)
def test_protocol_words(tls: bool, account: bool, utf8: bool, esmtp: bool, want: str) -> None:
    connection = Connection(
        door=Door.RELAY,
        peer="2001:db8::1",
        helo="[IPv6:2001:db8::1]",
        tls=TlsInfo(version="TLSv1.2", cipher="X") if tls else None,
        account="a@b" if account else None,
    )
    received = Received(hostname=US, connection=connection, letter_id=1, at_us=0, smtputf8=utf8, esmtp=esmtp)
    assert received.protocol == want
    assert b"from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])" in received.field()


@pytest.mark.parametrize("helo", ["", "a b", "x\r\nEvil: 1", "(", "é.example", "a" * 300, "x;", "-"])
def test_a_helo_cannot_write_a_header(helo: str) -> None:
    connection = Connection(door=Door.RELAY, peer="192.0.2.1", helo=helo)
    field = Received(hostname=US, connection=connection, letter_id=1, at_us=0).field()
    assert field.startswith(b"Received: from unknown ([192.0.2.1])")
    assert names(field) == ["received"]


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        (b"wasl.gov.jo; spf=pass", True),
        (b" WASL.gov.JO 1; spf=pass", True),
        (b"wasl.gov.jo", True),
        (b"(a comment (nested) \\) ) wasl.gov.jo; x=y", True),
        (b"wasl.gov.jo(c); x=y", True),
        (b'"wasl.gov.jo"; x=y', True),
        (b'"wasl\\.gov.jo"; x=y', True),
        (b"\r\n wasl.gov.jo;\r\n x=y", True),
        (b"(never closed wasl.gov.jo; x=y", True),
        (b"mx.wasl.gov.jo; x=y", False),
        (b"wasl.gov.jo.example; x=y", False),
        (b"other; wasl.gov.jo; x=y", False),
        (b"(wasl.gov.jo) other; x=y", False),
        (b"(never closed; x=y", False),
        (b"", False),
    ],
)
def test_results_in_our_name_go(value: bytes, ours: bool) -> None:
    out = sent(b"Authentication-Results:" + value + b"\r\nFrom: a@b\r\n\r\n")
    assert ("authentication-results" not in names(out)) == ours


def test_an_arc_set_in_our_name_goes_whole_and_others_stay() -> None:
    letter = b"".join(
        b"ARC-Seal: i=%d; a=rsa-sha256; cv=none;\r\n d=%b; s=x; b=abc\r\n"
        b"ARC-Message-Signature: i=%d; d=%b; b=\r\n\tabc=\r\n"
        b"ARC-Authentication-Results: i=%d; %b; spf=pass\r\n" % (i, d, i, d, i, ar)
        for i, d, ar in [
            (1, b"mof.gov.jo", b"mx.mof.gov.jo"),
            (2, b"Wasl.Gov . Jo", b"elsewhere"),
            (3, b"seal.gov.jo.", b"x"),
            (4, b"other", b"WASL.gov.jo"),
        ]
    )
    out = sent(letter + b"From: a@b\r\n\r\n", replace(PLAIN, arc_domains=frozenset({"seal.gov.jo"})))
    kept = [v.split(b";")[0] for name in ("seal", "message-signature", "authentication-results")
            for v in scan(out).all(f"arc-{name}")]  # fmt: skip
    assert kept == [b"i=1"] * 3


SUBJECTS = [
    (b"Subject: Hello\r\n", f"{MARK} Hello"),
    (b"Subject:Hello\r\n", f"{MARK} Hello"),
    (b"subject :\tHello\r\n", f"{MARK} Hello"),
    (b"Subject: Re: Hello\r\n", f"{MARK} Re: Hello"),
    (b"Subject: RE: [MOH/2026/000009] Hello\r\n", f"{MARK} RE: [MOH/2026/000009] Hello"),
    (b"Subject: \r\n", MARK),
    (b"Subject:\r\n", MARK),
    (b"Subject:\r\n =?utf-8?B?2YPYqtin2Kg=?=\r\n", f"{MARK} كتاب"),
    (b"Subject: \r\n\tHello\r\n", f"{MARK} Hello"),
    (b"Subject: =?utf-8?B?2YPYqtin2Kg=?=\r\n =?utf-8?B?2LHYs9mF2Yo=?=\r\n", f"{MARK} كتابرسمي"),
    ("Subject: كتاب رسمي\r\n".encode(), f"{MARK} كتاب رسمي"),
    (b"Subject: " + b"x" * 400 + b"\r\n", f"{MARK} " + "x" * 400),
    (b"Subject: " + b"w " * 480 + b"end\r\n", f"{MARK} " + "w " * 480 + "end"),
    (b"Subject:" + b"y" * 990 + b"\r\n", f"{MARK} " + "y" * 990),
]


@pytest.mark.parametrize(("line", "want"), SUBJECTS)
def test_the_tag_stands_in_front_of_the_subject(line: bytes, want: str) -> None:
    letter = b"From: a@b\r\n" + line + b"To: x@y\r\n\r\nbody\r\n"
    out = sent(letter, replace(PLAIN, subject_tag=MARK))
    headers = scan(out)
    text = headers.text("subject")
    assert text is not None and " ".join(text.split()) == want
    value = line.split(b":", 1)[1].strip()
    assert value in out
    assert names(out) == ["from", "subject", "to"]
    assert all(len(part) <= 998 for part in out.split(b"\r\n"))
    longest = max(map(len, line.split(b"\r\n")))
    if longest <= 78:
        assert all(len(part) <= 78 for part in out.split(b"\r\n"))


@pytest.mark.parametrize(
    "subject",
    [
        f"Re: {MARK} Hello",
        f"{MARK} Hello",
        "=?utf-8?B?UmU6IFtNT0YvMjAyNi8wMDAxMjNdINmD2KrYp9io?=",
        "=?utf-8?Q?[MOF/2026/00?=\r\n =?utf-8?Q?0123]?=",
        "Re:\r\n " + MARK,
    ],
)
def test_the_same_tag_is_not_put_twice(subject: str) -> None:
    letter = f"Subject: {subject}\r\n\r\n".encode()
    assert sent(letter, replace(PLAIN, subject_tag=MARK)) == letter


def test_a_letter_without_subject_gets_one_and_a_second_subject_none() -> None:
    tagged = replace(PLAIN, subject_tag=MARK)
    assert sent(b"From: a@b\r\n\r\nx", tagged) == b"Subject: [MOF/2026/000123]\r\nFrom: a@b\r\n\r\nx"
    out = sent(b"Subject: one\r\nSubject: two\r\n\r\n", tagged)
    assert out == b"Subject: [MOF/2026/000123] one\r\nSubject: two\r\n\r\n"


def test_date_and_message_id_are_added_only_where_missing() -> None:
    tags = replace(PLAIN, date="Sun, 01 Nov 2026 10:00:00 +0300", message_id="<1@wasl.gov.jo>")
    ours = b"Date: Sun, 01 Nov 2026 10:00:00 +0300\r\nMessage-ID: <1@wasl.gov.jo>\r\n"
    assert sent(b"From: a@b\r\n\r\n", tags) == ours + b"From: a@b\r\n\r\n"
    whole = b"message-id : <2@b>\r\nDATE:\r\n\r\n"
    assert sent(whole, tags) == whole
    with pytest.raises(HeaderError):
        sent(b"From: a@b\r\n\r\n", replace(PLAIN, message_id="<1@b>\r\nBcc: x"))


def test_an_arabic_tag_becomes_an_encoded_word() -> None:
    arabic = "[ص/٢٠٢٦/١٢٣]"
    for subject in (b"plain", b"=?utf-8?B?2YPYqtin2Kg=?="):
        out = sent(b"Subject: " + subject + b"\r\n\r\n", replace(PLAIN, subject_tag=arabic))
        assert out.isascii()
        text = scan(out).text("subject")
        assert text is not None
        assert text.replace("\u00a0", " ") == f"{arabic} {decode_words(subject)}"


@pytest.mark.parametrize("bad", ["a\r\nb", "a\0", "a\x1b", "\u2028", "\ud800"])
@pytest.mark.parametrize(
    "name", ["number", "subject_tag", "classification", "urgency", "due", "verify", "instance"]
)
def test_no_tag_can_write_a_second_header(bad: str, name: str) -> None:
    letter = b"Subject: x\r\n\r\n"
    with pytest.raises(HeaderError):
        edit_for(letter, scan(letter), replace(PLAIN, **{name: bad}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("letter", "kept"),
    [
        (b" , evil@example\r\nFrom: a@b\r\n\r\nx", b"From: a@b\r\n\r\nx"),
        (b"\tfold\r\n more\r\nFrom: a@b\r\n\r\nx", b"From: a@b\r\n\r\nx"),
        (b"From someone Mon Jan  1\r\nFrom: a@b\r\n\r\nx", b"From: a@b\r\n\r\nx"),
        (b" lead\r\nno colon\r\nFrom: a@b\r\n\r\nx", b"no colon\r\nFrom: a@b\r\n\r\nx"),
        (b"no colon\r\n lead\r\nFrom: a@b\r\n\r\nx", b"no colon\r\n lead\r\nFrom: a@b\r\n\r\nx"),
    ],
)
def test_lines_before_the_first_field_do_not_go_on_with_ours(letter: bytes, kept: bytes) -> None:
    out = sent(letter, FULL)
    ours = edit_for(letter, scan(letter), FULL).prefix
    assert out == ours + kept


@pytest.mark.parametrize(
    ("letter", "between"),
    [
        (b"\r\nbody\r\n", b""),
        (b"no header, only words\r\nmore words\r\n", b"\r\n"),
        (b" begins with a space\r\n\r\nbody", b"\r\n"),
        (b"", b"\r\n"),
        (b"x", b"\r\n"),
    ],
)
def test_a_letter_without_header_keeps_its_body(letter: bytes, between: bytes) -> None:
    out = sent(letter, FULL)
    edit = edit_for(letter, scan(letter), FULL)
    assert out == edit.prefix + letter
    assert edit.prefix.endswith(b"\r\n" + between)
    again = scan(out)
    assert out[again.body_start :] == letter[edit.body_at :].removeprefix(b"" if between else b"\r\n")


def test_a_field_without_line_end_can_go() -> None:
    assert sent(b"From: a@b\r\nBcc: c@d") == b"From: a@b\r\n"


def test_the_body_of_a_memory_map_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_bytes(b"Subject: x\r\nBcc: y\r\n\r\n" + b"z" * 1_000_000)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        edit = edit_for(octets, scan(octets), FULL)
        head, body = edit.pieces(octets)
        assert isinstance(head, bytes) and len(head) < 2000
        assert isinstance(body, memoryview) and len(body) > 1_000_000
        assert edit.restore(head + body) == octets[:]
        body.release()


def test_signatures_go_on_top_and_cover_what_is_sent() -> None:
    letter = b"Subject: x\r\nBcc: y\r\nFrom: a@b\r\n\r\nbody"
    headers = scan(letter)
    edit = edit_for(letter, headers, FULL)
    signed = edit.under(b"DKIM-Signature: v=1\r\n")
    assert signed.apply(letter) == b"DKIM-Signature: v=1\r\n" + edit.apply(letter)
    assert signed.restore(signed.apply(letter)) == letter
    assert edit.sent_head(headers) + letter[edit.body_at :] == edit.apply(letter)


_NAMES = st.sampled_from(
    [b"Subject", b"From", b"Bcc", b"Wasl-Letter", b"WASL-X", b"Authentication-Results", b"ARC-Seal", b"X-Y",
     b"Disposition-Notification-To", b"Resent-Bcc", b"Wasl-Instance", b"subject "]
)  # fmt: skip
_VALUES = st.sampled_from(
    [b" x", b"", b" wasl.gov.jo; a=b", b" i=1; d=wasl.gov.jo", b"\r\n folded", b" \xff\xfe\x80",
     b" " + MARK.encode(), b" " + b"v" * 200, b"\r\n\t\r\n x", b" =?utf-8?q?=D9=83?="]
)  # fmt: skip
_FIELDS = st.builds(lambda n, v: n + b":" + v + b"\r\n", _NAMES, _VALUES)
_ODD = st.sampled_from([b"no colon here\r\n", b" lead\r\n", b"From x\r\n", b": none\r\n", b"\xff\r\n"])


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.one_of(_FIELDS, _FIELDS, _FIELDS, _ODD), max_size=12),
    body=st.one_of(st.just(b""), st.binary(max_size=60).map(lambda b: b"\r\n" + b)),
    full=st.booleans(),
)
def test_there_and_back_for_any_letter(lines: list[bytes], body: bytes, full: bool) -> None:
    octets = b"".join(lines) + body
    edit = edit_for(octets, scan(octets), FULL if full else PLAIN).under(b"DKIM-Signature: \xff\r\n")
    out = edit.apply(octets)
    assert edit.restore(out) == octets
    assert out.endswith(octets[edit.body_at :])
    stored = json.loads(json.dumps(edit.to_json()))
    assert Edit.from_json(stored) == edit
    assert Edit.from_json(stored).apply(octets) == out


@settings(max_examples=200, deadline=None)
@given(octets=st.binary(max_size=300), full=st.booleans())
def test_there_and_back_for_any_octets(octets: bytes, full: bool) -> None:
    edit = edit_for(octets, scan(octets), FULL if full else PLAIN)
    assert edit.restore(edit.apply(octets)) == octets


def test_an_edit_that_does_not_fit_says_so() -> None:
    edit = Edit(prefix=b"P: 1\r\n", cuts=(Cut(2, b"ab", b"X"), Cut(9, b"", b"Y")), body_at=12)
    original = b"01ab456789abc"
    out = edit.apply(original)
    assert out == b"P: 1\r\n01X45678Y9abc"
    for wrong in (b"", out[1:], out.replace(b"X", b"x"), out.replace(b"Y", b"y"), out[:10]):
        with pytest.raises(EditError):
            edit.restore(wrong)


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, {"v": 2}, {"v": 1, "prefix": "", "cuts": [[-1, "", ""]], "body_at": 0},
        {"v": 1, "prefix": "\u0643", "cuts": [], "body_at": 0},
        {"v": 1, "prefix": 3, "cuts": [], "body_at": 0},
        {"v": 1, "prefix": "", "cuts": [[5, "abc", ""], [6, "", ""]], "body_at": 0},
        {"v": 1, "prefix": "", "cuts": [[1, 2]], "body_at": 0},
        {"v": 1, "prefix": "", "cuts": [], "body_at": True},
    ],
)  # fmt: skip
def test_what_is_no_edit_is_refused(value: object) -> None:
    with pytest.raises(EditError):
        Edit.from_json(value)
