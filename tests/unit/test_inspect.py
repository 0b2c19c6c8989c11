"""``wasl inspect`` on golden messages, odd files and arbitrary octets: a record for each, never an error."""

from __future__ import annotations

import io
import json
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gateway import inspect

MESSAGES = Path(__file__).parent.parent / "messages"
SAMPLES = sorted(MESSAGES.glob("*.eml"))
KEYS = [
    "file",
    "kind",
    "message_id",
    "from",
    "subject",
    "attachments",
    "reports",
    "disposition",
    "refers_to",
]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_golden(path: Path) -> None:
    found = inspect.inspect_path(path).to_json()
    assert list(found) == KEYS
    assert found.pop("file") == str(path)
    assert found == json.loads(path.with_suffix(".expected").read_text())


def test_every_kind_has_samples() -> None:
    kinds = {json.loads(p.with_suffix(".expected").read_text())["kind"] for p in SAMPLES}
    assert kinds == {"letter", "dsn", "mdn", "auto-reply", "bounce", "unparseable"}


@pytest.mark.parametrize(
    "path", [p for p in SAMPLES if b"\r" not in p.read_bytes().replace(b"\r\n", b"")], ids=lambda p: p.stem
)
def test_line_ends_make_no_difference_to_what_is_read(path: Path) -> None:
    plain = path.read_bytes().replace(b"\r\n", b"\n")
    forms = [inspect.inspect_octets("-", plain), inspect.inspect_octets("-", plain.replace(b"\n", b"\r\n"))]
    for found in forms:
        assert found.kind == forms[0].kind
        assert found.subject == forms[0].subject
        assert found.refers_to == forms[0].refers_to
        assert [r.status for r in found.reports] == [r.status for r in forms[0].reports]
        assert [a.name for a in found.attachments] == [a.name for a in forms[0].attachments]


def test_what_is_no_message_file_is_unparseable(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "nobody", fifo, Path("/dev/null"), Path("/dev/zero")):
        found = inspect.inspect_path(path)
        assert found.kind == "unparseable"
        assert found.note
        assert list(found.to_json()) == KEYS
    assert inspect.inspect_path("bad\0name").kind == "unparseable"


