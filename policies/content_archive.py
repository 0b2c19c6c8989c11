"""Archives other than zip: tar, gzip, bzip2, xz, cab, and RAR by its headers.

Names, sizes and flags come from headers, counts and sizes are held against caps first. What can be
inflated within the bounds is looked into (tar, gzip, bzip2, xz); what cannot (RAR, cab) is judged by the
names of its members, and is undecided where a member is of a kind that may hold macros or members.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

from policies.content_finding import Look, Undecided
from policies.content_name import HOLDS_MORE, extension

MAX_INFLATED = 64 << 20
MAX_RATIO = 100
FREE_SIZE = 32 << 20  # octets, which anything may unpack to
MAX_ENTRIES = 10_000


def by_name(look: Look, name: str) -> None:
    """A member that cannot be looked into."""
    look.named(name)
    if extension(name) in HOLDS_MORE:
        look.doubt("nested")


def read_tar(content: bytes, look: Look) -> None:
    """POSIX and GNU tar (IEEE Std 1003.1, pax interchange format)."""
    look.archive = True
    pos = 0
    long_name = ""
    while pos + 512 <= len(content):
        block = content[pos : pos + 512]
        if not block.strip(b"\0"):
            break
        look.bounds.count(1)
        size = _number(block[124:136])
        kind = block[156:157]
        body = pos + 512
        if size < 0 or body + size > len(content):
            raise Undecided("unreadable")
        pos = body + size + (-size % 512)
        data = content[body : body + size]
        if kind == b"L":
            long_name = data[:4096].rstrip(b"\0").decode("utf-8", "replace")
            continue
        if kind in (b"x", b"g"):
            long_name = _pax_path(data) or long_name
            continue
        name = block[:100].split(b"\0", 1)[0].decode("utf-8", "replace")
        prefix = block[345:500].split(b"\0", 1)[0].decode("utf-8", "replace")
        if block[257:262] == b"ustar" and block[262:263] == b"\0" and prefix:
            name = f"{prefix}/{name}"
        name, long_name = long_name or name, ""
        if kind == b"5":
            continue
        look.named(name)
        if kind in (b"0", b"\0", b"7") and data:
            look.inside(name, data)


def _number(field: bytes) -> int:
    """An octal number, or the binary one of GNU tar; -1 if it is neither."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    text = field.strip(b"\0 ")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        return -1


def _pax_path(data: bytes) -> str:
    pos = 0
    for _ in range(100):
        length, space, _ = data[pos : pos + 20].partition(b" ")
        if not space or not length.isdigit():
            break
        end = pos + int(length)
        key, _, value = data[pos + len(length) + 1 : end].rstrip(b"\n").partition(b"=")
        if key == b"path":
            return value[:4096].decode("utf-8", "replace")
        if end <= pos:
            break
        pos = end
    return ""


def read_stream(content: bytes, name: str, kind: str, look: Look) -> None:
    """One compressed file: gzip (RFC 1952), bzip2, xz or lzma."""
    look.archive = True
    limit = max(FREE_SIZE, min(MAX_INFLATED, MAX_RATIO * len(content)))
    inner = _INNER.get(extension(name), "")
    stem = name.rpartition(".")[0] if inner is not None and extension(name) else name
    inner_name = stem + (inner or "")
    step: Callable[[bytes, int], bytes]
    if kind == "gzip":
        gzip = zlib.decompressobj(31)
        step = gzip.decompress
        given = _gzip_name(content)
        if given:
            look.named(given)
    elif kind == "bzip2":
        step = bz2.BZ2Decompressor().decompress
    else:
        step = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=MAX_INFLATED * 2).decompress
    try:
        out = step(content, limit + 1)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError):
        raise Undecided("unreadable") from None
    look.bounds.inflate(len(out))
    if len(out) > limit:
        raise Undecided("ratio")
    if inner_name:
        look.named(inner_name)
    look.inside(inner_name, out)


_INNER = {"tgz": ".tar", "tbz": ".tar", "tbz2": ".tar", "txz": ".tar", "tlz": ".tar"}


def _gzip_name(content: bytes) -> str:
    """The name in the header of a gzip file (RFC 1952 §2.3)."""
    flags = content[3] if len(content) > 10 else 0
    if not flags & 8:
        return ""
    pos = 10
    if flags & 4:
        pos += 2 + int.from_bytes(content[10:12], "little")
    return content[pos : pos + 300].split(b"\0", 1)[0].decode("latin-1")


