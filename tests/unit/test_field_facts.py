"""What header fields say of class, urgency and time: raw marks, bounded, believed from the right hands."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.attachment_fact import AttachmentFact
from policies.facts import FACTS_VERSION, Answered, Crypto, Facts
from policies.field_facts import asked, marks, reply_by_us
from tests.unit.test_policy_facts import read, relay, signed_in
from tracker.header import scan


def said(header: str, **more: object) -> tuple[tuple[str, str], ...]:
    return read("From: a@mof.example\n" + header, relay("MOF"), **more).marks  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("Sensitivity: Company-Confidential", (("sensitivity", "Company-Confidential"),)),
        ("Importance: high\nX-Priority: 1 (High)", (("importance", "high"), ("x-priority", "1 (High)"))),
        ("Priority: urgent", (("priority", "urgent"),)),
        ("Wasl-Classification: secret\nWasl-Urgency: urgent",
         (("wasl-classification", "secret"), ("wasl-urgency", "urgent"))),
        ("Sensitivity: Private\nSensitivity: x", (("sensitivity", "Private"), ("sensitivity", "x"))),
        ('SIO-Label: marking="RESTRICTED"; label="x"', (("sio-label", "RESTRICTED"),)),
        ('SIO-Label: type=":ess"; label*0="MQYG"; label*1="AQ=="', (("sio-label", "MQYGAQ=="),)),
        ("SIO-Label: marking*=utf-8''%D8%B3%D8%B1%D9%8A", (("sio-label", "سري"),)),
        ("Subject: [سري] [عاجل] كتاب", (("subject", "سري"), ("subject", "عاجل"))),
        ("Subject: (سري  للغاية) x", (("subject", "سري للغاية"),)),
        ("Subject: [\u200fسـري\u200f] x", (("subject", "سري"),)),
        ("Subject: \uff3bsecret\uff3d", (("subject", "secret"),)),
        ("Subject: Re: [MOF/2026/000123] [urgent] x", (("subject", "urgent"),)),
        ("Subject: [] [ ] [" + "x" * 80 + "] ]x[ [[[", ()),
        ("Subject: x\nSensitivity:", ()),
    ],
)  # fmt: skip
def test_marks(header: str, wanted: tuple[tuple[str, str], ...]) -> None:
    assert said(header) == wanted


def test_marks_are_bounded() -> None:
    many = said("Subject: " + "[x1] [x2] " * 400)
    assert many == (("subject", "x1"), ("subject", "x2"))
    different = said("Subject: " + " ".join(f"[w{i}]" for i in range(100)))
    assert len(different) == 8
    assert len(said("Sensitivity: " + "x" * 5000)[0][1]) == 200
    assert len(said("Sensitivity: a\n" + "Sensitivity: b\n" * 2000 + "X: y")) == 2
    began = time.thread_time()
    said("Subject: " + "[" * 900)
    assert time.thread_time() - began < 5  # milliseconds; what looks back without end takes minutes


def test_our_own_fields_count_only_from_the_body_that_wrote_the_letter() -> None:
    header = "From: {}\nWasl-Classification: secret\nWasl-Due: x\nSensitivity: Private"
    ours = read(header.format("a@mof.example"), relay("MOF"))
    assert ours.marks[0] == ("wasl-classification", "secret") and ours.stripped == ()
    ours = read(header.format("a@mof.example"), signed_in("MOF", "a@mof.example"))
    assert ours.marks[0] == ("wasl-classification", "secret")
    for author, conn in (
        ("a@x.example", relay("MOF")),
        ("a@moh.example", relay("MOF")),
        ("a@mof.example", relay("Z")),
    ):
        facts = read(header.format(author), conn)
        assert facts.marks == (("sensitivity", "Private"),)
        assert facts.stripped == ("wasl-classification", "wasl-due")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("Sun, 22 Nov 2026 12:00:00 +0300", 1_795_338_000_000_000),
        ("22 Nov 2026 09:00 GMT", 1_795_338_000_000_000),
        ("tomorrow", None),
        ("", None),
        ("Sun, 99 Nov 2026 12:00:00 +0300", None),
        ("Sun, 22 Nov 99999999999 12:00:00 +0300", None),
        ("Sun, 22 Nov 2026 12:00:00 +99999999999999999999", None),
    ],
)
def test_reply_by(value: str, wanted: int | None) -> None:
    facts = read(f"From: a@mof.example\nReply-By: {value}", relay("MOF"))
    assert facts.reply_by_us == wanted


def test_fields_that_rules_ask_for() -> None:
    header = "From: a@mof.example\nX-Kind: one\nX-kind: =?utf-8?b?2LPYsdmK?=\nX-Long: " + "y" * 5000
    facts = read(header, relay("MOF"), needs={"x-kind", "X-Long", "x-none"})
    assert facts.fields[:2] == (("x-kind", "one"), ("x-kind", "سري"))
    assert facts.fields[2][0] == "x-long" and len(facts.fields[2][1]) == 2000
    assert read(header, relay("MOF")).fields == ()


def test_version_2_goes_to_json_and_back() -> None:
    facts = read(
        "From: a@mof.example\nSensitivity: Private\nReply-By: 22 Nov 2026 09:00 GMT\nX-A: b",
        relay("MOF"),
        needs=["x-a"],
        answered=Answered(letter_id=7, number="MOH/2026/000001", classification="secret", due_us=5),
        results=[("spf", "pass"), ("dkim", "none")],
        undecidable=["too deep"],
        at_us=1_795_338_000_000_000,
        pgp=True,
        attachments=[
            AttachmentFact(
                name="a.zip",
                declared="application/zip",
                detected="application/zip",
                size=1,
                sha256="00",
                extension="zip",
                encrypted=True,
                archive=True,
                members=("a", "b"),
                odd=("path",),
                undecided="nested",
            )
        ],
    )
    assert facts.crypto is Crypto.PGP
    data = json.loads(json.dumps(facts.to_json()))
    assert data["v"] == FACTS_VERSION == 2
    assert Facts.from_json(data) == facts


def test_version_1_is_read() -> None:
    facts = read("From: a@mof.example\nSensitivity: Private", relay("MOF"))
    data = facts.to_json() | {"v": 1}
    del data["marks"]
    data["attachments"] = [{"name": "a", "declared": "b", "detected": "c", "size": 1, "sha256": "00"}]
    old = Facts.from_json(data)
    assert old.marks == () and not old.attachments[0].encrypted
    with pytest.raises(ValueError, match="version 3"):
        Facts.from_json(data | {"v": 3})
    changes: list[dict[str, object]] = [
        {"marks": [["a"]]}, {"answered": {"x": 1}}, {"attachments": [{}]}, {"marks": 5},
    ]  # fmt: skip
    for broken in changes:
        with pytest.raises(ValueError):
            Facts.from_json(data | broken)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.text(max_size=200))
def test_nothing_raises(value: bytes, subject: str) -> None:
    field = value.replace(b"\r", b"").replace(b"\n", b" ")
    octets = b"".join(
        b"%b: %b\r\n" % (name, field)
        for name in (b"Sensitivity", b"SIO-Label", b"Reply-By", b"Wasl-Urgency", b"X-A", b"X-Priority")
    )
    headers = scan(octets + b"\r\n")
    found, _ = marks(headers, subject, True)
    assert len(found) <= 30 and all(v for _, v in found)
    reply_by_us(headers)
    asked(headers, ["X-A"])
