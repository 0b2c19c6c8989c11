"""Compound files of old Office, Outlook and the Windows installer by their directory (MS-CFB).

Storages and streams tell what is in them: VBA and Excel 4 macros, encryption (MS-OFFCRYPTO), signatures,
packaged files, the attachments of an Outlook message. Chains of sectors are followed within the file's
own length, so that a chain that runs in circles ends. Raises :class:`Undecided` for a broken file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from policies.content_finding import Look, Undecided

MAX_ENTRIES = 20_000
MAX_STREAM = 32 << 20
_END_OF_CHAIN = 0xFFFFFFFA  # and above: no sector
_INSTALLER = bytes.fromhex("8410 0c00 0000 0000 c000 000000000046".replace(" ", ""))
_DIRECTORY_ENTRY = struct.Struct("<64sHBBLLL16sLQQLQ")


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    kind: int  # 1 storage, 2 stream, 5 root
    clsid: bytes
    start: int
    size: int


class _Compound:
    def __init__(self, content: bytes, look: Look) -> None:
        self.content = content
        self.look = look
        try:
            (version, _, shift, mini_shift) = struct.unpack_from("<4H", content, 26)
            (n_fat, directory, _, self.cutoff, mini, _, difat, _) = struct.unpack_from("<8L", content, 44)
        except struct.error:
            raise Undecided("unreadable") from None
        if shift not in (9, 12) or mini_shift != 6 or version not in (3, 4):
            raise Undecided("unreadable")
        self.size = 1 << shift
        self.most = len(content) // self.size + 1
        if n_fat > self.most:
            raise Undecided("unreadable")
        self.fat = self._fat(n_fat, difat)
        self.entries = self._entries(directory)
        self.mini_fat: list[int] = []
        self.mini_stream = b""
        root = self.entries[0]
        if mini < _END_OF_CHAIN:
            raw = self._chain(mini, MAX_STREAM)
            self.mini_fat = list(struct.unpack(f"<{len(raw) // 4}L", raw[: len(raw) // 4 * 4]))
            self.mini_stream = self._chain(root.start, min(root.size, MAX_STREAM))

    def sector(self, number: int) -> bytes:
        at = (number + 1) * self.size
        return self.content[at : at + self.size]

    def _fat(self, count: int, difat: int) -> list[int]:
        listed = list(struct.unpack_from("<109L", self.content, 76)) if len(self.content) >= 512 else []
        steps = 0
        while difat < _END_OF_CHAIN and steps <= self.most:
            block = self.sector(difat)
            if len(block) < self.size:
                raise Undecided("unreadable")
            numbers = struct.unpack(f"<{self.size // 4}L", block)
            listed.extend(numbers[:-1])
            difat = numbers[-1]
            steps += 1
        out: list[int] = []
        for number in listed[:count]:
            if number >= _END_OF_CHAIN:
                continue
            block = self.sector(number)
            out.extend(struct.unpack(f"<{len(block) // 4}L", block[: len(block) // 4 * 4]))
            if len(out) > 4 * self.most + 4096:
                break
        self.look.bounds.check()
        return out

    def _chain(self, start: int, limit: int) -> bytes:
        out: list[bytes] = []
        length = steps = 0
        number = start
        while number < _END_OF_CHAIN and length < limit:
            if number >= len(self.fat) or steps > self.most:
                raise Undecided("unreadable")
            block = self.sector(number)
            out.append(block)
            length += self.size
            number = self.fat[number]
            steps += 1
        return b"".join(out)[:limit]

    def _entries(self, directory: int) -> list[_Entry]:
        raw = self._chain(directory, MAX_ENTRIES * 128)
        self.look.bounds.count(len(raw) // 128)
        out = []
        for at in range(0, len(raw) - 127, 128):
            (name, length, kind, _, _, _, _, clsid, _, _, _, start, size) = _DIRECTORY_ENTRY.unpack_from(
                raw, at
            )
            if kind in (1, 2, 5):
                text = name[: max(0, min(length, 64) - 2)].decode("utf-16-le", "replace")
                out.append(_Entry(text, kind, clsid, start, size & 0xFFFFFFFF if self.size == 512 else size))
        if not out or out[0].kind != 5:
            raise Undecided("unreadable")
        return out

    def stream(self, entry: _Entry, limit: int = MAX_STREAM) -> bytes:
        """The first ``limit`` octets of a stream."""
        want = min(entry.size, limit)
        if entry.size >= self.cutoff:
            return self._chain(entry.start, want)
        out: list[bytes] = []
        number = entry.start
        while number < _END_OF_CHAIN and len(out) * 64 < want:
            if number >= len(self.mini_fat) or len(out) > len(self.mini_fat):
                raise Undecided("unreadable")
            out.append(self.mini_stream[number * 64 : number * 64 + 64])
            number = self.mini_fat[number]
        return b"".join(out)[:want]


def read_ole(content: bytes, look: Look) -> None:
    """What a compound file holds."""
    file = _Compound(content, look)
    by_name = {e.name.lower(): e for e in reversed(file.entries)}
    if file.entries[0].clsid[1:] == _INSTALLER[1:] and file.entries[0].clsid[0] in (0x82, 0x84, 0x86):
        look.executable = True
    if "encryptedpackage" in by_name or "encryptedsummary" in by_name:
        look.encrypted = True
    if not {"_vba_project", "_vba_project_cur", "vba", "macros"}.isdisjoint(by_name):
        look.macros = True
    if not {"_signatures", "_xmlsignatures", "\x05digitalsignature", "\x05msidigitalsignature"}.isdisjoint(
        by_name
    ):
        look.signed = True
    _document(file, by_name, look)
    _packages(file, look)
    if any(e.name == "__properties_version1.0" for e in file.entries):
        _message(file, look)


def _document(file: _Compound, by_name: dict[str, _Entry], look: Look) -> None:
    if (entry := by_name.get("worddocument")) is not None:
        head = file.stream(entry, 32)
        if len(head) >= 12 and head[11] & 0x01:  # FibBase.fEncrypted, MS-DOC §2.5.2
            look.encrypted = True
    for name in ("workbook", "book"):
        if (entry := by_name.get(name)) is not None:
            _workbook(file.stream(entry, 1 << 20), look)
    entry = by_name.get("current user")
    if entry is not None and file.stream(entry, 32)[12:16] == b"\xdf\xc4\xd1\xf3":
        look.encrypted = True  # the token of an encrypted document, MS-PPT §2.3.2


def _workbook(data: bytes, look: Look) -> None:
    """Password and macro sheets by the records before the first sheet (MS-XLS §2.4.117, §2.4.28)."""
    at = 0
    for _ in range(5000):
        if at + 4 > len(data):
            return
        kind, length = struct.unpack_from("<HH", data, at)
        if kind == 0x2F:
            look.encrypted = True
        elif kind == 0x85 and data[at + 9 : at + 10] == b"\x01":
            look.macros = True
        elif kind == 0x0A:
            return
        at += 4 + length


def _packages(file: _Compound, look: Look) -> None:
    """Files that were dropped into a document: Ole10Native streams (MS-OLEDS §2.3.6)."""
    for entry in file.entries:
        if entry.name.lower() == "\x01ole10native" and entry.kind == 2:
            data = file.stream(entry)
            end = data.find(b"\0", 6, 1030)
            stop = data.find(b"\0", end + 1, end + 1030)
            if end < 0 or stop < 0:
                raise Undecided("unreadable")
            name = data[6:end].decode("cp1256", "replace").replace("\\", "/").rpartition("/")[2]
            look.named(name)
            # After label and path: a flag, the length of a second path, that path, the length of the content.
            at = stop + 5
            at += 4 + int.from_bytes(data[at : at + 4], "little")
            size = int.from_bytes(data[at : at + 4], "little")
            if at + 4 + size > len(data):
                raise Undecided("unreadable")
            look.inside(name, data[at + 4 : at + 4 + size])


def _message(file: _Compound, look: Look) -> None:
    """The attachments of an Outlook message: their long names, and their content (MS-OXMSG §2.2.2)."""
    names: list[str] = []
    contents: list[bytes] = []
    for entry in file.entries:
        tag = entry.name[12:].upper()
        if entry.kind == 2 and entry.name.startswith("__substg1.0_"):
            if tag == "3707001F":
                names.append(file.stream(entry, 1024).decode("utf-16-le", "replace"))
            elif tag == "3707001E":
                names.append(file.stream(entry, 1024).decode("cp1256", "replace"))
            elif tag == "37010102":
                contents.append(file.stream(entry))
    for name in names:
        look.named(name.split("\0", 1)[0])
    for content in contents:
        look.inside("", content)
