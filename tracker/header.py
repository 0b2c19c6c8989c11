"""The header of a message as octets and offsets (RFC 5322 §2.2, §3.6; RFC 2047, 2231, 6532).

``scan`` reads the field names and where each field begins and ends, nothing more: a message is
never parsed into a tree and written out again. Values are decoded one by one when they are asked
for. Nothing here raises on any octets: what is odd is listed in ``Headers.faults``, what cannot be
decoded becomes U+FFFD, and a header larger than ``MAX_HEADER`` is read up to there.

A line that is no field ends the header when what follows does not go on like one, as mail servers
read it; otherwise it is left out and noted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tracker import charset
from tracker.model import Address, AddressError

Buffer = bytes | mmap.mmap

MAX_HEADER = 1 << 20  # octets
MAX_FIELDS = 5000
MAX_VALUE = 1 << 16  # octets of one value that are decoded

_END = re.compile(rb"\n\r*\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[ \t]*([^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)")
_NAME = re.compile(rb"[!-9;-~]+[ \t]*:")
_LINE = re.compile(rb"[^\n]*(?:\n|\Z)")
_MBOX = re.compile(rb">?From ")
_FOLD = re.compile(rb"[\r\n]+")
_BARE_CR = re.compile(rb"\r(?!\n|\Z)")
_MSG_ID = re.compile(r"<[^<>\s]+>")
_SPACE = re.compile(r"\s+")
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# RFC 2047 §2; spaces inside the encoded text and a missing charset language tag are tolerated.
_WORD = re.compile(r"=\?([A-Za-z0-9!#$%&'+\-^_`{}~.:]+?)(?:\*[^?]*)?\?([BbQq])\?([^?]*)\?=", re.ASCII)
_BETWEEN = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")
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


class Mailbox(NamedTuple):
    """One entry of an address field: display name, and the address as it was written."""

    name: str
    spec: str

    @property
    def address(self) -> Address | None:
        """The address, or None if it is malformed."""
        try:
            return Address.parse(self.spec)
        except AddressError:
            return None


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

    def __contains__(self, name: str) -> bool:
        return name.lower().encode("latin-1", "replace") in self._by_name()

    def count(self, name: str) -> int:
        """How often a field stands there."""
        return len(self._by_name().get(name.lower().encode("latin-1", "replace"), ()))

    def value(self, item: Field) -> bytes:
        """The value of one field as octets, still folded, without the line end."""
        return self.head[item.value_start - self.start : item.end - self.start].rstrip(b"\r\n \t")

    def all(self, name: str) -> list[bytes]:
        """Values of every field of that name, unfolded (RFC 5322 §2.2.3), in order."""
        found = self._by_name().get(name.lower().encode("latin-1", "replace"), ())
        return [_FOLD.sub(b"", self.value(item)) for item in found]

    def raw(self, name: str) -> bytes | None:
        """The first field of that name, unfolded octets, or None."""
        found = self._by_name().get(name.lower().encode("latin-1", "replace"))
        return _FOLD.sub(b"", self.value(found[0])) if found else None

    def plain(self, name: str) -> str:
        """The first field of that name as text without decoding words; empty if there is none."""
        value = self.raw(name)
        return "" if value is None else _to_text(value[:MAX_VALUE], None).strip()

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


def message_ids(value: bytes | None) -> tuple[str, ...]:
    """The message ids of a field such as References; bare words with ``@`` where no brackets stand."""
    if not value:
        return ()
    text = _to_text(value[:MAX_VALUE], None)
    found = _MSG_ID.findall(text)
    if not found and "=?" in text:
        found = _MSG_ID.findall(decode_words(value[:MAX_VALUE]))
    if not found:
        found = [word for word in text.strip().strip("<>").split() if "@" in word and len(word) < 1000]
    return tuple(dict.fromkeys(found))


def message_id(value: bytes | None) -> str | None:
    """The message id of a Message-ID field as written, or None.

    RFC 5322 forbids spaces in it and demands brackets; what some programs write instead is kept, its
    white space as single spaces, so that equal fields give equal ids.
    """
    if not value:
        return None
    text = _to_text(value[:4096], None).strip()
    found = _MSG_ID.search(text)
    if found:
        return found[0]
    if text.startswith("<") and ">" in text:
        text = text[: text.rindex(">") + 1]
    text = _UNSAFE.sub("\ufffd", _SPACE.sub(" ", text))[:998]
    return text if text.strip("<> ") else None


def _to_text(raw: bytes, hint: str | None) -> str:
    return raw.decode("ascii") if raw.isascii() else charset.guess(raw, hint)


def decode_words(value: bytes | str, hint: str | None = None) -> str:
    """Encoded words of a field value decoded (RFC 2047), raw 8-bit guessed, controls made U+FFFD.

    Neighbouring words of one charset are joined before they are decoded: many mailers cut a
    character in two. Never raises.
    """
    text = _to_text(value, hint) if isinstance(value, bytes) else value
    if "=?" in text:
        text = _words(text)
    text = text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ").replace("\t", " ")
    return _UNSAFE.sub("\ufffd", text).strip()


def _words(text: str) -> str:
    text = _BETWEEN.sub(r"\1", text)
    out: list[str] = []
    pending = b""
    label = ""
    pos = 0
    for word in _WORD.finditer(text):
        if word.start() > pos and pending:
            out.append(charset.decode(pending, label))
            pending = b""
        out.append(text[pos : word.start()])
        raw = _word_octets(word[2], word[3])
        if pending and label != word[1].lower():
            out.append(charset.decode(pending, label))
            pending = b""
        label = word[1].lower()
        pending += raw
        pos = word.end()
    if pending:
        out.append(charset.decode(pending, label))
    out.append(text[pos:])
    return "".join(out)


def _word_octets(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if encoding in "Qq":
        return binascii.a2b_qp(raw.replace(b"\n", b"").replace(b"\r", b""), header=True)
    return base64_octets(raw)


def base64_octets(raw: bytes | memoryview) -> bytes:
    """Base64 of any quality: what is no base64 is left out, a missing end is cut off. Never raises."""
    try:
        return binascii.a2b_base64(raw)
    except (binascii.Error, ValueError):
        pass
    kept = bytes(raw).translate(None, _NOT_BASE64)
    kept = kept[: len(kept) - (len(kept) % 4 == 1)]
    try:
        return base64.b64decode(kept + b"=" * (-len(kept) % 4))
    except (binascii.Error, ValueError):
        return b""


_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|\\.|[^"(<,;:>\\]+|.', re.DOTALL)
_COMMENT = re.compile(r"[()\\]")


def mailboxes(value: bytes, hint: str | None = None) -> list[Mailbox]:
    """The mailboxes of an address list (RFC 5322 §3.4), tolerant of what people and programs write.

    The list is taken apart before encoded words are decoded, so that no decoded comma or bracket
    makes another address. Never raises; a name without an address is an entry with that name as spec.
    """
    text = _to_text(value, hint)
    found: list[Mailbox] = []
    name: list[str] = []
    comment = ""
    at_seen = False
    spec: str | None = None
    pos, size = 0, len(text)

    def done() -> None:
        nonlocal spec, comment, at_seen
        shown = "".join(name)
        if spec is None:
            bare = _SPACE.sub(" ", shown).strip()
            several = " " in bare and '"' not in bare
            words = [w for w in bare.split(" ") if "@" in w.strip("@")] if several else []
            if words:  # stray words beside bare addresses, or commas forgotten between them
                found.extend(Mailbox("", _UNSAFE.sub("\ufffd", w)) for w in words[:-1])
                spec = words[-1]
            elif several and "@" in bare:
                spec = bare.replace(" ", "")
            else:
                spec = bare
            shown = comment
        spec = _UNSAFE.sub("\ufffd", spec)
        if spec:
            found.append(Mailbox(decode_words(shown), spec))
        name.clear()
        spec, comment, at_seen = None, "", False

    while pos < size and len(found) < 5000:
        token = _TOKEN.match(text, pos)
        assert token is not None  # the last alternative takes any character
        got = token[0]
        pos = token.end()
        if got == "(":
            pos, comment = _comment(text, pos)
        elif got == "<":
            close = text.find(">", pos)
            inner = text[pos:] if close < 0 else text[pos:close]
            pos = size if close < 0 else close + 1
            if "(" in inner and '"' not in inner:
                inner = _without_comments(inner)
            if inner.startswith("@") and ":" in inner:  # RFC 5322 §4.4: a route, left out
                inner = inner[inner.index(":") + 1 :]
            if "<" in inner:
                inner = inner[inner.rindex("<") + 1 :]
            spec = _SPACE.sub("", inner) if '"' not in inner else inner.strip()
        elif got in ",;":
            done()
        elif got == ":":
            if spec is None and not at_seen:
                name.clear()  # the name of a group
            else:
                name.append(got)
        elif token[1] is not None:
            rest = text[pos : pos + 1]
            name.append(got if rest == "@" else re.sub(r"\\(.)", r"\1", token[1]))
        elif got != ">" and spec is None:
            name.append(got)
            at_seen = at_seen or "@" in got
    done()
    return found


def _without_comments(text: str) -> str:
    out = []
    pos = 0
    while (begin := text.find("(", pos)) >= 0:
        out.append(text[pos:begin])
        pos, _ = _comment(text, begin + 1)
    return "".join((*out, text[pos:]))


def _comment(text: str, pos: int) -> tuple[int, str]:
    """Where a comment that was opened before ``pos`` ends, and what it says."""
    depth, start = 1, pos
    while depth:
        mark = _COMMENT.search(text, pos)
        if mark is None:
            return len(text), text[start:]
        pos = mark.end()
        if mark[0] == "(":
            depth += 1
        elif mark[0] == ")":
            depth -= 1
        else:
            pos += 1
    return pos, text[start : pos - 1].strip()


_PARAM_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"?|;|[^";]+', re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?")


def parameters(value: bytes, hint: str | None = None) -> dict[str, str]:
    """The parameters of Content-Type or Content-Disposition, decoded (RFC 2045 §5.1, RFC 2231, RFC 2047).

    Names in lower case; continuations joined; the first of a repeated name wins, the extended form
    (``name*``) over the plain one. Never raises.
    """
    plain: dict[str, bytes] = {}
    pieces: dict[str, list[tuple[int, bool, bytes]]] = {}
    for name, raw in _pairs(value[:MAX_VALUE]):
        key = name.decode("ascii", "replace").lower()
        section = _SECTION.fullmatch(key) if "*" in key else None
        if section is not None and (section[2] or section[3]):
            pieces.setdefault(section[1], []).append((int(section[2] or 0), bool(section[3]), raw))
        else:
            plain.setdefault(key, raw)
    out = {key: decode_words(raw, hint) for key, raw in plain.items()}
    for key, parts in pieces.items():
        out[key] = _extended(parts, hint)
    return out


def _pairs(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and value of each parameter after the first semicolon, unquoted; at most 500."""
    name: bytes | None = None
    raw = b""
    first = True
    count = 0
    for token in _PARAM_TOKEN.finditer(value):
        got = token[0]
        if got == b";":
            if not first and name:
                yield name, raw
                count += 1
                if count >= 500:
                    return
            first, name, raw = False, None, b""
        elif got[:1] == b'"':
            # Windows mailers put paths in quotes unescaped; only a quoted quote or backslash is an escape.
            inner = token[1]
            if name is not None and not raw.strip():
                raw = re.sub(rb'\\(["\\])', rb"\1", inner) if b"\\" in inner else inner
            else:
                raw += inner
        elif name is None:
            key, equals, rest = got.partition(b"=")
            if equals and key.strip():
                name, raw = key.strip(), rest.strip()
        else:
            raw += got.rstrip() if raw else got.strip()
    if not first and name:
        yield name, raw


