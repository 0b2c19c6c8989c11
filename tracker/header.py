"""The header of a message as octets and offsets (RFC 5322 §2.2, §3.6; RFC 2047, 2231, 6532).

``scan`` reads the field names and where each field begins and ends, nothing more: a message is
never parsed into a tree and written out again. Values are decoded one by one when they are asked
for. Nothing here raises on any octets: what is odd is listed in ``Headers.faults``, what cannot be
decoded becomes U+FFFD, and a header larger than ``MAX_HEADER`` is read up to there.

A line that is no field ends the header when what follows does not go on like one, as mail servers
read it; otherwise it is left out and noted.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import KeysView
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from tracker.field_value import (
    MAX_VALUE,
    Mailbox,
    decode_words,
    mailboxes,
    message_id,
    message_ids,
    parameters,
    plain_text,
)

Buffer = bytes | mmap.mmap

MAX_HEADER = 1 << 20  # octets
MAX_FIELDS = 5000
_REMEMBERED = 200  # octets of an address field that is kept in mind

_END = re.compile(rb"\n\r*\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[ \t]*([^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)")
_NAME = re.compile(rb"[!-9;-~]+[ \t]*:")
_LINE = re.compile(rb"[^\n]*(?:\n|\Z)")
_MBOX = re.compile(rb">?From ")
_FOLD = re.compile(rb"[\r\n]+")
_BARE_CR = re.compile(rb"\r(?!\n|\Z)")
_ONCE = {
    b"from": "From",
    b"sender": "Sender",
    b"to": "To",
    b"cc": "Cc",
    b"subject": "Subject",
    b"date": "Date",
    b"message-id": "Message-ID",
    b"in-reply-to": "In-Reply-To",
    b"references": "References",
    b"reply-to": "Reply-To",
    b"content-type": "Content-Type",
    b"content-transfer-encoding": "Content-Transfer-Encoding",
    b"mime-version": "MIME-Version",
}

# Added on the way or by the submitting server, or meant for one copy only: not the author's words.
_TRACE = frozenset(
    b"received return-path delivered-to envelope-to delivery-date bcc received-spf authentication-results "
    b"authentication-results-original old-authentication-results dkim-signature domainkey-signature "
    b"received-dkim status lines content-length".split()
)
_TRACE_PREFIX = (b"x-", b"arc-", b"wasl-")


class Field(NamedTuple):
    """One header field: ``octets[start:end]`` is all of it with its line end."""

    name: bytes  # lower case
    start: int
    end: int
    value_start: int


@dataclass(slots=True)
class Headers:
    """What :func:`scan` found. ``head`` is ``octets[start:body_start]``; offsets are into the octets."""

    head: bytes
    start: int
    body_start: int
    fields: list[Field]
    faults: list[str]
    _index: dict[bytes, list[Field]] | None = field(default=None, repr=False)

    def _by_name(self) -> dict[bytes, list[Field]]:
        if self._index is None:
            index: dict[bytes, list[Field]] = {}
            for item in self.fields:
                index.setdefault(item.name, []).append(item)
            self._index = index
        return self._index

    @property
    def names(self) -> KeysView[bytes]:
        """The names of all fields, in lower case, each once."""
        return self._by_name().keys()

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._by_name()

    def count(self, name: str) -> int:
        """How often a field stands there."""
        return len(self._by_name().get(_key(name), ()))

    def value(self, item: Field) -> bytes:
        """The value of one field as octets, still folded, without the line end."""
        return self.head[item.value_start - self.start : item.end - self.start].rstrip(b"\r\n \t")

    def all(self, name: str) -> list[bytes]:
        """Values of every field of that name, unfolded (RFC 5322 §2.2.3), in order."""
        found = self._by_name().get(_key(name), ())
        return [_FOLD.sub(b"", self.value(item)) for item in found]

    def raw(self, name: str) -> bytes | None:
        """The first field of that name, unfolded octets, or None."""
        found = self._by_name().get(_key(name))
        return _FOLD.sub(b"", self.value(found[0])) if found else None

    def plain(self, name: str) -> str:
        """The first field of that name as text without decoding words; empty if there is none."""
        value = self.raw(name)
        return "" if value is None else plain_text(value[:MAX_VALUE], None).strip()

    def text(self, name: str) -> str | None:
        """The first field of that name as a person reads it, or None if there is none."""
        value = self.raw(name)
        return None if value is None else decode_words(value[:MAX_VALUE], self.charset_hint)

    @property
    def charset_hint(self) -> str | None:
        """The charset that Content-Type names, for raw 8-bit header fields."""
        value = self.raw("content-type")
        if value is None or b"charset" not in value.lower():
            return None
        return parameters(value).get("charset")

    def addresses(self, name: str) -> tuple[Mailbox, ...]:
        """The mailboxes of every field of that name, in order."""
        found: list[Mailbox] = []
        for value in self.all(name):
            if len(value) <= _REMEMBERED and value.isascii():
                found.extend(_boxes(value))  # the same few correspondents again and again
            else:
                found.extend(mailboxes(value[:MAX_VALUE], self.charset_hint))
        return tuple(found)

    @property
    def message_id(self) -> str | None:
        """``<id@host>`` as written, or None."""
        return message_id(self.raw("message-id"))

    @property
    def references(self) -> tuple[str, ...]:
        """Every message id of References and In-Reply-To: References in order, then what is new."""
        found = message_ids(self.raw("references"))
        return (*found, *(i for i in message_ids(self.raw("in-reply-to")) if i not in found))


@lru_cache(maxsize=512)
def _key(name: str) -> bytes:
    return name.lower().encode("latin-1", "replace")


@lru_cache(maxsize=2048)
def _boxes(value: bytes) -> tuple[Mailbox, ...]:
    return tuple(mailboxes(value))


def scan(octets: Buffer | memoryview, start: int = 0, end: int | None = None) -> Headers:
    """Read the header that begins at ``start``; ``end`` bounds the message. Never raises."""
    data: Buffer = bytes(octets) if isinstance(octets, memoryview) else octets
    stop = len(data) if end is None else end
    limit = min(stop, start + MAX_HEADER)
    faults: list[str] = []
    first = bytes(data[start : start + 2])
    if first[:1] == b"\n" or first == b"\r\n":  # no header at all
        skip = 1 if first[:1] == b"\n" else 2
        return Headers(b"", start, min(start + skip, stop), [], ["no header"])
    blank = _END.search(data, start, limit)
    if blank is not None:
        body = blank.end()
        head = bytes(data[start:body])
        last = blank.start() + 1 - start
    else:
        head = bytes(data[start:limit])
        body = limit
        if limit < stop:
            faults.append("header too large")
            cut = head.rfind(b"\n") + 1 or len(head)
            head = head[:cut]
            body = start + cut
        last = len(head)
    fields: list[Field] = []
    match = _FIELD.match
    pos = 0
    strays = 0
    odd = False
    while pos < last:
        found = match(head, pos, last)
        if found is not None:
            fields.append(Field(found[1].lower(), start + pos, start + found.end(), start + found.start(2)))
            pos = found.end()
            if len(fields) >= MAX_FIELDS:
                faults.append("too many fields")
                break
            continue
        strays += 1
        if strays > MAX_FIELDS:
            faults.append("too many fields")
            break
        line = _LINE.match(head, pos, last)
        assert line is not None  # the pattern matches any position
        after = line.end()
        if _MBOX.match(head, pos):
            if pos:
                faults.append("mbox line")
        elif head[pos] in b" \t":
            faults.append("leading space")
        elif head[pos : pos + 1] == b":":
            faults.append("no name")
        elif after >= last or _goes_on(head, after, last):
            odd = True
        else:
            faults.append("no blank line")
            body = start + pos
            head = head[:pos]
            break
        pos = after
    if odd:
        faults.append("no colon")
    if b"\r" in head and _BARE_CR.search(head):
        faults.append("bare CR")
    if b"\0" in head:
        faults.append("NUL")
    if len(faults) > 1:
        faults = list(dict.fromkeys(faults))
    headers = Headers(head, start, body, fields, faults)
    index = headers._by_name()
    if len(index) != len(fields):
        faults.extend(f"duplicate {shown}" for name, shown in _ONCE.items() if len(index.get(name, ())) > 1)
    return headers


def _goes_on(head: bytes, pos: int, last: int) -> bool:
    return head[pos] in b" \t" or _NAME.match(head, pos, last) is not None


def own_digest(octets: Buffer | memoryview, headers: Headers) -> bytes:
    """SHA-256 of the author's own fields, in order, and the body (promise 1: one letter stays one).

    Trace fields, ``X-``, ``ARC-``, ``Wasl-`` and Bcc are left out, so that the copies into which a
    server splits a letter agree. Line ends at the very end do not count: DATA cannot keep them apart.
    """
    head, base = headers.head, headers.start
    own = [
        b"%b:%b\n" % (name, b" ".join(head[value - base : end - base].split()))
        for name, _, end, value in headers.fields
        if name not in _TRACE and not name.startswith(_TRACE_PREFIX)
    ]
    own.append(b"\n")
    digest = hashlib.sha256(b"".join(own))
    stop = len(octets)
    body = headers.body_start
    while stop > body:
        tail = bytes(octets[max(body, stop - 4096) : stop])
        kept = len(tail.rstrip(b"\r\n"))
        stop -= len(tail) - kept
        if kept:
            break
    with memoryview(octets) as view, view[body:stop] as rest:
        digest.update(rest)
    return digest.digest()
