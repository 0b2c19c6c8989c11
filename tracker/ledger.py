"""The ledger: an append-only Merkle log of every act of evidence (LEDGER.md; RFC 6962, RFC 9162).

An entry holds identifiers and salted commitments, nothing in clear. Entries get their places inside the
transaction that writes the evidence (``append``), or, with several nodes, wait for one sequencer (``pend``,
``sequence``). Hashes are kept as C2SP tlog-tiles of 256, so that proofs stay cheap at hundreds of millions of
entries; checkpoints are C2SP tlog-checkpoint notes signed with Ed25519.

How it fails: :class:`LedgerBroken` when the tables contradict themselves or what was signed before; nothing
is then appended or signed. A rolled-back ``append`` leaves nothing behind: the frontier that is kept in
memory counts only while it fits the last entry of the table.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite

from tracker import schema
from tracker.verify import (
    PROOF_HEADER,
    Vkey,
    canonical,
    commit,
    json_text,
    leaf_hash,
    node_hash,
)

__all__ = [
    "Checkpoint",
    "EvidenceRow",
    "InclusionProof",
    "Ledger",
    "LedgerBroken",
    "LedgerHead",
    "LedgerKey",
    "canonical",
    "commit",
    "entry_bytes",
    "new_salt",
    "proof_text",
    "record_bytes",
]

WIDTH = 256  # hashes a tile
_FULL = WIDTH * 32
_EMPTY_ROOT = hashlib.sha256().digest()
_LOCK = 0x5741534C  # of PostgreSQL's advisory locks: who holds it sequences the ledger
_sha256 = hashlib.sha256


class LedgerBroken(RuntimeError):
    """The stored log contradicts itself or an earlier checkpoint; nothing is signed or appended."""


def new_salt() -> bytes:
    """A fresh salt of 16 octets for one evidence row."""
    return os.urandom(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRow:
    """A row of ``schema.evidence``; times in microseconds of UTC."""

    id: int
    letter_id: int
    delivery_id: int | None
    event: str
    grade: int
    at_us: int
    noted_us: int
    source: str
    reporter: str
    detail: Mapping[str, Any]
    salt: bytes


def record_bytes(row: EvidenceRow) -> bytes:
    """The canonical form of the row without its salt: what the entry's ``record`` commits to."""
    delivery = "null" if row.delivery_id is None else f'"{row.delivery_id}"'
    return (
        f'{{"at":{row.at_us},"delivery":{delivery},"detail":{json_text(row.detail)},"event":"{row.event}",'
        f'"grade":{row.grade:d},"id":"{row.id}","letter":"{row.letter_id}","noted":{row.noted_us},'
        f'"reporter":{json_text(row.reporter)},"source":{json_text(row.source)},"v":1}}'
    ).encode("utf-8", "replace")


def entry_bytes(row: EvidenceRow, *, octets: bytes | None = None, parts: Sequence[bytes] = ()) -> bytes:
    """The ledger entry of an evidence row (LEDGER.md 3), canonical JSON.

    ``octets`` is the SHA-256 of the message as archived, ``parts`` those of its body, text and attachments:
    what an acceptance commits to. Raises ValueError when the salt is too short to hide anything.
    """
    salt = row.salt
    if not 16 <= len(salt) <= 255:
        raise ValueError("a salt has 16 to 255 octets")
    prefix = b"%c%b" % (len(salt), salt)
    delivery = "null" if row.delivery_id is None else f'"{row.delivery_id}"'
    contents = ""
    if octets is not None:
        contents = f'"octets":"{_sha256(prefix + octets).hexdigest()}",'
    if parts:
        listed = '","'.join([_sha256(prefix + part).hexdigest() for part in parts])
        contents = f'{contents}"parts":["{listed}"],'
    return (
        f'{{"at":{row.at_us},"delivery":{delivery},"event":"{row.event}","grade":{row.grade:d},'
        f'"id":"{row.id}","letter":"{row.letter_id}",{contents}'
        f'"record":"{_sha256(prefix + record_bytes(row)).hexdigest()}","v":1}}'
    ).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHead:
    """Where the log stands: how many entries, and the root above them."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed head; ``note`` is the text that is published (C2SP tlog-checkpoint)."""

    size: int
    root: bytes
    at_us: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """That entry ``seq`` is in the tree of ``size``: the siblings on its way up (RFC 6962 §2.1.1)."""

    seq: int
    size: int
    entry: bytes
    hashes: tuple[bytes, ...]


