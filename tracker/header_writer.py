"""Wasl's own writer of header fields: every field that Wasl adds or composes is made here.

STANDARDS
    RFC 5322 §2.2 (fields, folding), §3.3 (date), §3.4 (addresses), §3.6.4 (identifiers); RFC 2047
    (encoded words, B and Q); RFC 6532 (UTF-8 inside an address, which has no ASCII form); RFC 2183
    and RFC 2231 §3-4 (parameters).

Lines are folded at 78 octets at the most (76 with an encoded word, RFC 2047 §2); what is ASCII in a
text stays readable, so that ``[MOF/2026/000123]`` can be searched for in the raw message.

HOW IT FAILS
    :class:`HeaderError` for a control character (CR, LF, NUL, TAB, DEL, C1), in texts of ours a line or
    paragraph separator too, a lone surrogate, a name that is no field name, an atom that fits no line of 998
    octets. Nothing is repaired here; whoever holds a foreign text decides what to make of it first.
    The interpreter's ``email`` package is not used: versions of it write a newline that was hidden
    in an encoded word as a real line break.
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode, b64encode
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from hashlib import sha256

from tracker.model import Address, AddressError, when

LINE = 78  # RFC 5322 §2.1.1, octets without CRLF
LINE_WITH_WORD = 76  # RFC 2047 §2
LONGEST_WORD = 75  # RFC 2047 §2
LIMIT = 998  # RFC 5322 §2.1.1, octets without CRLF

_NAME = re.compile(r"[!-9;-~]{1,76}")
_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ATOM_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+)*")
_PARAMETER_TOKEN = re.compile(r"[A-Za-z0-9!#$%&+\-^_`{|}~.]+")
_WORD_OVERHEAD = len("=?utf-8?B??=")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047 §5 (3)
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # even in an address, which is as it is
_WIDE_GAP = " " * 9
_LONGEST_PLAIN = 60  # a longer word without a space is encoded so that it can be folded
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class HeaderError(ValueError):
    """A name or value that cannot be written as a header field; the message says why."""


def field(name: str, value: str) -> bytes:
    """One unstructured field such as Subject, folded, with its CRLF (RFC 5322 §2.2.1, RFC 2047 §5 (1)).

    Text outside ASCII becomes encoded words; spaces at the ends of the value are not kept.
    Raises :class:`HeaderError`.
    """
    _check_name(name)
    value = checked(value).strip(" ")
    if value.isascii() and len(name) + 2 + len(value) <= LINE and "=?" not in value:
        return f"{name}: {value}".rstrip(" ").encode() + b"\r\n"
    return _fold(name, _words(name, value))


def structured(name: str, value: str) -> bytes:
    """A field whose value has a grammar of its own (Message-ID, References, our ``Wasl-*``).

    ASCII only, nothing is encoded, folds stand only where the value has a space.
    Raises :class:`HeaderError`, also for what is not ASCII or has an atom longer than a line may be.
    """
    _check_name(name)
    value = checked(value).strip(" ")
    if not value.isascii():
        raise HeaderError(f"{name}: not ASCII")
    return _fold(name, value.split(" "))


def raw_utf8(name: str, value: str) -> bytes:
    """A field with UTF-8 as it is (RFC 6532 §3.2), for the ``message/global-*`` parts of RFC 6533.

    Folds stand only where the value has a space. Raises :class:`HeaderError`.
    """
    _check_name(name)
    if _UNWRITABLE.search(value):
        raise HeaderError(f"{name}: control character")
    return _fold(name, value.strip(" ").split(" "))


def address_field(name: str, addresses: Iterable[tuple[str, Address]]) -> bytes:
    """A field of mailboxes, each a display name (may be empty) and an address (RFC 5322 §3.4).

    An address outside ASCII is written as UTF-8 (RFC 6532 §3.2): such a message needs SMTPUTF8.
    Raises :class:`HeaderError`, also for the null path and for an empty list.
    """
    _check_name(name)
    atoms: list[str] = []
    for display, address in addresses:
        try:
            if _UNWRITABLE.search(str(address)):
                raise HeaderError(f"{name}: control character in address")
            Address.parse(str(address))
        except AddressError as error:
            raise HeaderError(f"{name}: {error}") from error
        if atoms:
            atoms[-1] += ","
        display = checked(display).strip(" ")
        if display:
            atoms += _phrase(name, display)
            atoms.append(f"<{address}>")
        else:
            atoms.append(str(address))
    if not atoms:
        raise HeaderError(f"{name}: no address")
    return _fold(name, atoms)


def parameter_field(name: str, value: str, parameters: Sequence[tuple[str, str]] = ()) -> bytes:
    """A MIME field with parameters (RFC 2045 §5.1); a value outside ASCII is written as RFC 2231 §4 says.

    Raises :class:`HeaderError`.
    """
    _check_name(name)
    if not checked(value).isascii():
        raise HeaderError(f"{name}: not ASCII")
    atoms = [value]
    for key, text in parameters:
        atoms[-1] += ";"
        atoms += _parameter(key, checked(text))
    return _fold(name, atoms)


def message_id(domain: str, seed: bytes | None = None) -> str:
    """A new ``<…@domain>`` (RFC 5322 §3.6.4); with ``seed`` always the same one for the same seed."""
    left = sha256(seed).digest()[:20] if seed is not None else secrets.token_bytes(20)
    return checked(f"<{b32encode(left).decode().lower()}@{domain}>")


def date(us: int, zone: tzinfo) -> str:
    """A time in microseconds of UTC as RFC 5322 §3.3 writes it, in ``zone``: never localised."""
    at = when(us).astimezone(zone)
    offset = at.utcoffset()
    minutes = int(offset.total_seconds()) // 60 if offset else 0
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d} "
        f"{at.hour:02d}:{at.minute:02d}:{at.second:02d} {sign}{hours:02d}{rest:02d}"
    )


def checked(value: str) -> str:
    """``value`` unchanged; raises :class:`HeaderError` if it holds what no header field may hold."""
    match = _REFUSED.search(value)
    if match is not None:
        raise HeaderError(f"U+{ord(match[0]):04X} in a header field")
    return value


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise HeaderError(f"not a field name: {name[:80]!r}")


def _words(name: str, value: str) -> list[str]:
    """The value cut into what folds may stand between; an empty atom is one more space.

    RFC 2047 §6.2: the space between two encoded words vanishes for the reader, so neighbours that
    need encoding are encoded together with the spaces between them.
    """
    words = [value] if _WIDE_GAP in value else value.split(" ")
    hot = [i for i, word in enumerate(words) if not _plain(word)]
    atoms: list[str] = []
    done = 0
    while hot:
        first = last = hot.pop(0)
        while hot and not any(words[last + 1 : hot[0]]):
            last = hot.pop(0)
        atoms += words[done:first]
        room = LINE_WITH_WORD - len(name) - 2 if first == 0 else LONGEST_WORD
        atoms += _encoded(" ".join(words[first : last + 1]), room)
        done = last + 1
    return atoms + words[done:]


def _plain(word: str) -> bool:
    return word.isascii() and "=?" not in word and len(word) <= _LONGEST_PLAIN


def _encoded(text: str, first_room: int = LONGEST_WORD) -> list[str]:
    """Encoded words of at most 75 octets, none of which splits a character (RFC 2047 §2, §5).

    ``first_room`` is what the first of them may take, so that it stands beside the field's name.
    """
    octets = text.encode()
    safe = sum(1 for byte in octets if byte in _Q_SAFE or byte == 0x20)
    q = safe + 3 * (len(octets) - safe) <= (len(octets) + 2) // 3 * 4
    room = max(16, min(first_room, LONGEST_WORD) - _WORD_OVERHEAD)
    words: list[str] = []
    piece = bytearray()
    cost = 0  # of the piece, in Q
    for char in text:
        code = char.encode()
        more = sum(1 if byte in _Q_SAFE or byte == 0x20 else 3 for byte in code)
        if piece and (cost + more if q else (len(piece) + len(code) + 2) // 3 * 4) > room:
            words.append(_word(piece, q))
            piece.clear()
            cost = 0
            room = LONGEST_WORD - _WORD_OVERHEAD
        piece += code
        cost += more
    words.append(_word(piece, q))
    return words


def _word(piece: bytes | bytearray, q: bool) -> str:
    if not q:
        return f"=?utf-8?B?{b64encode(piece).decode()}?="
    body = "".join("_" if b == 0x20 else chr(b) if b in _Q_SAFE else f"={b:02X}" for b in piece)
    return f"=?utf-8?Q?{body}?="


def _phrase(name: str, display: str) -> list[str]:
    """A display name: atoms, a quoted string, or encoded words (RFC 5322 §3.2.5, RFC 2047 §5 (3))."""
    if display.isascii() and "=?" not in display and len(display) <= _LONGEST_PLAIN:
        if _ATOM_PHRASE.fullmatch(display):
            return display.split(" ")
        return ['"' + re.sub(r'(["\\])', r"\\\1", display) + '"']
    return _encoded(display, LINE_WITH_WORD - len(name) - 2)


def _parameter(key: str, text: str) -> list[str]:
    if _PARAMETER_TOKEN.fullmatch(key) is None:
        raise HeaderError(f"not a parameter name: {key[:80]!r}")
    if text.isascii() and len(key) + len(text) <= 70:
        if _PARAMETER_TOKEN.fullmatch(text):
            return [f"{key}={text}"]
        return [f'{key}="' + re.sub(r'(["\\])', r"\\\1", text) + '"']
    # RFC 2231 §3: a long or non-ASCII value goes on over several numbered parts.
    parts: list[str] = []
    piece = ""
    for char in text:
        code = char if _PARAMETER_TOKEN.fullmatch(char) else "".join(f"%{byte:02X}" for byte in char.encode())
        if len(piece) + len(code) > 48:
            parts.append(piece)
            piece = ""
        piece += code
    parts.append(piece)
    if len(parts) == 1:
        return [f"{key}*=utf-8''{parts[0]}"]
    numbered = [f"{key}*{i}*={part}" for i, part in enumerate(["utf-8''" + parts[0], *parts[1:]])]
    return [part + ";" for part in numbered[:-1]] + numbered[-1:]


def _fold(name: str, atoms: Sequence[str]) -> bytes:
    """Atoms joined by single spaces, with a fold before the one that would pass the edge of its line.

    A fold stands just before an atom that holds something, so no line is ever of spaces alone
    (RFC 5322 §3.2.2).
    """
    out = bytearray(f"{name}:".encode())
    column = start = len(out)
    edge = LINE
    gap = 0
    for atom in atoms:
        gap += 1
        if not atom:
            continue
        octets = atom.encode()
        word = atom.startswith("=?")
        if column + gap + len(octets) > (LINE_WITH_WORD if word else edge) and column > start:
            out += b"\r\n"
            column = 0
            start = -1
            edge = LINE
        if word:
            edge = LINE_WITH_WORD
        out += b" " * gap + octets
        column += gap + len(octets)
        gap = 0
        if column > LIMIT:
            raise HeaderError(f"{name}: a line longer than {LIMIT} octets")
    return bytes(out) + b"\r\n"
