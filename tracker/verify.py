"""Check a letter, a receipt or a proof of Wasl offline (LEDGER.md), from the public key alone.

One file; needs the standard library and ``cryptography``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_ED25519 = b"\x01"  # signature type of C2SP signed-note
_MAX_PROOF = 64  # hashes: a tree of 2^63 leaves has no more


class Unproven(ValueError):
    """What was given does not prove what it says; the message tells what does not fit."""


def canonical(value: object) -> bytes:
    """The one byte form of a JSON value (LEDGER.md 1): keys sorted, no spaces, UTF-8, integers only.

    Raises TypeError for floats and for what is no JSON. A lone surrogate is written as ``?``.
    """
    return json_text(value).encode("utf-8", "replace")


def json_text(value: object) -> str:
    """The canonical form as text, not yet octets."""
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{encode_basestring(k)}:{json_text(value[k])}" for k in sorted(value)]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([json_text(item) for item in value]) + "]"
    raise TypeError(f"{type(value).__name__} has no canonical form")


def commit(salt: bytes, data: bytes) -> bytes:
    """The salted commitment to ``data``: SHA-256(length of salt ‖ salt ‖ data), 32 octets (LEDGER.md 2)."""
    return hashlib.sha256(b"%c%b%b" % (len(salt), salt, data)).digest()


def evidence_text(evidence: Mapping[str, Any]) -> bytes:
    """What the signature of an evidence.json is made over (LEDGER.md 5): all but the signature itself."""
    return b"wasl-evidence/v1\n" + canonical({k: v for k, v in evidence.items() if k != "signature"})


def leaf_hash(entry: bytes) -> bytes:
    """The leaf of an entry (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two hashes (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(leaf: bytes, seq: int, size: int, hashes: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 §2.1.3.2); raises :class:`Unproven`."""
    if not 0 <= seq < size:
        raise Unproven(f"entry {seq} is not in a tree of {size}")
    fn, sn, root = seq, size - 1, leaf
    for sibling in hashes:
        if sn == 0:
            raise Unproven("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            root = node_hash(sibling, root)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            root = node_hash(root, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise Unproven("the inclusion proof is too short")
    return root


def check_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, hashes: Sequence[bytes]
) -> None:
    """Check that the tree of ``second`` entries begins with that of ``first`` (RFC 9162 §2.1.4.2).

    Raises :class:`Unproven`.
    """
    if not 0 <= first <= second:
        raise Unproven(f"a tree of {second} cannot begin with one of {first}")
    if first == second:
        if hashes or first_root != second_root:
            raise Unproven("two trees of the same size differ")
        return
    if first == 0:
        if hashes or first_root != hashlib.sha256().digest():
            raise Unproven("the empty tree needs no proof")
        return
    path = list(hashes)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        raise Unproven("the consistency proof is empty")
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for node in path[1:]:
        if sn == 0:
            raise Unproven("the consistency proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(node, fr), node_hash(node, sr)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, node)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or fr != first_root or sr != second_root:
        raise Unproven("the log was rewritten: the newer tree does not begin with the older one")


@dataclass(frozen=True, slots=True)
class Vkey:
    """A public key as C2SP signed-note writes it: ``name+keyid+base64(type ‖ key)``."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> Vkey:
        """Read the text form; raises ValueError."""
        name, plus, rest = text.strip().partition("+")
        keyid, plus2, encoded = rest.partition("+")
        raw = _base64(encoded)
        if not name or not plus or not plus2 or raw[:1] != _ED25519 or len(raw) != 33:
            raise ValueError("not an Ed25519 verifier key")
        vkey = cls(name, raw[1:])
        if vkey.keyid.hex() != keyid:
            raise ValueError("the key id does not fit the key")
        return vkey

    @property
    def keyid(self) -> bytes:
        """Four octets that tell which key signed."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.keyid.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    def verify(self, signature: bytes, data: bytes) -> bool:
        """True when ``signature`` is this key's Ed25519 signature over ``data``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Head:
    """What a checkpoint says: the log's origin, how many entries, and the root above them."""

    origin: str
    size: int
    root: bytes


def open_checkpoint(note: str, keys: Sequence[Vkey]) -> Head:
    """Read a signed note (C2SP tlog-checkpoint) that one of ``keys`` signed; raises :class:`Unproven`."""
    head, signatures, text = read_checkpoint(note)
    good = False
    for name, keyid, signature in signatures:
        for key in keys:
            if (key.name, key.keyid) == (name, keyid):
                if not key.verify(signature, text):
                    raise Unproven(f"the signature of {name} over the checkpoint is wrong")
                good = good or key.name == head.origin
    if not good:
        raise Unproven(f"no known key of {head.origin} signed the checkpoint")
    return head


def read_checkpoint(note: str) -> tuple[Head, list[tuple[str, bytes, bytes]], bytes]:
    """A checkpoint unchecked: what it says, its signatures (name, key id, signature), the signed text."""
    body, blank, signed = note.rpartition("\n\n")
    lines = body.split("\n")
    if not blank or not signed.endswith("\n") or len(lines) < 3 or not all(lines) or len(note) > 100_000:
        raise Unproven("not a checkpoint")
    if any(ord(c) < 32 and c != "\n" for c in note):
        raise Unproven("a control character in the checkpoint")
    signatures = []
    for line in signed[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        raw = _base64(encoded)
        if dash != "—" or not name or len(raw) < 5:
            raise Unproven("a malformed signature line in the checkpoint")
        signatures.append((name, raw[:4], raw[4:]))
    root = _base64(lines[2])
    if len(root) != 32:
        raise Unproven("a malformed root in the checkpoint")
    return Head(lines[0], _decimal(lines[1]), root), signatures, (body + "\n").encode()


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unproven("malformed base64") from error
    if base64.b64encode(raw).decode() != text:  # one text for one value, or a proof could be varied
        raise Unproven("malformed base64")
    return raw


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or (text[0] == "0" and text != "0") or len(text) > 19:
        raise Unproven("malformed number")
    return int(text)
