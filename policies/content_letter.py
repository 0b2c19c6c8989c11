"""The content of a whole letter: its attachments as facts, why it cannot be judged, its digests.

``read`` does all that needs the parts of a letter in one pass, within the bounds of processor time and
memory of :mod:`policies.content_finding`; it never raises on any octets. It is for a process of its own
(``gateway.reading_room``); ``plain`` tells which letters need none of it, because they are one text, a
text and the same as HTML, or a report in text, and no file hides in them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from policies.attachment import fact_of, part_fact
from policies.attachment_fact import AttachmentFact
from policies.content import FAULTS
from policies.content_finding import Bounds
from policies.content_type import kinds
from tracker.cited_number import Citation, cited
from tracker.header import Buffer, Headers, own_digest, scan
from tracker.mime import (
    HEADER_TYPES,
    MESSAGE_TYPES,
    REPORT_TYPES,
    Limits,
    Part,
    PartDigest,
    Structure,
    attachments,
    decoded,
    digests,
    file_name,
    walk,
)

MAX_ATTACHMENTS = 200  # that are looked at in one letter
MAX_PLAIN = 65_536  # octets of a letter whose parts are looked for where it is not read in a room
MAX_SIMPLE = 262_144  # the same of one text in ASCII, which takes a third of a millisecond

WALK = Limits(depth=30, parts=1000, passes=10, seconds=4.0)  # on the wall; processor time has its own limit
_PLAIN_WALK = Limits(depth=3, parts=8, passes=4, seconds=0.2)
_TEXTS = frozenset({"text/plain", "text/html"})
_REPORTS = REPORT_TYPES | HEADER_TYPES
_PLAIN_TYPES = (b"text/plain", b"text/html", b"multipart/alternative", b"multipart/report")
_UU = re.compile(rb"(?:\A|\n)begin(?:-base64)? [0-7]{3,4} ([^\r\n]{1,255})\r?\n[\x20-\x60]")
_DUPLICATES = frozenset({"duplicate Content-Type", "duplicate Content-Transfer-Encoding"})
_PGP_MARK = b"-----BEGIN PGP MESSAGE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What was read. ``own`` is the digest of the author's own fields and the body, ``text`` that of the
    text, ``parts`` those of the other leaves; None and empty where reading was cut off. ``pgp``: an
    encrypted OpenPGP message stands in it as text."""

    attachments: tuple[AttachmentFact, ...] = ()
    undecidable: tuple[str, ...] = ()
    own: bytes | None = None
    text: bytes | None = None
    parts: tuple[bytes, ...] = ()
    pgp: bool = False
    cites: tuple[Citation, ...] = ()  # letters that the first lines refer to

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "attachments": [a.to_json() for a in self.attachments],
            "undecidable": list(self.undecidable),
            "own": self.own.hex() if self.own is not None else None,
            "text": self.text.hex() if self.text is not None else None,
            "parts": [p.hex() for p in self.parts],
            "pgp": self.pgp,
            "cites": [[c.code, c.year, c.seq, c.own] for c in self.cites],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Content:
        """The reverse; raises ValueError for anything else."""
        try:
            return cls(
                attachments=tuple([AttachmentFact.from_json(a) for a in data["attachments"]]),
                undecidable=tuple([str(u) for u in data["undecidable"]]),
                own=bytes.fromhex(data["own"]) if data["own"] is not None else None,
                text=bytes.fromhex(data["text"]) if data["text"] is not None else None,
                parts=tuple([bytes.fromhex(p) for p in data["parts"]]),
                pgp=bool(data["pgp"]),
                cites=tuple([Citation(*values) for values in data["cites"]]),
            )
        except (KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"no content of a letter: {e!r}") from None


def has_files_in_text(octets: Buffer) -> bool:
    """True when a file may stand in the text itself, as uuencode puts it there."""
    return octets.find(b"begin") >= 0 and _UU.search(octets) is not None


def has_pgp_in_text(octets: Buffer, headers: Headers) -> bool:
    """True when an encrypted OpenPGP message stands in the body as it is (RFC 9580 §6.2)."""
    return octets.find(_PGP_MARK, headers.body_start) >= 0


