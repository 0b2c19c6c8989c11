"""7z archives by their header (7zFormat.txt of the LZMA SDK): names, sizes, whether anything is encrypted.

The header usually stands compressed at the end; it is inflated within a cap. Members are judged by their
names, as solid blocks would have to be unpacked whole to look at one.
"""

from __future__ import annotations

import lzma
import struct

from policies.content_archive import FREE_SIZE, MAX_ENTRIES, MAX_RATIO, by_name
from policies.content_finding import Look, Undecided
from policies.content_zip import lzma_octets

MAX_HEADER = 8 << 20
_AES = b"\x06\xf1\x07\x01"
_LZMA = b"\x03\x01\x01"
_LZMA2 = b"\x21"
_COPY = b"\x00"

_END, _HEADER, _PROPERTIES, _ADDED, _MAIN, _FILES = 0, 1, 2, 3, 4, 5
_PACK, _UNPACK, _SUBSTREAMS, _SIZE, _CRC, _FOLDER, _UNPACK_SIZE, _STREAMS = 6, 7, 8, 9, 10, 11, 12, 13
_NAMES, _ENCODED = 17, 23


class _Folder:
    """One block of compressed data: its coders and what they unpack to."""

    __slots__ = ("coders", "sizes", "summed")

    def __init__(self) -> None:
        self.coders: list[tuple[bytes, bytes]] = []
        self.sizes: list[int] = []
        self.summed = False

    @property
    def encrypted(self) -> bool:
        return any(method == _AES for method, _ in self.coders)


class _Streams:
    __slots__ = ("folders", "pack_at", "packed")

    def __init__(self) -> None:
        self.pack_at = 0
        self.packed: list[int] = []
        self.folders: list[_Folder] = []


