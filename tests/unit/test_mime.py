"""The structure walk: parts as offsets, decoding, attachments, digests that survive rewriting, bounds."""

from __future__ import annotations

import base64
import hashlib
import mmap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker import kind, mime
from tracker.mime import Limits, attachments, decoded, digests, file_name, scan, text_of, walk

PDF = b"%PDF-1.4\n" + bytes(range(256)) * 10


def message(body: bytes, content_type: bytes = b"multipart/mixed; boundary=b") -> bytes:
    return b"From: a@b.example\r\nContent-Type: " + content_type + b"\r\n\r\n" + body


NESTED = message(
    b"preamble\r\n--b\r\nContent-Type: multipart/alternative; boundary=b2\r\n\r\n"
    b"--b2\r\nContent-Type: text/plain\r\n\r\nplain\r\n"
    b"--b2\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b2--\r\n"
    b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(PDF)
    + b"\r\n--b--\r\nepilogue"
)


def test_parts_are_paths_and_offsets() -> None:
    found = walk(NESTED)
    assert [(p.path, p.content_type) for p in found.parts] == [
        ("0", "multipart/mixed"),
        ("1", "multipart/alternative"),
        ("1.1", "text/plain"),
        ("1.2", "text/html"),
        ("2", "application/pdf"),
    ]
    assert NESTED[found.parts[2].start : found.parts[2].end] == b"plain"
    assert [p.path for p in found.leaves()] == ["1.1", "1.2", "2"]
    assert [p.path for p in found.children(found.root)] == ["1", "2"]
    assert decoded(NESTED, found.parts[4]) == PDF
    assert found.faults == []


def test_a_map_of_a_file_is_read_and_can_be_closed(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_bytes(NESTED)
    with path.open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        found = kind.read(view).structure
        assert [(p.path, p.start, p.end) for p in found.parts] == [
            (p.path, p.start, p.end) for p in walk(NESTED).parts
        ]
        assert digests(view, found) == digests(NESTED, walk(NESTED))
        assert text_of(view, found.parts[2]) == "plain"
        view.close()  # raises BufferError while anything still holds a part of it


def test_one_part() -> None:
    octets = b"From: a@b.example\r\n\r\nhello\r\n"
    found = walk(octets)
    assert [(p.path, p.content_type) for p in found.parts] == [("1", "text/plain")]
    assert text_of(octets, found.root) == "hello\n"


def test_an_inner_boundary_that_begins_like_the_outer_one() -> None:
    octets = message(
        b"--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n"
        b"--bb\r\n\r\none\r\n--bb--\r\n--b\r\n\r\ntwo\r\n--b--"
    )
    found = walk(octets)
    assert [(p.path, octets[p.start : p.end]) for p in found.leaves()] == [("1.1", b"one"), ("2", b"two")]


@pytest.mark.parametrize(
    ("body", "content_type", "fault", "leaves"),
    [
        (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo", b"; boundary=b", "boundary not closed", [b"one", b"two"]),
        (b"nothing here", b"; boundary=b", "boundary not found", [b"nothing here"]),
        (b"nothing here", b"", "no boundary", [b"nothing here"]),
        (b"--lost\r\nContent-Type: a/b\r\n\r\none\r\n--lost--", b"", "no boundary", [b"one"]),
        (b"--lost\r\nContent-Type: a/b\r\n\r\n1\r\n--lost--", b"; boundary=x", "boundary not found", [b"1"]),
    ],
)
def test_broken_boundaries(body: bytes, content_type: bytes, fault: str, leaves: list[bytes]) -> None:
    octets = message(body, b"multipart/mixed" + content_type)
    found = walk(octets)
    assert fault in found.faults
    assert [octets[p.start : p.end] for p in found.leaves()] == leaves


def test_enclosed_messages_know_where_they_lie() -> None:
    octets = message(
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
        b"Subject: in\r\nContent-Type: application/pdf\r\n\r\nx\r\n--b--"
    )
    found = walk(octets)
    assert [(p.path, p.content_type, p.within) for p in found.parts] == [
        ("0", "multipart/mixed", -1),
        ("1", "message/rfc822", -1),
        ("1.1", "application/pdf", 1),
    ]
    assert [p.path for p in attachments(found)] == ["1"]
    assert found.first("application/pdf") is None


def test_a_digest_holds_messages() -> None:
    octets = message(b"--b\r\n\r\nSubject: in\r\n\r\nx\r\n--b--", b"multipart/digest; boundary=b")
    assert [p.content_type for p in walk(octets).parts] == [
        "multipart/digest",
        "message/rfc822",
        "text/plain",
    ]


@pytest.mark.parametrize(
    ("encoding", "raw", "content"),
    [
        (b"base64", b"aGVs\r\nbG8=\r\n", b"hello"),
        (b"BASE64", b"aGVsbG8", b"hello"),
        (b"base64", b"aGVsbG", b"hell"),
        (b"base64", b"!aG*Vs bG8=", b"hello"),
        (b"base64", b"=", b""),
        (b"base64", b"a", b""),
        (b"quoted-printable", b"=D9=85=\r\n x=ZZ", "م x=ZZ".encode()),
        (b"x-uuencode", b"begin 644 x\r\n%:&5L;&\\\r\n`\r\nend\r\n", b"hello"),
        (b"7bit", b"as it is", b"as it is"),
        (b"nonsense", b"as it is", b"as it is"),
    ],
)
def test_transfer_encodings(encoding: bytes, raw: bytes, content: bytes) -> None:
    octets = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + raw
    assert decoded(octets, walk(octets).root) == content


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.exe", "x.exe"),
        ("dir/", "dir"),
        ("..", None),
        ("", None),
        (None, None),
        ("x\u202egnp.exe", "x\u202egnp.exe"),
        ("a" * 400, "a" * 255),
    ],
)
def test_file_names(name: str | None, shown: str | None) -> None:
    assert file_name(name) == shown