def plain(octets: Buffer, headers: Headers) -> Structure | None:
    """The structure of a letter within the bounds above that is nothing but a text, a text and its
    HTML, or a report in text; None for any other."""
    if len(octets) > MAX_SIMPLE:
        return None
    declared = (headers.raw("content-type") or b"text/plain").lstrip().lower()
    if not declared.startswith(_PLAIN_TYPES):
        return None
    if len(octets) > MAX_PLAIN and not (declared.startswith(b"text/plain") and bytes(octets).isascii()):
        return None
    if has_files_in_text(octets):
        return None
    structure = walk(octets, headers, _PLAIN_WALK)
    if any(fault in FAULTS for fault in structure.faults):
        return None
    for number, part in enumerate(structure.parts):
        if part.container:
            if number or part.encoding not in ("", "7bit", "8bit", "binary"):
                return None
        elif not _shown(part):
            return None
        if number and not _DUPLICATES.isdisjoint(part.headers.faults):
            return None
    return structure


def _shown(part: Part) -> bool:
    """True for a leaf that is text to any client, and nothing but text."""
    if part.filename or part.disposition == "attachment" or part.within >= 0:
        return False
    return part.content_type in _TEXTS or (
        part.content_type in _REPORTS and part.encoding in ("", "7bit", "8bit", "quoted-printable")
    )


def read(octets: Buffer, bounds: Bounds | None = None) -> Content:
    """Everything that is in a letter. Never raises."""
    limits = bounds or Bounds()
    headers = scan(octets)
    structure = walk(octets, headers, WALK)
    doubts = dict.fromkeys(FAULTS[fault] for fault in structure.faults if fault in FAULTS)
    for number, part in enumerate(structure.parts):
        if (number and not _DUPLICATES.isdisjoint(part.headers.faults)) or (
            part.container and part.encoding in ("base64", "quoted-printable")
        ):
            doubts["ambiguous structure"] = None
    found = attachments(structure)
    found.extend(p for p in structure.parts if p not in found and _hidden(octets, p))
    if len(found) > MAX_ATTACHMENTS:
        doubts["too many parts"] = None
    facts: list[AttachmentFact] = []
    known: dict[str, PartDigest] = {}
    for part in found[:MAX_ATTACHMENTS]:
        fact, digest = part_fact(octets, part, limits)
        facts.append(fact)
        known[part.path] = PartDigest(path=part.path, name=part.filename, size=fact.size, sha256=digest)
    if has_files_in_text(octets):
        for part in structure.leaves():
            if part.content_type.startswith("text/") and part not in found:
                facts.extend(_in_text(octets, part, limits))
    if any(f.undecided == "timeout" for f in facts):
        doubts["time"] = None
    made = digests(octets, structure, known)
    return Content(
        attachments=tuple(facts),
        undecidable=tuple(doubts),
        own=own_digest(octets, headers),
        text=made.text,
        parts=tuple([p.sha256 for p in made.parts]),
        pgp=has_pgp_in_text(octets, headers),
        cites=cited(octets, structure),
    )


def _hidden(octets: Buffer, part: Part) -> bool:
    """True for what nobody calls an attachment and some client shows as one: a message that a report gives
    back, and parts of a report that have a name or are no text."""
    if part.within >= 0 or part.container:
        return False
    if part.content_type in MESSAGE_TYPES:
        return True
    if part.content_type not in _REPORTS:
        return False
    return part.filename is not None or bool(kinds(decoded(octets, part)))


def _in_text(octets: Buffer, part: Part, bounds: Bounds) -> list[AttachmentFact]:
    """Files that stand uuencoded in a text: some clients show them as attachments."""
    out = []
    text = decoded(octets, part)
    for found in list(_UU.finditer(text))[:20]:
        start = found.start() + 1 if text[found.start() : found.start() + 1] == b"\n" else found.start()
        stop = text.find(b"\nend", start)
        block = text[start : len(text) if stop < 0 else stop + 5]
        content = decoded(block, _uu_part(part, len(block)))
        name = found[1].decode("utf-8", "replace")
        digest = hashlib.sha256(content).hexdigest()
        doubt = "ambiguous" if block.startswith(b"begin-base64") else ""
        out.append(fact_of(content, name, "text/x-uuencode", bounds, sha256=digest, doubt=doubt))
    return out


def _uu_part(part: Part, size: int) -> Part:
    return Part(
        path=part.path,
        content_type="text/x-uuencode",
        params={},
        encoding="uuencode",
        disposition="attachment",
        filename=file_name(part.filename),
        headers=part.headers,
        start=0,
        end=size,
        depth=part.depth,
        parent=part.parent,
    )
