"""Files for the tests of attachments, made here octet by octet: nothing is taken from elsewhere."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib

PE = b"MZ" + bytes(58) + struct.pack("<L", 64) + b"PE\0\0" + bytes(200)
ELF = b"\x7fELF\x02\x01\x01" + bytes(60)
MACH_O = b"\xcf\xfa\xed\xfe" + bytes(60)
LINK = b"L\0\0\0\x01\x14\x02\0" + bytes(60)


def zipped(members: dict[str, bytes | str], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def locked_zip(members: dict[str, bytes | str]) -> bytes:
    """A zip whose members say that they are encrypted, in both their headers."""
    made = bytearray(zipped(members))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = made.find(mark)
        while at >= 0:
            made[at + offset] |= 1
            at = made.find(mark, at + 4)
    return bytes(made)


Members = dict[str, bytes | str]


def office(kind: str = "word", extra: Members | None = None, types: str = "<Types/>") -> bytes:
    members: Members = {"[Content_Types].xml": types, "_rels/.rels": "<x/>", f"{kind}/document.xml": "<x/>"}
    return zipped(members | (extra or {}))


def opendocument(extra: Members | None = None, manifest: str = "<m/>") -> bytes:
    members: Members = {"mimetype": "application/vnd.oasis.opendocument.text"}
    return zipped(members | {"META-INF/manifest.xml": manifest, "content.xml": "<x/>"} | (extra or {}))


def tarred(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _vint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def rar5(names: list[str], *, locked: bool = False, sealed: bool = False, size: int = 10) -> bytes:
    """RAR 5 without content: ``locked`` files, or ``sealed`` headers."""

    def block(body: bytes) -> bytes:
        whole = _vint(len(body)) + body
        return struct.pack("<L", zlib.crc32(whole)) + whole

    out = [b"Rar!\x1a\x07\x01\x00", block(_vint(1) + _vint(0) + _vint(0))]
    if sealed:
        out.append(block(_vint(4) + _vint(0) + bytes(20)))
    for name in names:
        raw = name.encode()
        extra = _vint(3) + _vint(1) + b"\0\0" if locked else b""
        head = _vint(2) + _vint(2 | bool(extra)) + (_vint(len(extra)) if extra else b"") + _vint(3)
        body = _vint(0) + _vint(size) + _vint(0) + _vint(0) + _vint(0) + _vint(len(raw)) + raw
        out.append(block(head + body + extra) + b"abc")
    out.append(block(_vint(5) + _vint(0) + _vint(0)))
    return b"".join(out)


def rar4(names: list[str], *, locked: bool = False, sealed: bool = False) -> bytes:
    out = [b"Rar!\x1a\x07\x00", struct.pack("<HBHH6x", 0, 0x73, 0x80 if sealed else 0, 13)]
    for name in names:
        raw = name.encode()
        flags = 0x8000 | (4 if locked else 0)
        head = struct.pack("<HBHH", 0, 0x74, flags, 32 + len(raw))
        out.append(head + struct.pack("<LLBLLBBHL", 3, 10, 2, 0, 0, 29, 0x30, len(raw), 0) + raw + b"abc")
    out.append(struct.pack("<HBHH", 0, 0x7B, 0, 7))
    return b"".join(out)


def _seven_number(number: int) -> bytes:
    if number < 0x80:
        return bytes([number])
    if number < 0x4000:
        return bytes([0x80 | number >> 8, number & 0xFF])
    return b"\xf0" + struct.pack("<L", number)


def seven_zip(names: list[str], *, aes: bool = False, packed: bool = True, sealed: bool = False) -> bytes:
    """A 7z of one copied block, its header in LZMA if ``packed``, encrypted if ``sealed``."""
    data = b"x" * len(names)
    n = _seven_number
    coder = b"\x24\x06\xf1\x07\x01\x01\x00" if aes else b"\x01\x00"
    streams = b"\x06" + n(0) + n(1) + b"\x09" + n(len(data)) + b"\x00"
    streams += b"\x07\x0b" + n(1) + b"\x00" + n(1) + coder + b"\x0c" + n(len(data)) + b"\x00"
    streams += b"\x08\x0d" + n(len(names)) + b"\x09" + n(1) * (len(names) - 1)
    streams += b"\x0a\x01" + bytes(4 * len(names)) + b"\x00\x00"
    text = b"\0" + b"".join(name.encode("utf-16-le") + b"\0\0" for name in names)
    header = b"\x01\x04" + streams + b"\x05" + n(len(names)) + b"\x11" + n(len(text)) + text + b"\x00\x00"
    body = data
    if packed or sealed:
        chain = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
        squeezed = lzma.compress(header, lzma.FORMAT_RAW, filters=chain)
        kind = (
            b"\x24\x06\xf1\x07\x01\x01\x00"
            if sealed
            else b"\x23\x03\x01\x01\x05" + b"\x5d" + struct.pack("<L", 1 << 16)
        )
        body += squeezed
        wrapped = b"\x17\x06" + n(len(data)) + n(1) + b"\x09" + n(len(squeezed)) + b"\x00"
        wrapped += b"\x07\x0b" + n(1) + b"\x00" + n(1) + kind + b"\x0c" + n(len(header)) + b"\x00\x00"
        header = wrapped
    start = struct.pack("<QQL", len(body), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\x00\x04" + struct.pack("<L", zlib.crc32(start)) + start + body + header


def compound(streams: dict[str, bytes], storages: tuple[str, ...] = (), clsid: bytes = bytes(16)) -> bytes:
    """A compound file; every stream is padded to 4096 octets or more, so that there is no mini stream."""
    sectors: list[bytes] = []
    fat: list[int] = []

    def put(content: bytes) -> int:
        first = len(sectors)
        blocks = [content[i : i + 512].ljust(512, b"\0") for i in range(0, len(content), 512)]
        for number in range(len(blocks)):
            fat.append(first + number + 1 if number + 1 < len(blocks) else 0xFFFFFFFE)
        sectors.extend(blocks)
        return first

    def entry(name: str, kind: int, start: int, size: int, own: bytes = bytes(16)) -> bytes:
        raw = name.encode("utf-16-le") + b"\0\0"
        return struct.pack(
            "<64sHBBLLL16sLQQLQ",
            raw,
            len(raw),
            kind,
            1,
            0xFFFFFFFF,
            0xFFFFFFFF,
            0xFFFFFFFF,
            own,
            0,
            0,
            0,
            start,
            size,
        )

    entries = [entry("Root Entry", 5, 0xFFFFFFFE, 0, clsid)]
    entries += [entry(name, 1, 0, 0) for name in storages]
    for name, content in streams.items():
        padded = content.ljust(4096, b"\0")
        entries.append(entry(name, 2, put(padded), len(padded)))
    directory = put(b"".join(entries).ljust(512 * -(-len(entries) // 4), b"\0"))
    count = 1
    while (len(fat) + count) * 4 > 512 * count:
        count += 1
    at = len(sectors)
    table = fat + [0xFFFFFFFD] * count
    raw = b"".join(struct.pack("<L", n) for n in table).ljust(512 * count, b"\xff")
    sectors.extend(raw[i : i + 512] for i in range(0, len(raw), 512))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<5H6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<9L", 0, count, directory, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    header += b"".join(struct.pack("<L", at + i if i < count else 0xFFFFFFFF) for i in range(109))
    return header + b"".join(sectors)


def package_stream(name: str, content: bytes) -> bytes:
    """An Ole10Native stream."""
    path = b"C:\\" + name.encode() + b"\0"
    rest = b"\x02\0" + name.encode() + b"\0" + path + b"\0\0\x03\0" + struct.pack("<L", len(path)) + path
    rest += struct.pack("<L", len(content)) + content
    return struct.pack("<L", len(rest)) + rest


def tnef(files: dict[str, bytes]) -> bytes:
    def attribute(level: int, name: int, data: bytes) -> bytes:
        return struct.pack("<BHHL", level, name, 6, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    out = [struct.pack("<LH", 0x223E9F78, 1), attribute(1, 0x9007, struct.pack("<L", 1256))]
    for name, content in files.items():
        out.append(attribute(2, 0x9002, bytes(14)))
        out.append(attribute(2, 0x8010, name.encode("cp1256") + b"\0"))
        out.append(attribute(2, 0x800F, content))
    return b"".join(out)


def letter(*files: tuple[str, bytes], kind: str = "application/octet-stream") -> bytes:
    """A letter with attachments in base64."""
    import base64

    out = [
        b"From: a@mof.example\r\nTo: b@moh.example\r\nSubject: files\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=frontier\r\n\r\n--frontier\r\n\r\nSee below.\r\n"
    ]
    for name, content in files:
        head = f'--frontier\r\nContent-Type: {kind}\r\nContent-Disposition: attachment; filename="{name}"\r\n'
        out.append(head.encode() + b"Content-Transfer-Encoding: base64\r\n\r\n")
        out.append(base64.encodebytes(content).replace(b"\n", b"\r\n"))
    out.append(b"--frontier--\r\n")
    return b"".join(out)
