"""Zip files by their directory: names, sizes and flags, and members inflated within bounds (APPNOTE 6.3).

The counts and sizes that the directory claims are held against caps before anything is inflated, and its
entries against the local headers that other programs go by: where the two disagree, overlap, or leave
entries out, the archive is ambiguous, since what one program shows another may not unpack.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from dataclasses import dataclass

from policies.content_finding import Bounds, Undecided

MAX_ENTRIES = 10_000
MAX_DIRECTORY = 8 << 20
MAX_RATIO = 100  # times the size of the archive, once it is more than
FREE_SIZE = 64 << 20  # octets, which any archive may unpack to
MAX_MEMBER = 64 << 20

_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_FULL = 0xFFFFFFFF
_ENCRYPTED = 0x1 | 0x40 | 0x2000


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. ``head`` is where its local header begins in the archive, ``at`` where its data does."""

    name: str
    head: int
    flags: int
    method: int
    packed: int
    size: int
    at: int

    @property
    def encrypted(self) -> bool:
        """Content or directory entry is under a password (APPNOTE 4.4.4)."""
        return bool(self.flags & _ENCRYPTED)

    @property
    def folder(self) -> bool:
        return self.name.endswith("/") and not self.size


def ending(content: bytes) -> int:
    """Where the end record of a zip directory stands, -1 if there is none that leads to a directory."""
    at = len(content)
    low = max(0, len(content) - 65_557)
    for _ in range(8):
        at = content.rfind(b"PK\x05\x06", low, at)
        if at < 0:
            return -1
        if at + _END.size <= len(content):
            _, _, _, _, count, size, start, _ = _END.unpack_from(content, at)
            if count == 0 and size == 0 and at in (0, start):
                return at
            if (
                content[at - size : at - size + 4] == b"PK\x01\x02"
                or content[at - 20 : at - 16] == b"PK\x06\x07"
            ):
                return at
    return -1


def entries(content: bytes, bounds: Bounds) -> tuple[list[Entry], bool]:
    """The members, and whether something stands before the archive.

    Raises :class:`Undecided`: unreadable, ambiguous, count, ratio.
    """
    end = ending(content)
    if end < 0:
        raise Undecided("unreadable")
    _, disk, _, _, count, size, offset, comment = _END.unpack_from(content, end)
    stop = end
    if _FULL in (size, offset) or count == 0xFFFF or content[end - 20 : end - 16] == b"PK\x06\x07":
        count, size, offset, stop = _large(content, end)
    if disk not in (0, 0xFFFF):
        raise Undecided("ambiguous")
    if end + _END.size + comment < len(content):
        tail = content[end + _END.size + comment :]
        if b"PK\x05\x06" in tail:
            raise Undecided("ambiguous")
    if count > MAX_ENTRIES or size > MAX_DIRECTORY:
        raise Undecided("count")
    bounds.count(count)
    begin = stop - size
    before = begin - offset
    if before < 0:
        raise Undecided("ambiguous")
    found = _directory(content, begin, stop, before, count)
    unpacked = sum(e.size for e in found)
    if unpacked > FREE_SIZE and unpacked > MAX_RATIO * len(content):
        raise Undecided("ratio")
    _laid_out(content, found, before, begin)
    return found, before > 0


def _large(content: bytes, end: int) -> tuple[int, int, int, int]:
    """Count, size and offset of the directory by the Zip64 records (APPNOTE 4.3.14, 4.3.15)."""
    try:
        mark, _, at, _ = _LOCATOR.unpack_from(content, end - 20)
        if mark != b"PK\x06\x07":
            raise Undecided("unreadable")
        where = content.rfind(b"PK\x06\x06", 0, end - 20)
        if where < at:
            raise Undecided("ambiguous")
        record = _END64.unpack_from(content, where)
    except struct.error:
        raise Undecided("unreadable") from None
    return record[7], record[8], record[9], where


