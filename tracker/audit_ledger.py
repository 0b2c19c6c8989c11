"""The audit of the whole store: everything the ledger says is computed again (LEDGER.md 7).

Entries are read in order and hashed; their tiles, roots and checkpoints are rebuilt beside the stored ones;
each evidence row must open its entry; each archived message must have the digest that was sealed. Where two
rows contradict each other, a third decides which one to name: the signed root between an entry and its tile,
the sealed commitment between an object and its submission.

Nothing is written and little is held in memory. What it finds is a list of :class:`Misfit`, each naming one
row; it raises only what the database itself raises. Disposed letters (the salt is gone) are counted: their
entries stay in the tree, and nobody can open them any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, Row, func, select

from tracker import schema
from tracker.archive import ArchiveError, ArchiveMissing, Octets
from tracker.ledger import EvidenceRow, LedgerKey, record_bytes
from tracker.tiles import WIDTH, Frontier, grow
from tracker.verify import Unproven, Vkey, canonical, commit, leaf_hash, open_checkpoint

_BATCH = 1000
_MEMBERS = {"v", "id", "letter", "delivery", "event", "grade", "at"}  # what entry and record share


class Objects(Protocol):
    """The one call of an archive that an audit needs."""

    def open(self, key: str) -> Octets: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One row that does not fit: its table (or ``archive``), its key there, and what was expected."""

    table: str
    row: str
    expected: str

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.expected}"


@dataclass(slots=True, kw_only=True)
class StoreAudit:
    """What an audit saw."""

    misfits: list[Misfit] = field(default_factory=list)
    entries: int = 0
    checkpoints: int = 0
    objects: int = 0
    disposed: int = 0  # entries whose salt was destroyed: in the tree, and closed for good
    waiting: int = 0  # entries that have no place yet (several nodes)


def verify_store(
    conn: Connection,
    archive: Objects,
    key: LedgerKey | Vkey | Sequence[Vkey],
    progress: Callable[[int, int], None] | None = None,
    *,
    kept: Sequence[str] = (),
) -> list[Misfit]:
    """The rows that do not fit; see :func:`audit_store`."""
    return audit_store(conn, archive, key, progress, kept=kept).misfits


def audit_store(
    conn: Connection,
    archive: Objects,
    key: LedgerKey | Vkey | Sequence[Vkey],
    progress: Callable[[int, int], None] | None = None,
    *,
    kept: Sequence[str] = (),
) -> StoreAudit:
    """Compute everything again. ``progress(done, total)`` is called now and then.

    ``key`` is the log's, or all that it ever had. ``kept`` are checkpoints that somebody kept elsewhere: the
    log must begin with them, too. Use a connection in one read transaction; what is appended meanwhile is
    left to the next audit.
    """
    keys = [key.vkey] if isinstance(key, LedgerKey) else [key] if isinstance(key, Vkey) else list(key)
    return _Audit(conn, archive, keys, progress or (lambda done, total: None)).run(kept)


@dataclass(frozen=True, slots=True)
class _Signed:
    """A checkpoint to be compared: good is False when it cannot decide anything."""

    size: int
    root: bytes
    table: str
    row: str
    good: bool


