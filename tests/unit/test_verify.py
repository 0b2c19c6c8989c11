"""Verification offline: the vectors, letters as mailboxes give them back, receipts, bundles, forgeries."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from tracker import schema
from tracker.ledger import EvidenceRow, Ledger, LedgerKey, entry_bytes, opening, proof_text
from tracker.mime import digests, walk
from tracker.verify import (
    LogProof,
    Result,
    Vkey,
    leaves,
    main,
    open_checkpoint,
    read_keys,
    run_vectors,
    verify,
)

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors" / "ledger"
KEY = LedgerKey.make("wasl.example/ledger")
NUMBER = "MOF/2026/000123"
PDF = b"%PDF-1.4 \x00\x01\x02 budget\r\n" * 40

LETTER = (
    b"Received: from pc by mail.mof.gov.example; Mon, 21 Sep 2026 17:13:11 +0300\r\n"
    b"Date: Mon, 21 Sep 2026 17:13:10 +0300\r\n"
    b"From: =?utf-8?B?2LPZhNmF2Yk=?= <Salma@mof.gov.example>\r\n"
    b"To: registry@moh.gov.example\r\n"
    b"Subject: =?utf-8?B?2YXYtNix2YjYuSDYp9mE2YXZiNin2LLZhtip?=\r\n"
    b"Message-ID: <1@mof.gov.example>\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b 1"\r\n'
    b"\r\n"
    b"preamble\r\n"
    b"--b 1\r\n"
    b'Content-Type: multipart/alternative; boundary="b2"\r\n'
    b"\r\n"
    b"--b2\r\n"
    b"Content-Type: text/plain; charset=windows-1256\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n" + "السلام عليكم،  \r\nالمرفق مشروع الموازنة.\r\n\r\n".encode("cp1256") + b"--b2\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b'<p dir=3D"rtl">=D8=A7=D9=84=D8=B3=D9=84=D8=A7=D9=85</p>=\r\n<hr>\r\n'
    b"--b2--\r\n"
    b"--b 1\r\n"
    b'Content-Type: application/pdf; name="budget.pdf"\r\n'
    b'Content-Disposition: attachment; filename="budget.pdf"\r\n'
    b"Content-Transfer-Encoding: base64\r\n"
    b"\r\n" + base64.encodebytes(PDF).replace(b"\n", b"\r\n") + b"--b 1\r\n"
    b"Content-Type: message/rfc822\r\n"
    b"\r\n"
    b"From: a@b.example\r\nSubject: inner\r\n\r\ninner text\r\n"
    b"--b 1--\r\n"
)


class Case:
    """A log that holds the acceptance and the delivery of one letter, and what its receipts carry."""

    def __init__(self, letter: bytes = LETTER, parts: bool = True) -> None:
        found = digests(letter, walk(letter))
        sealed = [*([found.text] if found.text else []), *(part.sha256 for part in found.parts)]
        detail = {
            "number": NUMBER,
            "author": "salma@mof.gov.example",
            "subject": "مشروع الموازنة",
            "message_id": "<1@mof.gov.example>",
            "sha256": hashlib.sha256(letter).hexdigest(),
            "size": len(letter),
        }
        self.rows = [self.row(1, "submitted", 1, detail), self.row(2, "delivered", 3, {"reply": "250 ok"})]
        octets = hashlib.sha256(letter).digest()
        entries = [
            entry_bytes(self.rows[0], octets=octets, parts=sealed if parts else ()),
            entry_bytes(self.rows[1]),
        ]
        engine = create_engine("sqlite://")
        schema.metadata.create_all(engine)
        ledger = Ledger(KEY)
        with engine.begin() as conn:
            ledger.append(conn, [(0, b"earlier %d" % n) for n in range(700)])
            ledger.append(conn, [(row.id, entry) for row, entry in zip(self.rows, entries, strict=True)])
            ledger.append(conn, [(0, b"later %d" % n) for n in range(30)])
            made = ledger.checkpoint(conn, 1)
            assert made is not None
            self.note = made.note
            self.proofs = [proof_text(ledger.prove(conn, 700 + n, made.size), made.note) for n in range(2)]
        engine.dispose()
        self.evidence: list[dict[str, Any]] = [
            KEY.sign_evidence({"Event": row.event, "LedgerIndex": 700 + n, "opening": opening(row)})
            for n, row in enumerate(self.rows)
        ]

    @staticmethod
    def row(n: int, event: str, grade: int, detail: dict[str, Any]) -> EvidenceRow:
        return EvidenceRow(
            id=10**17 + n,
            letter_id=10**17,
            delivery_id=None,
            event=event,
            grade=grade,
            at_us=1_790_000_000_000_000,
            noted_us=1_790_000_000_000_001,
            source="wasl",
            reporter="",
            detail=detail,
            salt=hashlib.sha256(b"%d" % n).digest()[:16],
        )

    def receipt(self, *which: int) -> bytes:
        message = EmailMessage()
        message["From"] = "wasl@wasl.example"
        message["To"] = "salma@mof.gov.example"
        message["Subject"] = "إشعار تسليم"
        message.set_content("إشعار")
        evidence = json.dumps([self.evidence[n] for n in which], ensure_ascii=False).encode()
        message.add_attachment(evidence, maintype="application", subtype="json", filename="evidence.json")
        proofs = "".join(self.proofs[n] for n in which).encode()
        message.add_attachment(proofs, maintype="text", subtype="plain", filename="proof.txt")
        return message.as_bytes()

    def check(
        self, *letters: bytes, keys: Sequence[Vkey] = (KEY.vkey,), which: Sequence[int] = (0,)
    ) -> Result:
        items = [("receipt.eml", self.receipt(*which))]
        return verify([*items, *((f"{n}.eml", letter) for n, letter in enumerate(letters))], keys)


CASE = Case()


def codes(result: Result, file: str = "") -> list[str]:
    return [str(line) for line in result.lines if line.file.startswith(file)]


# -- vectors ---------------------------------------------------------------------------------------------


def test_vectors_agree(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(map(str, VECTORS.glob("*.json")))
    assert len(files) == 6
    assert main(["--vectors", *files]) == 0
    assert capsys.readouterr().out.endswith("Verified.\n")


@pytest.mark.parametrize("name", ["canonical", "commit", "entry", "tree", "checkpoint", "proof"])
def test_a_wrong_vector_is_told(name: str) -> None:
    vector = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    case = vector["cases"][0]
    field = {
        "canonical": "canonical",
        "entry": "leaf",
        "tree": "root",
        "proof": "codes",
        "checkpoint": "note",
    }.get(name, "commitment")
    case[field] = ["part!"] if field == "codes" else case[field][:-4] + "AAA="
    result = run_vectors([("v.json", json.dumps(vector).encode())])
    assert result.status == 1
    assert result.lines[0].values["index"] == "0"


def test_vectors_are_what_the_script_writes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    script = tmp_path / "a" / "b" / "c" / "make.py"
    script.write_text((VECTORS / "make.py").read_text("utf-8"), "utf-8")
    subprocess.run(
        [sys.executable, str(script)], check=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    for made in script.parent.glob("*.json"):
        assert made.read_bytes() == (VECTORS / made.name).read_bytes(), made.name


def test_the_specification_is_short_and_its_example_is_true() -> None:
    text = (ROOT / "tracker" / "LEDGER.md").read_text("utf-8")
    assert len(text.splitlines()) < 120
    vector = json.loads((VECTORS / "proof.json").read_text("utf-8"))
    assert vector["key"] in text
    proof = vector["cases"][0]["proof"]
    for line in proof.splitlines():
        assert line in text or (line.startswith("extra ") and line[:50] in text)


# -- the same parts as the gateway seals -----------------------------------------------------------------


def test_leaves_are_those_that_were_sealed() -> None:
    found = digests(LETTER, walk(LETTER))
    mine = leaves(LETTER)
    text = next(leaf for leaf in mine if leaf.is_text)
    assert found.text in set(text.text_digests())
    others = [hashlib.sha256(leaf.content).digest() for leaf in mine if leaf is not text]
    assert others == [part.sha256 for part in found.parts]


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "messages").rglob("*.eml")), ids=lambda p: p.name)
def test_every_sample_letter_is_recognised_whole_and_by_parts(path: Path) -> None:
    letter = path.read_bytes()
    case = Case(letter)
    assert (
        verify([("e", json.dumps(case.evidence[0]).encode()), ("l.eml", letter)], [KEY.vkey]).good
        is not False
    )


# -- letters ---------------------------------------------------------------------------------------------


def sent_form(letter: bytes, gap: bytes = b" ") -> bytes:
    """As a mailbox has it: trace and our fields in front, the number in the subject."""
    front = (
        b"Return-Path: <b+x@wasl.example>\r\nDelivered-To: registry@moh.gov.example\r\n"
        b"Received: from wasl.example\r\n\tby mail.moh.gov.example; Mon, 21 Sep 2026 17:14:00 +0300\r\n"
        b"DKIM-Signature: v=1; a=rsa-sha256;\r\n bh=x;\r\n b=y\r\nWasl-Letter: " + NUMBER.encode() + b"\r\n"
    )
    return front + letter.replace(b"Subject: ", b"Subject: [" + NUMBER.encode() + b"]" + gap, 1)


WHOLE = {
    "exact": LETTER,
    "mailbox": sent_form(LETTER),
    "folded tag": sent_form(LETTER, b"\r\n "),
    "LF": sent_form(LETTER).replace(b"\r\n", b"\n"),
    "mbox": b"From salma@mof.gov.example Mon Sep 21 17:14:00 2026\n" + LETTER.replace(b"\r\n", b"\n"),
    "no final newline": sent_form(LETTER).removesuffix(b"\r\n"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_letter_is_recognised_whole(name: str) -> None:
    result = CASE.check(WHOLE[name])
    assert codes(result, "0.eml") == ["whole"]
    assert (result.good, result.status) == (True, 0)


def rewritten(letter: bytes) -> bytes:
    """As Exchange does it: other boundaries, other transfer encodings, other header."""
    parts = {leaf.kind: leaf.content for leaf in reversed(leaves(letter))}
    text = parts["text/plain"].decode("cp1256")
    html = base64.encodebytes(parts["text/html"])
    pdf = base64.b64encode(parts["application/pdf"])
    return (
        b"From: Salma <salma@mof.gov.example>\r\nMessage-ID: <1@mof.gov.example>\r\n"
        b"Subject: [MOF/2026/000123] =?utf-8?Q?=D9=85=D8=B4=D8=B1=D9=88=D8=B9_?=\r\n"
        b" =?utf-8?B?2KfZhNmF2YjYp9iy2YbYqQ==?=\r\n"
        b"Content-Type: multipart/mixed; boundary=_000_\r\n\r\n--_000_\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(text.rstrip().encode())
        + b"--_000_\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + html
        + b"--_000_\r\nContent-Type: application/octet-stream; name=budget.pdf\r\n"
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + pdf
        + b"\r\n--_000_\r\nContent-Type: message/rfc822\r\n\r\n"
        + parts["message/rfc822"]
        + b"\r\n--_000_--\r\n"
    )


def test_a_rewritten_letter_is_recognised_part_by_part() -> None:
    result = CASE.check(rewritten(LETTER))
    assert codes(result, "0.eml") == ["whole?", "text", "part", "part", "part", "part", "header"]
    assert result.status == 0


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        (PDF, PDF.replace(b"budget", b"Budget", 1), "part!"),
        ("مشروع".encode("cp1256"), "مشاريع".encode("cp1256"), "text!"),
        (b"inner text", b"other text", "part!"),
        (b"=D8=A7=D9=84", b"=D8=A8=D9=84", "part!"),
        (b"Salma@mof", b"Selma@mof", "header!"),
        (b"<1@mof", b"<2@mof", "header!"),
        (b"2YXYtNix2YjYuSDYp9mE2YXZiNin2LLZhtip", b"2YXYtNix2YjYuSDYp9mE2YXZiNin2LLYqQ==", "header!"),
    ],
)
def test_what_was_changed_is_named(old: bytes, new: bytes, wrong: str) -> None:
    def armoured(data: bytes) -> bytes:
        return base64.encodebytes(data).replace(b"\n", b"\r\n") if data.startswith(b"%PDF") else data

    assert armoured(old) in LETTER
    result = CASE.check(LETTER.replace(armoured(old), armoured(new)))
    found = codes(result, "0.eml")
    assert wrong in found
    assert result.status == 1
    if wrong == "header!":
        assert [code for code in found if code.endswith("!")] == ["header!"]
    elif old == PDF:
        assert [line.values["part"] for line in result.lines if str(line) == "part!"] == ["budget.pdf"]


def test_what_was_taken_out_or_added_is_told() -> None:
    cut = LETTER[: LETTER.index(b"--b 1\r\nContent-Type: application/pdf")] + b"--b 1--\r\n"
    result = CASE.check(cut)
    (missing,) = [line for line in result.lines if line.code == "missing"]
    assert missing.values == {"count": "3", "of": "5"}
    added = LETTER.replace(b"--b 1--", b"--b 1\r\nContent-Type: text/csv; name=x.csv\r\n\r\n1,2\r\n--b 1--")
    result = CASE.check(added)
    assert [line.values["part"] for line in result.lines if str(line) == "part!"] == ["x.csv"]


def test_another_letter_proves_nothing() -> None:
    result = CASE.check(b"From: x@y.example\r\nSubject: z\r\n\r\nother\r\n")
    assert result.status == 1
    result = Case(parts=False).check(b"From: x@y.example\r\nSubject: z\r\n\r\nother\r\n")
    assert "whole!" in codes(result)


def test_a_letter_with_a_receipt_that_seals_nothing_is_undecided() -> None:
    result = CASE.check(LETTER, which=[1])
    assert codes(result, "0.eml") == ["unsealed?"]
    assert result.status == 2


# -- receipts and bundles --------------------------------------------------------------------------------


def test_a_receipt_tells_its_events_in_both_languages() -> None:
    result = CASE.check(which=[0, 1])
    assert codes(result) == [
        "checkpoint",
        "inclusion",
        "inclusion",
        "signature",
        "record",
        "signature",
        "record",
    ]
    english, arabic = result.text(), result.text("ar")
    assert (
        "delivered to the mailbox, 2026-09-21 14:13:20 UTC, grade E3: just as entry 701 sealed it." in english
    )
    assert english.endswith("\nVerified.\n")
    assert "سُلّم إلى صندوق البريد" in arabic
    assert arabic.endswith("\nتم التحقّق.\n")
    answer = result.to_json()
    assert answer["verified"] is True
    assert answer["lines"][0]["origin"] == "wasl.example/ledger"


def test_a_bundle_holds_everything() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("letter.eml", LETTER)
        bundle.writestr("receipts/1/evidence.json", json.dumps(CASE.evidence[0]))
        bundle.writestr("receipts/1/proof.txt", CASE.proofs[0].replace("\n", "\r\n"))
        bundle.writestr("receipts/2.eml", CASE.receipt(1))
        bundle.writestr("README.txt", "hello")
    result = verify([("bundle.zip", file.getvalue())], [KEY.vkey])
    assert codes(result, "letter.eml") == ["whole"]
    assert codes(result, "receipts/2") == ["inclusion", "signature", "record"]
    assert codes(result, "README") == ["file?"]
    assert result.good is None  # a file in it says nothing, and that is said
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as bundle:
        bundle.writestr("a.eml", CASE.receipt(0, 1))
        bundle.writestr("letter.eml", LETTER)
    assert verify([("bundle.zip", file.getvalue())], [KEY.vkey]).status == 0


def test_without_a_key_nothing_is_vouched_for() -> None:
    result = CASE.check(LETTER, keys=[])
    assert codes(result) == ["checkpoint?", "inclusion", "signature?", "record", "whole"]
    assert (result.good, result.status) == (None, 2)


def test_a_key_of_another_log_does_not_vouch() -> None:
    other = LedgerKey.make("wasl.example/ledger")
    result = CASE.check(LETTER, keys=[other.vkey])
    assert "checkpoint!" in codes(result)
    assert result.status == 1
    assert CASE.check(LETTER, keys=[other.vkey, KEY.vkey]).status == 0


def test_an_entry_that_has_no_proof_yet_stands_by_its_signature() -> None:
    items = [("evidence.json", json.dumps(CASE.evidence[0]).encode()), ("letter.eml", LETTER)]
    result = verify(items, [KEY.vkey])
    assert codes(result) == ["signature", "record?", "whole"]
    assert result.status == 0


# -- forgeries -------------------------------------------------------------------------------------------


def changed(value: Any, path: Sequence[str], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    at = copy
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = new
    return copy


RECORD = ("opening", "record")
FORGERIES: dict[str, tuple[Any, str]] = {
    "subject": (changed(CASE.evidence[0], (*RECORD, "detail", "subject"), "other"), "record!"),
    "event": (changed(CASE.evidence[0], (*RECORD, "event"), "read"), "record!"),
    "grade": (changed(CASE.evidence[0], (*RECORD, "grade"), 7), "record!"),
    "float": (changed(CASE.evidence[0], (*RECORD, "grade"), 1.0), "record!"),
    "time": (changed(CASE.evidence[0], (*RECORD, "at"), 0), "record!"),
    "id": (changed(CASE.evidence[0], (*RECORD, "id"), "1"), "record!"),
    "salt": (changed(CASE.evidence[0], ("opening", "salt"), "00" * 16), "record!"),
    "words around it": (changed(CASE.evidence[0], ("Event",), "read"), "signature!"),
    "no signature value": (changed(CASE.evidence[0], ("signature",), {}), "signature!"),
    "odd signature": (changed(CASE.evidence[0], ("signature", "ed25519"), "!!!"), "signature!"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_evidence(name: str) -> None:
    evidence, wrong = FORGERIES[name]
    items = [("e.json", json.dumps(evidence).encode()), ("p.txt", CASE.proofs[0].encode())]
    result = verify(items, [KEY.vkey])
    assert wrong in codes(result)
    assert result.status == 1


def test_unsigned_evidence_beside_good_evidence_is_not_verified() -> None:
    stranger = {"opening": opening(Case.row(9, "read", 5, {}))}
    evidence = json.dumps([CASE.evidence[0], stranger]).encode()
    result = verify([("e.json", evidence), ("p.txt", CASE.proofs[0].encode())], [KEY.vkey])
    assert result.good is None


def test_a_member_named_twice_is_no_evidence() -> None:
    text = json.dumps(CASE.evidence[0]).replace('"grade": 1', '"grade": 7, "grade": 1')
    assert verify([("e.json", text.encode())], [KEY.vkey]).good is None


def test_every_octet_of_a_proof_counts() -> None:
    proof = CASE.proofs[0]
    evidence = json.dumps(CASE.evidence[0]).encode()
    for at in range(0, len(proof), 3):
        other = proof[:at] + ("x" if proof[at] != "x" else "y") + proof[at + 1 :]
        result = verify([("e.json", evidence), ("p.txt", other.encode())], [KEY.vkey])
        proven = {"checkpoint", "inclusion", "record"} <= set(codes(result))
        assert not proven, (at, proof[at - 5 : at + 5])


def test_a_witness_may_sign_too_and_a_false_own_signature_spoils_the_note() -> None:
    witness = LedgerKey.make("witness.example/w")
    line = witness.sign(1, bytes(32)).split("\n\n")[1]
    assert open_checkpoint(CASE.note + line, [KEY.vkey]).size == 732
    signature = base64.b64encode(KEY.vkey.keyid + bytes(64)).decode()
    with pytest.raises(ValueError, match="is wrong"):
        open_checkpoint(f"{CASE.note}— {KEY.origin} {signature}\n", [KEY.vkey])


def test_a_known_key_vouches_for_its_own_log_only() -> None:
    witness = LedgerKey.make("witness.example/w")
    body, signature = CASE.note.split("\n\n")
    cosigned = base64.b64encode(witness.vkey.keyid + witness._key.sign(f"{body}\n".encode())).decode()
    note = f"{body}\n\n— {witness.origin} {cosigned}\n"
    with pytest.raises(ValueError, match="no known key of wasl"):
        open_checkpoint(note, [witness.vkey, KEY.vkey])
    assert open_checkpoint(note + signature, [witness.vkey, KEY.vkey]).size == 732


def test_keys_are_read_strictly() -> None:
    text = str(KEY.vkey)
    assert read_keys(f"# our log\n\n{text}\n") == [KEY.vkey]
    name, keyid, key = text.split("+", 2)
    for bad in (
        f"{name}+{keyid}",
        f"x+{keyid}+{key}",
        f"{name}+00000000+{key}",
        f"{name}+{keyid}+{key[:-4]}",
    ):
        with pytest.raises(ValueError, match=r".+"):
            read_keys(bad)


# -- octets from anywhere --------------------------------------------------------------------------------


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_octets_are_met_with_a_line(data: bytes) -> None:
    for front in (b"", b"PK\x03\x04", b"c2sp.org/tlog-proof@v1\n", b"{", b'{"cases": [', b"From: a@b\r\n"):
        result = verify([("x", front + data)], [KEY.vkey])
        assert result.status in (1, 2)
        assert result.text("ar")


HOSTILE = {
    "deep JSON": b'{"opening":' * 100_000,
    "deep MIME": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000)
    ),
    "many parts": b"From: a\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 50_000,
    "one long line": b"a" * 3_000_000,
    "long field": b"Subject: " + b"a;b=c" * 200_000 + b"\n\n",
    "blanks": b"From: a\n\n" + b" " * 3_000_000 + b"x",
    "bad charset": b"From: a\nContent-Type: text/plain; charset=base64\n\nx",
    "bad words": b"From: a\nSubject: =?utf-8?B?!!!?= =?x?Q?=ZZ?=\n\nx",
    "huge numbers": b'{"opening": {"salt": "' + b"00" * 16 + b'", "record": {"at": 9' + b"9" * 300 + b"}}}",
    "odd members": b'{"opening": {"salt": "'
    + b"00" * 16
    + b'", "record": {"at": [], "event": {}, "detail": 3}},'
    b' "signature": [], "LedgerIndex": [], "UserContentInfo": {"PartsInfo": {}}}',
    "vectors": (VECTORS / "tree.json").read_bytes(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_met_quickly(name: str) -> None:
    result = CASE.check(HOSTILE[name])
    assert result.status in (1, 2)
    assert result.text()


def test_a_zip_that_unpacks_to_too_much_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("bomb", bytes(1 << 20))
    data = file.getvalue()
    stated = struct.pack("<I", 1 << 20)
    assert data.count(stated) == 2
    assert codes(verify([("b.zip", data.replace(stated, struct.pack("<I", 1 << 30)))], [])) == ["file!"]
    assert codes(verify([("b.zip", data.replace(stated, struct.pack("<I", 99)))], [])) == ["file!"]  # it lies


def test_names_of_others_cannot_disguise_a_line() -> None:
    letter = LETTER.replace(b'filename="budget.pdf"', 'filename="a\u202efdp.exe"'.encode()).replace(
        b"PDF", b"PDG"
    )
    text = CASE.check(letter.replace(b"JVBERi", b"JVBERj")).text()
    assert "\u202e" not in text
    assert "a\ufffdfdp.exe" in text


# -- the command line ------------------------------------------------------------------------------------


def test_the_file_runs_alone(tmp_path: Path) -> None:
    """Copied to a place where nothing else of Wasl is, with the standard library and cryptography."""
    alone = tmp_path / "verify.py"
    alone.write_bytes((ROOT / "tracker" / "verify.py").read_bytes())
    (tmp_path / "receipt.eml").write_bytes(CASE.receipt(0))
    (tmp_path / "letter.eml").write_bytes(LETTER)
    (tmp_path / "log.pub").write_text(f"# key\n{KEY.vkey}\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", str(alone), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    done = run("--key", "log.pub", "receipt.eml", "letter.eml")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Verified.")
    done = run("--key", str(KEY.vkey), "--json", "receipt.eml", "letter.eml")
    assert json.loads(done.stdout)["verified"] is True
    done = run("--key", "log.pub", "--lang", "ar", "letter.eml")
    assert (done.returncode, "أضف إشعار قبول الإرسال" in done.stdout) == (2, True)
    done = run("--key", "log.pub", "no such file")
    assert (done.returncode, done.stdout) == (2, "")
    (tmp_path / "letter.eml").write_bytes(LETTER.replace(b"JVBERi", b"JVBERj"))
    assert run("--key", "log.pub", "receipt.eml", "letter.eml").returncode == 1


def test_proof_text_reads_back() -> None:
    proof = LogProof.parse(CASE.proofs[1])
    assert proof.index == 701
    assert proof.fields()["event"] == "delivered"
    assert proof.note == CASE.note
