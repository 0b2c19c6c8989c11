"""The header of archived octets as text, and the original without what is not a receiver's to read.

The archive keeps the octets exactly as they came, Bcc field included (promise 3). A receiving
agency is given them without ``Bcc`` and ``Resent-Bcc``; nothing else is touched, and no octet is
re-encoded. Works on the first ``HEADER_LIMIT`` octets; a longer header is not given to a receiver
at all (:func:`ends_within`), because what stands in its rest was not looked at.
"""

from __future__ import annotations

import re

HEADER_LIMIT = 1 << 20  # octets
SHOWN_LIMIT = 64 << 10

_END = re.compile(rb"\r?\n\r?\n|\A\r?\n")
_BCC = re.compile(
    rb"^(?:resent-)?bcc[ \t]*:[^\n]*(?:\n|\Z)(?:[ \t][^\n]*(?:\n|\Z))*", re.IGNORECASE | re.MULTILINE
)


def header_end(octets: bytes) -> int:
    """The offset at which the header ends, its last line end included; all of it without a body."""
    match = _END.search(octets)
    if match is None:
        return len(octets)
    return match.start() + (2 if octets[match.start() : match.start() + 1] == b"\r" else 1)


def ends_within(octets: bytes, size: int) -> bool:
    """The header ends within these first octets of a message of ``size``."""
    return len(octets) >= size or _END.search(octets) is not None


def without_bcc(octets: bytes) -> bytes:
    """The beginning of a message without its Bcc fields; the rest byte for byte."""
    end = header_end(octets)
    return _BCC.sub(b"", octets[:end]) + octets[end:]


def header_text(octets: bytes) -> str:
    """The header as text for the screen: UTF-8 where it is that, cut at ``SHOWN_LIMIT``."""
    return octets[: min(header_end(octets), SHOWN_LIMIT)].decode("utf-8", "replace").replace("\r\n", "\n")
