"""The header scan: fields and offsets, faults, decoding, and the digest of the author's own words."""

from __future__ import annotations

import hashlib
import mmap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker import charset
from tracker.field_value import decode_words, mailboxes, message_id, message_ids, parameters
from tracker.header import MAX_FIELDS, Headers, own_digest, scan
from tracker.model import Address

LETTER = (
    b"Received: from a.example by b.example;\r\n\tSun, 1 Nov 2026 09:00:00 +0300\r\n"
    b"From: Diwan <diwan@finance.example>\r\nTo: a@health.example,\r\n b@health.example\r\n"
    b"Subject: =?utf-8?B?2YPYqtin2Kg=?=\r\nMessage-ID: <1@finance.example>\r\n"
    b"References: <a@x.example>\r\n <b@x.example>\r\nIn-Reply-To: <c@x.example>\r\n\r\nBody\r\n"
)


def test_fields_are_offsets_into_the_octets() -> None:
    headers = scan(LETTER)
    assert [f.name for f in headers.fields] == [
        b"received",
        b"from",
        b"to",
        b"subject",
        b"message-id",
        b"references",
        b"in-reply-to",
    ]
    assert b"".join(LETTER[f.start : f.end] for f in headers.fields) + b"\r\n" == LETTER[: headers.body_start]
    assert LETTER[headers.body_start :] == b"Body\r\n"
    assert LETTER[headers.fields[1].value_start :].startswith(b"Diwan <")
    assert headers.faults == []


def test_values() -> None:
    headers = scan(LETTER)
    assert headers.raw("to") == b"a@health.example, b@health.example"
    assert headers.all("TO") == [headers.raw("To")]
    assert headers.text("subject") == "كتاب"
    assert headers.text("nothing") is None and headers.raw("nothing") is None
    assert headers.message_id == "<1@finance.example>"
    assert headers.references == ("<a@x.example>", "<b@x.example>", "<c@x.example>")
    assert headers.addresses("from")[0].address == Address.parse("diwan@finance.example")
    assert headers.count("to") == 1 and "subject" in headers


def test_a_map_of_a_file_reads_as_bytes_do(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_bytes(LETTER)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert scan(view).fields == scan(LETTER).fields
        assert own_digest(view, scan(view)) == own_digest(LETTER, scan(LETTER))
        assert scan(memoryview(LETTER)).fields == scan(LETTER).fields


@pytest.mark.parametrize(
    ("octets", "fault", "fields", "body"),
    [
        (b"From: a\r\nFrom: b\r\n\r\n", "duplicate From", 2, b""),
        (b"Subject: a\r\nX: 1\r\nsubject: b\r\n\r\nz", "duplicate Subject", 3, b"z"),
        (b"From: a\r\nno field\r\nTo: b\r\n\r\nz", "no colon", 2, b"z"),
        (
            b"From: a\r\nTo: b\r\ntext at once\r\nand more\r\n",
            "no blank line",
            2,
            b"text at once\r\nand more\r\n",
        ),
        (b" From: a\r\nTo: b\r\n\r\nz", "leading space", 1, b"z"),
        (b"From: a\rSubject: b\r\n\r\nz", "bare CR", 1, b"z"),
        (b"From: a\0\r\n\r\nz", "NUL", 1, b"z"),
        (b"\r\nFrom: a\r\n\r\nz", "no header", 0, b"From: a\r\n\r\nz"),
        (b": nameless\r\nTo: b\r\n\r\nz", "no name", 1, b"z"),
        (b"From x Mon\r\nTo: b\r\n>From y\r\nCc: c\r\n\r\nz", "mbox line", 2, b"z"),
    ],
)
def test_faults(octets: bytes, fault: str, fields: int, body: bytes) -> None:
    headers = scan(octets)
    assert fault in headers.faults
    assert len(headers.fields) == fields
    assert octets[headers.body_start :] == body


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_line_ends(end: bytes) -> None:
    headers = scan(end.join([b"A: 1", b"B: 2", b" 3", b"", b"body"]))
    assert headers.all("b") == [b"2 3"]
    assert headers.faults == []


def test_a_header_alone_and_nothing_at_all() -> None:
    assert scan(b"A: 1\r\nB: 2").all("b") == [b"2"]
    assert scan(b"").fields == []
    assert scan(b"A : spaced\r\n\r\n").raw("a") == b"spaced"


def test_a_header_is_bounded() -> None:
    headers = scan(b"A: b\r\n" * (MAX_FIELDS + 10) + b"\r\n")
    assert len(headers.fields) == MAX_FIELDS and "too many fields" in headers.faults
    assert "header too large" in scan(b"A: " + b"b" * (2 << 20)).faults


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"=?utf-8?q?a_b?= =?utf-8?q?c?=", "a bc"),
        (b"=?utf-8?b?2YU=?= and =?utf-8?b?2YU=?=", "م and م"),
        (b"=?UTF-8?B?2A==?=\r\n =?UTF-8?B?sQ==?=", "ر"),  # a character cut in two
        (b"=?windows-1256?Q?=E3=CF=ED=D1?=", "مدير"),
        (b"=?utf-8*ar?Q?=D9=85?=", "م"),  # RFC 2231 §5
        (b"=?utf-8?Q?with space?=", "with space"),
        (b"=?utf-8?B?2YU?=", "م"),  # padding forgotten
        (b"=?no-such-charset?Q?=D9=85?=", "م"),
        (b"=?utf-8?Q?line=0D=0ABcc: x?=", "line Bcc: x"),
        (b"=?utf-8?Q?nul=00?=", "nul\ufffd"),
        (b"=?utf-8?X?what?=", "=?utf-8?X?what?="),
        (b"=?utf-8?Q?open", "=?utf-8?Q?open"),
        ("كتاب رسمي".encode(), "كتاب رسمي"),
        ("كتاب رسمي رقم ١".encode("cp1256", "replace"), "كتاب رسمي رقم ?"),
        ("السلام عليكم ورحمة الله".encode("cp1256"), "السلام عليكم ورحمة الله"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"\xff\xfe\xfd", "ÿþý"),
    ],
)
def test_words(raw: bytes, text: str) -> None:
    assert decode_words(raw) == text


