"""What letters hold, over the wire: hostile ones are held or refused, others flow meanwhile."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit import sample_files as make
from tests.wire.gateway_front import MOH, Front
from tests.wire.wire_letters import letter, new_id

pytestmark = pytest.mark.servers

DIWAN = "diwan@moh.gov.example"


def with_files(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """A letter with attachments and its Message-ID."""
    message_id = new_id()
    octets = make.letter(*files).replace(b"a@mof.example", b"author@mof.gov.example")
    return f"Message-ID: {message_id}\r\n".encode() + octets, message_id


def facts_of(front: Front, message_id: str) -> dict[str, Any]:
    (submission,) = front.submissions(front.letter(message_id).id)
    facts: dict[str, Any] = submission.facts
    return facts


def nested(levels: int) -> bytes:
    core = make.zipped({"a.txt": "x"})
    for number in range(levels):
        core = make.zipped({f"{number}.zip": core})
    return core


@pytest.mark.parametrize(
    ("name", "made", "why"),
    [
        ("bomb.zip", lambda: make.zipped({"a": bytes(100 << 20)}), "ratio"),
        ("bomb.gz", lambda: gzip.compress(bytes(80 << 20)), "ratio"),
        ("deep.zip", lambda: nested(12), "nested"),
    ],
    ids=["zip", "gzip", "deep"],
)
def test_a_bomb_is_held_while_others_flow(
    front: Front, name: str, made: Callable[[], bytes], why: str
) -> None:
    octets, message_id = with_files((name, made()))
    answers: list[str] = []
    sender = threading.Thread(target=lambda: answers.append(front.accept(octets, DIWAN)))
    sender.start()
    plain, plain_id = letter()
    front.accept(plain, DIWAN)
    front.arrived(MOH, plain_id)
    sender.join(120)
    assert answers and answers[0].startswith("MOF/")
    assert front.standing(message_id)[DIWAN][0] == "held"
    (found,) = facts_of(front, message_id)["attachments"]
    assert found["undecided"] == why and found["archive"]


def test_a_structure_without_end_is_held(front: Front) -> None:
    message_id = new_id()
    head = f"From: author@mof.gov.example\r\nTo: {DIWAN}\r\nMessage-ID: {message_id}\r\n".encode()
    levels = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(5000)
    )
    front.accept(head + levels + b"\r\nx\r\n", DIWAN)
    assert front.standing(message_id)[DIWAN][0] == "held"
    assert "time" in facts_of(front, message_id)["undecidable"]


@pytest.mark.parametrize(
    "fields", [b"X-A: " + b"b" * 2_000_000 + b"\r\n", b"X-A: b\r\n" * 20_000], ids=["too large", "too many"]
)
def test_a_header_without_end_is_held(front: Front, fields: bytes) -> None:
    message_id = new_id()
    head = f"From: author@mof.gov.example\r\nTo: {DIWAN}\r\nMessage-ID: {message_id}\r\n".encode()
    octets = head + fields + b"\r\nx\r\n"
    front.accept(octets, DIWAN)
    delivery = front.deliveries(message_id)[DIWAN]
    assert delivery.state == "held" and delivery.kind == "pass"
    assert front.original(delivery.letter_id) == octets


def test_a_program_is_refused_whatever_its_name(front: Front) -> None:
    octets, _ = with_files(("report.pdf", make.PE))
    code, text = front.send(octets, DIWAN)
    assert code == 550 and "5.7.1" in text
    octets, _ = with_files(("report.zip", make.zipped({"report.pdf": make.PE})))
    assert front.send(octets, DIWAN)[0] == 550


def test_an_ordinary_file_arrives_and_is_known(front: Front) -> None:
    octets, message_id = with_files(("كتاب.docx", make.office()), ("b.pdf", b"%PDF-1.7\n"))
    front.accept(octets, DIWAN)
    (copy,) = front.arrived(MOH, message_id)
    assert copy.octets.endswith(octets.partition(b"\r\n\r\n")[2])
    first, second = facts_of(front, message_id)["attachments"]
    assert first["name"] == "كتاب.docx" and first["detected"].endswith("wordprocessingml.document")
    assert second["extension"] == "pdf" and "undecided" not in second
