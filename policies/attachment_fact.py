"""What is known of one attachment: the value that rules ask, the record keeps and people read.

It is made where the content is read (:mod:`policies.attachment`), crosses from there as plain values,
and is part of the facts of a letter. Nothing here looks at content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentFact:
    """One attachment; ``detected`` is the type by content, ``sha256`` hexadecimal, ``size`` in octets.

    ``encrypted``, ``signed``, ``macros`` and ``executable`` are said of it and of what lies in it.
    ``undecided`` tells why that could not be found out to the end: timeout, nested, ratio, count,
    unreadable, ambiguous, too large; empty when it could. ``odd`` is what is strange about its name
    or form: path, bidi, control, nul, mismatch, double-extension, polyglot.
    """

    name: str
    declared: str
    detected: str
    size: int
    sha256: str
    extension: str = ""  # lower case, without the dot
    encrypted: bool = False
    signed: bool = False
    macros: bool = False
    executable: bool = False
    archive: bool = False
    members: tuple[str, ...] = ()  # names in an archive or an enclosed message, no more than are of use
    odd: tuple[str, ...] = ()
    undecided: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is at its default is left out."""
        out: dict[str, Any] = {
            "name": self.name,
            "declared": self.declared,
            "detected": self.detected,
            "size": self.size,
            "sha256": self.sha256,
        }
        for key in MORE:
            value = getattr(self, key)
            if value:
                out[key] = list(value) if isinstance(value, tuple) else value
        return out

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AttachmentFact:
        """The reverse of :meth:`to_json`; raises KeyError or TypeError for a broken record."""
        more: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**more)


# What a record of a fact holds only where there is something to tell.
MORE = (
    "extension",
    "encrypted",
    "signed",
    "macros",
    "executable",
    "archive",
    "members",
    "odd",
    "undecided",
)