def test_the_body_charset_is_a_hint_for_a_raw_header() -> None:
    raw = "Срочное письмо".encode("koi8-r")
    headers = scan(b"Subject: " + raw + b"\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n")
    assert headers.text("subject") == "Срочное письмо"


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        ("iso-8859-1", b"\x93x\x94", "“x”"),
        ("gb2312", "汉字".encode("gb18030"), "汉字"),
        ("windows-1256", "م".encode("cp1256"), "م"),
        ("cp-1256", "م".encode("cp1256"), "م"),
        ("x-unknown", "م".encode(), "م"),
        ("us-ascii", "م".encode(), "م"),
        ("idna", b"xn--", "xn--"),
        ("unicode_escape", b"\\u0041", "\\u0041"),
        ("hex", b"41", "41"),
        ("utf-8", b"ok\xff", "ok\ufffd"),
        ("ISO-8859-6", "م".encode("iso8859-6"), "م"),
    ],
)
def test_charset_labels(label: str, raw: bytes, text: str) -> None:
    if label == "utf-8":
        raw = b"a long text that is UTF-8 but for one octet " + raw
        assert charset.decode(raw, label).endswith(text)
        return
    assert charset.decode(raw, label) == text


def test_unknown_charset_labels_are_not_kept_by_the_interpreter() -> None:
    import encodings

    before = len(encodings._cache)
    for number in range(200):
        charset.decode(b"\xff", f"never-heard-of-{number}")
    assert len(encodings._cache) == before


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b.example", [("", "a@b.example")]),
        (b"A B <a@b.example>, c@d.example", [("A B", "a@b.example"), ("", "c@d.example")]),
        (b'"B, A" <a@b.example>', [("B, A", "a@b.example")]),
        (b"a@b.example (A (nested) B)", [("A (nested) B", "a@b.example")]),
        (b"g: a@b.example, c@d.example;, e@f.example", [("", f"{x}.example") for x in ("a@b", "c@d", "e@f")]),
        (b"undisclosed-recipients:;", []),
        (b"<@route.example:a@b.example>", [("", "a@b.example")]),
        (b"=?utf-8?Q?evil=40bank=2C?= <a@b.example>", [("evil@bank,", "a@b.example")]),
        (b'"quoted local"@b.example', [("", '"quoted local"@b.example')]),
        (b"MAILER-DAEMON (Mail System)", [("Mail System", "MAILER-DAEMON")]),
        (b"a@b.example c@d.example", [("", "a@b.example"), ("", "c@d.example")]),
        (b"pete(his account)@silly.example", [("his account", "pete@silly.example")]),
        (b"Pete <pete(x)@silly.example(host)>", [("Pete", "pete@silly.example")]),
        (b"<", []),
        (b"", []),
    ],
)  # fmt: skip
def test_mailboxes(value: bytes, expected: list[tuple[str, str]]) -> None:
    assert [tuple(box) for box in mailboxes(value)] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"<a@b>", "<a@b>"),
        (b" <a@b> (added by x)", "<a@b>"),
        (b"a@b", "a@b"),
        (b"<", None),
        (b"<>", None),
        (b"<[bad]>", "<[bad]>"),
        (b"< a@b\r\n  c >", "< a@b c >"),
        (b"PM200011:12:45 AM", "PM200011:12:45 AM"),
        (b"", None),
    ],
)
def test_message_id(value: bytes, expected: str | None) -> None:
    assert message_id(value) == expected


