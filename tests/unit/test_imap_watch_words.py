"""What goes to an IMAP server and comes from it: quoting, folder names, answers, bounded garbage."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.imap_watch_words import (
    Garbage,
    Unspeakable,
    answer,
    decode_name,
    encode_name,
    number,
    pairs,
    quoted,
    uid_ranges,
    uid_set,
    values,
)


@given(st.text())
def test_a_quoted_string_is_one_string_or_nothing(text: str) -> None:
    try:
        said = quoted(text)
    except Unspeakable:
        assert not text.isascii() or any(c < " " or c > "~" for c in text)
        return
    assert said.isprintable() and said[0] == said[-1] == '"'
    assert values([said.encode()]) == [text.encode()]


@pytest.mark.parametrize("bad", ["a\r\nA1 DELETE INBOX", "a\nb", "a\x00b", "\x7f", "قيد"])
def test_what_could_become_a_second_command_is_refused(bad: str) -> None:
    with pytest.raises(Unspeakable):
        quoted(bad)


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)


@given(NAMES)
def test_folder_names_come_back(name: str) -> None:
    said = encode_name(name)
    assert said.isascii() and decode_name(said.encode()) == name
    quoted(said)


def test_folder_names_are_those_of_the_standard() -> None:
    # RFC 3501 §5.1.3 has "~peter/mail/台北/日本語" as its example.
    assert encode_name("~peter/mail/台北/日本語") == "~peter/mail/&U,BTFw-/&ZeVnLIqe-"
    assert encode_name("قيد الإجراء") == "&BkIGSgYv- &BicGRAYlBiwGMQYnBiE-"
    assert encode_name("A&B") == "A&-B"
    assert decode_name(b"&Jjo!") == "&Jjo!" and decode_name(b"&AA-") == "&AA-"
    with pytest.raises(Unspeakable):
        encode_name("a\r\nb")
    with pytest.raises(Unspeakable):
        encode_name("\ud800")


def test_a_fetch_is_read_with_its_literals() -> None:
    pieces = [
        b'* 12 FETCH (UID 5 FLAGS (\\Seen $X) INTERNALDATE "22-Nov-2026 10:00:00 +0000" '
        b"MODSEQ (77) BODY[HEADER.FIELDS (WASL-LETTER MESSAGE-ID)]<0> {14}",
        b"Wasl-Letter: x)",
        b' X-GM "a \\" b" X-B NIL)',
    ]
    said = answer(pieces)
    assert (said.number, said.kind) == (12, "FETCH")
    items = pairs(said)
    assert items["UID"] == b"5" and items["FLAGS"] == [b"\\Seen", b"$X"]
    assert items["BODY"] == b"Wasl-Letter: x)" and items["MODSEQ"] == [b"77"]
    assert items["X-GM"] == b'a " b'


@pytest.mark.parametrize(
    "line",
    [
        b"(" * 5000,
        b"(" * 10 + b")" * 11,
        b'("a',
        b"([" * 3000,
        b"a " * 30_000,
        b'"' * 50_001,
        b"()) ",
        b"(()",
    ],
)
def test_garbage_is_refused_at_once(line: bytes) -> None:
    began = time.thread_time()
    with pytest.raises(Garbage):
        values([line])
    assert time.thread_time() - began < 10  # milliseconds


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=5))
def test_no_response_is_worse_than_garbage(pieces: list[bytes]) -> None:
    texts = [p + b" {3}" if i % 2 == 0 and i + 1 < len(pieces) else p for i, p in enumerate(pieces)]
    try:
        pairs(answer([b"* " + texts[0], *texts[1:]]))
    except Garbage:
        return


@given(st.sets(st.integers(1, 500)))
def test_uids_as_a_set_and_back(uids: set[int]) -> None:
    said = uid_set(sorted(uids))
    if not uids:
        assert said == ""
        return
    assert {u for low, high in uid_ranges(said.encode()) for u in range(low, high + 1)} == uids


@pytest.mark.parametrize("bad", [b"", b"1:*", b"x", b"1,", b"-1", b"1:2:3", b"1," * 20_001 + b"1"])
def test_sets_that_are_none(bad: bytes) -> None:
    with pytest.raises(Garbage):
        uid_ranges(bad)


def test_numbers() -> None:
    assert number(b"12") == 12 and number(b"12", 11) is None
    for bad in (b"", b"-1", b"1x", None, [b"1"], b"9" * 20):
        assert number(bad) is None