def test_an_undecodable_file_name_is_still_one_line_of_json(tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.eml")
    Path(name).write_bytes(b"From: a@finance.example\nSubject: x\n\n")
    line = inspect.json_line(inspect.inspect_path(name))
    assert line.count(b"\n") == 1
    assert json.loads(line)["file"] == name
    assert json.loads(line)["kind"] == "letter"


def test_json_shows_what_a_terminal_would_act_upon() -> None:
    line = inspect.json_line(inspect.inspect_path(MESSAGES / "letter-attachments.eml"))
    assert b"\\u202e" in line
    assert "\u202e" not in line.decode()
    assert json.loads(line)["attachments"][2]["name"] == "seal\u202egnp.png"
    assert "مرفقات" in line.decode()


def test_run_writes_one_line_for_each_file_in_order(tmp_path: Path) -> None:
    out = io.BytesIO()
    files = [str(MESSAGES / "dsn-failed.eml"), str(tmp_path), str(MESSAGES / "mdn-displayed.eml")]
    assert inspect.run(files, as_json=True, out=out) == 0
    kinds = [json.loads(line)["kind"] for line in out.getvalue().splitlines()]
    assert kinds == ["dsn", "unparseable", "mdn"]


def test_the_human_form_names_what_was_found_and_shows_bidi_marks() -> None:
    console = Console(file=io.StringIO(), width=160, no_color=True)
    inspect.show(
        [
            inspect.inspect_path(MESSAGES / f"{n}.eml")
            for n in ("letter-attachments", "dsn-failed", "mdn-displayed")
        ],
        console,
    )
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("letter", "\\u202e", "application/pdf", "nobody@health.example", "5.1.1", "displayed"):
        assert words in text
    assert "\u202e" not in text and "\x1b" not in text


def test_markup_in_a_message_is_text() -> None:
    console = Console(file=io.StringIO(), width=120)
    inspect.show(
        [inspect.inspect_octets("[bold]x", b"From: a@b.example\nSubject: [red]hot[/nothing]\n\n")], console
    )
    assert "[red]hot[/nothing]" in console.file.getvalue()  # type: ignore[attr-defined]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000))
def test_arbitrary_octets_never_raise(octets: bytes) -> None:
    found = inspect.inspect_octets("x", octets)
    json.loads(inspect.json_line(found))
    assert "Error" not in found.note  # nothing was caught by the last resort


_HEADS = st.sampled_from(
    [
        b"From: MAILER-DAEMON@x.example\nReturn-Path: <>\nSubject: failure notice\n",
        b"From: a@finance.example\nAuto-Submitted: auto-replied\n",
        b"From: a@finance.example\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n",
        b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n",
        b"Subject: x\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n",
    ]
)


_PIECES = st.sampled_from(
    [
        b"--b\n",
        b"--b--\n",
        b"\n",
        b"Content-Type: message/delivery-status\n",
        b"Content-Type: message/disposition-notification\n",
        b"Content-Type: multipart/mixed; boundary=b\n",
        b"Content-Type: message/rfc822\n",
        b"Content-Type: application/ms-tnef\n",
        b"Content-Transfer-Encoding: base64\n",
        b"Final-Recipient: rfc822; x@y.example\n",
        b"Disposition: a/b; c/d\n",
        b"Status: 5.1.1\n",
        b"<a@b.example>:\n",
        b"550 5.1.1 no\n",
        b"Message-ID: <[bad]>\n",
        b"From: <\n",
        b"\x78\x9f\x3e\x22\x01\x00\x01\x03\x90\x06\x00\xff\xff\xff\xff",
        b"=?x?q?=80?=",
        b"\xe3\xca\xc7\xc8",
        b'"',
        b"(",
        b"\r",
        b"\0",
    ]
)


@settings(max_examples=150, deadline=None)
@given(_HEADS, st.lists(_PIECES, max_size=40))
def test_broken_reports_never_raise(head: bytes, pieces: list[bytes]) -> None:
    found = inspect.inspect_octets("x", head + b"".join(pieces))
    assert "Error" not in found.note


def test_mutated_samples_never_raise() -> None:
    chance = random.Random(20261101)
    for path in SAMPLES:
        octets = path.read_bytes()
        for _ in range(12):
            spoiled = bytearray(octets)
            for _ in range(chance.randrange(1, 8)):
                at = chance.randrange(len(spoiled) + 1)
                spoiled[at : at + chance.randrange(20)] = chance.randbytes(chance.randrange(6))
            found = inspect.inspect_octets("x", bytes(spoiled))
            assert "Error" not in found.note, path.name


_TOP = b"From: MAILER-DAEMON@x.example\r\nReturn-Path: <>\r\nSubject: failure notice\r\n"
_OPEN = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"
_MB = 4 << 20
_B = b"From: a@b.example\r\n"
HOSTILE = {
    "a line without an end": b"From: " + b"a" * _MB,
    "a header without an end": _B + b"X: y\r\n" * (_MB // 6),
    "continuation lines": _B + b" \r\n" * (_MB // 3),
    "empty lines": b"\n" * _MB + b"From: a@b.example\n\n",
    "semicolons": _TOP + b"Content-Type: multipart/mixed" + b";" * 65000 + b"\r\n\r\n",
    "quotes": b"From: " + b'"\\' * 32000 + b"\r\nTo: " + b"(" * 65000 + b"\r\nCc: " + b"<" * 65000,
    "colons in an address list": b"From: " + b"a@:" * 21000 + b"\r\n\r\n",
    "encoded words": _B + b"Subject: " + b"=?u1?q?=80=81?= =?u2?q?=ff?= " * 2200 + b"\r\n\r\n",
    "boundaries": _TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * (_MB // 5),
    "near boundaries": _TOP + b"Content-Type: multipart/mixed; boundary=b\r\n" + b"\r\n--bx" * (_MB // 6),
    "nesting": _B + b"".join(_OPEN % (i, i) for i in range(20000)),
    "enclosed messages": _B + b"Content-Type: message/rfc822\r\n\r\n" * 50000,
    "equals signs": _TOP + b"Content-Transfer-Encoding: base64\r\nContent-Type: a/b\r\n\r\n" + b"=A" * _MB,
    "recipients in words": _TOP + b"\r\n" + b"<a@b.example>:\r\nhost a.b.c.d 550 x\r\n\r\n" * (_MB // 40),
    "at signs": _TOP + b"\r\n" + b"a@" * (_MB // 2),
    "half phrases": _TOP + b"\r\n" + b"your message to delivery to " * (_MB // 28),
    "tags": _TOP + b"Content-Type: text/html\r\n\r\n" + b"<style <br <p &# " * (_MB // 17),
    "recipients": _TOP
    + b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
    + b"Content-Type: message/delivery-status\r\n\r\n"
    + b"Final-Recipient: rfc822;a@b\r\nAction: failed\r\n\r\n" * (_MB // 46),
    "mailbox separators": b"From a Thu Jan  1 00:00:00 1970\nFrom: a@b\n\n" + b"\nFrom aaaaaa" * (_MB // 12),
    "zeros": _B + b"Subject: x\r\n\r\n" + b"\0" * _MB,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_read_in_a_moment(name: str) -> None:
    start = time.thread_time()
    found = inspect.inspect_octets(name, HOSTILE[name])
    took = time.thread_time() - start
    assert "Error" not in found.note
    assert took < 20  # they take a hundredth of it; a quadratic reader takes minutes
