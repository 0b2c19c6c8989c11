"""The header writer against a decoder written here from RFC 2047, and against the standard library's."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, timedelta, timezone
from email.headerregistry import HeaderRegistry
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker import header_writer as hw
from tracker.model import NULL_PATH, Address, AddressError, when

_WORD = re.compile(r"=\?utf-8\?([BQ])\?([^?]*)\?=")
_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def unfold(octets: bytes) -> str:
    """The logical value of one field; also holds the writer to the shape of a field."""
    assert octets.endswith(b"\r\n")
    lines = octets[:-2].split(b"\r\n")
    for i, line in enumerate(lines):
        assert b"\r" not in line and b"\n" not in line and b"\0" not in line
        assert len(line) <= 998
        assert line.strip(b" "), "a line of spaces alone"
        assert i == 0 or line.startswith(b" ")
        if b"=?utf-8?" in line:
            assert len(line) <= 76
    name, colon, value = octets.decode().replace("\r\n", "").partition(":")
    assert name and colon
    return value[1:]


def decoded(value: str) -> str:
    """RFC 2047 §6: each encoded word by itself, spaces between two of them dropped."""

    def one(match: re.Match[str]) -> str:
        assert len(match[0]) <= 75
        if match[1] == "B":
            return b64decode(match[2], validate=True).decode()
        raw = re.sub(r"=([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), match[2].replace("_", " "))
        return raw.encode("latin-1").decode()

    value = re.sub(r"(\?=) +(?==\?utf-8\?)", r"\1", value)
    return _WORD.sub(one, value)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ("plain text", b"Subject: plain text\r\n"),
        ("", b"Subject:\r\n"),
        ("[MOF/2026/000123] report", b"Subject: [MOF/2026/000123] report\r\n"),
        ("[MOF/2026/000123] كتاب", b"Subject: [MOF/2026/000123] =?utf-8?B?2YPYqtin2Kg=?=\r\n"),
        ("Bestätigung heute", b"Subject: =?utf-8?Q?Best=C3=A4tigung?= heute\r\n"),
        ("=?utf-8?Q?a?=", b"Subject: =?utf-8?B?PT91dGYtOD9RP2E/PQ==?=\r\n"),
    ],
)
def test_what_a_field_looks_like(value: str, wire: bytes) -> None:
    assert hw.field("Subject", value) == wire


@given(st.text(max_size=400), st.sampled_from(["To", "Subject", "X" * 76]))
def test_any_text_is_written_so_that_it_reads_back_or_is_refused(text: str, name: str) -> None:
    if _REFUSED.search(text):
        with pytest.raises(hw.HeaderError):
            hw.field(name, text)
        return
    octets = hw.field(name, text)
    if len(name) < 30:
        assert decoded(unfold(octets)) == text.strip(" ")


@pytest.mark.parametrize("unit", ["ك", "é", "x", "=?", "😀", "a b é ", "كتاب ", "x" * 61 + " é"])
@pytest.mark.parametrize("name", ["To", "Subject", "Content-Description-Of-A-Long-Name"])
def test_long_texts_fold_within_the_limits_and_read_back(unit: str, name: str) -> None:
    text = (unit * 120).strip()
    assert decoded(unfold(hw.field(name, text))) == text


@given(st.text(st.sampled_from("ab =?_كم😀é\u202e\"'"), max_size=300))
def test_mixed_words_and_spaces_read_back(text: str) -> None:
    assert decoded(unfold(hw.field("Subject", text))) == text.strip(" ")


@given(st.text(st.sampled_from("abc كتاب😀"), min_size=1, max_size=200))
def test_the_standard_library_reads_the_same(text: str) -> None:
    text = " ".join(text.split())
    octets = hw.field("Subject", text)
    assert " ".join(str(HeaderRegistry()("subject", unfold(octets))).split()) == text


@pytest.mark.parametrize(
    "bad", ["a\r\nBcc: x@y.z", "a\nb", "a\rb", "a\0b", "a\tb", "a\x85b", "a\u2028b", "\ud800"]
)
def test_control_characters_are_refused_everywhere(bad: str) -> None:
    with pytest.raises(hw.HeaderError):
        hw.field("Subject", bad)
    with pytest.raises(hw.HeaderError):
        hw.structured("References", bad)
    with pytest.raises(hw.HeaderError):
        hw.address_field("To", [(bad, Address("a", "b.example"))])
    if "\u2028" not in bad:  # no control on the wire, and an address cannot be changed
        with pytest.raises(hw.HeaderError):
            hw.address_field("To", [("", Address(bad, "b.example"))])
        with pytest.raises(hw.HeaderError):
            hw.raw_utf8("Final-Recipient", bad)
    with pytest.raises(hw.HeaderError):
        hw.parameter_field("Content-Type", "text/plain", [("name", bad)])
    with pytest.raises(hw.HeaderError):
        hw.parameter_field("Content-Type", bad)
    with pytest.raises(hw.HeaderError):
        hw.message_id(bad)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é", "x" * 77])
def test_what_is_no_field_name_is_refused(name: str) -> None:
    with pytest.raises(hw.HeaderError):
        hw.field(name, "x")


def test_a_structured_field_folds_only_at_its_spaces() -> None:
    ids = [f"<{i:040d}@example.org>" for i in range(20)]
    octets = hw.structured("References", " ".join(ids))
    assert unfold(octets).split() == ids
    assert max(map(len, octets.split(b"\r\n"))) <= 78
    url = "https://wasl.example/v/" + "a" * 300
    assert hw.structured("Wasl-Verify", url) == f"Wasl-Verify: {url}\r\n".encode()
    with pytest.raises(hw.HeaderError):
        hw.structured("Wasl-Verify", "a" * 1200)
    with pytest.raises(hw.HeaderError):
        hw.structured("Wasl-Verify", "é")


def test_mailboxes() -> None:
    parse = Address.parse
    assert hw.address_field("To", [("", parse("a@b.example"))]) == b"To: a@b.example\r\n"
    assert hw.address_field("To", [("Jo Doe", parse("a@b.example"))]) == b"To: Jo Doe <a@b.example>\r\n"
    assert (
        hw.address_field("To", [('Doe, "J" \\ x', parse("a@b.example"))])
        == b'To: "Doe, \\"J\\" \\\\ x" <a@b.example>\r\n'
    )
    octets = hw.address_field("From", [("وصل (Wasl)", parse("wasl@gw.example")), ("", parse("ب@c.example"))])
    assert octets == "From: =?utf-8?B?2YjYtdmEIChXYXNsKQ==?= <wasl@gw.example>, ب@c.example\r\n".encode()
    for refused in (
        [],
        [("x", NULL_PATH)],
        [("", Address("a b", "c.example"))],
        [("", Address("a>,<b", "c"))],
    ):
        with pytest.raises(hw.HeaderError):
            hw.address_field("To", refused)


_display = st.text(max_size=120).filter(lambda t: not _REFUSED.search(t))


@given(st.lists(st.tuples(_display, st.text(min_size=1, max_size=40)), min_size=1, max_size=5))
def test_any_display_name_and_local_part(pairs: list[tuple[str, str]]) -> None:
    mailboxes = []
    for display, local in pairs:
        try:
            mailboxes.append((display, Address.parse(f"{local}@x.example")))
        except AddressError:
            with pytest.raises(hw.HeaderError):
                hw.address_field("To", [(display, Address(local, "x.example"))])
    if mailboxes:
        value = unfold(hw.address_field("To", mailboxes))
        assert value.count("@x.example") >= len(mailboxes)


def test_a_display_name_reads_back_by_the_standard_library() -> None:
    for display in ("وزارة المالية", "Doe, J.", 'a "b" c', "Ministry of Finance", "a=?b"):
        octets = hw.address_field("To", [(display, Address.parse("a@b.example"))])
        header = HeaderRegistry()("to", unfold(octets))
        assert [(a.display_name, a.addr_spec) for a in header.addresses] == [(display, "a@b.example")]


def test_parameters() -> None:
    octets = hw.parameter_field("Content-Disposition", "attachment", [("filename", "a b.txt")])
    assert octets == b'Content-Disposition: attachment; filename="a b.txt"\r\n'
    for name in ("كتاب رسمي.pdf", "x" * 200, 'a"b\\c%.txt'):
        octets = hw.parameter_field("Content-Disposition", "attachment", [("filename", name), ("size", "3")])
        header = HeaderRegistry()("content-disposition", unfold(octets))
        assert header.params["filename"] == name
        assert header.params["size"] == "3"
    with pytest.raises(hw.HeaderError):
        hw.parameter_field("Content-Type", "text/plain", [("a b", "c")])


def test_message_ids() -> None:
    assert hw.message_id("gw.example", b"x") == hw.message_id("gw.example", b"x")
    assert hw.message_id("gw.example", b"x") != hw.message_id("gw.example", b"y")
    assert len({hw.message_id("gw.example") for _ in range(100)}) == 100
    assert re.fullmatch(r"<[a-z2-7]{32}@gw\.example>", hw.message_id("gw.example"))


@given(st.integers(0, 4_000_000_000_000_000), st.integers(-14 * 60, 14 * 60))
def test_dates_read_back_to_the_second(us: int, offset: int) -> None:
    text = hw.date(us, timezone(timedelta(minutes=offset)))
    assert parsedate_to_datetime(text) == when(us).replace(microsecond=0)


def test_a_date_is_english_and_in_the_zone() -> None:
    assert hw.date(0, UTC) == "Thu, 01 Jan 1970 00:00:00 +0000"
    assert hw.date(1_790_000_000_000_000, ZoneInfo("Asia/Amman")) == "Mon, 21 Sep 2026 17:13:20 +0300"
