"""The entries of the ledger computed again: tiles, roots, checkpoints, and the evidence that opens each.

Entries are read in order. Three trees grow above them: of the entries, of the leaves that the tiles hold, and
of whichever of the two an entry's evidence speaks for. A signed root says which tree is true, and the rows of
the others are named; where there is no signed root yet the evidence decides, and where that cannot, both the
entry and its tile are named. Memory does not grow with the log.

How it fails: only as the database does. What does not fit is written into :class:`tracker.misfit.StoreAudit`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import Connection, Row, func, select

from tracker import schema
from tracker.audit_rows import DAMAGE, read_rows, why
from tracker.ledger import EvidenceRow, entry_bytes, record_bytes
from tracker.misfit import Misfit, StoreAudit
from tracker.tiles import WIDTH, Frontier, grow
from tracker.verify import canonical, commit, leaf_hash

_BATCH = 1000
_LEVELS = 8  # of tiles: no log has 256^8 entries
_COLUMNS = [column.name for column in fields(EvidenceRow)]
_MEMBERS = {"v", "id", "letter", "delivery", "event", "grade", "at"}  # what entry and record share
_entry = schema.ledger_entry.c
_tile = schema.ledger_tile.c
_evidence = schema.evidence.c


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint to compare with, and where it stands; ``good`` is False when it can decide nothing."""

    size: int
    root: bytes
    table: str
    row: str
    good: bool


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


