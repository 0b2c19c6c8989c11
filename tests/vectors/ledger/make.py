"""Writes the test vectors of tracker/LEDGER.md beside this file: ``python tests/vectors/ledger/make.py``.

Everything is fixed (key, salts, times), so that a second run changes no octet. The vectors say what any
implementation must compute; ``cases`` with an ``error`` must be refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from sqlalchemy import create_engine  # noqa: E402

from tracker import schema  # noqa: E402
from tracker.ledger import (  # noqa: E402
    EvidenceRow,
    Ledger,
    LedgerKey,
    canonical,
    commit,
    entry_bytes,
    opening,
    proof_text,
    record_bytes,
)
from tracker.tiles import Tree  # noqa: E402
from tracker.verify import leaf_hash  # noqa: E402

ORIGIN = "wasl.example/ledger"
KEY = LedgerKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"wasl vectors").digest()))
AT = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z

LETTER = "\r\n".join(
    [
        "Date: Mon, 21 Sep 2026 17:13:10 +0300",
        "From: =?utf-8?B?2LPZhNmF2Yk=?= <salma@mof.gov.example>",
        "To: registry@moh.gov.example",
        "Message-ID: <1@mof.gov.example>",
        "Subject: Budget of 2027",
        "MIME-Version: 1.0",
        'Content-Type: multipart/mixed; boundary="b1"',
        "",
        "--b1",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
        "",
        base64.b64encode("السلام عليكم، المرفق مشروع الموازنة.\r\n".encode()).decode(),
        "--b1",
        'Content-Type: application/pdf; name="budget.pdf"',
        'Content-Disposition: attachment; filename="budget.pdf"',
        "Content-Transfer-Encoding: base64",
        "",
        base64.b64encode(b"%PDF-1.4 budget of 2027\n").decode(),
        "--b1--",
        "",
    ]
).encode()
TEXT = "السلام عليكم، المرفق مشروع الموازنة.".encode()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def row(n: int, event: str, grade: int, detail: dict[str, Any], delivery: int | None = None) -> EvidenceRow:
    return EvidenceRow(
        id=887_000_000_000_000_000 + n,
        letter_id=887_000_000_000_000_000,
        delivery_id=delivery,
        event=event,
        grade=grade,
        at_us=AT + n,
        noted_us=AT + n,
        source="wasl" if event == "submitted" else "lmtp",
        reporter="" if event == "submitted" else "mail.moh.gov.example",
        detail=detail,
        salt=sha(b"salt %d" % n)[:16],
    )


SUBMITTED = row(
    1,
    "submitted",
    1,
    {
        "number": "MOF/2026/000123",
        "author": "salma@mof.gov.example",
        "recipients": ["registry@moh.gov.example"],
        "subject": "Budget of 2027",
        "message_id": "<1@mof.gov.example>",
        "sha256": sha(LETTER).hex(),
        "size": len(LETTER),
    },
)
DELIVERED = row(2, "delivered", 3, {"reply": "250 2.0.0 Saved"}, 887_000_000_000_000_009)
PARTS = (sha(TEXT), sha(b"%PDF-1.4 budget of 2027\n"))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write(name: str, vector: dict[str, Any]) -> None:
    (HERE / name).write_text(json.dumps(vector, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def canonical_vectors() -> None:
    values: list[Any] = [
        {},
        {"b": 1, "a": [True, False, None], "ب": "تم"},
        {"n": -7, "big": 9223372036854775807, "nested": {"z": {}, "a": []}},
        'quote " backslash \\ newline \n tab \t bell \u0007 del \u007f slash / line \u2028',
        {"\ue000": 1, "\U0001f4e8": 2, "é": 3, "Z": 4},
    ]
    cases = [{"value": value, "canonical": canonical(value).decode()} for value in values]
    write("canonical.json", {"kind": "canonical", "cases": [*cases, {"value": 0.5, "error": "no floats"}]})


def commit_vectors() -> None:
    cases = []
    for salt, data in ((b"\x00" * 16, b""), (sha(b"a")[:16], b"data"), (sha(b"b"), sha(b"c"))):
        cases.append({"salt": salt.hex(), "data": data.hex(), "commitment": commit(salt, data).hex()})
    write("commit.json", {"kind": "commit", "cases": cases})


def entry_vectors() -> None:
    cases = []
    for each, octets, parts in ((SUBMITTED, sha(LETTER), PARTS), (DELIVERED, None, ())):
        entry = entry_bytes(each, octets=octets, parts=parts)
        case = {
            "record": json.loads(record_bytes(each)),
            "salt": each.salt.hex(),
            "octets": octets.hex() if octets else None,
            "parts": [part.hex() for part in parts],
            "entry": entry.decode(),
            "leaf": leaf_hash(entry).hex(),
        }
        cases.append(case)
    write("entry.json", {"kind": "entry", "cases": cases})


def tree_vectors() -> None:
    count = 70_000
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    ledger = Ledger(KEY)
    cases: list[dict[str, Any]] = []
    with engine.begin() as conn:
        for at in range(0, count, 10_000):
            ledger.append(conn, [(n, b"entry %d" % n) for n in range(at, at + 10_000)])
        for size in (0, 1, 2, 3, 4, 7, 8, 255, 256, 257, 65_536, count):
            cases.append({"size": size, "root": b64(ledger.root_at(conn, size))})
        for seq, size in ((0, 1), (0, 2), (1, 2), (2, 3), (6, 7), (255, 256), (256, 257), (12_345, count)):
            hashes = [b64(h) for h in Tree(conn, {}).path(seq, size)]
            root = b64(ledger.root_at(conn, size))
            leaf = b64(leaf_hash(b"entry %d" % seq))
            case = {"leaf": leaf, "index": seq, "size": size, "root": root, "inclusion": hashes}
            cases.append(case)
            cases.append({**case, "inclusion": [*hashes, b64(sha(b"x"))], "error": "too long"})
            if hashes:
                cases.append({**case, "inclusion": hashes[:-1], "error": "too short"})
                cases.append({**case, "index": seq ^ 1, "error": "another place"})
        pairs = (
            (0, 5),
            (1, 2),
            (3, 7),
            (4, 7),
            (7, 7),
            (255, 257),
            (256, 257),
            (65_536, count),
            (12_345, count),
        )
        for first, second in pairs:
            case = {
                "first": first,
                "first_root": b64(ledger.root_at(conn, first)),
                "second": second,
                "second_root": b64(ledger.root_at(conn, second)),
                "consistency": [b64(h) for h in ledger.consistency(conn, first, second)],
            }
            cases.append(case)
            if first:
                cases.append({**case, "first_root": b64(sha(b"forged")), "error": "rewritten"})
    write("tree.json", {"kind": "tree", "leaves": "entry <n>", "cases": cases})


def checkpoint_vectors() -> None:
    root = sha(b"root")
    note = KEY.sign(20852163, root)
    other = LedgerKey("other.example/log", Ed25519PrivateKey.from_private_bytes(sha(b"another key")))
    body = note.split("\n\n")[0] + "\n"
    stranger = other.sign(20852163, root).split("\n\n")[1]
    cases: list[dict[str, Any]] = [
        {"note": note, "origin": ORIGIN, "size": 20852163, "root": b64(root)},
        {"note": note + stranger, "origin": ORIGIN, "size": 20852163, "root": b64(root)},
        {"note": KEY.sign(0, sha(b"")), "origin": ORIGIN, "size": 0, "root": b64(sha(b""))},
        {"note": body + "\n" + stranger, "error": "signed by nobody known"},
        {"note": note.replace("20852163", "20852164"), "error": "wrong signature"},
        {"note": note.replace("20852163", "020852163"), "error": "leading zero"},
        {"note": note.replace("—", "-"), "error": "no em dash"},
        {"note": note[:-1], "error": "no final newline"},
        {"note": note.replace("\n", "\r\n"), "error": "CR"},
        {"note": other.sign(1, root), "error": "another log"},
    ]
    write("checkpoint.json", {"kind": "checkpoint", "key": str(KEY.vkey), "cases": cases})


def proof_vectors() -> None:
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    ledger = Ledger(KEY)
    first = entry_bytes(SUBMITTED, octets=sha(LETTER), parts=PARTS)
    with engine.begin() as conn:
        ledger.append(conn, [(0, b"entry 0"), (SUBMITTED.id, first), (DELIVERED.id, entry_bytes(DELIVERED))])
        made = ledger.checkpoint(conn, AT)
        assert made is not None
        proofs = [proof_text(ledger.prove(conn, seq, made.size), made.note) for seq in (1, 2)]
    evidence = [KEY.sign_evidence({"opening": opening(each)}) for each in (SUBMITTED, DELIVERED)]
    base = {"evidence": evidence[0], "proof": proofs[0], "letter": LETTER.decode()}
    moved = "Received: from a by b; Mon, 21 Sep 2026 17:14:00 +0300\r\nWasl-Letter: MOF/2026/000123\r\n"
    tagged = LETTER.decode().replace("Subject: ", "Subject: [MOF/2026/000123] ")
    forged = json.loads(json.dumps(evidence[0]))
    forged["opening"]["record"]["detail"]["subject"] = "Budget of 2028"
    cases: list[dict[str, Any]] = [
        {**base, "status": 0, "codes": ["checkpoint", "inclusion", "signature", "record", "whole"]},
        {**base, "letter": moved + tagged, "status": 0, "codes": ["whole"]},
        {**base, "letter": LETTER.decode().replace("\r\n", "\n"), "status": 0, "codes": ["whole"]},
        {
            **base,
            "letter": LETTER.decode().replace("JVBER", "JVBEQ"),
            "status": 1,
            "codes": ["text", "part!"],
        },
        {"evidence": evidence[1], "proof": proofs[1], "status": 0, "codes": ["record"]},
        {
            "evidence": evidence[0],
            "proof": proofs[1],
            "status": 0,
            "codes": ["signature", "record?", "entry?"],
        },
        {**base, "evidence": forged, "status": 1, "codes": ["signature!", "record!"]},
        {**base, "proof": proofs[0].replace("index 1", "index 2"), "status": 1, "codes": ["inclusion!"]},
        {"letter": base["letter"], "status": 2, "codes": []},
    ]
    write("proof.json", {"kind": "proof", "key": str(KEY.vkey), "cases": cases})


if __name__ == "__main__":
    canonical_vectors()
    commit_vectors()
    entry_vectors()
    tree_vectors()
    checkpoint_vectors()
    proof_vectors()
