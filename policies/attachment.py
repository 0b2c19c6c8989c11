"""The attachments of a message with their type by content, as facts for rules and people.

libmagic (``python-magic``) reads the octets, not the name. It is asked about attachments only, with
one ``Magic`` object for each thread since its handle is not to be shared, and gets enough to tell an
Office file from a plain archive; where it still says archive, the names in the archive's own
directory decide (ECMA-376 part 2). Never raises: what cannot be told is ``application/octet-stream``.
"""

from __future__ import annotations

import hashlib
import re
import threading

import magic

from policies.attachment_fact import AttachmentFact
from tracker.header import Buffer
from tracker.mime import Structure, attachments, decoded, file_name

SNIFF_OCTETS = 1 << 20  # libmagic looks at no more of a buffer by default
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


def sniff(content: bytes) -> str:
    """The MIME type that the content shows, in lower case."""
    if not content:
        return EMPTY
    try:
        found = _magic().from_buffer(content[:SNIFF_OCTETS]).lower()
    except (magic.MagicException, OSError, UnicodeError):
        return UNKNOWN
    if found in ("application/zip", UNKNOWN) and content[:4] == b"PK\x03\x04":
        return _office(content) or "application/zip"
    return found or UNKNOWN


def _magic() -> magic.Magic:
    reader: magic.Magic | None = getattr(_thread, "reader", None)
    if reader is None:
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


def look(octets: Buffer, structure: Structure, *, report: bool = False) -> tuple[AttachmentFact, ...]:
    """The attachments of a message; ``report``: the message it gives back is none. Sizes in octets."""
    out = []
    for part in attachments(structure, report=report):
        content = decoded(octets, part)
        out.append(
            AttachmentFact(
                name=file_name(part.filename) or "",
                declared=part.content_type,
                detected=sniff(content),
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
        )
    return tuple(out)
