"""The first lines of a message's text, as a client shows them: plain text before HTML, no attachment.

Bounded in what is decoded, whatever the octets; the end may fall within a word. Never raises.
"""

from __future__ import annotations

import binascii
import html
import re

from tracker import charset
from tracker.field_value import base64_octets
from tracker.header import Buffer
from tracker.mime import Part, Structure

READ = 3072  # octets of the text that are looked at
READ_HTML = 32_768  # the same with its tags

_TAG = re.compile(r"<[^<>]{0,2000}>")
_BREAKS = re.compile(r"<(?:br|/p|/div|/tr|/h[1-6])\b[^<>]{0,200}>", re.IGNORECASE)


def first_lines(octets: Buffer, structure: Structure) -> str:
    """The beginning of the text; empty when there is none."""
    part = _text(structure)
    return "" if part is None else _beginning(octets, part)


def _text(structure: Structure) -> Part | None:
    """The text that a client shows first: plain before HTML, no attachment."""
    best: Part | None = None
    for part in structure.leaves():
        if part.within >= 0 or part.disposition == "attachment" or part.filename:
            continue
        if part.content_type == "text/plain":
            return part
        if part.content_type == "text/html" and best is None:
            best = part
    return best


def _beginning(octets: Buffer, part: Part) -> str:
    """The first lines of a text part."""
    html_text = part.content_type == "text/html"
    most = READ_HTML if html_text else READ
    with memoryview(octets) as view, view[part.start : part.end] as content:
        cut = len(content) > most
        if part.encoding == "base64":
            raw = _unbase64(bytes(content[:most]), cut)
        elif part.encoding == "quoted-printable":
            raw = binascii.a2b_qp(bytes(content[: most * 2]))[:most]
        else:
            raw = bytes(content[:most])
    if raw.isascii():
        text = raw.decode("ascii")
    elif (part.charset or "").lower() == "utf-8":
        text = raw.decode("utf-8", "ignore")  # the cut may have gone through a character
    else:
        whole = raw[: max(raw.rfind(b"\n"), raw.rfind(b" "))] if cut else raw
        text = charset.decode(whole or raw, part.charset)
    if html_text:
        text = html.unescape(_TAG.sub(" ", _BREAKS.sub("\n", _without_style(text))))
        return "\n".join(line for line in (" ".join(one.split()) for one in text.split("\n")) if line)
    return text


def _unbase64(content: bytes, cut: bool) -> bytes:
    """The octets of base64; of what is cut, those of its whole lines."""
    try:
        return binascii.a2b_base64((content[: content.rfind(b"\n") + 1] if cut else content) or content)
    except binascii.Error:
        return base64_octets(content)


def _without_style(text: str) -> str:
    """HTML without what stands in its ``style`` elements, which no tag marks as such."""
    low, out, at = text.lower(), [], 0
    if len(low) != len(text):
        return text
    while (start := low.find("<style", at)) >= 0:
        out.append(text[at:start])
        end = low.find("</style", start)
        at = len(text) if end < 0 else end
    return "".join([*out, text[at:]])