class _Reader:
    """Numbers and octets of a header, one after another; raises :class:`Undecided` past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    def octet(self) -> int:
        if self._pos >= len(self._data):
            raise Undecided("unreadable")
        self._pos += 1
        return self._data[self._pos - 1]

    def octets(self, count: int) -> bytes:
        if count > len(self._data) - self._pos:
            raise Undecided("unreadable")
        self._pos += count
        return self._data[self._pos - count : self._pos]

    def number(self) -> int:
        first = self.octet()
        mask, value = 0x80, 0
        for shift in range(0, 64, 8):
            if not first & mask:
                return value | (first & (mask - 1)) << shift
            value |= self.octet() << shift
            mask >>= 1
        return value

    def count(self) -> int:
        number = self.number()
        if number > MAX_ENTRIES:
            raise Undecided("count")
        return number

    def flags(self, count: int) -> list[bool]:
        """A bit for each of ``count``; all set where one octet says so."""
        if self.octet():
            return [True] * count
        raw = self.octets((count + 7) // 8)
        return [bool(raw[i >> 3] & 0x80 >> (i & 7)) for i in range(count)]

    def digests(self, count: int) -> list[bool]:
        """Pass over the sums of ``count`` streams; which of them have one."""
        given = self.flags(count)
        self.octets(4 * sum(given))
        return given


def read_7z(content: bytes, look: Look) -> None:
    """Names and flags of a 7z archive."""
    look.archive = True
    if len(content) < 32:
        raise Undecided("unreadable")
    offset, size = struct.unpack_from("<QQ", content, 12)
    if size == 0:
        return
    if size > MAX_HEADER or 32 + offset + size > len(content):
        raise Undecided("count" if size > MAX_HEADER else "unreadable")
    header = content[32 + offset : 32 + offset + size]
    for _ in range(4):
        if header[0] != _ENCODED:
            break
        streams = _Streams()
        reader = _Reader(header)
        reader.octet()
        _streams(reader, streams)
        if any(f.encrypted for f in streams.folders):
            look.encrypted = True  # the names too
            return
        header = _unpacked(content, streams)
        look.bounds.inflate(len(header))
        if not header:
            raise Undecided("unreadable")
    if header[0] != _HEADER:
        raise Undecided("unreadable")
    _read_header(_Reader(header), look, len(content))


def _unpacked(content: bytes, streams: _Streams) -> bytes:
    """The header that was compressed; one coder, or :class:`Undecided`."""
    if len(streams.folders) != 1 or len(streams.folders[0].coders) != 1 or not streams.packed:
        raise Undecided("unreadable")
    folder = streams.folders[0]
    method, properties = folder.coders[0]
    size = folder.sizes[0] if folder.sizes else 0
    if size > MAX_HEADER:
        raise Undecided("count")
    raw = content[32 + streams.pack_at : 32 + streams.pack_at + streams.packed[0]]
    try:
        if method == _COPY:
            return raw[:size]
        if method == _LZMA and len(properties) == 5:
            return lzma_octets(properties, raw, size)
        if method == _LZMA2:
            chain = [{"id": lzma.FILTER_LZMA2, "dict_size": MAX_HEADER}]
            return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain).decompress(raw, size)
    except (lzma.LZMAError, ValueError, EOFError):
        pass
    raise Undecided("unreadable")


def _read_header(reader: _Reader, look: Look, whole: int) -> None:
    streams = _Streams()
    reader.octet()
    kind = reader.octet()
    if kind == _PROPERTIES:
        while reader.octet() != _END:
            reader.octets(reader.number())
        kind = reader.octet()
    if kind == _ADDED:
        _streams(reader, _Streams())
        kind = reader.octet()
    if kind == _MAIN:
        _streams(reader, streams)
        kind = reader.octet()
    look.encrypted = look.encrypted or any(f.encrypted for f in streams.folders)
    unpacked = sum(max(f.sizes, default=0) for f in streams.folders)
    if kind == _FILES:
        _files(reader, look)
    elif kind != _END:
        raise Undecided("unreadable")
    if unpacked > FREE_SIZE and unpacked > MAX_RATIO * whole:
        raise Undecided("ratio")


def _files(reader: _Reader, look: Look) -> None:
    count = reader.count()
    look.bounds.count(count)
    while (kind := reader.octet()) != _END:
        data = reader.octets(reader.number())
        if kind != _NAMES:
            continue
        if data[:1] != b"\0":
            raise Undecided("unreadable")
        names = data[1:].decode("utf-16-le", "replace").split("\0")[:-1]
        if len(names) != count:
            raise Undecided("ambiguous")
        for name in names:
            by_name(look, name)


def _streams(reader: _Reader, into: _Streams) -> None:
    kind = reader.octet()
    if kind == _PACK:
        into.pack_at = reader.number()
        count = reader.count()
        kind = reader.octet()
        if kind == _SIZE:
            into.packed = [reader.number() for _ in range(count)]
            kind = reader.octet()
        if kind == _CRC:
            reader.digests(count)
            kind = reader.octet()
        _expect(kind, _END)
        kind = reader.octet()
    if kind == _UNPACK:
        _expect(reader.octet(), _FOLDER)
        count = reader.count()
        if reader.octet():
            raise Undecided("unreadable")
        into.folders = [_folder(reader) for _ in range(count)]
        _expect(reader.octet(), _UNPACK_SIZE)
        for folder in into.folders:
            folder.sizes = [reader.number() for _ in folder.sizes]
        kind = reader.octet()
        if kind == _CRC:
            for folder, given in zip(into.folders, reader.digests(count), strict=True):
                folder.summed = given
            kind = reader.octet()
        _expect(kind, _END)
        kind = reader.octet()
    if kind == _SUBSTREAMS:
        _substreams(reader, into)
        kind = reader.octet()
    _expect(kind, _END)


def _substreams(reader: _Reader, into: _Streams) -> None:
    per_folder = [1] * len(into.folders)
    kind = reader.octet()
    if kind == _STREAMS:
        per_folder = [reader.count() for _ in into.folders]
        kind = reader.octet()
    if sum(per_folder) > MAX_ENTRIES:
        raise Undecided("count")
    if kind == _SIZE:
        for count in per_folder:
            for _ in range(count - 1):
                reader.number()
        kind = reader.octet()
    if kind == _CRC:
        # The sum of a folder that holds one stream stands with the folder.
        pairs = zip(into.folders, per_folder, strict=True)
        reader.digests(sum(n for folder, n in pairs if not (n == 1 and folder.summed)))
        kind = reader.octet()
    _expect(kind, _END)


def _folder(reader: _Reader) -> _Folder:
    folder = _Folder()
    inputs = outputs = 0
    coders = reader.number()
    if not 0 < coders <= 32:
        raise Undecided("unreadable")
    for _ in range(coders):
        flags = reader.octet()
        method = reader.octets(flags & 0x0F)
        n_in = n_out = 1
        if flags & 0x10:
            n_in, n_out = reader.count(), reader.count()
        properties = reader.octets(reader.number()) if flags & 0x20 else b""
        folder.coders.append((method, properties))
        inputs, outputs = inputs + n_in, outputs + n_out
    if inputs > 64 or not 0 < outputs <= 64:
        raise Undecided("unreadable")
    for _ in range(outputs - 1):
        reader.number(), reader.number()
    packed = inputs - (outputs - 1)
    if packed > 1:
        for _ in range(packed):
            reader.number()
    folder.sizes = [0] * outputs
    return folder


def _expect(kind: int, wanted: int) -> None:
    if kind != wanted:
        raise Undecided("unreadable")
