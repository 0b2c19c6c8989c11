"""MIME parts of our own messages: texts, attachments, returned headers, and what holds them together.

STANDARDS
    RFC 2045 §6 (base64 and quoted-printable), RFC 2046 §5.1 (multipart) and §5.2.1 (an enclosed
    message is never encoded), RFC 6522 (multipart/report), RFC 6532 §3.7 and RFC 6533 (``message/global``,
    which may be encoded).

All of it is 7-bit but an enclosed 8-bit message. A boundary is derived from a digest of the parts,
so the same parts always give the same octets, and is checked against them. Never raises for content.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from tracker.header_writer import LIMIT, field, parameter_field, structured

_UNENCODABLE = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n")
_LONG_LINE = re.compile(rb"[^\n]{%d}" % (LIMIT + 1))


@dataclass(frozen=True, slots=True)
class Part:
    """The header and the body of one part; the body ends without regard to a last CRLF."""

    header: bytes
    body: bytes


def wire_safe(octets: bytes) -> bool:
    """True for content that may travel as it is: CRLF lines of at most 998 octets, no NUL."""
    return _UNENCODABLE.search(octets) is None and _LONG_LINE.search(octets) is None


def text(subtype: str, content: str) -> Part:
    """``text/plain`` or ``text/html`` in UTF-8, base64."""
    header = parameter_field("Content-Type", f"text/{subtype}", [("charset", "utf-8")])
    return Part(header + _BASE64, _base64(content.encode()))


def attachment(content_type: str, name: str, octets: bytes, description: str) -> Part:
    """A file whose octets matter; base64, so that nothing on the way can change them."""
    header = parameter_field("Content-Type", content_type, [("name", name)])
    header += parameter_field("Content-Disposition", "attachment", [("filename", name)])
    return Part(header + field("Content-Description", description) + _BASE64, _base64(octets))


def encoded_if_needed(content_type: str, octets: bytes, description: str) -> Part:
    """A part that may be quoted-printable where it is not 7-bit already."""
    header = parameter_field("Content-Type", content_type) + field("Content-Description", description)
    if octets.isascii() and wire_safe(octets):
        return Part(header + structured("Content-Transfer-Encoding", "7bit"), octets)
    return Part(
        header + structured("Content-Transfer-Encoding", "quoted-printable"), quoted_printable(octets)
    )


def enclosed(octets: bytes, description: str) -> Part:
    """``message/rfc822`` as it is (RFC 2046 §5.2.1); only for what is :func:`wire_safe`.

    RFC 2046 §5.1.1: the CRLF before a boundary belongs to the boundary, so a message that ends with
    one gets another, to come out octet for octet.
    """
    header = parameter_field("Content-Type", "message/rfc822") + field("Content-Description", description)
    return Part(
        header + structured("Content-Transfer-Encoding", "7bit" if octets.isascii() else "8bit"),
        octets + b"\r\n" if octets.endswith(b"\r\n") else octets,
    )


def multipart(subtype: str, parts: Sequence[Part], parameters: Sequence[tuple[str, str]] = ()) -> Part:
    """The parts under a boundary that none of them contains."""
    digest = sha256()
    for part in parts:
        digest.update(part.header)
        digest.update(part.body)
    eight = not all(part.body.isascii() for part in parts)
    count = 0
    while True:
        # RFC 2045 §6.7 (2): "=_" stands in no encoded body.
        boundary = f"=_wasl_{digest.hexdigest()[:24]}" + (f"_{count}" if count else "")
        mark = b"--" + boundary.encode()
        if not any(mark in part.body for part in parts):
            break
        count += 1
    body = bytearray()
    for part in parts:
        body += mark + b"\r\n" + part.header + b"\r\n" + part.body
        if not part.body.endswith(b"\r\n"):
            body += b"\r\n"
    body += mark + b"--\r\n"
    header = parameter_field("Content-Type", f"multipart/{subtype}", [*parameters, ("boundary", boundary)])
    if eight:
        header += structured("Content-Transfer-Encoding", "8bit")
    return Part(header, bytes(body))


def quoted_printable(octets: bytes) -> bytes:
    """RFC 2045 §6.7: CRLF stays a line break, everything else unusual is escaped, bare CR and LF too."""
    out = bytearray()
    for i, line in enumerate(octets.split(b"\r\n")):
        if i:
            out += b"\r\n"
        column = 0
        for j, byte in enumerate(line):
            last = j == len(line) - 1
            plain = (33 <= byte <= 126 and byte != 61) or (byte in (32, 9) and not last)
            piece = b"%c" % byte if plain else b"=%02X" % byte
            if column + len(piece) > (76 if last else 75):
                out += b"=\r\n"
                column = 0
            out += piece
            column += len(piece)
    return bytes(out)


_BASE64 = structured("Content-Transfer-Encoding", "base64")


def _base64(octets: bytes) -> bytes:
    code = b64encode(octets)
    return b"".join(code[i : i + 76] + b"\r\n" for i in range(0, len(code), 76))