def _extended(parts: list[tuple[int, bool, bytes]], hint: str | None) -> str:
    parts.sort(key=lambda part: part[0])
    label = ""
    octets = b""
    any_percent = False
    for index, (_, percent, raw) in enumerate(parts):
        if percent:
            any_percent = True
            if index == 0 and raw.count(b"'") >= 2:
                name, _, raw = raw.split(b"'", 2)
                label = name.decode("ascii", "replace")
            octets += _percent(raw)
        else:
            octets += raw
    if not any_percent:
        return decode_words(octets, hint)
    return _UNSAFE_NAME.sub("\ufffd", charset.decode(octets, label or None))


_UNSAFE_NAME = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


def _percent(raw: bytes) -> bytes:
    return _PERCENT.sub(lambda m: bytes([int(m[1], 16)]), raw)


def leaf_type(value: bytes | None) -> str:
    """``type/subtype`` of a Content-Type value, lower case; ``text/plain`` if it is none (RFC 2045 §5.2)."""
    if not value:
        return "text/plain"
    kind = value.split(b";", 1)[0].strip().lower()
    found = _TYPE.match(kind)
    return (found[1] + b"/" + found[2]).decode("ascii") if found else "text/plain"


_TYPE = re.compile(rb"\s*\"?([!#$%&'*+.^_`{|}~0-9a-z\-]+)\s*/\s*([!#$%&'*+.^_`{|}~0-9a-z\-]+)")
