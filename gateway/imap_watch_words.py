"""What goes to an IMAP server and what comes from it, as values: quoting, folder names, answers.

Going out: quoted strings that hold nothing which could end the command (RFC 9051 §4.3, §9), folder
names in modified UTF-7 (RFC 3501 §5.1.3). Coming in: one whole response, its literals beside it, becomes
nested lists of octets, with bounds on depth and number and without recursion.

Fails: :class:`Unspeakable` for text that may not go out, :class:`Garbage` for what no server should say.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 16
MAX_TOKENS = 20_000

_TOKEN = re.compile(
    rb'[ \t]*(?:(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\\r\n]|\\.)*)"'
    rb"|(?P<atom>(?:[^ \t()\"\[]+|\[[^\]]{0,500}\])+))"
)
_CODE = re.compile(rb"\[([A-Z0-9.\-]{1,40})(?: ([^\]]{0,4000}))?\]", re.IGNORECASE)
_NUMBERS = re.compile(r"\d{1,10}(?::(?:\d{1,10}|\*))?(?:,\d{1,10}(?::(?:\d{1,10}|\*))?)*")


class Unspeakable(ValueError):
    """Text that cannot be put into a command."""


class Garbage(ValueError):
    """A response that follows no grammar, or goes beyond all bounds."""


def quoted(text: str) -> str:
    """A quoted string; raises :class:`Unspeakable` for control characters and for what is not ASCII."""
    if not text.isascii() or not all(" " <= c <= "~" for c in text):
        raise Unspeakable("only printable ASCII can be quoted")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def encode_name(name: str) -> str:
    """A folder name in modified UTF-7; raises :class:`Unspeakable` for control characters."""
    out: list[str] = []
    wide: list[str] = []

    def flush() -> None:
        if wide:
            octets = "".join(wide).encode("utf-16-be", "strict")
            out.append("&" + base64.b64encode(octets).decode().rstrip("=").replace("/", ",") + "-")
            wide.clear()

    try:
        for c in name:
            if c < " " or "\x7f" <= c <= "\x9f":
                raise Unspeakable("control character in the name of a folder")
            if c <= "~":
                flush()
                out.append("&-" if c == "&" else c)
            else:
                wide.append(c)
        flush()
    except UnicodeEncodeError:
        raise Unspeakable("half of a character in the name of a folder") from None
    return "".join(out)


def decode_name(octets: bytes) -> str:
    """The name that modified UTF-7 stands for; what is none is shown as it is."""
    text = octets.decode("utf-8", "replace")
    if "&" not in text:
        return text

    def piece(match: re.Match[str]) -> str:
        body = match[1]
        if not body:
            return "&"
        try:
            raw = base64.b64decode(body.replace(",", "/") + "=" * (-len(body) % 4), validate=True)
            return raw.decode("utf-16-be")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return match[0]

    return re.sub(r"&([A-Za-z0-9+,]*)-", piece, text)


@dataclass(frozen=True, slots=True)
class Answer:
    """One untagged response: ``* 12 FETCH (…)`` has number 12, kind FETCH and one list."""

    kind: str
    number: int | None
    pieces: tuple[bytes, ...]  # text, literal, text, …; without "* ", number and kind

    def values(self) -> list[Any]:
        """What follows the kind: octets, None for NIL, lists; raises :class:`Garbage`."""
        return values(self.pieces)

    def code(self) -> tuple[str, bytes] | None:
        """The response code of an OK, NO, BAD or BYE: ``("UIDVALIDITY", b"12")``."""
        match = _CODE.match(self.pieces[0].lstrip(b" "))
        return None if match is None else (match[1].decode().upper(), match[2] or b"")


def answer(pieces: Sequence[bytes]) -> Answer:
    """Read a response that began with ``* ``; raises :class:`Garbage`."""
    first, _, rest = pieces[0][2:].partition(b" ")
    number = None
    if first.isdigit() and len(first) <= 10:
        number = int(first)
        first, _, rest = rest.partition(b" ")
    if not 0 < len(first) <= 40 or not first.isascii():
        raise Garbage("an untagged response of no kind")
    return Answer(first.decode("ascii").upper(), number, (rest, *pieces[1:]))


def values(pieces: Sequence[bytes]) -> list[Any]:
    """Nested lists of octets from text and the literals that stand between its pieces."""
    top: list[Any] = []
    stack = [top]
    count = 0
    for index, piece in enumerate(pieces):
        if index % 2:
            stack[-1].append(piece)
            continue
        at, end = 0, len(piece)
        while end and piece[end - 1] in b" \t":
            end -= 1
        if index + 1 < len(pieces):  # the {123} that announced the literal
            end = piece.rfind(b"{")
            if end < 0:
                raise Garbage("a response that cannot be read")
            while end and piece[end - 1] in b" \t":
                end -= 1
        while at < end:
            match = _TOKEN.match(piece, at, end)
            count += 1
            if match is None or count > MAX_TOKENS:
                raise Garbage("a response that cannot be read")
            at = match.end()
            kind = match.lastgroup
            if kind == "open":
                if len(stack) > MAX_DEPTH:
                    raise Garbage("a response with too many parentheses")
                inner: list[Any] = []
                stack[-1].append(inner)
                stack.append(inner)
            elif kind == "close":
                if len(stack) == 1:
                    raise Garbage("a response with a parenthesis too many")
                stack.pop()
            elif kind == "quoted":
                stack[-1].append(re.sub(rb"\\(.)", rb"\1", match["quoted"]))
            else:
                atom = match["atom"]
                stack[-1].append(None if atom.upper() == b"NIL" else atom)
    if len(stack) > 1:
        raise Garbage("a response with a parenthesis missing")
    return top


def pairs(fetched: Answer) -> dict[str, Any]:
    """The items of a FETCH response by their names; BODY[…] in whatever form is ``BODY``."""
    found = fetched.values()
    if not found or not isinstance(found[0], list) or len(found[0]) % 2:
        raise Garbage("a FETCH that cannot be read")
    out: dict[str, Any] = {}
    items = found[0]
    for name, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(name, bytes):
            raise Garbage("a FETCH with an item of no name")
        out["BODY" if name[:5].upper() == b"BODY[" else name.decode("ascii", "replace").upper()] = value
    return out


def number(value: object, most: int = (1 << 63) - 1) -> int | None:
    """A number that is no more than ``most``, from octets; None for anything else."""
    if isinstance(value, bytes) and value.isdigit() and len(value) <= 19:
        found = int(value)
        return found if found <= most else None
    return None


def uid_set(uids: Iterable[int]) -> str:
    """``1:3,7`` of sorted numbers."""
    out: list[str] = []
    first = last = -1
    for uid in uids:
        if uid == last + 1 and first >= 0:
            last = uid
            continue
        if first >= 0:
            out.append(str(first) if first == last else f"{first}:{last}")
        first = last = uid
    if first >= 0:
        out.append(str(first) if first == last else f"{first}:{last}")
    return ",".join(out)


def uid_ranges(text: bytes) -> list[tuple[int, int]]:
    """``1:3,7`` as ranges, at most 20,000 of them; raises :class:`Garbage`."""
    said = text.decode("ascii", "replace")
    if len(said) > 400_000 or not _NUMBERS.fullmatch(said) or "*" in said:
        raise Garbage("a set of UIDs that is none")
    out = []
    for part in said.split(","):
        low, _, high = part.partition(":")
        a, b = int(low), int(high or low)
        out.append((min(a, b), max(a, b)))
    if len(out) > 20_000:
        raise Garbage("a set of too many UIDs")
    return out