def read_cab(content: bytes, look: Look) -> None:
    """The file table of a cabinet (MS-CAB §2.3)."""
    look.archive = True
    try:
        pos, _, _, _, _, count = struct.unpack_from("<LLBBHH", content, 16)
        if count > MAX_ENTRIES:
            raise Undecided("count")
        look.bounds.count(count)
        for _ in range(count):
            (flags,) = struct.unpack_from("<H", content, pos + 14)
            raw = content[pos + 16 : pos + 16 + 256].split(b"\0", 1)[0]
            by_name(look, raw.decode("utf-8" if flags & 0x80 else "cp437", "replace"))
            pos += 16 + len(raw) + 1
    except struct.error:
        raise Undecided("unreadable") from None


def read_rar(content: bytes, look: Look) -> None:
    """RAR by its headers, version 4 or 5; nothing in it can be unpacked here."""
    look.archive = True
    try:
        if content.startswith(b"Rar!\x1a\x07\x01\x00"):
            _rar5(content, look)
        elif content.startswith(b"Rar!\x1a\x07\x00"):
            _rar4(content, look)
        else:
            raise Undecided("unreadable")
    except (struct.error, IndexError):
        raise Undecided("unreadable") from None


def _rar4(content: bytes, look: Look) -> None:
    pos, packed, unpacked, ended = 7, 0, 0, False
    while pos + 7 <= len(content):
        look.bounds.count(1)
        _, kind, flags, size = struct.unpack_from("<HBHH", content, pos)
        if size < 7:
            raise Undecided("unreadable")
        more = struct.unpack_from("<L", content, pos + 7)[0] if flags & 0x8000 or kind in (0x74, 0x7A) else 0
        if kind == 0x73 and flags & 0x80:  # the headers after this one are under a password
            look.encrypted = True
            return
        if kind == 0x74:
            low, n_name = struct.unpack_from("<L15xH", content, pos + 11)[0], 0
            (n_name,) = struct.unpack_from("<H", content, pos + 26)
            at = pos + 32
            if flags & 0x100:
                high, high_size = struct.unpack_from("<LL", content, at)
                more += high << 32
                low += high_size << 32
                at += 8
            raw = content[at : at + n_name].split(b"\0", 1)[0]
            look.encrypted = look.encrypted or bool(flags & 0x4)
            if flags & 0xE0 != 0xE0:  # not a folder
                by_name(look, raw.decode("utf-8" if raw.isascii() or _utf8(raw) else "cp437", "replace"))
            packed, unpacked = packed + more, unpacked + low
        pos += size + more
        if kind == 0x7B:
            ended = True
            break
    _finished(ended or pos == len(content), packed, unpacked)


def _rar5(content: bytes, look: Look) -> None:
    pos, packed, unpacked, ended = 8, 0, 0, False
    while pos + 7 <= len(content):
        look.bounds.count(1)
        size, at = _vint(content, pos + 4)
        end = at + size
        if not size or size > (2 << 20):
            raise Undecided("unreadable")
        kind, at = _vint(content, at)
        flags, at = _vint(content, at)
        extra = data = 0
        if flags & 1:
            extra, at = _vint(content, at)
        if flags & 2:
            data, at = _vint(content, at)
        if kind == 4:  # what follows is under a password, names too
            look.encrypted = True
            return
        if kind == 2:
            what, at = _vint(content, at)
            full, at = _vint(content, at)
            _, at = _vint(content, at)
            at += 4 * bool(what & 2) + 4 * bool(what & 4)
            _, at = _vint(content, at)
            _, at = _vint(content, at)
            n_name, at = _vint(content, at)
            name = content[at : at + n_name].decode("utf-8", "replace")
            look.encrypted = look.encrypted or _rar5_locked(content, end - extra, end)
            if not what & 1:
                by_name(look, name)
            packed, unpacked = packed + data, unpacked + (0 if what & 8 else full)
        pos = end + data
        if kind == 5:
            ended = True
            break
    _finished(ended or pos == len(content), packed, unpacked)


def _rar5_locked(content: bytes, at: int, end: int) -> bool:
    """True when the extra area of a file tells how it is encrypted."""
    while at < end:
        size, at = _vint(content, at)
        kind, _ = _vint(content, at)
        if kind == 1:
            return True
        if not size:
            break
        at += size
    return False


def _finished(whole: bool, packed: int, unpacked: int) -> None:
    if not whole:
        raise Undecided("unreadable")
    if unpacked > FREE_SIZE and unpacked > MAX_RATIO * max(packed, 1):
        raise Undecided("ratio")


def _vint(content: bytes, at: int) -> tuple[int, int]:
    """A number of RAR 5, seven bits an octet, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        octet = content[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise Undecided("unreadable")


def _utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