class _Audit:
    def __init__(
        self,
        conn: Connection,
        archive: Objects,
        keys: Sequence[Vkey],
        progress: Callable[[int, int], None],
    ) -> None:
        self.conn = conn
        self.archive = archive
        self.keys = keys
        self.progress = progress
        self.seen = StoreAudit()
        self.done = 0
        self.total = 0
        self.blamed: set[int] = set()  # evidence that is named, or whose entry is

    def misfit(self, table: str, row: object, expected: str) -> None:
        self.seen.misfits.append(Misfit(table=table, row=str(row), expected=expected))

    def step(self, count: int) -> None:
        self.done += count
        self.progress(min(self.done, self.total), self.total)

    def run(self, kept: Sequence[str]) -> StoreAudit:
        signed = [*self._checkpoints(), *self._kept(kept)]
        size = _size(self.conn)
        last = self.conn.execute(select(func.max(_submission.id))).scalar() or 0
        submissions = self.conn.execute(select(func.count()).select_from(schema.submission)).scalar() or 0
        self.total = size + submissions
        self.progress(0, self.total)
        _Log(self, size).run(signed)
        self._evidence_without_entry()
        for rows in self._submissions(last):
            self._objects(rows)
            self.step(len(rows))
        self.progress(self.total, self.total)
        return self.seen

    # checkpoints

    def _checkpoints(self) -> Iterator[_Signed]:
        c = schema.checkpoint.c
        for size, root, note in self.conn.execute(select(c.size, c.root, c.note).order_by(c.size)).all():
            self.seen.checkpoints += 1
            good = True
            try:
                head = open_checkpoint(note, self.keys)
                if (head.size, head.root) != (size, bytes(root)):
                    raise Unproven("the note says another size or root")
            except Unproven as error:
                good = False
                self.misfit("checkpoint", size, f"a note signed by the log's key: {error}")
            yield _Signed(size, bytes(root), "checkpoint", str(size), good)

    def _kept(self, notes: Sequence[str]) -> Iterator[_Signed]:
        for number, note in enumerate(notes, 1):
            try:
                head = open_checkpoint(note, self.keys)
            except Unproven as error:
                self.misfit("kept checkpoint", number, f"a note signed by the log's key: {error}")
            else:
                yield _Signed(head.size, head.root, "kept checkpoint", str(number), True)

    # evidence that the log does not hold

    def _evidence_without_entry(self) -> None:
        pending = schema.ledger_pending
        rows = self.conn.execute(
            select(schema.evidence, pending.c.entry)
            .outerjoin(schema.ledger_entry, _entry.evidence_id == _evidence.id)
            .outerjoin(pending, pending.c.evidence_id == _evidence.id)
            .where(_entry.seq.is_(None))
            .order_by(_evidence.id)
        )
        for row in rows:
            if row.entry is None:
                self.misfit("evidence", row.id, "an entry in the ledger")
                continue
            self.seen.waiting += 1
            why = None if row.salt is None else _differs(row, bytes(row.entry))
            if why is not None:
                self.misfit("evidence", row.id, f"what its waiting entry sealed: {why}")
        twice = (
            select(_entry.evidence_id)
            .where(_entry.evidence_id.is_not(None))
            .group_by(_entry.evidence_id)
            .having(func.count() > 1)
        )
        for seq, evidence_id in self.conn.execute(
            select(func.max(_entry.seq), _entry.evidence_id)
            .where(_entry.evidence_id.in_(twice))
            .group_by(_entry.evidence_id)
        ):
            self.misfit("ledger_entry", seq, f"one entry only for evidence {evidence_id}")

    # archived messages

    def _submissions(self, last: int) -> Iterator[Sequence[Row[*tuple[Any, ...]]]]:
        after = -1
        while True:
            rows = self.conn.execute(
                select(_submission.id, _submission.letter_id, _submission.sha256, _submission.archive_key)
                .where(_submission.id > after, _submission.id <= last)
                .order_by(_submission.id)
                .limit(_BATCH)
            ).all()
            if not rows:
                return
            yield rows
            after = rows[-1].id

    def _objects(self, rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
        seals = self._seals([row.letter_id for row in rows])
        for row in rows:
            seal = seals.get(row.letter_id, _Seals())
            stated = bytes(row.sha256)
            try:
                octets = self.archive.open(row.archive_key)
                digest = octets.sha256
                octets.close()
            except ArchiveMissing:
                if not seal.disposed or seal.salted:
                    self.misfit("archive", row.archive_key, f"the message of submission {row.id}")
                continue
            except ArchiveError as error:
                self.misfit("archive", row.archive_key, f"a readable object: {error}")
                continue
            self.seen.objects += 1
            if digest != stated and seal.has(digest):
                self.misfit("submission", row.id, f"sha256 {digest.hex()}, as archived and sealed")
            elif digest != stated:
                self.misfit("archive", row.archive_key, f"SHA-256 {stated.hex()}, found {digest.hex()}")
            elif seal.salted and not seal.has(stated):
                self.misfit("submission", row.id, "a message that an entry of its letter sealed")
            for evidence_id in seal.disposed:
                self.misfit("evidence", evidence_id, f"a salt: {row.archive_key} is not disposed of")

    def _seals(self, letters: Sequence[int]) -> dict[int, _Seals]:
        """By letter: what seals its messages. Letters with evidence that is named already are left out."""
        seals: dict[int, _Seals] = {}
        for chunk in _chunks(sorted(set(letters))):
            for evidence_id, letter_id, salt, entry in self.conn.execute(
                select(_evidence.id, _evidence.letter_id, _evidence.salt, _entry.entry)
                .join(schema.ledger_entry, _entry.evidence_id == _evidence.id)
                .where(_evidence.letter_id.in_(chunk), _evidence.event.in_(("submitted", "refused")))
            ):
                octets = (_members(bytes(entry)) or {}).get("octets")
                seal = seals.setdefault(letter_id, _Seals())
                if evidence_id in self.blamed:
                    seal.open = False
                elif not isinstance(octets, str):
                    continue
                elif salt is None:
                    seal.disposed.append(evidence_id)
                else:
                    seal.salted.append((bytes(salt), octets))
        return {letter_id: seal for letter_id, seal in seals.items() if seal.open}


@dataclass(slots=True)
class _Seals:
    """The commitments to the messages of one letter."""

    salted: list[tuple[bytes, str]] = field(default_factory=list)
    disposed: list[int] = field(default_factory=list)  # evidence whose salt was destroyed
    open: bool = True

    def has(self, digest: bytes) -> bool:
        return any(commit(salt, digest).hex() == octets for salt, octets in self.salted)


@dataclass(slots=True)
class _Growing:
    """A tree that grows batch by batch, and its full tiles above the leaves since the last checkpoint."""

    frontier: Frontier = field(default_factory=lambda: Frontier(0, b"", []))
    full: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def add(self, leaves: list[bytes]) -> None:
        self.frontier, tiles = grow(self.frontier, leaves)
        for tile in tiles:
            if tile["level"] and len(tile["hashes"]) == WIDTH * 32:
                self.full[tile["level"], tile["tile"]] = tile["hashes"]


class _Log:
    """The entries in their order, and the trees above them: of the entries, of the stored leaf tiles, and
    of whichever of the two each entry's evidence speaks for.

    At each checkpoint its signed root says which tree is true; the rows of the others are named.
    """

    def __init__(self, audit: _Audit, size: int) -> None:
        self.audit = audit
        self.conn = audit.conn
        self.size = size
        self.by_entries = _Growing()
        self.by_tiles = _Growing()
        self.by_evidence = _Growing()
        self.apart: dict[int, int] = {}  # entries whose leaf is not the one in the tile -> their evidence
        self.sure: set[int] = set()  # of those: all that the entry says is borne out by its evidence
        self.closed: dict[int, Misfit] = {}  # entries that their evidence does not open
        self.rewritten = False

    def run(self, signed: list[_Signed]) -> None:
        at = 0
        for each in sorted(signed, key=lambda each: each.size):
            if each.size > self.size:
                self.audit.misfit(each.table, each.row, f"a log of {each.size} entries, it has {self.size}")
                continue
            self._read(at, each.size)
            at = each.size
            self._settle(each)
        self._read(at, self.size)
        self._settle(None)
        self._edge()

    def _read(self, start: int, stop: int) -> None:
        for low in range(start, stop, _BATCH):
            high = min(low + _BATCH, stop)
            rows = {
                row.seq: row
                for row in self.conn.execute(
                    select(_entry.seq, _entry.evidence_id, _entry.entry).where(
                        _entry.seq >= low, _entry.seq < high
                    )
                )
            }
            self._open(list(rows.values()))
            tiles = self._leaves(low, high)
            entries: list[bytes] = []
            chosen: list[bytes] = []
            for seq, tile in enumerate(tiles, low):
                row = rows.get(seq)
                if row is None:
                    self.audit.misfit("ledger_entry", seq, "an entry: the sequence has a gap")
                    entries.append(tile or bytes(32))
                    chosen.append(entries[-1])
                    continue
                leaf = leaf_hash(bytes(row.entry))
                entries.append(leaf)
                chosen.append(tile if tile is not None and seq in self.closed else leaf)
                if tile not in (None, leaf):
                    self.apart[seq] = row.evidence_id
            self.by_entries.add(entries)
            self.by_tiles.add([tile or leaf for tile, leaf in zip(tiles, entries, strict=True)])
            self.by_evidence.add(chosen)
            self.audit.seen.entries += len(rows)
            self.audit.step(high - low)

    def _leaves(self, low: int, high: int) -> list[bytes | None]:
        """The leaves that the tiles of level 0 hold for a range of entries."""
        first, last = low // WIDTH, (high - 1) // WIDTH
        stored = {
            tile: bytes(hashes)
            for tile, hashes in self.conn.execute(
                select(_tile.tile, _tile.hashes).where(
                    _tile.level == 0, _tile.tile >= first, _tile.tile <= last
                )
            )
        }
        for tile in range(first, last + 1):
            wanted = min(self.size - tile * WIDTH, WIDTH)
            if len(stored.get(tile, b"")) // 32 < wanted and tile * WIDTH >= low:
                self.audit.misfit("ledger_tile", f"0/{tile}", f"{wanted} hashes")
        leaves: list[bytes | None] = []
        for seq in range(low, high):
            at = seq % WIDTH * 32
            leaf = stored.get(seq // WIDTH, b"")[at : at + 32]
            leaves.append(leaf if len(leaf) == 32 else None)
        return leaves

    def _open(self, rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
        """Does each entry's evidence open it?"""
        evidence: dict[int, Row[*tuple[Any, ...]]] = {}
        for chunk in _chunks([row.evidence_id for row in rows if row.evidence_id is not None]):
            for each in self.conn.execute(select(schema.evidence).where(_evidence.id.in_(chunk))):
                evidence[each.id] = each
        disposed = []
        for row in rows:
            entry = bytes(row.entry)
            found = evidence.get(row.evidence_id)
            if found is None:
                self.closed[row.seq] = _orphan(row)
            elif found.salt is None:
                disposed.append(found)
            elif (differs := _differs(found, entry)) is not None:
                expected = f"what entry {row.seq} sealed: {differs}"
                self.closed[row.seq] = Misfit(table="evidence", row=str(found.id), expected=expected)
            elif "parts" not in (_members(entry) or {}):
                self.sure.add(row.seq)
        self.audit.seen.disposed += len(disposed)
        self._disposed(disposed)

    def _disposed(self, rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
        """A letter is disposed of as a whole: a single salt that is gone hides something."""
        for chunk in _chunks(sorted({row.letter_id for row in rows})):
            kept = self.conn.execute(
                select(_evidence.letter_id).where(_evidence.letter_id.in_(chunk), _evidence.salt.is_not(None))
            ).scalars()
            for row in [row for letter_id in set(kept) for row in rows if row.letter_id == letter_id]:
                self.audit.misfit("evidence", row.id, "a salt, as the other evidence of its letter has")
                self.audit.blamed.add(row.id)

    def _settle(self, signed: _Signed | None) -> None:
        """Decide, with a checkpoint in hand or at the end without one, which rows are the wrong ones."""
        true = self.by_evidence
        decided = False
        if signed is not None and signed.good and not self.rewritten:
            fits = [
                tree
                for tree in (self.by_evidence, self.by_entries, self.by_tiles)
                if tree.frontier.root() == signed.root
            ]
            if fits:
                true, decided = fits[0], True
            else:
                self.rewritten = True  # said once, of the first checkpoint that does not fit
                expected = "the log that was signed: its entries were rewritten"
                self.audit.misfit(signed.table, signed.row, expected)
        for seq, evidence_id in self.apart.items():
            self._name(seq, evidence_id, true, decided)
        for misfit in self.closed.values():
            self.audit.seen.misfits.append(misfit)
            if misfit.table == "evidence":
                self.audit.blamed.add(int(misfit.row))
        for (level, tile), hashes in true.full.items():
            self._compare(level, tile, hashes)
        for tree in (self.by_entries, self.by_tiles, self.by_evidence):
            tree.frontier, tree.full = true.frontier, {}
        self.apart, self.closed = {}, {}
        self.sure.clear()

    def _name(self, seq: int, evidence_id: int, true: _Growing, decided: bool) -> None:
        """Say whether an entry or its tile is wrong; both, where nothing tells."""
        tile = f"0/{seq // WIDTH}", f"the leaf of entry {seq} at place {seq % WIDTH}"
        if true is self.by_tiles or (true is self.by_evidence and seq in self.closed):
            wrong_entry, wrong_tile = True, False
        else:
            wrong_entry, wrong_tile = not decided and seq not in self.sure, True
        if wrong_entry:
            self.closed.pop(seq, None)
            self.audit.blamed.add(evidence_id)
            self.audit.misfit("ledger_entry", seq, f"an entry whose leaf is in tile 0/{seq // WIDTH}")
        if wrong_tile:
            self.audit.misfit("ledger_tile", *tile)

    def _compare(self, level: int, tile: int, hashes: bytes) -> None:
        found = self.conn.execute(
            select(_tile.hashes).where(_tile.level == level, _tile.tile == tile)
        ).scalar()
        if found is None or bytes(found)[: len(hashes)] != hashes:
            expected = f"the {len(hashes) // 32} hashes that follow from the tiles below"
            self.audit.misfit("ledger_tile", f"{level}/{tile}", expected)

    def _edge(self) -> None:
        """The partial tiles, and those that should not be."""
        count = self.size
        for level, hashes in enumerate(self.by_entries.frontier.levels):
            if level and hashes:
                self._compare(level, count // WIDTH, hashes)
            count //= WIDTH
        stored = self.conn.execute(select(_tile.level, func.max(_tile.tile)).group_by(_tile.level)).all()
        last = [
            (
                level,
                tile,
                self.conn.execute(
                    select(_tile.hashes).where(_tile.level == level, _tile.tile == tile)
                ).scalar_one(),
            )
            for level, tile in stored
        ]
        size = _size(self.conn)  # asked after the tiles: what was appended meanwhile is no fault
        for level, tile, hashes in last:
            if tile * WIDTH + len(hashes) // 32 > size // WIDTH**level:
                self.audit.misfit("ledger_tile", f"{level}/{tile}", f"no hashes beyond entry {size - 1}")


_entry = schema.ledger_entry.c
_tile = schema.ledger_tile.c
_evidence = schema.evidence.c
_submission = schema.submission.c


def _size(conn: Connection) -> int:
    last: int | None = conn.execute(select(func.max(_entry.seq))).scalar()
    return 0 if last is None else last + 1


def _orphan(row: Row[*tuple[Any, ...]]) -> Misfit:
    """An entry whose evidence is not there: is it the entry's pointer, or the evidence that is gone?"""
    members = _members(bytes(row.entry))
    if members is None or members.get("id") != str(row.evidence_id):
        return Misfit(table="ledger_entry", row=str(row.seq), expected="the id of its evidence")
    expected = f"the row that entry {row.seq} sealed: it is gone"
    return Misfit(table="evidence", row=str(row.evidence_id), expected=expected)


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[at : at + 500] for at in range(0, len(ids), 500))


def _members(entry: bytes) -> dict[str, Any] | None:
    try:
        members = json.loads(entry)
    except ValueError:
        return None
    return members if isinstance(members, dict) and canonical(members) == entry else None


def _differs(row: Row[*tuple[Any, ...]], entry: bytes) -> str | None:
    """What of an evidence row its entry does not bear out; None: it opens it."""
    members = _members(entry)
    if members is None:
        return "the entry cannot be read"
    record = EvidenceRow(
        id=row.id,
        letter_id=row.letter_id,
        delivery_id=row.delivery_id,
        event=row.event,
        grade=row.grade,
        at_us=row.at_us,
        noted_us=row.noted_us,
        source=row.source,
        reporter=row.reporter,
        detail=row.detail,
        salt=bytes(row.salt),
    )
    try:
        octets = record_bytes(record)
    except TypeError as error:
        return str(error)
    if set(members) - {"octets", "parts"} != _MEMBERS | {"record"}:
        return "members"
    open_members = json.loads(octets)
    for name in sorted(_MEMBERS):
        if open_members[name] != members.get(name):
            return name
    if commit(record.salt, octets).hex() != members.get("record"):
        return "record"
    stated = record.detail.get("sha256")
    if "octets" in members and isinstance(stated, str) and len(stated) == 64:
        return None if commit(record.salt, bytes.fromhex(stated)).hex() == members["octets"] else "octets"
    return None
