"""What a content is: more than one look at its octets.

libmagic gives the MIME type that people and rules see. What decides how the content is read are its own
first octets, the places where other formats keep their marks, and the end, where a zip keeps its
directory: a file that is two things at once is looked at as both and called a polyglot. libmagic may be
fooled, and so may one signature; not all of them by the same octets. Never raises.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from policies.content_zip import ending

if TYPE_CHECKING:
    from magic import Magic

SNIFF_OCTETS = 1 << 20  # libmagic looks at no more of a buffer by default
SNIFF_TEXT = 4096  # of text that is enough, and each further octet costs
MAX_ENTRIES = 2000  # directory entries of an archive that are looked at

UNKNOWN = "application/octet-stream"
EMPTY = "application/x-empty"

_thread = threading.local()

# A central directory header: signature, 42 octets of numbers, the name (APPNOTE 4.3.12).
_ENTRY = re.compile(rb"PK\x01\x02.{42}(?=([^\x00-\x1f]{1,40}))", re.DOTALL)
_OFFICE = (
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    (b"visio/", "application/vnd.ms-visio.drawing"),
)

# Signatures of what is read here, of what runs, and of archives that are not read here.
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", "zip"),
    (b"PK00PK\x03\x04", "zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"%PDF-", "pdf"),
    (b"{\\rt", "rtf"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"RE~^", "unread"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"MSCF", "cab"),
    (b"\x78\x9f\x3e\x22", "tnef"),
    (b"\x7fELF", "program"),
    (b"\xfe\xed\xfa\xce", "program"),
    (b"\xfe\xed\xfa\xcf", "program"),
    (b"\xce\xfa\xed\xfe", "program"),
    (b"\xcf\xfa\xed\xfe", "program"),
    (b"\xca\xfe\xba\xbe", "program"),  # Mach-O for several machines, and Java classes
    (b"\xca\xfe\xba\xbf", "program"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", "program"),  # MS-SHLLINK
    (b"dex\n", "program"),
    (b"\x00asm", "program"),
    (b"ITSF", "program"),
    (b"\xed\xab\xee\xdb", "program"),
    (b"!<arch>\ndebian", "program"),
    (b"#!", "program"),
    (b"\x1f\x9d", "unread"),
    (b"\x1f\xa0", "unread"),
    (b"\x04\x22\x4d\x18", "unread"),
    (b"\x28\xb5\x2f\xfd", "unread"),
    (b"LZIP", "unread"),
    (b"\x60\xea", "unread"),
    (b"MSWIM\x00\x00\x00", "unread"),
    (b"conectix", "unread"),
    (b"vhdxfile", "unread"),
    (b"KDMV", "unread"),
    (b"070701", "unread"),
    (b"070702", "unread"),
    (b"070707", "unread"),
    (b"xar!", "unread"),
    (b"ISc(", "unread"),
    (b"hsqs", "unread"),
    (b"SZDD", "unread"),
    (b"!<arch>\n", "unread"),
    (b"age-encryption.org/", "locked"),
    (b"-----BEGIN AGE ENCRYPTED FILE", "locked"),
    (b"-----BEGIN PGP MESSAGE", "locked"),
    (b"Salted__", "locked"),
    (b"-----BEGIN PGP SIGNATURE", "signature"),
    (b"-----BEGIN PGP SIGNED MESSAGE", "signature"),
)
_BY_TWO: dict[bytes, list[tuple[bytes, str]]] = {}
for _mark, _kind in _STARTS:
    _BY_TWO.setdefault(_mark[:2], []).append((_mark, _kind))

_BATCH = re.compile(rb"\A(?:\xef\xbb\xbf)?\s{0,200}@?echo[ \t]+off\b", re.IGNORECASE)
_SHORTCUT = re.compile(rb"\A(?:\xef\xbb\xbf)?\s{0,200}\[(?:InternetShortcut|Desktop Entry)\]", re.IGNORECASE)
_HTA = re.compile(rb"<hta:application", re.IGNORECASE)
_LZH = re.compile(rb"-l[hz][0-9ds]-")


def sniff(content: bytes) -> str:
    """The MIME type that the content shows, in lower case."""
    if not content:
        return EMPTY
    text = b"\0" not in content[:SNIFF_TEXT]
    try:
        found = _magic().from_buffer(content[: SNIFF_TEXT if text else SNIFF_OCTETS]).lower()
        if text and not found.startswith("text/") and len(content) > SNIFF_TEXT:
            found = _magic().from_buffer(content[:SNIFF_OCTETS]).lower()
    except Exception:  # MagicException, or what its binding to C makes of odd answers: nothing is told
        return UNKNOWN
    if found in ("application/zip", UNKNOWN) and content[:4] == b"PK\x03\x04":
        return _office(content) or "application/zip"
    return found or UNKNOWN


def _magic() -> Magic:
    reader: Magic | None = getattr(_thread, "reader", None)
    if reader is None:
        import magic  # with its tables: only where content is read

        reader = _thread.reader = magic.Magic(mime=True)
    return reader


def _office(content: bytes) -> str | None:
    """The Office type of an OOXML package, by the names in its directory."""
    marked = False
    kind: str | None = None
    for count, entry in enumerate(_ENTRY.finditer(content)):
        name = entry[1]
        marked = marked or name.startswith(b"[Content_Types].xml")
        if kind is None:
            kind = next((told for start, told in _OFFICE if name.startswith(start)), None)
        if (marked and kind) or count >= MAX_ENTRIES:
            break
    return kind if marked else None


_HOLDERS = frozenset({"ole", "tnef", "tar", "cab", "cms"})


def kinds(content: bytes) -> list[str]:
    """How a content is to be read: the kind that its start shows, then what else it is as well.

    Kinds: zip, ole, pdf, rtf, 7z, rar, gzip, bzip2, xz, tar, cab, tnef, program, unread (an archive or
    image of a disk that is not read here), locked, signature, cms; none of them for anything else.
    """
    first = _start(content)
    out = [first] if first else []
    if first != "zip":
        end = ending(content)
        # What holds other files may hold a zip near its end, and is no zip for that.
        if end >= 0 and (first not in _HOLDERS or end + 22 == len(content)):
            out.append("zip")
    if first != "pdf" and first in ("", "program") and b"%PDF-" in content[:1024]:
        out.append("pdf")
    if first in ("", "pdf", "rtf") and content[257:262] == b"ustar":
        out.append("tar")
    if first in ("", "pdf", "program") and content[32769:32774] == b"CD001":
        out.append("unread")
    if content[-512:-508] == b"koly":
        out.append("unread")
    return out


def _start(content: bytes) -> str:
    for mark, kind in _BY_TWO.get(content[:2], ()):
        if content.startswith(mark):
            return kind
    if content[:2] in (b"MZ", b"ZM") and _dos(content):
        return "program"
    if content[:1] == b"\x30" and b"\x2a\x86\x48\x86\xf7\x0d\x01" in content[:32]:
        return "cms"
    if content[:1] in (b"\x5d", b"\x6d") and content[1:3] == b"\0\0" and content[5:13] in (b"\xff" * 8,):
        return "xz"
    if content[7:14] == b"**ACE**" or _LZH.match(content, 2) is not None:
        return "unread"
    if content[257:262] == b"ustar":
        return "tar"
    head = content[:4096]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head.replace(b"\0", b"")[2:]
    if _BATCH.match(head) or _SHORTCUT.match(head) or _HTA.search(head):
        return "program"
    return ""


def _dos(content: bytes) -> bool:
    """A program of DOS or Windows (PE format §2); not a text that begins with these letters."""
    if len(content) < 28:
        return False
    at = int.from_bytes(content[60:64], "little")
    if content[at : at + 2] in (b"PE", b"NE", b"LE", b"LX"):
        return True
    return any(c < 9 for c in content[2:64])


# What a file of some extension may show to libmagic; of others nothing is expected.
_TEXT = ("text/", "application/json", "application/csv", "message/", "application/xml")
_EXPECTED: dict[str, tuple[str, ...]] = {
    "pdf": ("application/pdf",),
    "doc": (
        "application/msword",
        "application/cdfv2",
        "application/x-ole",
        "text/rtf",
        "application/encrypted",
    ),
    "xls": ("application/vnd.ms-excel", "application/cdfv2", "application/x-ole", "application/encrypted"),
    "ppt": (
        "application/vnd.ms-powerpoint",
        "application/cdfv2",
        "application/x-ole",
        "application/encrypted",
    ),
    "docx": ("application/vnd.openxmlformats-officedocument.wordprocessingml", "application/encrypted"),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml", "application/encrypted"),
    "pptx": ("application/vnd.openxmlformats-officedocument.presentationml", "application/encrypted"),
    "rtf": ("text/rtf", "application/rtf"),
    "txt": _TEXT,
    "csv": _TEXT,
    "xml": _TEXT,
    "jpg": ("image/",),
    "jpeg": ("image/",),
    "png": ("image/",),
    "gif": ("image/",),
    "bmp": ("image/",),
    "tif": ("image/",),
    "tiff": ("image/",),
    "zip": (
        "application/zip",
        "application/x-zip",
        "application/vnd.",
        "application/java",
        "application/x-java",
    ),
    "rar": ("application/x-rar", "application/vnd.rar"),
    "7z": ("application/x-7z",),
    "mp4": ("video/", "audio/"),
    "mp3": ("audio/",),
    "eml": (*_TEXT, UNKNOWN),
    "odt": ("application/vnd.oasis",),
    "ods": ("application/vnd.oasis",),
    "odp": ("application/vnd.oasis",),
}


def mismatch(last: str, detected: str) -> bool:
    """True when an extension promises something else than the content shows."""
    expected = _EXPECTED.get(last)
    return expected is not None and detected != EMPTY and not detected.startswith(expected)
