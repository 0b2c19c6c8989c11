"""The tree of the ledger in tiles (C2SP tlog-tiles): 256 hashes of 32 octets a row of ``ledger_tile``.

The tile ``n`` of level ``l`` holds the hashes of the perfect subtrees of 256^l leaves; the rightmost tile
of a level is partial and grows. What lies between two levels is computed when it is wanted. The tree is
that of RFC 6962 §2.1.

How it fails: :class:`LedgerBroken` when a tile does not hold what the number of entries asks for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from tracker import schema
from tracker.prepared import Prepared
from tracker.verify import node_hash

WIDTH = 256  # hashes a tile
EMPTY_ROOT = hashlib.sha256().digest()  # RFC 6962 §2.1: of no leaves
_FULL = WIDTH * 32
_sha256 = hashlib.sha256
_t = schema.ledger_tile.c
_sqlite_insert = sqlite.insert(schema.ledger_tile)
_postgresql_insert = postgresql.insert(schema.ledger_tile)
_UPSERT = {
    "sqlite": Prepared(
        _sqlite_insert.on_conflict_do_update(
            index_elements=["level", "tile"], set_={"hashes": _sqlite_insert.excluded.hashes}
        )
    ),
    "postgresql": Prepared(
        _postgresql_insert.on_conflict_do_update(
            index_elements=["level", "tile"], set_={"hashes": _postgresql_insert.excluded.hashes}
        )
    ),
}


class LedgerBroken(RuntimeError):
    """The stored log contradicts itself or an earlier checkpoint; nothing is signed or appended."""


@dataclass(slots=True)
class Frontier:
    """The right edge of the tree: the hashes of the partial tile of each level, and the last leaf."""

    size: int
    last: bytes
    levels: list[bytes]

    def root(self) -> bytes:
        """The root over all leaves."""
        peaks = [peak for hashes in reversed(self.levels) for peak in _peaks(hashes)]
        if not peaks:
            return EMPTY_ROOT
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root


def _fold(hashes: bytes) -> bytes:
    """The root above a power of two of consecutive hashes."""
    sha = _sha256
    while len(hashes) > 32:
        hashes = b"".join([sha(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 64)])
    return hashes


def write_tiles(conn: Connection, tiles: list[dict[str, Any]]) -> None:
    """Insert new tiles, and replace partial ones by what they have grown to."""
    if tiles:
        _UPSERT[conn.dialect.name].many(conn, tiles)


def load_frontier(conn: Connection, size: int, last: bytes) -> Frontier:
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
    return Frontier(size, last, levels)


def grow(frontier: Frontier, leaves: list[bytes]) -> tuple[Frontier, list[dict[str, Any]]]:
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
    return Frontier(frontier.size + len(leaves), leaves[-1], levels), tiles


def _peaks(hashes: bytes) -> list[bytes]:
    """The roots of the perfect trees above a partial tile, from the left, largest first."""
    peaks = []
    count, at = len(hashes) // 32, 0
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        if count & bit:
            peaks.append(_fold(hashes[at * 32 : (at + bit) * 32]))
            at += bit
    return peaks


def _split(count: int) -> int:
    """The largest power of two below ``count`` (RFC 6962 §2.1)."""
    return 1 << (count - 1).bit_length() - 1


class Tree:
    """Hashes of ranges of leaves, out of the tiles; perfect subtrees never change and are remembered."""

    _KEPT = 40_000  # nodes, some 6 MB

    def __init__(self, conn: Connection, nodes: dict[tuple[int, int], bytes]) -> None:
        self._conn = conn
        self._nodes = nodes
        self._tiles: dict[tuple[int, int], bytes] = {}
        if len(nodes) > self._KEPT:
            nodes.clear()

    def path(self, seq: int, size: int) -> tuple[bytes, ...]:
        """The siblings on the way from leaf ``seq`` to the root over ``size`` leaves."""
        hashes = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if seq < middle:
                hashes.append(self.range(middle, high))
                high = middle
            else:
                hashes.append(self.range(low, middle))
                low = middle
        return tuple(reversed(hashes))

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """The hashes that lead from the root over ``first`` to that over ``second``."""
        if first in (0, second):
            return ()
        hashes = []
        low, high = 0, second
        while first != high:
            middle = low + _split(high - low)
            if first <= middle:
                hashes.append(self.range(middle, high))
                high = middle
            else:
                hashes.append(self.range(low, middle))
                low = middle
        if low:
            hashes.append(self.range(low, high))
        return tuple(reversed(hashes))

    def range(self, low: int, high: int) -> bytes:
        """The hash over leaves ``low`` to ``high``, as the tree divides them."""
        if high == low:
            return EMPTY_ROOT
        count = high - low
        if count & (count - 1) == 0:
            height = count.bit_length() - 1
            return self._node(height, low >> height)
        middle = low + _split(count)
        return node_hash(self.range(low, middle), self.range(middle, high))

    def _node(self, height: int, index: int) -> bytes:
        found = self._nodes.get((height, index))
        if found is None:
            if height % 8 == 0:
                found = self._stored(height // 8, index)
            else:
                found = node_hash(self._node(height - 1, 2 * index), self._node(height - 1, 2 * index + 1))
            self._nodes[height, index] = found
        return found

    def _stored(self, level: int, index: int) -> bytes:
        tile, at = divmod(index, WIDTH)
        hashes = self._tiles.get((level, tile))
        if hashes is None:
            row = self._conn.execute(select(_t.hashes).where(_t.level == level, _t.tile == tile)).first()
            hashes = self._tiles[level, tile] = b"" if row is None else bytes(row[0])
        found = hashes[at * 32 : at * 32 + 32]
        if len(found) != 32:
            raise LedgerBroken(f"tile {level}/{tile} has no hash {at}")
        return found
