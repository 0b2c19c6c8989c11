"""Attachments by their content: libmagic, enough octets for Office files, one reader for each thread."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import attachment, content_type
from tracker.mime import walk


def package(*names: str, padding: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "<x/>" + "y" * padding)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "detected"),
    [
        (b"", "application/x-empty"),
        (b"%PDF-1.4\n", "application/pdf"),
        ("كتاب رسمي".encode(), "text/plain"),
        (b"MZ\x90\0" + bytes(200), "application/x-dosexec"),
        (package("a.txt"), "application/zip"),
        (
            package("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
            "officedocument.wordprocessingml.document",
        ),
        (
            package("[Content_Types].xml", "xl/workbook.xml", padding=200_000),
            "officedocument.spreadsheetml.sheet",
        ),
        (
            package("[Content_Types].xml", "docProps/a", "ppt/p.xml"),
            "officedocument.presentationml.presentation",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_types(content: bytes, detected: str) -> None:
    assert attachment.sniff(content).endswith(detected)


def test_the_name_says_nothing() -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png\r\n"
        b'Content-Disposition: attachment; filename="../photo.png"\r\n\r\n%PDF-1.4\r\n--b--'
    )
    (found,) = attachment.look(octets, walk(octets))
    assert (found.name, found.declared, found.detected) == ("photo.png", "image/png", "application/pdf")
    assert (found.size, found.sha256) == (8, hashlib.sha256(b"%PDF-1.4").hexdigest())


def test_every_thread_has_its_own_reader() -> None:
    readers: list[object] = []

    def work() -> None:
        attachment.sniff(b"x")
        readers.append(content_type._thread.reader)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(r) for r in readers}) == 4


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=500))
def test_nothing_raises(content: bytes) -> None:
    assert "/" in attachment.sniff(content)
    attachment.sniff(b"PK\x03\x04" + content + b"PK\x01\x02" + content)
