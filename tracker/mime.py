"""The structure of a message as offsets into its octets (RFC 2045, 2046, 2183, 2231).

``walk`` finds the parts and copies none of them; ``decoded`` undoes a transfer encoding when the
content is wanted; ``digests`` makes the sums by which a letter is recognised part by part after a
server has rewritten its MIME. Work is bounded by :class:`Limits` in depth, parts, octets looked at
and seconds: beyond them the walk stops, keeps what it has and says so in ``Structure.faults``.
Nothing here raises on any octets.
"""

from __future__ import annotations

import binascii
import hashlib
import mmap
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import IncrementalNewlineDecoder

from tracker import charset
from tracker.field_value import base64_octets, leaf_type, parameters
from tracker.header import Buffer, Headers, own_digest, scan

__all__ = [
    "Buffer",
    "Digests",
    "Headers",
    "Limits",
    "Part",
    "PartDigest",
    "Structure",
    "attachments",
    "decoded",
    "digests",
    "file_name",
    "own_digest",
    "scan",
    "text_of",
    "walk",
]

REPORT_TYPES = frozenset(
    {
        "message/delivery-status",
        "message/global-delivery-status",
        "message/disposition-notification",
        "message/global-disposition-notification",
        "message/tracking-status",
        "message/feedback-report",
    }
)
HEADER_TYPES = frozenset(
    {"text/rfc822-headers", "text/rfc822-header", "message/rfc822-headers", "message/global-headers"}
)
MESSAGE_TYPES = frozenset({"message/rfc822", "message/global", "message/news"})
TNEF_TYPES = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})

_LIKELY_BOUNDARY = re.compile(rb"\n--([^\r\n]{4,200})\r?\n(?=Content-[A-Za-z-]{2,40}:)", re.IGNORECASE)