def _directory(content: bytes, begin: int, stop: int, before: int, count: int) -> list[Entry]:
    found: list[Entry] = []
    names: set[str] = set()
    pos = begin
    while pos < stop:
        if len(found) >= count or pos + _ENTRY.size > stop:
            raise Undecided("ambiguous")
        (mark, _, _, flags, method, _, _, _, packed, size, n_name, n_extra, n_note, _, _, _, offset) = (
            _ENTRY.unpack_from(content, pos)
        )
        if mark != b"PK\x01\x02":
            raise Undecided("ambiguous")
        raw = content[pos + 46 : pos + 46 + n_name]
        if _FULL in (packed, size, offset):
            packed, size, offset = _wide(
                content[pos + 46 + n_name : pos + 46 + n_name + n_extra], packed, size, offset
            )
        at = before + offset
        if at + _LOCAL.size > begin or content[at : at + 4] != b"PK\x03\x04":
            raise Undecided("ambiguous")
        local = _LOCAL.unpack_from(content, at)
        # A masked directory hides names in the local headers on purpose (APPNOTE 6.3.2, bit 13).
        if content[at + 30 : at + 30 + local[9]] != raw and not flags & 0x2000:
            raise Undecided("ambiguous")
        if (local[2] & 1) != (flags & 1) or (local[3] != method and not flags & 0x2000):
            raise Undecided("ambiguous")
        start = at + 30 + local[9] + local[10]
        if start + packed > begin:
            raise Undecided("ambiguous")
        name = raw.decode("utf-8" if flags & 0x800 or not _oem(raw) else "cp437", "replace")
        if name in names:
            raise Undecided("ambiguous")
        names.add(name)
        found.append(Entry(name, at, flags, method, packed, size, start))
        pos += 46 + n_name + n_extra + n_note
    if len(found) != count:
        raise Undecided("ambiguous")
    return found


def _oem(raw: bytes) -> bool:
    """True when a name without the UTF-8 flag is not UTF-8 either: many programs forget the flag."""
    if raw.isascii():
        return False
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _wide(extra: bytes, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset from the Zip64 extra field (APPNOTE 4.5.3)."""
    pos = 0
    while pos + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, pos)
        if kind == 1:
            field = extra[pos + 4 : pos + 4 + length]
            at = 0
            out = []
            for value in (size, packed, offset):
                if value == _FULL:
                    if at + 8 > len(field):
                        raise Undecided("unreadable")
                    value = struct.unpack_from("<Q", field, at)[0]
                    at += 8
                out.append(value)
            return out[1], out[0], out[2]
        pos += 4 + length
    raise Undecided("unreadable")


def _laid_out(content: bytes, found: list[Entry], before: int, begin: int) -> None:
    """Members follow one another; none overlaps, and no local header lies hidden between them."""
    last = before
    for entry in sorted(found, key=lambda e: e.head):
        if entry.head < last or content.find(b"PK\x03\x04", last, entry.head) >= 0:
            raise Undecided("ambiguous")
        last = entry.at + entry.packed
    if content.find(b"PK\x03\x04", last, begin) >= 0:
        raise Undecided("ambiguous")


def member(content: bytes, entry: Entry, bounds: Bounds, limit: int = MAX_MEMBER) -> bytes:
    """The first ``limit`` octets of a member. Raises :class:`Undecided` where they cannot be had."""
    raw = content[entry.at : entry.at + min(entry.packed, limit if entry.method == 0 else entry.packed)]
    if entry.encrypted:
        raise Undecided("unreadable")
    if entry.method == 0:
        return raw[:limit]
    try:
        if entry.method == 8:
            # The head of a member needs no more than the head of what is packed.
            if limit <= 4096:
                raw = raw[: 4 * limit]
            # One octet more than it says to be: a member that lies about its size is not read to the end.
            out = zlib.decompressobj(-15).decompress(raw, min(limit, entry.size + 1))
        elif entry.method == 12:
            out = bz2.BZ2Decompressor().decompress(raw, limit)
        elif entry.method == 14:
            out = _lzma(raw, limit)
        else:
            raise Undecided("unreadable")
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError):
        raise Undecided("unreadable") from None
    bounds.inflate(len(out))
    if len(out) > entry.size:
        raise Undecided("ambiguous")
    return out


def _lzma(raw: bytes, limit: int) -> bytes:
    """LZMA as zip wraps it: version, length of properties, properties, stream (APPNOTE 5.8.8)."""
    if len(raw) < 9:
        raise Undecided("unreadable")
    return lzma_octets(raw[4:9], raw[9:], limit)


def lzma_octets(properties: bytes, stream: bytes, limit: int) -> bytes:
    """A raw LZMA1 stream by its five octets of properties; no more memory than ``MAX_MEMBER``."""
    packed, dictionary = properties[0], struct.unpack_from("<L", properties, 1)[0]
    if packed >= 225 or dictionary > MAX_MEMBER:
        raise Undecided("unreadable")
    chain = [
        {
            "id": lzma.FILTER_LZMA1,
            "dict_size": max(dictionary, 4096),
            "lc": packed % 9,
            "lp": packed // 9 % 5,
            "pb": packed // 45,
        }
    ]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain).decompress(stream, limit)
