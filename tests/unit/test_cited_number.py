"""What the first lines of a text refer to: spellings, digits, dates, quotations, encodings, cost."""

from __future__ import annotations

import base64
import quopri
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.cited_number import Citation, citations, cited, number_parts
from tracker.header import scan
from tracker.mime import walk

ONE = Citation("MOF", 2026, 123)


@pytest.mark.parametrize(
    "text",
    [
        "إشارة لكتابكم رقم MOF/2026/000123 تاريخ 12/3/2026 بشأن المخصصات",
        "اشاره لكتابكم رقم MOF/2026/123",
        "بالإشارة إلى كتابكم ذي الرقم (MOF/٢٠٢٦/٠٠٠١٢٣)",
        "إشارةً لكتـــابكم رَقْم: MOF - ۲۰۲۶ - ۱۲۳",
        "رداً على خطابكم المرقم 000123/2026/MOF",
        "عطفاً على مذكرتكم رقم mof/2026/123،",
        "إشارة إلى تعميمكم رقم MOF/2026/000123.",
        "جواباً على كتاب معاليكم المؤرخ 3/4/2026 رقم MOF/2026/123",
        "السلام عليكم،\n\nإشارة لكتابكم\nرقم \u2067MOF/2026/000123\u2069 أعلاه",
        "With reference to your letter no. MOF/2026/000123 dated 3/4/2026",
        "In reply to your memo MOF / 2026 / 123,",
        "Your ref: MOF-2026-000123",
    ],
)
def test_a_letter_is_named_in_many_ways(text: str) -> None:
    assert citations(text) == (ONE,)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("رداً على كتابكم رقم ١٢٣/٢٠٢٦", [Citation(None, 2026, 123)]),
        ("كتابكم رقم 2026/44", [Citation(None, 2026, 44)]),
        ("إلحاقاً لكتابنا رقم MOH-2026-12", [Citation("MOH", 2026, 12, True)]),
        ("further to our letter MOH/2026/12", [Citation("MOH", 2026, 12, True)]),
        (
            "إشارة إلى كتابيكم رقم MOF/2026/1 و MOF/2026/2",
            [Citation("MOF", 2026, 1), Citation("MOF", 2026, 2)],
        ),
        (
            "إشارة لكتابكم رقم MOF/2026/1 وكتاب وزارة الصحة رقم MOH/2026/2",
            [Citation("MOF", 2026, 1), Citation("MOH", 2026, 2)],
        ),
        ("كتابكم رقم 2026/2026", [Citation(None, 2026, 2026)]),
    ],
)
def test_what_is_named(text: str, found: list[Citation]) -> None:
    assert list(citations(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "كتابكم بتاريخ 12/3/2026",
        "كتابكم 12/3/2026",
        "رقم الهاتف 06/5678901",
        "كتاب القراءة للصف 5/6",
        "MOF/2026/000123",
        "> إشارة لكتابكم رقم MOF/2026/000123",
        "شكراً\n-----Original Message-----\nإشارة لكتابكم رقم MOF/2026/000123",
        "شكراً\n\nمن: أحمد\nكتابكم رقم MOF/2026/000123",
        "your letter of 12/3/2026",
        "كتابكم الكريم\n\nرقم الحساب MOF/2026/000123",
        "x" * 1600 + "كتابكم رقم MOF/2026/000123",
    ],
)
def test_what_names_no_letter(text: str) -> None:
    assert citations(text) == ()


def message(body: bytes, encoding: str = "8bit", kind: str = "text/plain; charset=utf-8") -> bytes:
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body


TEXT = (
    "السلام عليكم،\r\n\r\nإشارة لكتابكم رقم MOF/٢٠٢٦/٠٠٠١٢٣ "
    + "بشأن المخصصات المالية للربع الأخير من السنة الحالية، " * 200
)

OLD = TEXT.replace("٢٠٢٦/٠٠٠١٢٣", "2026/000123").encode("cp1256")
PAGE = f"<style>p{{color:red}}</style><p>إشارة لكتابكم&nbsp;رقم <b>MOF/2026/000123</b></p>{TEXT}".encode()


@pytest.mark.parametrize(
    "octets",
    [
        message(TEXT.encode()),
        message(base64.encodebytes(TEXT.encode()), "base64"),
        message(quopri.encodestring(TEXT.encode()), "quoted-printable"),
        message(OLD, kind="text/plain; charset=windows-1256"),
        message(OLD, kind="text/plain"),
        message(PAGE, kind="text/html; charset=utf-8"),
        message(
            b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>x</p>\r\n"
            b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + TEXT.encode() + b"\r\n--b--\r\n",
            "7bit",
            "multipart/mixed; boundary=b",
        ),
    ],
)  # fmt: skip
def test_however_it_is_encoded(octets: bytes) -> None:
    assert cited(octets, walk(octets, scan(octets))) == (ONE,)


def test_an_attachment_or_an_enclosed_message_is_not_read() -> None:
    inner = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + TEXT.encode()
    for kind in (b"message/rfc822", b"text/plain; name=a.txt\r\nContent-Disposition: attachment"):
        octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: " + kind
        octets += b"\r\n\r\n" + inner + b"\r\n--b--\r\n"
        assert cited(octets, walk(octets, scan(octets))) == ()


@pytest.mark.parametrize("text", ["MOF/2026/000123", "mof/2026/123", "MOF-٢٠٢٦-123", "123/2026/MOF"])
def test_a_number_that_stands_alone(text: str) -> None:
    assert number_parts(text) == ONE


@pytest.mark.parametrize("text", ["", "MOF", "12/3/2026", "MOF/26/1", "A/B/2026/1", "x" * 200])
def test_no_number(text: str) -> None:
    assert number_parts(text) is None


@given(st.text(alphabet="كتابم رقم/0123456789٠١MOF-_\n>: ", max_size=3000))
def test_it_never_raises_and_takes_no_time(text: str) -> None:
    began = time.thread_time()
    citations(text)
    assert time.thread_time() - began < 5  # milliseconds; what looks back without end takes minutes


@given(st.binary(max_size=600))
def test_no_octets_make_it_raise(octets: bytes) -> None:
    whole = b"Content-Type: text/html\r\n\r\n" + octets
    cited(whole, walk(whole, scan(whole)))
