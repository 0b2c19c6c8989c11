"""The content of a letter: which letters are plain, what is read in the others, what is undecidable."""

from __future__ import annotations

import base64
import hashlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import content_letter
from policies.content_finding import Bounds
from policies.content_letter import Content, plain, read
from tests.unit import sample_files as make
from tracker.header import own_digest, scan
from tracker.mime import digests, walk

HEAD = b"From: a@mof.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n"


def is_plain(octets: bytes) -> bool:
    return plain(octets, scan(octets)) is not None


def both(first: bytes, second: bytes, kind: bytes = b"alternative") -> bytes:
    return (
        HEAD + b"Content-Type: multipart/" + kind + b"; boundary=b\r\n\r\n--b\r\n" + first + b"\r\n--b\r\n"
        + second + b"\r\n--b--\r\n"
    )  # fmt: skip


TEXT = b"Content-Type: text/plain\r\n\r\nhello"
HTML = b"Content-Type: text/html\r\n\r\n<p>hello"


@pytest.mark.parametrize(
    ("octets", "wanted"),
    [
        (HEAD + b"\r\nhello\r\n", True),
        (HEAD + b"Content-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n", True),
        (HEAD + b"Content-Type: text/html\r\n\r\n<p>hello\r\n", True),
        (both(TEXT, HTML), True),
        (HEAD + b"Content-Type: text/plain; name=a.exe\r\n\r\nMZ\r\n", False),
        (HEAD + b"Content-Disposition: attachment\r\n\r\nhello\r\n", False),
        (HEAD + b"Content-Type: application/pdf\r\n\r\n%PDF-\r\n", False),
        (both(TEXT, HTML, b"mixed"), False),
        (both(TEXT, b"Content-Type: text/calendar\r\n\r\nBEGIN"), False),
        (both(TEXT, b"Content-Type: text/html; name=a.html\r\n\r\n<p>"), False),
        (both(TEXT, b"Content-Type: image/png\r\n\r\nx"), False),
        (both(TEXT, b"Content-Type: text/html\r\nContent-Type: application/zip\r\n\r\nx"), False),
        (HEAD + b"Content-Type: multipart/alternative; boundary=b\r\n\r\nno part\r\n", False),
        (HEAD + b"\r\nhello\r\nbegin 644 a.exe\r\n#0V%T\r\n`\r\nend\r\n", False),
        (HEAD + b"\r\nhello\r\nbegin the work at 6\r\n", True),
        (HEAD + b"\r\n" + b"x" * 70_000, True),
        (HEAD + b"\r\n" + b"x" * 270_000, False),
        (HEAD + b"\r\n" + b"\xe9" * 70_000, False),
    ],
)
def test_which_letters_are_plain(octets: bytes, wanted: bool) -> None:
    assert is_plain(octets) is wanted


def test_everything_in_one_pass() -> None:
    octets = make.letter(("كتاب.pdf", b"%PDF-1.4\n"), ("a.dat", make.PE))
    content = read(octets)
    first, second = content.attachments
    assert (first.name, first.extension, first.detected) == ("كتاب.pdf", "pdf", "application/pdf")
    assert first.sha256 == hashlib.sha256(b"%PDF-1.4\n").hexdigest() and first.size == 9
    assert second.executable and not first.executable and not content.undecidable
    headers = scan(octets)
    made = digests(octets, walk(octets, headers))
    assert content.own == own_digest(octets, headers) and content.text == made.text
    assert content.parts == tuple(p.sha256 for p in made.parts)
    assert Content.from_json(json.loads(json.dumps(content.to_json()))) == content
    with pytest.raises(ValueError, match="no content"):
        Content.from_json({"attachments": [{"name": 1}]})


