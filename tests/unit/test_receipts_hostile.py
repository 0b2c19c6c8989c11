"""Receipts about hostile letters: no text of others breaks a message, or shows what it is not."""

from __future__ import annotations

import dataclasses
import email
import email.policy
import re
import unicodedata
from collections.abc import Sequence
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_receipts import (
    ALL,
    AT,
    FAILED,
    LETTER,
    check_wire,
    notice,
)
from tracker import dsn
from tracker.foreign_text import shown, turns_direction
from tracker.mime_writer import quoted_printable
from tracker.model import Address, AddressError
from tracker.notice import Kind, RecipientFacts
from tracker.receipt_html import html
from tracker.receipt_text import plain
from tracker.receipt_words import LABELS
from tracker.receipts import compose, subject
from tracker.report_part import original_recipient, unxtext
from tracker.states import Event, Grade


class Tags(HTMLParser):
    """Which tags and attributes a page holds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.seen.update(f"{tag}@{name}" for name, _ in attrs)


def vocabulary() -> set[str]:
    known = Tags()
    for made in (notice(Kind.FAILED, FAILED), notice(Kind.DIGEST, *[FAILED] * 8)):
        known.feed(html(made))
    return known.seen


NASTY = st.one_of(
    st.text(max_size=300),
    st.text(st.sampled_from("a كت\r\n\t\0\x1b\x85\u202e\u2066\u2028=?_<>\"&';%[]:@😀\ud800"), max_size=300),
    st.sampled_from(
        [
            "x\r\nBcc: evil@example.org\r\n\r\nbody",
            "=?utf-8?Q?a=0D=0ABcc:_x?=",
            "</td></table><script>alert(1)</script>",
            "\u202egpj.exe",
            "😀" * 300,
            "a" * 50_000,
            " " * 50_000 + "z",
            "كتاب " * 5_000,
            "--=_wasl_",
            "{number}{gateway}",
        ]
    ),
)


def address(local: str) -> Address:
    try:
        return Address.parse(f"{local}@x.example")
    except (AddressError, UnicodeEncodeError):
        return Address.parse("u@x.example")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(ALL),
    texts_=st.lists(NASTY, min_size=10, max_size=10),
    header=st.binary(max_size=300),
    number=st.sampled_from([None, "MOF/2026/000123"]),
)
def test_no_text_of_others_breaks_a_message(
    kind: Kind, texts_: Sequence[str], header: bytes, number: str | None
) -> None:
    a, b, c, d, e, f, g, h, i, j = texts_
    facts = RecipientFacts(
        address=address(a),
        event=Event(kind.value),
        at_us=AT,
        grade=Grade.NONE,
        orcpt=b,
        agency_ar=c,
        agency_en=d,
        reply=e,
        remote_mta=f,
        reason_ar=g,
        person=h,
        incoming_number=i,
        disposition=j,
        log_id=a,
    )
    letter = dataclasses.replace(
        LETTER,
        subject=j,
        author=address(b),
        author_name=a,
        number=number,
        agency_ar=e,
        message_id=f,
        references=(g, h),
        envid=c,
        verify_code=d,
    )
    octets = compose(notice(kind, facts, letter=letter, original_headers=header))
    check_wire(octets)
    message = email.message_from_bytes(octets)
    fields = [name.lower() for name in message]
    assert len(fields) == len(set(fields))
    assert set(fields) <= {
        "date", "from", "to", "subject", "message-id", "in-reply-to", "references", "auto-submitted",
        "x-auto-response-suppress", "wasl-letter", "wasl-verify", "wasl-receipt", "content-language",
        "mime-version", "content-type", "content-transfer-encoding",
    }  # fmt: skip
    first = message.get_payload()[0]
    text = first.get_payload()[0].get_payload(decode=True).decode()
    page = first.get_payload()[1].get_payload(decode=True).decode()
    found = Tags()
    found.feed(page)
    assert found.seen <= vocabulary() | {"br"}
    for body in (text, page):
        assert not re.search("[\u202a-\u202e\0\x1b\x85\u2028]", body)
    opened = sum(text.count(c) for c in "\u2066\u2067\u2068")
    assert opened == text.count("\u2069")
    if message.get_content_type() == "multipart/report" and dsn.read(octets) is not None:
        reports = dsn.read(octets) or []
        assert len(reports) == 1, "a text of others became a recipient"


@given(NASTY)
def test_foreign_text_is_shown_on_one_line(text: str) -> None:
    line = shown(text, 100)
    assert len(line) <= 100
    assert not turns_direction(line)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in line)


def test_hidden_controls_are_shown_and_said_to_have_been_there() -> None:
    letter = dataclasses.replace(LETTER, subject="report\u202efdp.exe")
    made = notice(Kind.DELIVERED, letter=letter)
    for body in (plain(made), html(made)):
        assert "report[U+202E]fdp.exe" in body
        assert LABELS["turned"].en in body and LABELS["turned"].ar in body
    assert "[U+202E]" in subject(made)


@given(st.binary(max_size=400))
def test_quoted_printable_reads_back(octets: bytes) -> None:
    import quopri

    coded = quoted_printable(octets)
    assert max(map(len, coded.split(b"\r\n"))) <= 76
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", coded)
    assert quopri.decodestring(coded.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n") == octets or (
        b"\r" in octets or b"\n" in octets
    )


@given(st.text(max_size=200), st.booleans())
def test_any_orcpt_gives_a_field_or_nothing(text: str, utf8: bool) -> None:
    for value in (text, f"rfc822;{text}", f"utf-8;{text}"):
        made = original_recipient(value, utf8=utf8)
        assert made is None or "\n" not in made


def test_xtext() -> None:
    assert unxtext("a+2Bb+3Dc") == "a+b=c"
    assert unxtext("a+0D+0Ab") == "a+0D+0Ab"
    assert unxtext("a+2") == "a+2"
