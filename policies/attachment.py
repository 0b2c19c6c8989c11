"""The attachments of a message as facts for rules and people: type by content, and what is found in it.

The type is libmagic's (``python-magic``) over enough of the content to tell an Office file from a plain
archive; what else a content is, holds or hides is :mod:`policies.content`'s to find out, within the bounds
of one letter. Nothing here raises: what cannot be told is ``application/octet-stream``, what cannot be
decided is said so in ``undecided``.
"""

from __future__ import annotations

import hashlib
import re

from policies.attachment_fact import AttachmentFact
from policies.content import look_at
from policies.content_finding import Bounds
from policies.content_name import MACRO_EXTENSIONS, extension, oddities, runs
from policies.content_type import UNKNOWN, mismatch, sniff
from tracker.header import Buffer
from tracker.mime import MESSAGE_TYPES, Part, Structure, attachments, decoded, file_name

__all__ = ["UNKNOWN", "fact_of", "look", "sniff"]

_ENCODINGS = frozenset(
    {"", "7bit", "8bit", "binary", "base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue", "uue"}
)
_ENCRYPTED_TYPES = frozenset({"application/pgp-encrypted", "application/encrypted"})
_SEALED = re.compile(r"enveloped-data", re.IGNORECASE)


def look(
    octets: Buffer, structure: Structure, *, report: bool = False, bounds: Bounds | None = None
) -> tuple[AttachmentFact, ...]:
    """The attachments of a message; ``report``: the message it gives back is none. Sizes in octets."""
    limits = bounds or Bounds()
    return tuple([part_fact(octets, part, limits)[0] for part in attachments(structure, report=report)])


def part_fact(octets: Buffer, part: Part, bounds: Bounds) -> tuple[AttachmentFact, bytes]:
    """One part as a fact, and the digest of its content."""
    content = decoded(octets, part)
    digest = hashlib.sha256(content)
    doubt = ""
    if part.encoding not in _ENCODINGS or (part.encoding == "base64" and _goes_on(octets, part)):
        doubt = "ambiguous"  # what we decode and what a client decodes may be two things
    if part.content_type == "message/partial":
        doubt = "unreadable"  # a piece of something (RFC 2046 §5.2.2)
    sealed = part.content_type in _ENCRYPTED_TYPES or (
        part.content_type.endswith("/pkcs7-mime")
        and _SEALED.match(part.params.get("smime-type", "")) is not None
    )
    fact = fact_of(
        content,
        part.filename or "",
        part.content_type,
        bounds,
        sha256=digest.hexdigest(),
        other_name=part.params.get("name") or "",
        encrypted=sealed,
        doubt=doubt,
    )
    return fact, digest.digest()


def fact_of(
    content: bytes,
    name: str,
    declared: str,
    bounds: Bounds,
    *,
    sha256: str,
    other_name: str = "",
    encrypted: bool = False,
    doubt: str = "",
) -> AttachmentFact:
    """What is known of a content that came under ``name`` and, where the message says two, ``other_name``."""
    shown = file_name(name) or ""
    last = extension(name)
    odd = dict.fromkeys(oddities(name)) if name else {}
    executable, macros = runs(last), last in MACRO_EXTENSIONS
    if other_name and other_name != name:
        other = extension(other_name)
        if other != last:
            odd["two-names"] = None
            executable, macros = executable or runs(other), macros or other in MACRO_EXTENSIONS
    detected = sniff(content)
    found = look_at(content, shown, bounds, message=declared in MESSAGE_TYPES)
    if mismatch(last, detected):
        odd["mismatch"] = None
    return AttachmentFact(
        name=shown,
        declared=declared,
        detected=detected,
        size=len(content),
        sha256=sha256,
        extension=last,
        encrypted=encrypted or found.encrypted or detected == "application/encrypted",
        signed=found.signed,
        macros=macros or found.macros,
        executable=executable or found.executable,
        archive=found.archive,
        members=tuple(found.members),
        odd=(*odd, *[o for o in found.odd if o not in odd]),
        undecided=doubt or found.undecided,
    )


def _goes_on(octets: Buffer, part: Part) -> bool:
    """True when something stands after the padding of base64: decoders part there."""
    at = octets.find(b"=", part.start, part.end)
    return at >= 0 and bool(bytes(octets[at : part.end]).strip(b"= \t\r\n"))
