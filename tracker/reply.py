"""SMTP replies and enhanced status codes as values (RFC 5321 §4.2, RFC 3463, RFC 2034).

A :class:`Reply` is what a server said or what we are about to say. Text that goes to the wire is
ASCII without control characters whatever it was made from; log text is kept elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=[ \t]|$)")
_UNSAFE = re.compile(r"[^\x20-\x7e]")


class ReplyError(ValueError):
    """A line is not an SMTP reply (RFC 5321 §4.2)."""


@dataclass(frozen=True, slots=True)
class EnhancedStatus:
    """An enhanced mail system status code, class.subject.detail (RFC 3463 §2)."""

    klass: int
    subject: int
    detail: int

    @classmethod
    def parse(cls, text: str) -> EnhancedStatus:
        """Read ``"5.1.1"``; raises :class:`ReplyError` on anything else."""
        match = _ENHANCED.fullmatch(text.strip())
        if match is None:
            raise ReplyError(f"not an enhanced status code: {text!r}")
        return cls(int(match[1]), int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply: three-digit code, optional enhanced status, text of one or more lines."""

    code: int
    text: str = ""
    status: EnhancedStatus | None = None

    @classmethod
    def of(cls, code: int, status: str, text: str) -> Reply:
        """Our own reply: ``Reply.of(550, "5.7.1", "Refused")``."""
        return cls(code, text, EnhancedStatus.parse(status))

    @classmethod
    def parse(cls, lines: list[str]) -> Reply:
        """Read the lines of one reply as received, without CRLF; raises :class:`ReplyError`."""
        if not lines:
            raise ReplyError("an empty reply")
        texts: list[str] = []
        code = 0
        status: EnhancedStatus | None = None
        for i, line in enumerate(lines):
            if len(line) < 3 or not line[:3].isdecimal() or not "2" <= line[0] <= "5":
                raise ReplyError(f"not a reply line: {line[:80]!r}")
            if i == 0:
                code = int(line[:3])
            rest = line[4:]
            match = _ENHANCED.match(rest)
            if match is not None and rest[0] == line[0]:
                status = status or EnhancedStatus.parse(match[0])
                rest = rest[match.end() + 1 :]
            texts.append(rest)
        return cls(code, "\n".join(texts), status)

    @property
    def positive(self) -> bool:
        """True for 2xx."""
        return 200 <= self.code < 300

    @property
    def transient(self) -> bool:
        """True for 4xx: try again later."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """True for 5xx: do not repeat."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        """One line, for logs and evidence: ``550 5.1.1 no such user``."""
        status = f"{self.status} " if self.status else ""
        return f"{self.code} {status}{' '.join(self.text.splitlines())}".rstrip()

    def wire(self) -> str:
        """The reply as it goes to the peer, lines joined by CRLF, without the last CRLF.

        RFC 2034 §4: the enhanced status is repeated on every line. Bytes outside printable ASCII
        are shown as ``?`` and no line is longer than 500 octets.
        """
        prefix = f"{self.status} " if self.status else ""
        lines = self.text.split("\n") or [""]
        out = []
        for i, line in enumerate(lines):
            mark = " " if i == len(lines) - 1 else "-"
            out.append(f"{self.code}{mark}{prefix}{_UNSAFE.sub('?', line)[:480]}".rstrip())
        return "\r\n".join(out)


# The answer to everything unforeseen (HOSTILE: never a permanent code, never the exception's text).
UNFORESEEN = Reply.of(451, "4.3.0", "Temporary failure, please try again later")