def test_names_and_types_that_disagree() -> None:
    def one(fields: bytes, content: bytes = b"%PDF-1.4\n") -> object:
        octets = (
            HEAD
            + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
            + fields
            + b"\r\n\r\n"
            + content
        )
        return read(octets + b"\r\n--b--\r\n").attachments[0]

    assert one(b"Content-Type: image/png; name=a.png").odd == ("mismatch",)  # type: ignore[attr-defined]
    two = one(b"Content-Type: image/png; name=a.exe\r\nContent-Disposition: attachment; filename=a.pdf")
    assert two.odd == ("two-names",) and two.executable  # type: ignore[attr-defined]
    path = one(b'Content-Disposition: attachment; filename="../../a.pdf"')
    assert path.odd == ("path",) and path.name == "a.pdf"  # type: ignore[attr-defined]
    turned = one(b"Content-Disposition: attachment; filename*=utf-8''a%E2%80%AEfdp.exe")
    assert "bidi" in turned.odd and turned.executable  # type: ignore[attr-defined]
    blank = one(b'Content-Disposition: attachment; filename="a.exe . "')
    assert blank.executable and blank.extension == "exe"  # type: ignore[attr-defined]
    sealed = one(b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", b"x")
    assert sealed.encrypted  # type: ignore[attr-defined]


def test_encodings_that_clients_read_in_different_ways() -> None:
    def one(encoding: bytes, content: bytes) -> str:
        fields = b"Content-Disposition: attachment; filename=a\r\nContent-Transfer-Encoding: " + encoding
        octets = (
            HEAD
            + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
            + fields
            + b"\r\n\r\n"
            + content
        )
        return read(octets + b"\r\n--b--\r\n").attachments[0].undecided

    assert one(b"base64", b"aGVsbG8=") == ""
    assert one(b"base64", b"aGVsbG8=TVo=") == "ambiguous"
    assert one(b"x-new", b"aGVsbG8=") == "ambiguous"
    assert one(b"quoted-printable", b"a=3Db") == ""


def test_a_file_in_the_text() -> None:
    octets = HEAD + b"\r\nhello\r\nbegin 644 a.exe\r\n#0V%T\r\n`\r\nend\r\nbye\r\n"
    (found,) = read(octets).attachments
    assert found.name == "a.exe" and found.executable and found.size == 3
    assert found.sha256 == hashlib.sha256(b"Cat").hexdigest()


def test_an_encrypted_text() -> None:
    text = b"\r\n-----BEGIN PGP MESSAGE-----\r\n"
    octets = both(text, HTML, b"mixed")
    assert read(octets).pgp and not read(make.letter()).pgp


def test_what_a_report_gives_back_is_looked_into() -> None:
    octets = (
        HEAD + b"Content-Type: multipart/report; boundary=r\r\n\r\n--r\r\n\r\nsorry\r\n--r\r\n"
        b"Content-Type: message/rfc822\r\n\r\n" + make.letter(("a.dat", make.PE)) + b"\r\n--r--\r\n"
    )
    (found,) = read(octets).attachments
    assert found.executable and found.members == ("a.dat",)


def report(third: bytes) -> bytes:
    return (
        HEAD + b"Content-Type: multipart/report; boundary=r\r\n\r\n--r\r\n\r\nsorry\r\n--r\r\n"
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n--r\r\n" + third
        + b"\r\n--r--\r\n"
    )  # fmt: skip


def test_reports_in_text_are_plain_and_hide_nothing() -> None:
    headers = report(b"Content-Type: text/rfc822-headers\r\n\r\nSubject: x\r\n")
    assert is_plain(headers) and read(headers).attachments == ()
    assert not is_plain(report(b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nhello"))
    encoded = base64.b64encode(make.PE)
    hiding = report(
        b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded
    )
    assert not is_plain(hiding) and read(hiding).attachments[0].executable
    named = report(b"Content-Type: message/delivery-status; name=a.exe\r\n\r\nx")
    assert not is_plain(named) and read(named).attachments[0].executable


def test_a_piece_of_a_message_is_undecided() -> None:
    octets = HEAD + b"Content-Type: message/partial; id=x; number=1; total=2\r\n\r\nTVqQ\r\n"
    assert not is_plain(octets) and read(octets).attachments[0].undecided == "unreadable"


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (HEAD + b"Content-Type: multipart/mixed\r\n\r\nx\r\n", "ambiguous structure"),
        (HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\nx\r\n", "ambiguous structure"),
        (
            both(TEXT, b"Content-Type: text/plain\r\nContent-Type: application/zip\r\n\r\nx"),
            "ambiguous structure",
        ),
        (
            HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 3000,
            "too many parts",
        ),
        (make.letter(*[(f"{i}.txt", b"x") for i in range(300)]), "too many parts"),
    ],
)
def test_what_is_undecidable(octets: bytes, why: str) -> None:
    assert read(octets).undecidable == (why,)


def deep(levels: int) -> bytes:
    out = [HEAD]
    for n in range(levels):
        out.append(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n))
    out.append(b"\r\nhello\r\n")
    return b"".join(out)


def test_hostile_structure_is_cut_off() -> None:
    began = time.thread_time()
    assert "too deep" in read(deep(40)).undecidable
    assert "time" in read(deep(2000)).undecidable
    many = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nA: b\r\n\r\n" * 200_000
    assert "too many parts" in read(many).undecidable
    assert time.thread_time() - began < 20  # a second; each level read again would take minutes


def test_time_that_is_over_is_said() -> None:
    content = read(make.letter(("a.zip", make.zipped({"a": "x"}))), Bounds(seconds=0.0))
    assert content.undecidable == ("time",) and content.attachments[0].undecided == "timeout"
    assert content.own is not None


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 400))
def test_nothing_raises(junk: bytes, cut: int, at: int) -> None:
    octets = make.letter(("a.zip", make.zipped({"a": "x"})))
    for sample in (junk, HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + junk):
        content_letter.read(sample)
        plain(sample, scan(sample))
    changed = octets[:at] + junk[:20] + octets[at + cut :]
    content_letter.read(changed)
    plain(changed, scan(changed))
