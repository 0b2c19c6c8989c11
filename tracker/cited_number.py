"""Letters that a text says it refers to: «إشارة لكتابكم رقم …» in its first lines, in any digits.

Official letters name what they answer in words before they name it in header fields, and a letter typed anew
has no header field at all. Read are the first lines of the text, up to what it quotes. A reference is a word
for a letter (كتاب، خطاب، مذكرة، تعميم, letter, memo), whose it is (كتابكم yours, كتابنا ours), and a number
of two or three parts, one of them a year: ``MOF/2026/000123``, ``٠٠٠١٢٣/٢٠٢٦/MOF``, ``123-2026``. A date is
none. Alef and hamza, ya, ta marbuta, tatweel and diacritics do not matter.

Bounded in what it looks at, whatever the octets; a text without such a word costs a look for two substrings.
Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tracker.first_lines import first_lines
from tracker.header import Buffer
from tracker.mime import Structure
from tracker.model import LetterNumber
from tracker.search import fold

SHOWN = 1500  # characters of it
MOST = 4  # references of one text
WINDOWS = 8  # words for a letter that are looked at
WINDOW = 160  # characters from such a word on

_QUOTED = re.compile(
    r"^[ \t]*(?:>|-{3,} ?(?:original|forwarded|الرسالة|رسالة)|_{10,}|(?:from|sent|من|تاريخ الإرسال)[ \t]*:)",
    re.IGNORECASE | re.MULTILINE,
)
_HINTS_LATIN = ("our ", "Our ", "OUR ")
_HINTS = ("كت", "خط", "ذكر", "عمي", *_HINTS_LATIN)
_HINT = re.compile(r"كت|خط|ذكر|عمي|[Oo][Uu][Rr] ")
_YEARLY = re.compile(r"[2٢۲][0٠۰]\d\d")
_MARKED = (
    (0x640, 0x641),
    (0x64B, 0x660),
    (0x670, 0x671),
    (0x200B, 0x2010),
    (0x202A, 0x202F),
    (0x2066, 0x206A),
)
_MARKS = [chr(code) for first, end in _MARKED for code in range(first, end)]
_FOLD = str.maketrans(
    dict.fromkeys(_MARKS, "")
    | dict(zip("أإآٱىیةؤئک", "ااااييهويك", strict=True))
    | {"ء": "", "\u00a0": " "}
    | {chr(zero + n): str(n) for zero in (0x0660, 0x06F0) for n in range(10)}
)  # what tracker.search.fold makes of a line, for what is looked for here, at a tenth of the cost
_LINE = " \u2424 "  # stands for an empty line, where folding would make it a blank
_PART = r"(?:\d{1,9}|[a-z][a-z0-9]{0,15})"
_JOINT = r"\s?[/\\\-\u2010-\u2015_]\s?"
_NUMBER = re.compile(rf"{_PART}(?:{_JOINT}{_PART}){{1,3}}(?![a-z0-9])")
_WORD = re.compile(
    r"(?<!\w)(?:\w{0,4}(?:كتاب|خطاب|مذكره?|مذكرت|تعميم)(?P<arabic>\w{0,6})"
    r"|(?P<whose>your|our)\s+(?:letter|memo|circular|ref(?:erence)?)\w{0,3})(?!\w)"
)
_BETWEEN = re.compile(rf"[^\d\u2424]{{0,60}}?(?<![a-z0-9])(?={_PART}{_JOINT}{_PART})")
_MORE = re.compile(r"[\s)\]»\"]{0,4}(?:و|،|,|and|&)\s{0,3}(?:\w{0,3}رقم|no\.?)?[\s:(\[«\"]{0,4}")
_DATED = re.compile(r"تاريخ|مورخ|dated|date")


@dataclass(frozen=True, slots=True)
class Citation:
    """A letter's number as somebody wrote it. ``code`` None: not said; ``own``: a letter of the writer's."""

    code: str | None
    year: int
    seq: int
    own: bool = False


def cited(octets: Buffer, structure: Structure) -> tuple[Citation, ...]:
    """What the first lines of a message's text refer to."""
    return citations(first_lines(octets, structure))


