"""What is put before a letter and taken out of its header on the way out (DESIGN §9, promise 3).

PURPOSE
    The archived octets never change. :func:`edit_for` computes an :class:`Edit`: a prefix of our
    fields and a short list of cuts, all of them in the header. The edit is recorded with the attempt,
    so that the sent form can be made from the original and the original from the sent form.

STANDARDS
    RFC 5321 §4.4 and RFC 3848, 6531 §4.3 (Received), RFC 8601 (Authentication-Results), RFC 8617
    (ARC), RFC 8098 §2.1 (Disposition-Notification-To), RFC 5322 §2.2.3 (folding).

HOW IT FAILS
    :class:`tracker.header_writer.HeaderError` when a tag holds what no field may hold;
    :class:`EditError` when octets do not fit an edit. A field that cannot be read is kept, save one
    that may claim to speak in our name: that is taken out.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo

from tracker import header_writer
from tracker.header import Field, Headers
from tracker.model import Address, Connection, Door, id_text

Buffer = bytes | mmap.mmap | memoryview

_LINE = header_writer.LINE
_HELO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-_]{0,253}[A-Za-z0-9])?|\[(?:IPv6:)?[0-9A-Fa-f:.]{2,45}\]")
# Lines before the first field that belong to none: a leading space would make them go on with the last
# field of ours (RFC 5322 §2.2.3), an mbox "From " line would end the header where it stands.
_STRAY = re.compile(rb"(?:(?:[ \t]|>?From )[^\n]*\n)+")
_TLS_WORD = re.compile(r"[A-Za-z0-9._\-]{1,60}")


# Fields by which an author asks for a read receipt; the options of the first would bind our request too.
WISHES = ("disposition-notification-to", "return-receipt-to", "x-confirm-reading-to")
_WISHES = frozenset(name.encode() for name in (*WISHES, "disposition-notification-options"))


class EditError(ValueError):
    """An edit that does not fit the octets, or text that is no edit."""


@dataclass(frozen=True, slots=True)
class Cut:
    """At ``offset`` of the original, ``removed`` stood; in the sent form ``put`` stands there."""

    offset: int
    removed: bytes
    put: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """How the sent form differs from the original: ``prefix`` in front, then the cuts, by offset.

    ``body_at`` is the offset in the original at which the body of the *sent* form begins.
    """

    prefix: bytes = b""
    cuts: tuple[Cut, ...] = ()
    body_at: int = 0

    def pieces(self, original: Buffer) -> list[bytes | memoryview]:
        """The sent form in order, the greatest part as one view of the original, nothing copied twice."""
        view = memoryview(original)
        out = [self.prefix]
        at = 0
        for cut in self.cuts:
            out.append(bytes(view[at : cut.offset]))
            out.append(cut.put)
            at = cut.offset + len(cut.removed)
        head = b"".join(out)
        rest = view[at:]
        return [head, rest] if head else [rest]

    def untouched(self, size: int) -> int:
        """How many octets at the end of an original of ``size`` octets are sent as they are."""
        return size - (self.cuts[-1].offset + len(self.cuts[-1].removed) if self.cuts else 0)

    def apply(self, original: Buffer) -> bytes:
        """The sent form as one object; for what is small, and for proof."""
        return b"".join(self.pieces(original))

    def sent_head(self, headers: Headers) -> bytes:
        """The header of the sent form with its blank line: what a signature covers."""
        return b"".join(self.pieces(headers.head[: self.body_at - headers.start]))

    def restore(self, sent: Buffer) -> bytes:
        """The original from the sent form; raises :class:`EditError` if the two do not fit."""
        view = memoryview(sent)
        if view[: len(self.prefix)] != self.prefix:
            raise EditError("the prefix does not fit")
        at = len(self.prefix)  # in the sent form
        done = 0  # in the original
        out: list[bytes | memoryview] = []
        for cut in self.cuts:
            kept = cut.offset - done
            if kept < 0 or at + kept + len(cut.put) > len(view):
                raise EditError(f"the cut at {cut.offset} does not fit")
            out.append(view[at : at + kept])
            at += kept
            if view[at : at + len(cut.put)] != cut.put:
                raise EditError(f"the text put in at {cut.offset} does not fit")
            at += len(cut.put)
            out.append(cut.removed)
            done = cut.offset + len(cut.removed)
        out.append(view[at:])
        return b"".join(out)

    def under(self, fields: bytes) -> Edit:
        """The same edit with more fields on top, such as signatures."""
        return replace(self, prefix=fields + self.prefix)

    def to_json(self) -> dict[str, object]:
        """A JSON value; each octet is the character of the same number (ISO 8859-1)."""
        return {
            "v": 1,
            "prefix": self.prefix.decode("latin-1"),
            "cuts": [[c.offset, c.removed.decode("latin-1"), c.put.decode("latin-1")] for c in self.cuts],
            "body_at": self.body_at,
        }

    @classmethod
    def from_json(cls, value: object) -> Edit:
        """Reverse of :meth:`to_json`; raises :class:`EditError` on anything else."""
        try:
            if not isinstance(value, dict) or value["v"] != 1:
                raise EditError("not an edit of version 1")
            cuts = tuple(
                Cut(_number(offset), removed.encode("latin-1"), put.encode("latin-1"))
                for offset, removed, put in value["cuts"]
            )
            edit = cls(prefix=value["prefix"].encode("latin-1"), cuts=cuts, body_at=_number(value["body_at"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EditError(f"not an edit: {error}") from error
        done = 0
        for cut in edit.cuts:
            if cut.offset < done:
                raise EditError("the cuts are not in order")
            done = cut.offset + len(cut.removed)
        return edit


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The trace field that this gateway adds (RFC 5321 §4.4); no recipient is named (Bcc)."""

    hostname: str
    connection: Connection
    letter_id: int
    at_us: int
    smtputf8: bool = False
    esmtp: bool = True  # False: the client said HELO
    zone: tzinfo = UTC

    @property
    def protocol(self) -> str:
        """``ESMTP``, ``ESMTPSA``, ``UTF8SMTPS`` … (RFC 3848, RFC 6531 §4.3)."""
        if not self.esmtp:
            return "SMTP"
        base = "UTF8SMTP" if self.smtputf8 else "ESMTP"
        return base + ("S" if self.connection.tls else "") + ("A" if self.connection.account else "")

    def field(self) -> bytes:
        """The whole field; a HELO that is no host name or address literal is shown as ``unknown``."""
        peer = self.connection
        ip = peer.peer.partition("%")[0]
        literal = f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"
        if _HELO.fullmatch(literal) is None:
            literal = "[unknown]"
        helo = peer.helo if _HELO.fullmatch(peer.helo) else "unknown"
        parts = [f"from {helo} ({literal})"] if peer.door is not Door.SELF else []
        if peer.tls is not None:
            version, cipher = peer.tls.version, peer.tls.cipher
            if _TLS_WORD.fullmatch(version) and _TLS_WORD.fullmatch(cipher):
                parts.append(f"(using {version} with cipher {cipher})")
        parts.append(f"by {self.hostname} with {self.protocol} id {id_text(self.letter_id)};")
        parts.append(header_writer.date(self.at_us, self.zone))
        return header_writer.structured("Received", " ".join(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What one copy bears and what is taken out of it. None and False mean: leave as it is."""

    authserv_id: str  # our name in Authentication-Results; fields of outside that use it are taken out
    arc_domains: frozenset[str] = frozenset()  # domains under which we seal; authserv_id is one of them
    keep_arc: bool = False  # the chain was verified as it came: what bears our name in it is ours
    received: Received | None = None
    authentication_results: str | None = None  # what stands after ``authserv-id;``, ASCII
    number: str | None = None  # MOF/2026/000123
    subject_tag: str | None = None  # [MOF/2026/000123]
    classification: str | None = None
    urgency: str | None = None
    due: str | None = None
    verify: str | None = None
    instance: str | None = None
    notify_to: Address | None = None  # asks for a read receipt (RFC 8098 §2.1)
    drop_wishes: bool = False  # the author's own requests for one; ``notify_to`` takes their place anyway
    message_id: str | None = None  # with its brackets; added where the letter has none (RFC 6409 §8.3)
    date: str | None = None  # the same (RFC 6409 §8.2): the next server would add one and break our signature
    drop_ours: bool = True  # Wasl-* of outside, save Wasl-Instance of other gateways
    drop_bcc: bool = True


def edit_for(view: Buffer, headers: Headers, tags: Tags) -> Edit:
    """The edit that makes the sent form of ``view``, whose header is ``headers``; no body octet changes.

    Raises :class:`tracker.header_writer.HeaderError` when a tag cannot be written.
    """
    cuts = [Cut(start, bytes(view[start:end])) for start, end in _unwanted(headers, tags)]
    prefix = _prefix(tags)
    fields = headers.fields
    if fields:
        stray = _STRAY.match(headers.head, 0, fields[0].start - headers.start)
        if stray is not None and stray.end():
            cuts.insert(0, Cut(headers.start, stray[0]))
        body_at, blank = headers.body_start, b""
    elif headers.head or headers.body_start == headers.start:
        body_at, blank = headers.start, b"\r\n"  # no field at all: everything is body
    else:
        body_at, blank = headers.body_start, b""  # begins with the blank line
    for name, value in (("Date", tags.date), ("Message-ID", tags.message_id)):
        if value and name not in headers:
            prefix += header_writer.structured(name, value)
    if tags.subject_tag:
        subject = next((item for item in fields if item.name == b"subject"), None)
        if subject is None:
            prefix += header_writer.field("Subject", tags.subject_tag)
        elif tags.subject_tag not in (headers.text("subject") or ""):
            cuts.append(_tagged(headers, subject, tags.subject_tag))
            cuts.sort(key=lambda cut: cut.offset)
    return Edit(prefix=prefix + blank, cuts=tuple(cuts), body_at=body_at)


def _prefix(tags: Tags) -> bytes:
    out: list[bytes] = []
    if tags.authentication_results is not None:  # RFC 8601 §5: above the trace of the server that adds it
        text = f"{tags.authserv_id}; {tags.authentication_results}"
        out.append(header_writer.structured("Authentication-Results", text))
    if tags.received is not None:
        out.append(tags.received.field())
    for name, value in (
        ("Wasl-Letter", tags.number),
        ("Wasl-Classification", tags.classification),
        ("Wasl-Urgency", tags.urgency),
        ("Wasl-Due", tags.due),
        ("Wasl-Verify", tags.verify),
        ("Wasl-Instance", tags.instance),
    ):
        if value:
            out.append(header_writer.field(name, value))
    if tags.notify_to is not None:
        out.append(header_writer.address_field("Disposition-Notification-To", [("", tags.notify_to)]))
    return b"".join(out)


def _unwanted(headers: Headers, tags: Tags) -> Iterator[tuple[int, int]]:
    """Offsets of the fields that are taken out, in order."""
    arc = _arc_sets(headers, tags) if not tags.keep_arc else set()
    for item in headers.fields:
        name = item.name
        drop = False
        if name.startswith(b"wasl-"):
            drop = tags.drop_ours and name != b"wasl-instance"
        elif name == b"authentication-results":
            drop = _names(headers.value(item), tags.authserv_id)
        elif name.startswith(b"arc-"):
            drop = item in arc
        elif name in _WISHES:
            drop = tags.drop_wishes or (tags.notify_to is not None and name.startswith(b"disposition-"))
        elif name in (b"bcc", b"resent-bcc"):
            drop = tags.drop_bcc
        if drop:
            yield item.start, item.end


def _names(value: bytes, authserv_id: str) -> bool:
    """True when an Authentication-Results value speaks, or may be read to speak, as ``authserv_id``."""
    ours = authserv_id.lower().encode("ascii", "replace")
    rest = _skip_comments(value.lower())
    if rest is None:  # a comment without end: readers differ
        return ours in value.lower()
    if rest.startswith(b'"'):
        quoted, _, _ = rest[1:].partition(b'"')
        return quoted.replace(b"\\", b"") == ours
    first = re.split(rb"[\s;(]", rest, maxsplit=1)[0]
    return first == ours


def _skip_comments(value: bytes) -> bytes | None:
    """The value behind leading comments and spaces (CFWS); None when a comment does not end."""
    at = 0
    while at < len(value):
        if value[at] in b" \t\r\n":
            at += 1
        elif value[at : at + 1] == b"(":
            depth = 0
            while at < len(value):
                char = value[at : at + 1]
                if char == b"\\":
                    at += 1
                elif char == b"(":
                    depth += 1
                elif char == b")":
                    depth -= 1
                at += 1
                if depth == 0:
                    break
            if depth:
                return None
        else:
            break
    return value[at:]


def _arc_sets(headers: Headers, tags: Tags) -> set[Field]:
    """All fields of every ARC set of which one is in our name (RFC 8617 §4.2)."""
    found = [item for item in headers.fields if item.name.startswith(b"arc-")]
    if not found:
        return set()
    domains = {tags.authserv_id.lower().encode("ascii", "replace")}
    domains |= {domain.lower().encode("ascii", "replace") for domain in tags.arc_domains}
    instances: dict[Field, bytes] = {}
    ours: set[bytes] = set()
    for item in found:
        parts = _arc_tags(headers.value(item))
        instances[item] = number = parts.get(b"i", b"")
        if item.name == b"arc-authentication-results":
            _, _, results = headers.value(item).partition(b";")
            if _names(results, tags.authserv_id):
                ours.add(number)
        elif parts.get(b"d", b"").rstrip(b".") in domains:
            ours.add(number)
    return {item for item in found if instances[item] in ours}


def _arc_tags(value: bytes) -> dict[bytes, bytes]:
    """``tag=value`` pairs without white space, in lower case (RFC 6376 §3.2); the first of a name counts."""
    out: dict[bytes, bytes] = {}
    for part in value.split(b";"):
        name, equals, rest = part.partition(b"=")
        if equals:
            out.setdefault(b"".join(name.split()).lower(), b"".join(rest.split()).lower())
    return out


def _tagged(headers: Headers, subject: Field, tag: str) -> Cut:
    """The tag in front of the Subject's value; the value itself, encoded or raw, stays as it is."""
    head, base = headers.head, headers.start
    line_end = head.find(b"\n", subject.start - base, subject.end - base)
    stop = subject.end - base if line_end < 0 else line_end
    first = head[subject.start - base : stop].rstrip(b"\r")
    value = head[subject.value_start - base : stop].strip(b"\r \t")
    if tag.isascii():
        text = header_writer.field("Subject", tag)[len(b"Subject:") : -2]
    else:
        # RFC 2047 §6.2: the space between two encoded words is not shown, so it goes inside the first.
        inner = tag + "\u00a0" if value.startswith(b"=?") else tag
        text = header_writer.field("Subject", inner)[len(b"Subject:") : -2]
    if not value:  # the value is empty or begins on the next line
        return Cut(subject.start + first.index(b":") + 1, b"", text)
    last_line = len(text) - (text.rfind(b"\n") + 1)
    name = first.index(b":") + 1 if b"\n" not in text else 0
    fits = name + last_line + 1 + len(value) <= _LINE
    put = text.lstrip(b" ") + (b" " if fits else b"\r\n ")
    gap = first[first.index(b":") + 1 : subject.value_start - subject.start]
    return Cut(subject.value_start, b"", put if gap else b" " + put)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise EditError("not an offset")
    return value