def proof_text(proof: InclusionProof, note: str) -> str:
    """``proof.txt``: C2SP tlog-proof with the entry as extra data and the checkpoint of that size."""
    hashes = "".join(f"{base64.b64encode(h).decode()}\n" for h in proof.hashes)
    extra = base64.b64encode(proof.entry).decode()
    return f"{PROOF_HEADER}\nextra {extra}\nindex {proof.seq}\n{hashes}\n{note}"


class LedgerKey:
    """The Ed25519 key that signs checkpoints, and the origin name of its log."""

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        if not origin or "+" in origin or any(c.isspace() or ord(c) < 32 for c in origin):
            raise ValueError("an origin has no spaces, no plus and no control characters")
        self.origin = origin
        self._key = key
        self.vkey = Vkey(origin, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def make(cls, origin: str) -> LedgerKey:
        """A new key for the log ``origin``, e.g. ``wasl.example/ledger``."""
        return cls(origin, Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, origin: str, pem: bytes) -> LedgerKey:
        """Read a PKCS#8 PEM; raises ValueError when it is no unencrypted Ed25519 key."""
        key = load_pem_private_key(pem, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the ledger's key is an Ed25519 key")
        return cls(origin, key)

    @classmethod
    def load(cls, origin: str, path: Path) -> LedgerKey:
        """Read the PEM file at ``path``; raises OSError or ValueError."""
        return cls.from_pem(origin, path.read_bytes())

    def pem(self) -> bytes:
        """The private key as PKCS#8 PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, size: int, root: bytes) -> str:
        """The signed note of a tree head (C2SP tlog-checkpoint)."""
        body = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(self.vkey.keyid + self._key.sign(body.encode())).decode()
        return f"{body}\n— {self.origin} {signature}\n"


@dataclass(slots=True)
class _Frontier:
    """The right edge of the tree: the hashes of the partial tile of each level, and the last leaf."""

    size: int
    last: bytes
    levels: list[bytes]


def _fold(hashes: bytes) -> bytes:
    """The root above a power of two of consecutive hashes."""
    sha = _sha256
    while len(hashes) > 32:
        hashes = b"".join([sha(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 64)])
    return hashes


class Ledger:
    """The log of one store. Not to be shared between threads that append at the same time."""

    def __init__(self, key: LedgerKey) -> None:
        self.key = key
        self._frontier: _Frontier | None = None
        self._tiles: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def forget(self) -> None:
        """Drop what is kept in memory; the next call reads the tables."""
        self._frontier = None
        self._tiles.clear()

    def append(self, conn: Connection, items: Sequence[tuple[int, bytes]]) -> range:
        """Give ``(evidence_id, entry)`` items their places at the end, inside the caller's transaction.

        Returns their sequence numbers. Raises :class:`LedgerBroken` when the tiles do not fit the entries.
        On PostgreSQL it holds the sequencer's lock until the transaction ends.
        """
        self._lock(conn)
        size, last = _end(conn)
        if not items:
            return range(size, size)
        frontier = self._frontier
        if frontier is None or frontier.size != size or frontier.last != last:
            frontier = _load_frontier(conn, size, last)
        leaves = [_sha256(b"\x00" + entry).digest() for _, entry in items]
        grown, tiles = _grow(frontier, leaves)
        conn.execute(
            _INSERT,
            [
                {"seq": seq, "evidence_id": evidence_id, "entry": entry}
                for seq, (evidence_id, entry) in enumerate(items, size)
            ],
        )
        conn.execute(_UPSERT[conn.dialect.name], tiles)
        self._frontier = grown
        return range(size, grown.size)

    def head(self, conn: Connection) -> LedgerHead:
        """The present size and root."""
        size, last = _end(conn)
        frontier = self._frontier
        if frontier is None or frontier.size != size or frontier.last != last:
            frontier = _load_frontier(conn, size, last)
        return LedgerHead(size=size, root=_root(frontier))

    def checkpoint(self, conn: Connection, at_us: int) -> Checkpoint | None:
        """Sign and store the present head, if the log grew since the last checkpoint; else None.

        Raises :class:`LedgerBroken` when the log no longer begins with what was signed before.
        """
        self._lock(conn)
        head = self.head(conn)
        before = self.latest(conn)
        if before is not None:
            if before.size == head.size and before.root == head.root:
                return None
            if before.size >= head.size:
                raise LedgerBroken(f"the log has {head.size} entries, {before.size} were signed")
        elif head.size == 0:
            return None
        made = Checkpoint(
            size=head.size, root=head.root, at_us=at_us, note=self.key.sign(head.size, head.root)
        )
        conn.execute(
            insert(schema.checkpoint),
            {"size": made.size, "root": made.root, "at_us": made.at_us, "note": made.note},
        )
        return made

    def latest(self, conn: Connection) -> Checkpoint | None:
        """The newest checkpoint, or None."""
        row = conn.execute(_LATEST).first()
        return None if row is None else Checkpoint(size=row[0], root=row[1], at_us=row[2], note=row[3])

    def _lock(self, conn: Connection) -> None:
        if conn.dialect.name == "postgresql":
            conn.execute(_ADVISORY)


_t = schema.ledger_tile.c
_e = schema.ledger_entry.c
_c = schema.checkpoint.c
_INSERT = insert(schema.ledger_entry)
_LAST = select(_e.seq, _e.entry).order_by(_e.seq.desc()).limit(1)
_LATEST = select(_c.size, _c.root, _c.at_us, _c.note).order_by(_c.size.desc()).limit(1)
_ADVISORY = text(f"SELECT pg_advisory_xact_lock({_LOCK})")
_sqlite_insert = sqlite.insert(schema.ledger_tile)
_postgresql_insert = postgresql.insert(schema.ledger_tile)
_UPSERT = {
    "sqlite": _sqlite_insert.on_conflict_do_update(
        index_elements=["level", "tile"], set_={"hashes": _sqlite_insert.excluded.hashes}
    ),
    "postgresql": _postgresql_insert.on_conflict_do_update(
        index_elements=["level", "tile"], set_={"hashes": _postgresql_insert.excluded.hashes}
    ),
}


def _end(conn: Connection) -> tuple[int, bytes]:
    """How many entries there are, and the hash of the last leaf."""
    row = conn.execute(_LAST).first()
    return (0, b"") if row is None else (row[0] + 1, leaf_hash(row[1]))


def _load_frontier(conn: Connection, size: int, last: bytes) -> _Frontier:
    levels = []
    level, n = 0, size
    while n:
        width = n % WIDTH
        if width:
            row = conn.execute(select(_t.hashes).where(_t.level == level, _t.tile == n // WIDTH)).first()
            if row is None or len(row[0]) != width * 32:
                raise LedgerBroken(f"tile {level}/{n // WIDTH} does not hold {width} hashes")
            levels.append(bytes(row[0]))
        else:
            levels.append(b"")
        level, n = level + 1, n // WIDTH
    if levels and levels[0] and levels[0][-32:] != last:
        raise LedgerBroken(f"entry {size - 1} does not fit its tile")
    return _Frontier(size, last, levels)


def _grow(frontier: _Frontier, leaves: list[bytes]) -> tuple[_Frontier, list[dict[str, Any]]]:
    """The frontier after ``leaves``, and the tiles that changed."""
    tiles = []
    levels = list(frontier.levels)
    count, more, level = frontier.size, leaves, 0
    while more:
        if level == len(levels):
            levels.append(b"")
        hashes = levels[level] + b"".join(more)
        tile = count // WIDTH
        count, more = tile, []
        while len(hashes) >= _FULL:
            full, hashes = hashes[:_FULL], hashes[_FULL:]
            tiles.append({"level": level, "tile": tile, "hashes": full})
            more.append(_fold(full))
            tile += 1
        if hashes:
            tiles.append({"level": level, "tile": tile, "hashes": hashes})
        levels[level] = hashes
        level += 1
    return _Frontier(frontier.size + len(leaves), leaves[-1], levels), tiles


def _peaks(hashes: bytes) -> list[bytes]:
    """The roots of the perfect trees above a partial tile, from the left, largest first."""
    peaks = []
    count, at = len(hashes) // 32, 0
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        if count & bit:
            peaks.append(_fold(hashes[at * 32 : (at + bit) * 32]))
            at += bit
    return peaks


def _root(frontier: _Frontier) -> bytes:
    peaks = [peak for hashes in reversed(frontier.levels) for peak in _peaks(hashes)]
    if not peaks:
        return _EMPTY_ROOT
    root = peaks.pop()
    while peaks:
        root = node_hash(peaks.pop(), root)
    return root
