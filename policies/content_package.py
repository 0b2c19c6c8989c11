"""What a zip archive is for: Office and OpenDocument packages, programs, plain archives; and PDF and RTF.

A package tells what it is by the names of its members (ECMA-376 part 2, ODF 1.3 part 2). Macros,
encryption and signatures are seen by names and by the list of content types; what is embedded in a
document, and each member of a plain archive, is looked at by content within the bounds.
"""

from __future__ import annotations

import binascii
import re
from functools import partial

from policies.content_finding import Look, Undecided
from policies.content_name import HOLDS_MORE, extension
from policies.content_type import kinds
from policies.content_zip import Entry, entries, member

HEAD = 1024  # octets of a member that tell its kind
MAX_TYPES = 1 << 20  # octets of the list of content types
MAX_OBJECTS = 50  # objects of an RTF document that are looked into
MAX_OBJECT = 16 << 20

_PROGRAMS = frozenset(
    {"meta-inf/manifest.mf", "androidmanifest.xml", "classes.dex", "appxmanifest.xml", "install.rdf"}
)


def read_zip(content: bytes, look: Look) -> None:
    """A zip archive, whatever it is for."""
    try:
        found, before = entries(content, look.bounds)
    except Undecided:
        look.archive = True
        raise
    if before and content.startswith(b"PK\x03\x04"):
        raise Undecided("ambiguous")  # two archives, one behind the other
    names = {e.name.lower().replace("\\", "/").lstrip("/"): e for e in found}
    if any(e.encrypted for e in found):
        look.encrypted = True
    if not _PROGRAMS.isdisjoint(names):
        look.executable = True
    if "[content_types].xml" in names:
        _office(content, names, look)
    elif "mimetype" in names and "meta-inf/manifest.xml" in names:
        _open_document(content, names, look)
    else:
        look.archive = True
        _members(content, found, look)


def _office(content: bytes, names: dict[str, Entry], look: Look) -> None:
    types = member(content, names["[content_types].xml"], look.bounds, MAX_TYPES).lower()
    if b"vbaproject" in types or b"macroenabled" in types or b"macrosheet" in types:
        look.macros = True
    for name, entry in names.items():
        if name.endswith("vbaproject.bin") or "/macrosheets/" in name or "/dialogsheets/" in name:
            look.macros = True
        elif name.startswith("_xmlsignatures/"):
            look.signed = True
        elif "/embeddings/" in name or ("/activex/" in name and name.endswith(".bin")):
            look.named(entry.name)
            _content(content, entry, look)


def _open_document(content: bytes, names: dict[str, Entry], look: Look) -> None:
    manifest = member(content, names["meta-inf/manifest.xml"], look.bounds, MAX_TYPES)
    if b"encryption-data" in manifest or "encrypted-package" in names:
        look.encrypted = True
    for name, entry in names.items():
        if name.startswith(("basic/", "scripts/")) and not entry.folder:
            look.macros = True
        elif name in ("meta-inf/documentsignatures.xml", "meta-inf/signatures.xml"):
            look.signed = True
        elif name.startswith("object ") and "/" not in name.rstrip("/"):
            look.named(entry.name)
            _content(content, entry, look)


def _members(content: bytes, found: list[Entry], look: Look) -> None:
    for entry in found:
        look.named(entry.name)
        if not entry.folder:
            _content(content, entry, look)


def _content(content: bytes, entry: Entry, look: Look) -> None:
    """Look at one member: at its head, and at all of it where that may hold more."""
    if entry.encrypted:
        look.encrypted = True
    else:
        look.apart(partial(_opened, content, entry, look))


def _opened(content: bytes, entry: Entry, look: Look) -> None:
    head = member(content, entry, look.bounds, HEAD)
    if not kinds(head) and extension(entry.name) not in HOLDS_MORE:
        return
    whole = member(content, entry, look.bounds)
    if len(whole) < entry.size:
        raise Undecided("too large")
    look.inside(entry.name, whole)


# /Encrypt in a trailer, any letter of it as #xx (ISO 32000-2 §7.3.5).
_ENCRYPT = re.compile(
    rb"/(?:E|#45)(?:n|#6[eE])(?:c|#63)(?:r|#72)(?:y|#79)(?:p|#70)(?:t|#74)(?=[\s<\x00])\s{0,20}(?:\d{1,10}\s|<<)"
)
_BYTE_RANGE = re.compile(rb"/ByteRange\s{0,20}\[")


def read_pdf(content: bytes, look: Look) -> None:
    """Password, signature and embedded files of a PDF (ISO 32000-2 §7.6, §12.8, §7.11.4)."""
    if _ENCRYPT.search(content) is not None:
        look.encrypted = True
    if _BYTE_RANGE.search(content) is not None:
        look.signed = True
    if b"/EmbeddedFile" in content:
        look.odd["embedded"] = None
    look.bounds.check()


_OBJECT = re.compile(rb"\\objdata\b")
_HEX = re.compile(rb"[0-9a-fA-F]")
_CONTROL = re.compile(rb"\{\\\*[^{}]{0,1000}\}|\\[a-zA-Z]{1,40}-?\d{0,20} ?|\\'[0-9a-fA-F]{2}|[^0-9a-fA-F]")


def read_rtf(content: bytes, look: Look) -> None:
    """Objects embedded in RTF as hexadecimal text: compound files and packages (RTF 1.9.1, MS-OLEDS)."""
    for number, found in enumerate(_OBJECT.finditer(content)):
        if number >= MAX_OBJECTS:
            raise Undecided("count")
        end = content.find(b"\\objdata", found.end())
        digits = _CONTROL.sub(b"", content[found.end() : end if end >= 0 else len(content)][: 2 * MAX_OBJECT])
        data = binascii.unhexlify(digits[: len(digits) & ~1])
        look.odd["embedded"] = None
        look.bounds.inflate(len(data))
        at = data.find(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0, 4096)
        if at >= 0:
            look.inside("", data[at:])
            continue
        at = data.find(b"MZ")
        while at >= 0:
            if kinds(data[at : at + 4096]) == ["program"]:
                look.executable = True
                break
            at = data.find(b"MZ", at + 2)
            look.bounds.check()