class EntryAudit:
    """The entries in their order, and the trees above them: of the entries, of the stored leaf tiles, and
    of whichever of the two each entry's evidence speaks for.

    At each checkpoint its signed root says which tree is true; the rows of the others are named.
    """

    def __init__(self, conn: Connection, size: int, seen: StoreAudit, step: Callable[[int], None]) -> None:
        self.conn = conn
        self.size = size
        self.seen = seen
        self.step = step
        self.by_entries = _Growing()
        self.by_tiles = _Growing()
        self.by_evidence = _Growing()
        self.apart: dict[int, int] = {}  # entries whose leaf is not the one in the tile -> their evidence
        self.sure: set[int] = set()  # of those: all that the entry says is borne out by its evidence
        self.closed: dict[int, Misfit] = {}  # entries that their evidence does not open
        self.rewritten = False

    def run(self, signed: Sequence[Signed]) -> None:
        """Read all entries, and settle at each of these checkpoints."""
        at = 0
        for each in sorted(signed, key=lambda each: each.size):
            if not 0 <= each.size <= self.size:
                if each.good:  # another one is named already
                    expected = f"a log of {each.size} entries, it has {self.size}"
                    self.seen.misfit(each.table, each.row, expected)
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
            asked = select(_entry.seq, _entry.evidence_id, _entry.entry)
            found, bad = read_rows(self.conn, asked.where(_entry.seq >= low, _entry.seq < high), _entry.seq)
            rows = {row.seq: row for row in found}
            self._unreadable(bad)
            self._open(list(rows.values()))
            tiles = self._leaves(low, high)
            entries: list[bytes] = []
            chosen: list[bytes] = []
            for seq, tile in enumerate(tiles, low):
                row = rows.get(seq)
                if row is None:
                    if seq not in bad:
                        self.seen.misfit("ledger_entry", seq, "an entry: the sequence has a gap")
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
            self.seen.entries += len(rows)
            self.step(high - low)

    def _unreadable(self, bad: dict[Any, str]) -> None:
        for seq, reason in bad.items():
            self.seen.misfit("ledger_entry", seq, f"an entry that can be read: {reason}")
            of = select(_entry.evidence_id).where(_entry.seq == seq)
            self.seen.blamed.update(id for id in self.conn.execute(of).scalars() if id is not None)

    def _leaves(self, low: int, high: int) -> list[bytes | None]:
        """The leaves that the tiles of level 0 hold for a range of entries."""
        first, last = low // WIDTH, (high - 1) // WIDTH
        asked = select(_tile.tile, _tile.hashes)
        within = _tile.level == 0, _tile.tile >= first, _tile.tile <= last
        found, _ = read_rows(self.conn, asked.where(*within), _tile.tile)
        stored = {tile: bytes(hashes) for tile, hashes in found}
        for tile in range(first, last + 1):
            wanted = min(self.size - tile * WIDTH, WIDTH)
            if len(stored.get(tile, b"")) // 32 < wanted and tile * WIDTH >= low:
                self.seen.misfit("ledger_tile", f"0/{tile}", f"{wanted} hashes")
        leaves: list[bytes | None] = []
        for seq in range(low, high):
            at = seq % WIDTH * 32
            leaf = stored.get(seq // WIDTH, b"")[at : at + 32]
            leaves.append(leaf if len(leaf) == 32 else None)
        return leaves

    def _open(self, rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
        """Does each entry's evidence open it?"""
        evidence: dict[int, Row[*tuple[Any, ...]]] = {}
        bad: dict[Any, str] = {}
        for chunk in chunks([row.evidence_id for row in rows if row.evidence_id is not None]):
            asked = select(schema.evidence).where(_evidence.id.in_(chunk))
            readable, others = read_rows(self.conn, asked, _evidence.id)
            evidence |= {each.id: each for each in readable}
            bad |= others
        disposed = []
        for row in rows:
            entry = bytes(row.entry)
            found = evidence.get(row.evidence_id)
            if row.evidence_id in bad:
                expected = f"what entry {row.seq} sealed: it cannot be read: {bad[row.evidence_id]}"
                self.closed[row.seq] = Misfit(table="evidence", row=str(row.evidence_id), expected=expected)
            elif found is None:
                self.closed[row.seq] = self._orphan(row)
            elif found.salt is None:
                disposed.append(found)
            elif (differs := differs_from_entry(found, entry)) is not None:
                expected = f"what entry {row.seq} sealed: {differs}"
                self._bereave(entry)
                self.closed[row.seq] = Misfit(table="evidence", row=str(found.id), expected=expected)
            elif b'"parts":' not in entry:
                self.sure.add(row.seq)
        self.seen.disposed += len(disposed)
        self._disposed(disposed)

    def _disposed(self, rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
        """A letter is disposed of as a whole: a single salt that is gone hides something."""
        for chunk in chunks(list({row.letter_id for row in rows})):
            kept = self.conn.execute(
                select(_evidence.letter_id).where(_evidence.letter_id.in_(chunk), _evidence.salt.is_not(None))
            ).scalars()
            for row in [row for letter_id in set(kept) for row in rows if row.letter_id == letter_id]:
                self.seen.misfit("evidence", row.id, "a salt, as the other evidence of its letter has")
                self.seen.blamed.add(row.id)

    def _settle(self, signed: Signed | None) -> None:
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
                self.seen.misfit(signed.table, signed.row, expected)
        for seq, evidence_id in self.apart.items():
            self._name(seq, evidence_id, true, decided)
        for misfit in self.closed.values():
            self.seen.misfits.append(misfit)
            if misfit.table == "evidence" and misfit.row.isdecimal():
                self.seen.blamed.add(int(misfit.row))
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
            self.seen.blamed.add(evidence_id)
            self.seen.misfit("ledger_entry", seq, f"an entry whose leaf is in tile 0/{seq // WIDTH}")
        if wrong_tile:
            self.seen.misfit("ledger_tile", *tile)

    def _compare(self, level: int, tile: int, hashes: bytes) -> None:
        if self._hashes(level, tile)[: len(hashes)] != hashes:
            expected = f"the {len(hashes) // 32} hashes that follow from the tiles below"
            self.seen.misfit("ledger_tile", f"{level}/{tile}", expected)

    def _hashes(self, level: int, tile: int) -> bytes:
        """What a tile holds; nothing, when it is not there or cannot be read."""
        asked = select(_tile.tile, _tile.hashes).where(_tile.level == level, _tile.tile == tile)
        found, _ = read_rows(self.conn, asked, _tile.tile)
        return bytes(found[0].hashes) if found else b""

    def _edge(self) -> None:
        """The partial tiles, and those that should not be."""
        count = self.size
        for level, hashes in enumerate(self.by_entries.frontier.levels):
            if level and hashes:
                self._compare(level, count // WIDTH, hashes)
            count //= WIDTH
        ends = select(_tile.level, func.min(_tile.tile), func.max(_tile.tile)).group_by(_tile.level)
        last: list[tuple[int, int, bytes]] = []
        for level, lowest, highest in self.conn.execute(ends).all():
            for tile in dict.fromkeys((lowest, highest)):
                if not isinstance(level, int) or not isinstance(tile, int) or min(level, tile) < 0:
                    self.seen.misfit("ledger_tile", f"{level}/{tile}", "a place in the tree")
                elif tile == highest:
                    last.append((level, tile, self._hashes(level, tile)))
        size = log_size(self.conn)  # asked after the tiles: what was appended meanwhile is no fault
        for level, tile, hashes in last:
            full = size // WIDTH**level if level < _LEVELS else 0
            if tile * WIDTH + len(hashes) // 32 > full:
                self.seen.misfit("ledger_tile", f"{level}/{tile}", f"no hashes beyond entry {size - 1}")

    def _orphan(self, row: Row[*tuple[Any, ...]]) -> Misfit:
        """An entry whose evidence is not there: is it the entry's pointer, or the evidence that is gone?"""
        members = members_of(bytes(row.entry))
        if members is None or members.get("id") != str(row.evidence_id):
            return Misfit(table="ledger_entry", row=str(row.seq), expected="the id of its evidence")
        self._bereave(bytes(row.entry))
        expected = f"the row that entry {row.seq} sealed: it is gone"
        return Misfit(table="evidence", row=str(row.evidence_id), expected=expected)

    def _bereave(self, entry: bytes) -> None:
        """The letter that an entry is of lacks evidence."""
        letter = (members_of(entry) or {}).get("letter")
        if isinstance(letter, str) and letter.isdecimal():
            self.seen.bereft.add(int(letter))


def log_size(conn: Connection) -> int:
    """How many entries the table's last one tells of."""
    last: int | None = conn.execute(select(func.max(_entry.seq))).scalar()
    return 0 if last is None else last + 1


def chunks(ids: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Ids in lots that one statement takes."""
    return (ids[at : at + 500] for at in range(0, len(ids), 500))


def members_of(entry: bytes) -> dict[str, Any] | None:
    """The members of an entry; None when it is not of LEDGER.md's form."""
    try:
        members = json.loads(entry)
        return members if isinstance(members, dict) and canonical(members) == entry else None
    except (ValueError, TypeError, RecursionError):
        return None


def differs_from_entry(row: Row[*tuple[Any, ...]], entry: bytes) -> str | None:
    """What of an evidence row (with its salt) its entry does not bear out; None: it opens the entry."""
    given = {name: row._mapping[name] for name in _COLUMNS}
    try:
        record = EvidenceRow(**{**given, "salt": bytes(row.salt)})
        return None if entry_bytes(record) == entry else _difference(record, entry)
    except (*DAMAGE, AttributeError) as error:
        return why(error)


def _difference(record: EvidenceRow, entry: bytes) -> str | None:
    """The member that tells them apart; None for what holds the message or its parts besides."""
    octets = record_bytes(record)
    members = members_of(entry)
    if members is None:
        return "the entry cannot be read"
    if set(members) - {"octets", "parts"} != _MEMBERS | {"record"}:
        return "members"
    opened = json.loads(octets)
    for name in sorted(_MEMBERS):
        if opened[name] != members[name]:
            return name
    if commit(record.salt, octets).hex() != members["record"]:
        return "record"
    stated = record.detail.get("sha256")
    if "octets" in members and isinstance(stated, str):
        try:
            return None if commit(record.salt, bytes.fromhex(stated)).hex() == members["octets"] else "octets"
        except ValueError:
            return "detail"
    return None