def test_message_ids() -> None:
    assert message_ids(b"Your message of Monday <a@b> and <c@d>") == ("<a@b>", "<c@d>")
    assert message_ids(b"a@b c@d") == ("a@b", "c@d")
    assert message_ids(b"=?us-ascii?Q?=3Ca=40b=3E?=") == ("<a@b>",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a/b; name=x", {"name": "x"}),
        (b'a/b; name="x;y"; charset = utf-8', {"name": "x;y", "charset": "utf-8"}),
        (b"a/b; name*=utf-8''%D9%85.pdf", {"name": "م.pdf"}),
        (b"a/b; name*0*=utf-8''%D9%85; name*1=.pdf; name*2*=%20x", {"name": "م.pdf x"}),
        (b"a/b; name*1=b; name*0=a", {"name": "ab"}),
        (b"a/b; name=plain; name*=utf-8''extended", {"name": "extended"}),
        (b'a/b; name="=?utf-8?B?2YU=?="', {"name": "م"}),
        (b'a/b; name="C:\\temp\\x.pdf"', {"name": "C:\\temp\\x.pdf"}),
        (b'a/b; name="say \\"hi\\""', {"name": 'say "hi"'}),
        (b'a/b; name="never closed', {"name": "never closed"}),
        (b"a/b;;; =x; name; boundary=b", {"boundary": "b"}),
        (b"a/b; name=two words.pdf; x=y", {"name": "two words.pdf", "x": "y"}),
    ],
)
def test_parameters(value: bytes, expected: dict[str, str]) -> None:
    assert parameters(value) == expected


def _digest(octets: bytes) -> bytes:
    return own_digest(octets, scan(octets))


def test_own_digest_is_that_of_the_authors_words() -> None:
    plain = b"From: a@b\r\nTo: c@d\r\nSubject: x\r\n\r\nBody\r\n"
    base = _digest(plain)
    assert len(base) == 32
    trace = b"Return-Path: <a@b>\r\nReceived: by x\r\nDKIM-Signature: v=1\r\nX-Mailer: y\r\nARC-Seal: z\r\n"
    assert _digest(trace + plain) == base
    assert _digest(plain.replace(b"To:", b"Authentication-Results: x\r\nBcc: e@f\r\nTo:")) == base
    assert _digest(plain[:-2]) == base and _digest(plain + b"\r\n") == base
    for changed in (
        plain.replace(b"Body", b"body"),
        plain.replace(b"Subject: x", b"Subject: y"),
        plain.replace(b"To: c@d\r\n", b""),
        b"To: c@d\r\nFrom: a@b\r\nSubject: x\r\n\r\nBody\r\n",
    ):
        assert _digest(changed) != base


def test_own_digest_is_fixed() -> None:
    """Recorded digests must stay comparable: the form of the digest does not change."""
    assert _digest(b"From: a@b\r\nReceived: x\r\nSubject:  y\r\n z\r\n\r\nBody\r\n") == (
        hashlib.sha256(b"from:a@b\nsubject:y z\n\nBody").digest()
    )


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600))
def test_nothing_raises(octets: bytes) -> None:
    headers = scan(octets)
    assert 0 <= headers.body_start <= len(octets)
    position = 0
    for item in headers.fields:
        assert position <= item.start <= item.value_start <= item.end <= headers.body_start
        position = item.end
        name = item.name.decode("latin-1")
        headers.text(name)
        headers.addresses(name)
        parameters(headers.value(item))
    own_digest(octets, headers)
    assert isinstance(headers, Headers)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="=?utf8-qb_Q2YU;*'%\"\\<>(),:@ \r\n\x00ab", max_size=80))
def test_odd_values_never_raise(text: str) -> None:
    raw = text.encode()
    decode_words(raw)
    mailboxes(raw)
    parameters(raw)
    message_ids(raw)


def test_ten_kilobytes_are_scanned_in_microseconds() -> None:
    octets = LETTER.replace(b"Body\r\n", b"x" * 10_000)
    scan(octets)
    best = 1.0
    for _ in range(5):
        start = time.thread_time()
        for _ in range(100):
            scan(octets)
        best = min(best, (time.thread_time() - start) / 100)
    assert best < 1e-3  # 20 µs on an idle core; octet by octet it takes some milliseconds