_MOST_TEXT = 1 << 24  # octets of a text that are decoded
_PIECE = 1 << 20  # octets of a long text that are looked at together
_AS_THEY_ARE = frozenset({"", "7bit", "8bit", "binary"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one walk: levels, parts, octets looked at as a multiple of the size, seconds."""

    depth: int = 50
    parts: int = 1000
    passes: int = 12
    seconds: float = 2.0


LIMITS = Limits()


@dataclass(slots=True, kw_only=True)
class Part:
    """One part. ``octets[start:end]`` is its encoded content without the line end before a boundary."""

    path: str  # "1.2"; the message itself is "1", or "0" when it is a multipart
    content_type: str
    params: dict[str, str]
    encoding: str  # lower case; empty when none is given
    disposition: str  # "attachment", "inline", or empty
    filename: str | None
    headers: Headers
    start: int
    end: int
    depth: int
    parent: int  # index in ``Structure.parts``, -1 for the message itself
    within: int = -1  # index of the nearest message/rfc822 it lies in, -1 for none
    container: bool = False

    @property
    def charset(self) -> str | None:
        """The declared charset."""
        return self.params.get("charset")


@dataclass(slots=True)
class Structure:
    """The parts of a message in order, containers before what they contain."""

    headers: Headers
    parts: list[Part] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def root(self) -> Part:
        return self.parts[0]

    def leaves(self) -> Iterator[Part]:
        """Parts with content of their own."""
        return (part for part in self.parts if not part.container)

    def children(self, part: Part) -> Iterator[Part]:
        index = self.parts.index(part)
        return (child for child in self.parts[index + 1 :] if child.parent == index)

    def first(self, *types: str) -> Part | None:
        """The first part of one of these types that lies in no enclosed message."""
        return next((p for p in self.parts if p.content_type in types and p.within < 0), None)


def walk(octets: Buffer | memoryview, headers: Headers | None = None, limits: Limits = LIMITS) -> Structure:
    """Find the parts of a message. Never raises; the result always has at least one part."""
    data: Buffer = bytes(octets) if isinstance(octets, memoryview) else octets
    top = scan(data) if headers is None else headers
    out = Structure(top)
    _Walk(data, out, limits).run()
    return out


class _Walk:
    def __init__(self, data: Buffer, out: Structure, limits: Limits) -> None:
        self.data = data
        self.out = out
        self.limits = limits
        self.deadline = time.monotonic() + limits.seconds
        self.budget = limits.passes * len(data) + (1 << 20)
        self.hint = out.headers.charset_hint

    def run(self) -> None:
        top = self.out.headers
        # Depth first, in order: a stack of (headers, start, end, depth, parent, within, path, default type).
        stack = [(top, top.body_start, len(self.data), 0, -1, -1, "", "text/plain")]
        while stack:
            headers, start, end, depth, parent, within, path, default = stack.pop()
            part = self._part(headers, start, end, depth, parent, within, path, default)
            index = len(self.out.parts)
            self.out.parts.append(part)
            if part.content_type.startswith("multipart/"):
                kids = self._split(part)
            elif part.content_type in MESSAGE_TYPES and part.encoding in _PLAIN:
                kids = [(part.start, part.end)]
            else:
                continue
            if not kids:
                continue
            if depth >= self.limits.depth:
                self._fault("too deep")
                continue
            part.container = part.content_type.startswith("multipart/")
            default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
            inside = within if part.container else index
            below: list[tuple[Headers, int, int, int, int, int, str, str]] = []
            for number, (from_, to) in enumerate(kids, 1):
                if len(self.out.parts) + len(stack) + len(below) >= self.limits.parts:
                    self._fault("too many parts")
                    break
                if time.monotonic() > self.deadline:
                    self._fault("too slow")
                    break
                head = scan(self.data, from_, to)
                # No field at all and no blank line first: content without a header.
                bare = not head.fields and head.body_start > from_ + 2
                begin = from_ if bare else head.body_start
                name = f"{path}.{number}" if path else f"{number}"
                below.append((head, begin, to, depth + 1, index, inside, name, default))
            stack.extend(reversed(below))

    def _part(
        self,
        headers: Headers,
        start: int,
        end: int,
        depth: int,
        parent: int,
        within: int,
        path: str,
        default: str,
    ) -> Part:
        value = headers.raw("content-type")
        kind = leaf_type(value) if value else default
        params = parameters(value, self.hint) if value and b";" in value else {}
        placed = headers.raw("content-disposition") or b""
        where = placed.split(b";", 1)[0].strip().lower().decode("ascii", "replace")
        name = parameters(placed, self.hint).get("filename") if b";" in placed else None
        encoding = (headers.raw("content-transfer-encoding") or b"").split(b";", 1)[0].strip().lower()
        return Part(
            path=path or ("0" if kind.startswith("multipart/") else "1"),
            content_type=kind,
            params=params,
            encoding=encoding.strip(b"\"'").decode("ascii", "replace"),
            disposition=where,
            filename=name or params.get("name") or None,
            headers=headers,
            start=min(start, end),
            end=end,
            depth=depth,
            parent=parent,
            within=within,
        )

    def _split(self, part: Part) -> list[tuple[int, int]]:
        """Where the body parts of a multipart begin and end (RFC 2046 §5.1.1)."""
        boundary = part.params.get("boundary", "").rstrip()
        kids: list[tuple[int, int]] = []
        if boundary and len(boundary) <= 1000:
            kids = self._cut(part, boundary.encode("utf-8", "surrogateescape"))
        if not kids:
            self._fault("boundary not found" if boundary else "no boundary")
            # Folded wrongly, lost or changed on the way: the first line that begins a part tells.
            seen = _LIKELY_BOUNDARY.search(
                self.data, max(part.start - 1, 0), min(part.end, part.start + 65536)
            )
            if seen is not None:
                kids = self._cut(part, seen[1].rstrip())
        return kids

    def _cut(self, part: Part, mark: bytes) -> list[tuple[int, int]]:
        self.budget -= part.end - part.start
        if self.budget < 0:
            self._fault("too slow")
            return []
        line = re.compile(rb"\n--" + re.escape(mark) + rb"(--)?[ \t]*\r*(?:\n|\Z)")
        kids: list[tuple[int, int]] = []
        begin = -1
        pos = max(part.start - 1, 0)
        closed = False
        while (found := line.search(self.data, pos, part.end)) is not None:
            if begin >= 0:
                stop = found.start()
                while stop > begin and self.data[stop - 1] == 13:
                    stop -= 1
                kids.append((begin, max(stop, begin)))
            if found[1]:
                closed = True
                begin = -1
                break
            begin = found.end()
            pos = begin - 1
            if len(kids) > self.limits.parts:
                break
        if begin >= 0:
            kids.append((begin, part.end))
        if kids and not closed:
            self._fault("boundary not closed")
        return kids

    def _fault(self, text: str) -> None:
        if text not in self.out.faults:
            self.out.faults.append(text)


MAX_UU_LINES = 1_000_000  # lines of uuencoded content that are undone

_PLAIN = frozenset({"", "7bit", "8bit", "binary"})


_SEPARATORS = re.compile(r"[/\\]+")


def file_name(name: str | None) -> str | None:
    """The last component of a declared file name, whatever system wrote it; None if nothing is left.

    Control and bidi characters stay where they are: whoever shows the name makes them visible.
    """
    if not name:
        return None
    pieces = [p.strip() for p in _SEPARATORS.split(name[:1000])]
    kept = [p for p in pieces if p.strip(". ")]
    return kept[-1][:255] if kept else None


def attachments(structure: Structure, *, report: bool = False) -> list[Part]:
    """What a user would call the attachments of a message.

    Parts with a file name or the disposition ``attachment``, and leaves that are no text. An enclosed
    message is one attachment and what lies in it is not listed apart. Not among them: machine-readable
    report parts, and with ``report`` the message or header that a report gives back.
    """
    out = []
    for part in structure.parts:
        kind = part.content_type
        if part.within >= 0 or part.container or kind.startswith("multipart/") or kind in REPORT_TYPES:
            continue
        returned = kind in MESSAGE_TYPES or kind in HEADER_TYPES
        if returned and (report or _in_report(structure, part)):
            continue
        named = part.disposition == "attachment" or part.filename is not None
        if named or not kind.startswith("text/"):
            out.append(part)
    return out


def _in_report(structure: Structure, part: Part) -> bool:
    return part.parent >= 0 and structure.parts[part.parent].content_type == "multipart/report"


def decoded(octets: Buffer | memoryview, part: Part) -> bytes:
    """The content of a part with its transfer encoding undone (RFC 2045 §6). Never raises."""
    with memoryview(octets) as view, view[part.start : part.end] as content:
        if part.encoding == "base64":
            return base64_octets(content)
        if part.encoding == "quoted-printable":
            return binascii.a2b_qp(content)
        if part.encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
            return _uudecoded(bytes(content))
        return bytes(content)


def _uudecoded(raw: bytes) -> bytes:
    out = []
    begun = False
    for line in raw.split(b"\n", MAX_UU_LINES)[:MAX_UU_LINES]:
        line = line.rstrip(b"\r")
        if not begun:
            begun = line.startswith(b"begin ")
            continue
        if line == b"end":
            break
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:
            # Some encoders pad lines wrongly: the length octet says how much counts.
            count = (((line[0] - 32) & 63) * 4 + 5) // 3 if line else 0
            try:
                out.append(binascii.a2b_uu(line[:count]))
            except binascii.Error:
                continue
    return b"".join(out)


def text_of(octets: Buffer | memoryview, part: Part, limit: int = _MOST_TEXT) -> str:
    """The text of a text part, decoded by its charset, with LF line ends. Never raises."""
    raw = decoded(octets, part)[:limit]
    text = charset.decode(raw, part.charset, thorough=True)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDigest:
    """What one attachment is recognised by."""

    path: str
    name: str | None
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """SHA-256 of the decoded text (None if there is none) and of each other leaf, in order."""

    text: bytes | None
    parts: tuple[PartDigest, ...]


def digests(
    octets: Buffer | memoryview,
    structure: Structure,
    known: Mapping[str, PartDigest] | None = None,
    *,
    paired: bool = False,
) -> Digests:
    """The sums that survive a server's rewriting of MIME (EVIDENCE, Ledger).

    The text is the first text/plain leaf (else the first text leaf) that is no attachment, as UTF-8,
    lines ended by LF, blanks at line ends and empty lines at the end taken off. Leaves inside an
    enclosed message count; the text of an enclosed message is a part like another. ``known``: sums made
    already, by the path of their part. ``paired``: CR and LF are known to come as pairs only.
    """
    text: Part | None = None
    rest: list[Part] = []
    for part in structure.leaves():
        body = part.content_type.startswith("text/") and part.disposition != "attachment"
        better = text is None or (text.content_type != "text/plain" and part.content_type == "text/plain")
        if body and better and part.within < 0 and not part.filename:
            if text is not None:
                rest.append(text)
            text = part
        else:
            rest.append(part)
    sums = []
    for part in sorted(rest, key=lambda p: p.start):
        if known is not None and part.path in known:
            sums.append(known[part.path])
            continue
        content = decoded(octets, part)
        digest = hashlib.sha256(content).digest()
        sums.append(PartDigest(path=part.path, name=part.filename, size=len(content), sha256=digest))
    return Digests(text=None if text is None else _text_digest(octets, text, paired), parts=tuple(sums))


# Charsets in which an octet below 128 is the character of that number, whatever stands beside it.
_PLAIN_CHARSETS = frozenset({"us-ascii", "utf-8", "iso-8859-1", "iso-8859-6", "windows-1252", "windows-1256"})


def _text_digest(octets: Buffer | memoryview, part: Part, paired: bool) -> bytes:
    plain = (part.charset or "us-ascii").lower() in _PLAIN_CHARSETS
    as_it_is = part.encoding in _AS_THEY_ARE
    if plain and as_it_is and part.end - part.start > _PIECE:
        sum_of_pieces = _long_text_digest(octets, part)
        if sum_of_pieces is not None:
            return sum_of_pieces
    raw = decoded(octets, part)[:_MOST_TEXT]
    if plain and raw.isascii():
        # The same without the way through text.
        return hashlib.sha256(_plain_lines(raw, paired and as_it_is).rstrip()).digest()
    raw = text_of(octets, part).encode("utf-8", "replace")
    if b" \n" in raw or b"\t\n" in raw:
        # Line by line, as verify.py does: a pattern would try each blank of a long run again.
        raw = b"\n".join([line.rstrip(b" \t") for line in raw.split(b"\n")])
    return hashlib.sha256(raw.rstrip()).digest()


def _long_text_digest(octets: Buffer | memoryview, part: Part) -> bytes | None:
    """The same for a long text in ASCII, piece by piece; None if it is not all ASCII."""
    digest = hashlib.sha256()
    stop = min(part.end, part.start + _MOST_TEXT)
    at = part.start
    rest = b""  # of a line that is not complete, or blank lines that only count if something follows
    while at < stop:
        piece = bytes(octets[at : min(at + _PIECE, stop)])
        at += len(piece)
        if not piece.isascii():
            return None
        if isinstance(octets, mmap.mmap):
            octets.madvise(mmap.MADV_DONTNEED)
        piece = rest + piece
        end = len(piece) if at >= stop else piece.rfind(b"\n") + 1
        lines = _plain_lines(piece[:end])
        core = lines.rstrip()
        digest.update(core)
        rest = lines[len(core) :] + piece[end:]
    return digest.digest()


def _plain_lines(raw: bytes, paired: bool = False) -> bytes:
    """Line ends made LF, blanks before them taken off; without blanks or odd line ends in one quick pass.

    ``paired``: it is known that there are no odd ones.
    """
    if b" " in raw or b"\t" in raw:
        ended = b"\n" if raw.endswith((b"\n", b"\r")) else b""
        return b"\n".join([line.rstrip(b" \t") for line in raw.splitlines()]) + ended
    if b"\r" not in raw:
        return raw
    if paired:
        return raw.translate(None, b"\r")
    newlines = IncrementalNewlineDecoder(None, translate=False)
    newlines.decode(raw.decode("latin-1"), True)
    if newlines.newlines == "\r\n":
        return raw.translate(None, b"\r")
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