def test_attachments_are_what_a_person_would_call_so() -> None:
    kinds = [
        b"Content-Type: text/plain",
        b"Content-Type: text/plain; name=note.txt",
        b"Content-Type: text/html\r\nContent-Disposition: attachment",
        b"Content-Type: image/png",
        b"Content-Type: message/delivery-status; name=details.txt",
        b"Content-Type: message/rfc822",
    ]
    octets = message(b"".join(b"--b\r\n" + k + b"\r\n\r\nx\r\n" for k in kinds) + b"--b--")
    assert [p.path for p in attachments(walk(octets))] == ["2", "3", "4", "6"]
    assert [p.path for p in attachments(walk(octets), report=True)] == ["2", "3", "4"]
    octets = octets.replace(b"multipart/mixed", b"multipart/report")
    assert [p.path for p in attachments(walk(octets))] == ["2", "3", "4"]


def test_digests_survive_a_server_that_writes_the_message_anew() -> None:
    text = "السلام عليكم\r\nسطر ثان\r\n"
    first = message(
        b"--b\r\nContent-Type: text/plain; charset=windows-1256\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(text.encode("cp1256"))
        + b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(PDF)
        + b"--b--\r\n"
    )
    second = message(
        b"\n--c\nContent-Type: multipart/alternative; boundary=d\n\n"
        + b"--d\nContent-Type: text/plain; charset=utf-8\n\n"
        + text.replace("\r\n", "  \n").encode()
        + b"\n\n--d\nContent-Type: text/html\n\n<p>\n--d--\n--c\nContent-Type: application/pdf\n"
        + b"Content-Transfer-Encoding: base64\n\n"
        + base64.b64encode(PDF)
        + b"\n--c--\n",
        b"multipart/mixed; boundary=c",
    )
    one, two = digests(first, walk(first)), digests(second, walk(second))
    assert one.text == two.text is not None
    assert one.parts[0].sha256 == hashlib.sha256(PDF).digest()
    assert one.parts[0].sha256 in {part.sha256 for part in two.parts}
    assert (one.parts[0].name, one.parts[0].size) == ("a.pdf", len(PDF))


def test_bounds() -> None:
    many = message(b"--b\r\n\r\nx\r\n" * 3000)
    found = walk(many)
    assert len(found.parts) <= Limits().parts and "too many parts" in found.faults
    level = b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n"
    deep = walk(b"".join(level % (n, n) for n in range(500)))
    assert max(p.depth for p in deep.parts) <= Limits().depth and "too deep" in deep.faults
    assert "too slow" in walk(many, limits=Limits(seconds=-1)).faults
    assert "too slow" in walk(many, limits=Limits(passes=-1000)).faults


_PIECES = st.sampled_from(
    [
        b"--b",
        b"--b--",
        b"\r\n",
        b"\n",
        b"--c",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
        b"Content-Type: multipart/x; boundary=c\n\n",
        b"Content-Type: message/rfc822\n\n",
        b"x",
        b"\0",
        b"\xff",
        b" ",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_PIECES, max_size=60))
def test_nothing_raises_and_parts_lie_in_order(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    headers = scan(octets)
    found = walk(octets, headers)
    assert found.parts
    for part in found.parts:
        assert 0 <= part.start <= part.end <= len(octets)
        if part.parent >= 0:
            above = found.parts[part.parent]
            assert above.start <= part.start and part.end <= above.end
        decoded(octets, part)
        text_of(octets, part)
    digests(octets, found)
    attachments(found)


@given(
    st.lists(
        st.sampled_from(
            [b"a", b" ", b"\t", b"\r\n", b"\n", b"\r", b"\x0b", b"word " * 3, b"\r\n\r\n", b" \r\n"]
        ),
        max_size=40,
    ),
    st.integers(1, 7),
)
def test_the_sum_of_a_text_does_not_depend_on_how_it_is_read(bits: list[bytes], piece: int) -> None:
    body = b"".join(bits)
    octets = b"Content-Type: text/plain\r\n\r\n" + body
    plain = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    wanted = b"\n".join([line.rstrip(b" \t") for line in plain.split(b"\n")]).rstrip()
    with pytest.MonkeyPatch.context() as patch:
        assert digests(octets, walk(octets)).text == hashlib.sha256(wanted).digest()
        patch.setattr(mime, "_PIECE", piece)
        assert digests(octets, walk(octets)).text == hashlib.sha256(wanted).digest()