def citations(text: str) -> tuple[Citation, ...]:
    """What a text refers to, in its order, without repeats."""
    shown = text[:SHOWN]
    # As quick a look as there is: most letters have no joined number, no year or no such word.
    if not ("/" in shown or "-" in shown or "\\" in shown or "_" in shown or "–" in shown):
        return ()
    plain = shown.isascii()
    if not ("20" in shown or (not plain and ("٢٠" in shown or "۲۰" in shown))):
        return ()
    if not any(hint in shown for hint in (_HINTS_LATIN if plain else _HINTS)):
        return ()
    starts = [match.start() for match in _HINT.finditer(shown)]
    quoted = _QUOTED.search(shown)
    end = quoted.start() if quoted else len(shown)
    found: dict[Citation, None] = {}
    behind = 0  # what was looked at already
    for start in starts[:WINDOWS]:
        stop = min(start + WINDOW, end)
        if start < behind or start >= end or _YEARLY.search(shown, start, stop) is None:
            continue
        window = shown[max(start - 12, 0) : stop].replace("\r", "").replace("\n\n", _LINE)
        for one in _cited(window.translate(_FOLD).lower()):
            found.setdefault(one)
        behind = start + 1
    return tuple(found)[:MOST]


def _cited(window: str) -> list[Citation]:
    """The references of the first words for a letter in folded text."""
    word = _WORD.search(window)
    if word is None:
        return []
    own = word["whose"] == "our" or (word["arabic"] or "").endswith("نا")
    return _after(window, word.end(), own)


def number_parts(text: str) -> Citation | None:
    """A letter's number that stands alone, such as one of a subject; None for what is none."""
    match = _NUMBER.fullmatch(fold(text))
    return _citation(match[0], own=False) if match is not None else None


def numbers(
    found: Iterable[Citation], shape: str, writer: str | None, addressed: Sequence[str]
) -> tuple[str, ...]:
    """The register numbers that citations mean, in the gateway's ``shape``. What names no agency means a
    letter of those to whom this one goes («كتابكم»), or of the writer's own («كتابنا»)."""
    out: dict[str, None] = {}
    for one in found:
        codes = [one.code] if one.code else [writer] if one.own and writer else list(addressed[:MOST])
        for code in codes:
            out.setdefault(LetterNumber.shape(shape, code or "", one.year, one.seq).text)
    return tuple(out)[:MOST]


def _after(text: str, at: int, own: bool) -> list[Citation]:
    """The numbers that follow a word for a letter; a date may stand before them."""
    out: list[Citation] = []
    for _ in range(2):
        between = _BETWEEN.match(text, at)
        if between is None:
            return out
        at = between.end()
        dated = _DATED.search(between[0]) is not None
        while len(out) < MOST and (number := _NUMBER.match(text, at)) is not None:
            at = number.end()
            one = _citation(number[0], own)
            if one is None or dated:
                break
            out.append(one)
            more = _MORE.match(text, at)
            if more is None:
                return out
            at = more.end()
        if out:
            return out
    return out


def _citation(text: str, own: bool) -> Citation | None:
    """The parts of a number in any order; two numbers beside the year without a code are a date."""
    parts = re.split(_JOINT, text)
    codes = [part for part in parts if not part.isdecimal()]
    years = [part for part in parts if re.fullmatch(r"20\d\d", part)]
    if len(codes) > 1 or not years:
        return None
    rest = [part for part in parts if part.isdecimal()]
    # MOF/2026/2026: the one in the middle, or the one at the end, is the year.
    rest.remove(years[-1] if len(years) > 1 and parts[-1] != years[-1] else years[0])
    if len(rest) != 1:
        return None
    return Citation(codes[0].upper() if codes else None, int(years[0]), int(rest[0]), own)
