"""What stands in header fields: words, addresses, message ids, parameters (RFC 5322, 2047, 2231, 6532).

Each reader takes the octets of one field's value and gives text. None raises: what cannot be decoded
becomes U+FFFD, control characters too, and no more than ``MAX_VALUE`` octets are looked at. Work is
linear in the value, whatever stands in it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

from tracker import charset
from tracker.model import Address, AddressError

MAX_VALUE = 1 << 16  # octets of one value that are decoded

_MSG_ID = re.compile(r"<[^<>\s]+>")
_SPACE = re.compile(r"\s+")
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# RFC 2047 §2; spaces inside the encoded text and a missing charset language tag are tolerated.
_WORD = re.compile(r"=\?([A-Za-z0-9!#$%&'+\-^_`{}~.:]+?)(?:\*[^?]*)?\?([BbQq])\?([^?]*)\?=", re.ASCII)
_BETWEEN = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")


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


def message_ids(value: bytes | None) -> tuple[str, ...]:
    """The message ids of a field such as References; bare words with ``@`` where no brackets stand."""
    if not value:
        return ()
    text = plain_text(value[:MAX_VALUE], None)
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
    text = plain_text(value[:4096], None).strip()
    found = _MSG_ID.search(text)
    if found:
        return found[0]
    if text.startswith("<") and ">" in text:
        text = text[: text.rindex(">") + 1]
    text = _UNSAFE.sub("\ufffd", _SPACE.sub(" ", text))[:998]
    return text if text.strip("<> ") else None


def plain_text(raw: bytes, hint: str | None = None) -> str:
    """Octets of a field as text, encoded words left as they are."""
    return raw.decode("ascii") if raw.isascii() else charset.guess(raw, hint)


def decode_words(value: bytes | str, hint: str | None = None) -> str:
    """Encoded words of a field value decoded (RFC 2047), raw 8-bit guessed, controls made U+FFFD.

    Neighbouring words of one charset are joined before they are decoded: many mailers cut a
    character in two. Never raises.
    """
    text = plain_text(value, hint) if isinstance(value, bytes) else value
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
    text = plain_text(value, hint)
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
