"""Text that somebody else wrote, made fit to stand in a sentence of ours.

Subjects, names, addresses and server answers may hold line breaks, terminal escapes and the
controls that turn the direction of everything after them (U+202A–202E, U+2066–2069; Unicode TR 36
§2.6). They are not dropped but shown, as ``[U+202E]``, so that the reader sees that they were there.
Marks that Arabic writing needs (LRM, RLM, ALM, ZWJ, ZWNJ) stay as they are. Never raises.
"""

from __future__ import annotations

import re

_SPACE = re.compile(r"[\t\r\n\v\f\x85\u2028\u2029 ]+")
_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\U000e0000-\U000e007f]")
_DIRECTION = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def shown(text: str, limit: int = 400) -> str:
    """One line without controls, of at most ``limit`` characters and "…" if it was longer."""
    text = text[: 4 * limit]  # a megabyte of spaces costs no time
    text = _SPACE.sub(" ", _SURROGATE.sub("\ufffd", text)).strip(" ")
    text = _SHOWN.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)
    return text if len(text) <= limit else text[: limit - 1].rstrip(" ") + "…"


def turns_direction(text: str) -> bool:
    """True when the text holds a control that turns the direction of what follows it."""
    return _DIRECTION.search(text) is not None
