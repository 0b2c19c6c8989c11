"""What header fields say of classification, urgency and time, as they say it.

Raw marks only: what they mean is configuration of the policy (marks of a folder), so that a candidate
policy can read the same marks in another way. Sources are our own ``Wasl-Classification`` and
``Wasl-Urgency``, ``Sensitivity``, ``Importance``, ``Priority`` and ``X-Priority`` (RFC 2156, RFC 4021),
``SIO-Label`` (RFC 7444), and words in brackets in the subject. Bounded in number and length; nothing
here raises on any header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_tz

from tracker.field_value import decode_words, parameters
from tracker.header import Headers

MAX_VALUE = 200  # characters of a mark
MAX_FIELD = 2000  # characters of one value of a field that a rule asks for
MAX_FIELDS = 20  # values of one field name
MAX_WORDS = 8  # bracketed words of a subject
MAX_WORD = 60
MAX_REPEATS = 3  # fields of one name: the strictest of them may count

_SOURCES = {
    b"wasl-classification": "wasl-classification",
    b"wasl-urgency": "wasl-urgency",
    b"sensitivity": "sensitivity",
    b"importance": "importance",
    b"priority": "priority",
    b"x-priority": "x-priority",
    b"sio-label": "sio-label",
}
_OPEN = re.compile(r"[\[(\uff3b\uff08\u3010]")
_WORD = re.compile(
    r"[\[(\uff3b\uff08\u3010]([^][()\uff3b\uff3d\uff08\uff09\u3010\u3011]{1,60})[\])\uff3d\uff09\u3011]"
)
# Marks of direction, joiners and the like: programs put them around Arabic words in brackets.
_FORMAT = re.compile("[\u00ad\u0640\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_NUMBER = re.compile(r"[A-Za-z0-9_.\-]+(?:/[A-Za-z0-9_.\-]+)+")
_NAMES = frozenset(_SOURCES)
_LARGEST_OFFSET = 86_400  # seconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def marks(
    headers: Headers, subject: str, trusted: bool
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Raw ``(source, value)`` marks, and the names of ``Wasl-`` fields that count for nothing because
    whoever wrote them may not set them (``trusted`` is False)."""
    names = headers._by_name()
    said: list[tuple[str, str]] = []
    stripped: list[str] = []
    if not trusted:
        stripped = [n.decode("ascii", "replace")[:MAX_WORD] for n in names if n.startswith(b"wasl-")]
    if not _NAMES.isdisjoint(names):
        for name, source in _SOURCES.items():
            if name not in names or (not trusted and name.startswith(b"wasl-")):
                continue
            for raw in headers.all(source)[:MAX_REPEATS]:
                value = _label(raw) if name == b"sio-label" else decode_words(raw[:MAX_FIELD])
                value = _FORMAT.sub("", value[:MAX_VALUE]).strip()
                if value:
                    said.append((source, value))
    if _OPEN.search(subject) is not None:
        for word in _WORD.findall(subject)[:MAX_WORDS]:
            value = " ".join(_FORMAT.sub("", word).split())
            if value and _NUMBER.fullmatch(value) is None:
                said.append(("subject", value))
    return tuple(dict.fromkeys(said)), tuple(stripped[:MAX_FIELDS])


def _label(raw: bytes) -> str:
    """What a security label shows: its marking, else the label itself (RFC 7444 §3)."""
    found = parameters(b"label;" + raw)
    return found.get("marking") or "".join(found.get("label", "").split())


def asked(headers: Headers, needs: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``(name, value)`` of the fields named, each value as a person reads it, cut at ``MAX_FIELD``."""
    out: list[tuple[str, str]] = []
    for name in sorted({n.lower() for n in needs}):
        if name in headers:
            hint = headers.charset_hint
            for raw in headers.all(name)[:MAX_FIELDS]:
                out.append((name, decode_words(raw[: 4 * MAX_FIELD], hint)[:MAX_FIELD]))
    return tuple(out)


def reply_by_us(headers: Headers) -> int | None:
    """The moment by which the author wants an answer (RFC 2156, Reply-By), or None if it is no date."""
    try:
        found = parsedate_tz(headers.plain("reply-by")[:MAX_VALUE])
        if found is None or abs(found[9] or 0) > _LARGEST_OFFSET:
            return None
        moment = datetime(*found[:6], tzinfo=UTC)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    us = (moment - _EPOCH).days * 86_400_000_000 + (moment - _EPOCH).seconds * 1_000_000
    return us - (found[9] or 0) * 1_000_000
