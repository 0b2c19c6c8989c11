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
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from sqlalchemy import Connection, delete, insert, select, text, update

from tracker import schema
from tracker.prepared import Prepared
from tracker.tiles import Frontier, LedgerBroken, Tree, grow, load_frontier, write_tiles
from tracker.verify import (
    PROOF_HEADER,
    Unproven,
    Vkey,
    canonical,
    check_consistency,
    commit,
    evidence_text,
    json_text,
    leaf_hash,
    open_checkpoint,
    read_keys,
    root_from_inclusion,
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
    "opening",
    "proof_text",
    "record_bytes",
]

_LOCK = 0x5741534C  # of PostgreSQL's advisory locks: who holds it sequences the ledger
_sha256 = hashlib.sha256


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


def opening(row: EvidenceRow) -> dict[str, Any]:
    """What ``evidence.json`` holds under ``opening``: the record and its salt (LEDGER.md 5)."""
    return {"record": json.loads(record_bytes(row)), "salt": row.salt.hex()}


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


def keys_file(path: Path) -> Path:
    """Where the public keys lie that a log has had, beside the private key that it has now."""
    return path.with_suffix(".keys")


class LedgerKey:
    """The Ed25519 key that signs checkpoints, and the origin name of its log.

    ``older`` are public keys that signed before it; what they signed is good.
    """

    def __init__(self, origin: str, key: Ed25519PrivateKey, older: Sequence[Vkey] = ()) -> None:
        if not origin or "+" in origin or any(c.isspace() or ord(c) < 32 for c in origin):
            raise ValueError("an origin has no spaces, no plus and no control characters")
        self.origin = origin
        self._key = key
        self.vkey = Vkey(origin, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        self.vkeys = (self.vkey, *(one for one in older if one.name == origin and one != self.vkey))
        self._mark = f"\n— {origin} {base64.b64encode(self.vkey.keyid).decode()[:5]}"

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
        """Read the PEM file at ``path`` and the older public keys beside it; raises OSError or ValueError."""
        key, listed = cls.from_pem(origin, path.read_bytes()), keys_file(path)
        return cls(origin, key._key, read_keys(listed.read_text("utf-8")) if listed.exists() else ())

    def after(self, older: LedgerKey) -> LedgerKey:
        """This key as the successor of another."""
        return LedgerKey(self.origin, self._key, older.vkeys)

    def pem(self) -> bytes:
        """The private key as PKCS#8 PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, size: int, root: bytes) -> str:
        """The signed note of a tree head (C2SP tlog-checkpoint)."""
        body = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        return f"{body}\n{self._signature(body)}"

    def cosign(self, note: str) -> str:
        """A note of this log with this key's signature added."""
        body = note.rpartition("\n\n")[0] + "\n"
        return f"{note}{self._signature(body)}"

    def _signature(self, body: str) -> str:
        signature = base64.b64encode(self.vkey.keyid + self._key.sign(body.encode())).decode()
        return f"— {self.origin} {signature}\n"

    def has_signed(self, note: str) -> bool:
        """True when the note bears a signature line of this key; it is not verified."""
        return self._mark in note

    def sign_evidence(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """``evidence`` with a ``signature`` over its canonical form (LEDGER.md 5)."""
        signature = self._key.sign(evidence_text(evidence))
        signed = {
            "key": f"{self.origin}+{self.vkey.keyid.hex()}",
            "ed25519": base64.b64encode(signature).decode(),
        }
        return {**evidence, "signature": signed}


class Ledger:
    """The log of one store. One thread at a time may use it."""

    def __init__(self, key: LedgerKey) -> None:
        self.key = key
        self._frontier: Frontier | None = None
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._seen = (0, b"")  # size and last leaf of the log that the nodes belong to

    def forget(self) -> None:
        """Drop what is kept in memory (a transaction was rolled back); the next call reads the tables."""
        self._frontier = None
        self._nodes.clear()

    def append(self, conn: Connection, items: Sequence[tuple[int, bytes]]) -> range:
        """Give ``(evidence_id, entry)`` items their places at the end, inside the caller's transaction.

        Returns their sequence numbers. Raises :class:`LedgerBroken` when the tiles do not fit the entries.
        On PostgreSQL it holds the sequencer's lock until the transaction ends.
        """
        _lock(conn)
        frontier = self._edge(conn)
        first = frontier.size
        if not items:
            return range(first, first)
        leaves = [_sha256(b"\x00" + entry).digest() for _, entry in items]
        grown, tiles = grow(frontier, leaves)
        _INSERT.many(
            conn,
            [
                {"seq": seq, "evidence_id": evidence_id, "entry": entry}
                for seq, (evidence_id, entry) in enumerate(items, first)
            ],
        )
        write_tiles(conn, tiles)
        self._frontier = grown
        return range(first, grown.size)

    def pend(self, conn: Connection, items: Sequence[tuple[int, bytes]]) -> None:
        """Leave ``(evidence_id, entry)`` items for the sequencer, inside the caller's transaction."""
        if items:
            _PEND.many(conn, [{"id": id, "evidence_id": id, "entry": entry} for id, entry in items])

    def sequence(self, conn: Connection, limit: int = 5000) -> int:
        """Give up to ``limit`` waiting entries their places; returns how many.

        0 also when another node is at it (PostgreSQL). Order is that of the evidence ids.
        """
        if conn.dialect.name == "postgresql" and not conn.execute(_TRY_ADVISORY).scalar():
            return 0
        # Another node may have sequenced since, and a rolled-back batch may come again in another order.
        self._frontier = None
        rows = conn.execute(_WAITING.limit(limit)).all()
        self.append(conn, [(evidence_id, bytes(entry)) for _, evidence_id, entry in rows])
        ids = [row[0] for row in rows]
        for at in range(0, len(ids), 500):
            conn.execute(delete(schema.ledger_pending).where(_p.id.in_(ids[at : at + 500])))
        return len(rows)

    def head(self, conn: Connection) -> LedgerHead:
        """The present size and root."""
        frontier = self._edge(conn)
        return LedgerHead(size=frontier.size, root=frontier.root())

    def checkpoint(self, conn: Connection, at_us: int) -> Checkpoint | None:
        """Sign and store the present head, if the log grew since the last checkpoint; else None.

        Raises :class:`LedgerBroken` when the log does not begin with what was signed before.
        """
        _lock(conn)
        head = self.head(conn)
        before = self.latest(conn)
        if before is not None:
            self._must_begin_with(conn, head, before.size, before.root)
        if head.size == (before.size if before is not None else 0):
            return None
        note = self.key.sign(head.size, head.root)
        made = Checkpoint(size=head.size, root=head.root, at_us=at_us, note=note)
        conn.execute(
            insert(schema.checkpoint),
            {"size": made.size, "root": made.root, "at_us": made.at_us, "note": made.note},
        )
        return made

    def hand_to(self, conn: Connection, new: LedgerKey, at_us: int) -> Checkpoint | None:
        """Have the present head signed by both the present key and a new one; None for an empty log.

        Raises :class:`LedgerBroken` as :meth:`checkpoint` does. The new key signs once it is set as
        :attr:`key`, when this is committed.
        """
        made = self.checkpoint(conn, at_us) or self.latest(conn)
        if made is None:
            return None
        note = new.cosign(made.note)
        conn.execute(update(schema.checkpoint).where(_c.size == made.size).values(note=note))
        return replace(made, note=note)

    def latest(self, conn: Connection) -> Checkpoint | None:
        """The newest checkpoint, or None."""
        row = conn.execute(_LATEST).first()
        return None if row is None else Checkpoint(size=row[0], root=bytes(row[1]), at_us=row[2], note=row[3])

    def covering(self, conn: Connection, seq: int) -> Checkpoint | None:
        """The oldest checkpoint whose tree holds entry ``seq``; None: not signed yet.

        After a change of keys one that the present key signed, so that it alone verifies what is sent now.
        """
        row = conn.execute(_CHECKPOINTS.where(_c.size > seq).order_by(_c.size).limit(1)).first()
        if row is None:
            return None
        found = Checkpoint(size=row[0], root=bytes(row[1]), at_us=row[2], note=row[3])
        if self.key.has_signed(found.note):
            return found
        latest = self.latest(conn)
        return latest if latest is not None and self.key.has_signed(latest.note) else found

    def place(self, conn: Connection, evidence_id: int) -> int | None:
        """The sequence number of an evidence row's entry; None while it waits for the sequencer."""
        return conn.execute(select(_e.seq).where(_e.evidence_id == evidence_id)).scalar()

    def must_contain(self, conn: Connection, note: str) -> None:
        """Check the store against a checkpoint that was kept elsewhere.

        Raises :class:`LedgerBroken` when the store is behind it (an older backup) or was rewritten,
        and :class:`tracker.verify.Unproven` when no key of this log signed it.
        """
        kept = open_checkpoint(note, self.key.vkeys)
        self._must_begin_with(conn, self.head(conn), kept.size, kept.root)

    def prove(self, conn: Connection, seq: int, size: int) -> InclusionProof:
        """That entry ``seq`` is in the tree of the first ``size`` entries, ``size`` being a checkpoint's.

        Raises LookupError when it is not there (yet), :class:`LedgerBroken` when entry, tiles and root
        do not fit one another.
        """
        entry = conn.execute(select(_e.entry).where(_e.seq == seq)).scalar()
        if entry is None or not 0 <= seq < size:
            raise LookupError(f"entry {seq} is not among the first {size}")
        tree = self._tree(conn)
        proof = InclusionProof(seq=seq, size=size, entry=bytes(entry), hashes=tree.path(seq, size))
        root = conn.execute(select(_c.root).where(_c.size == size)).scalar()
        try:
            found = root_from_inclusion(leaf_hash(proof.entry), seq, size, proof.hashes)
        except Unproven as error:
            raise LedgerBroken(str(error)) from error
        if found != (tree.range(0, size) if root is None else bytes(root)):
            raise LedgerBroken(f"entry {seq} and the tiles do not lead to the root of size {size}")
        return proof

    def consistency(self, conn: Connection, first: int, second: int) -> tuple[bytes, ...]:
        """That the tree of ``second`` entries begins with that of ``first`` (RFC 6962 §2.1.2).

        Raises LookupError when the log has not that many entries.
        """
        if not 0 <= first <= second <= self._edge(conn).size:
            raise LookupError(f"no trees of {first} and {second} entries")
        tree = self._tree(conn)
        proof = tree.consistency(first, second)
        check_consistency(first, tree.range(0, first), second, tree.range(0, second), proof)
        return proof

    def root_at(self, conn: Connection, size: int) -> bytes:
        """The root over the first ``size`` entries; raises LookupError when there are not so many."""
        if not 0 <= size <= self._edge(conn).size:
            raise LookupError(f"no tree of {size} entries")
        return self._tree(conn).range(0, size)

    def _edge(self, conn: Connection) -> Frontier:
        """The frontier that fits the table as this transaction sees it.

        The one in memory counts when it has the same size and the same last leaf. An entry's salted
        commitment makes it unlike any other, so that a rolled-back append is not taken for another one.
        """
        size, last = _end(conn)
        frontier = self._frontier
        if frontier is None or frontier.size != size or frontier.last != last:
            frontier = load_frontier(conn, size, last)
        return frontier

    def _tree(self, conn: Connection) -> Tree:
        """The tree to read proofs from. Remembered nodes count while the log still holds their last entry."""
        end = _end(conn)
        size, last = self._seen
        if end != self._seen and size:
            entry = conn.execute(select(_e.entry).where(_e.seq == size - 1)).scalar()
            if entry is None or leaf_hash(bytes(entry)) != last:
                self._nodes.clear()
        self._seen = end
        return Tree(conn, self._nodes)

    def _must_begin_with(self, conn: Connection, head: LedgerHead, size: int, root: bytes) -> None:
        if size > head.size:
            raise LedgerBroken(f"the log has {head.size} entries, but {size} were signed: an older state?")
        found = head.root if size == head.size else self._tree(conn).range(0, size)
        if found != root:
            raise LedgerBroken(f"the log does not begin with the {size} entries that were signed")


_e = schema.ledger_entry.c
_c = schema.checkpoint.c
_INSERT = Prepared(insert(schema.ledger_entry))
_LAST = Prepared(select(_e.seq, _e.entry).order_by(_e.seq.desc()).limit(1))
_CHECKPOINTS = select(_c.size, _c.root, _c.at_us, _c.note)
_LATEST = _CHECKPOINTS.order_by(_c.size.desc()).limit(1)
_PEND = Prepared(insert(schema.ledger_pending))
_p = schema.ledger_pending.c
_WAITING = select(_p.id, _p.evidence_id, _p.entry).order_by(_p.id)
_ADVISORY = text(f"SELECT pg_advisory_xact_lock({_LOCK})")
_TRY_ADVISORY = text(f"SELECT pg_try_advisory_xact_lock({_LOCK})")


def _end(conn: Connection) -> tuple[int, bytes]:
    """How many entries there are, and the hash of the last leaf."""
    rows = _LAST.all(conn)
    return (rows[0][0] + 1, leaf_hash(bytes(rows[0][1]))) if rows else (0, b"")


def _lock(conn: Connection) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(_ADVISORY)
