"""A client's command as far as the proxy needs it: tag, verb, and of few commands what they are about.

RFC 3501 §6 and RFC 9051 §6, RFC 6851 (MOVE), RFC 8508 (REPLACE), RFC 4315 (UID EXPUNGE). Nothing is
repaired: a command that cannot be read this way is still handed to the server, which knows its grammar; it is
only not understood.

Fails: :func:`parse` gives a command with an empty verb, :func:`numbers` and :func:`store` give None.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.imap_watch_words import decode_name

MOST_NUMBERS = 100  # messages of one command that are looked at
TAG = 128  # octets of a tag at most
SAVED = b"$"  # the result of the last SEARCH that was saved (RFC 9051 §6.4.4.1, RFC 5182), numbers or UIDs

_COMMAND = re.compile(rb"([^\s(){%*\"\\+\x00-\x1f\x7f]+) +(UID +)?([A-Za-z0-9.]{1,32})(?: |\r?\n)", re.I)
_SET = re.compile(rb"\$|(?:\d{1,10}|\*)(?::(?:\d{1,10}|\*))?(?:,(?:\d{1,10}|\*)(?::(?:\d{1,10}|\*))?)*")
_STORE = re.compile(
    rb"(?:\([^()]*\) )?([+-]?)FLAGS(?:\.SILENT)? (?:\(([^()\"{]*)\)|([^()\"{\s]+(?: [^()\"{\s]+)*))\r?\n\Z",
    re.I,
)
_MAILBOX = re.compile(rb'(?:"((?:[^"\\\r\n]|\\.)*)"|([^ (){"\r\n]+))(?:$|[ \r\n])')


class Command(NamedTuple):
    """``verb`` in capitals, with ``UID`` before it where that stands there."""

    tag: bytes
    verb: bytes
    rest: bytes  # what follows the verb, up to the end of the first line

    @property
    def uid(self) -> bool:
        return self.verb[:4] == b"UID "


def parse(line: bytes) -> Command:
    """Read the first line of a command; no verb when it is none."""
    match = _COMMAND.match(line)
    if match is None or len(match[1]) > TAG:
        return Command(b"", b"", line)
    verb = match[3].upper()
    return Command(match[1], b"UID " + verb if match[2] else verb, line[match.end() :])


def the_set(rest: bytes) -> tuple[bytes, bytes]:
    """A sequence set at the beginning, and what follows its space; empty when there is none."""
    match = _SET.match(rest)
    if match is None or rest[match.end() : match.end() + 1] not in (b" ", b"\r", b"\n", b""):
        return b"", rest
    return match[0], rest[match.end() + 1 :]


def numbers(text: bytes, last: int | None = None, most: int = MOST_NUMBERS) -> list[int] | None:
    """The numbers of a sequence set, ``*`` being ``last``; None when they are too many or not known."""
    if text == SAVED:
        return None
    found: set[int] = set()
    for part in text.split(b","):
        low_text, colon, high_text = part.partition(b":")
        low = last if low_text == b"*" else int(low_text)
        high = (last if high_text == b"*" else int(high_text)) if colon else low
        if low is None or high is None:
            return None
        low, high = min(low, high), max(low, high)
        if high - low >= most or len(found) + high - low >= most:
            return None
        found.update(range(low, high + 1))
    return sorted(found)


def store(rest: bytes) -> tuple[bytes, ...] | None:
    """The flags that a STORE adds or sets, from what follows its set; empty when it only takes away."""
    match = _STORE.match(rest)
    if match is None:
        return None
    return tuple((match[2] or match[3] or b"").split()[:50]) if match[1] != b"-" else ()


def folder(text: bytes) -> str:
    """The name of a mailbox at the beginning, readable; empty when it comes as a literal."""
    match = _MAILBOX.match(text)
    if match is None:
        return ""
    raw = re.sub(rb"\\(.)", rb"\1", match[1]) if match[1] is not None else match[2]
    return decode_name(raw[:400])


def covers(text: bytes, number: int) -> bool:
    """True when a sequence set names ``number``; ``*`` is taken to be beyond all, ``$`` to be empty."""
    if text == SAVED:
        return False
    for part in text.split(b","):
        low_text, colon, high_text = part.partition(b":")
        low = 1 << 32 if low_text == b"*" else int(low_text)
        high = (1 << 32 if high_text == b"*" else int(high_text)) if colon else low
        if min(low, high) <= number <= max(low, high):
            return True
    return False
