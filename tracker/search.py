"""Folding of text for search, and the words of the search line.

Folding makes what Arabic writers use freely the same: alef and hamza forms, ya and alef maqsura,
ta marbuta, tatweel, diacritics, Arabic-Indic digits; and letter case and accents of Latin text.
``letter.subject_fold`` is written with :func:`fold`, and questions are folded by the same function.

:func:`parse` reads ``to:MOH from:MOF is:late state:queued grade:E3+ before:2026-11-01 words``. It
never raises: what it does not understand is kept in ``Query.unclear``, so that the page can say so
instead of quietly finding everything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TypeVar

from tracker.states import Grade, State

_LETTERS = str.maketrans(
    {"ٱ": "ا", "ى": "ي", "ی": "ي", "ې": "ي", "ک": "ك", "ة": "ه", "ۀ": "ه", "ء": "", "ـ": ""}
)
_SPACES = re.compile(r"\s+")
_TOKEN = re.compile(r'(?:([^\s:"]{1,16}):)?(?:"([^"]*)"?|(\S+))')
_NUMBER = re.compile(r"[a-z][a-z0-9]{0,15}/\d{4}/\d{0,9}")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_GRADE = re.compile(r"e?([0-7])(\+?)")

E = TypeVar("E", bound=StrEnum)

MAX_TEXT = 400  # characters of a search line that are looked at
MAX_WORDS = 8


def fold(text: str) -> str:
    """The form in which text is compared: ``"الإحصاءات ٢٠٢٦"`` becomes ``"الاحصاات 2026"``. Never raises."""
    out = []
    for char in unicodedata.normalize("NFKD", text):
        category = unicodedata.category(char)
        if category == "Mn" or category == "Cf":  # marks above and below; bidi and joining controls
            continue
        if category == "Nd":
            char = str(unicodedata.digit(char))
        elif category == "Cc":
            char = " "
        out.append(char)
    folded = "".join(out).translate(_LETTERS).casefold()
    return _SPACES.sub(" ", folded).strip()


class Condition(StrEnum):
    """What ``is:`` asks about a delivery."""

    WAITING = "waiting"  # queued or being sent
    HELD = "held"
    LATE = "late"  # warned about, or past the letter's due date
    FAILED = "failed"
    RETURNED = "returned"
    RELAYED = "relayed"  # taken by the agency's server, no more known
    DELIVERED = "delivered"  # in the mailbox or further
    READ = "read"
    PROCESSED = "processed"
    OPEN = "open"  # not processed, not failed, not returned


_KEYS = {
    "to": "to", "إلى": "to", "الى": "to",
    "from": "from", "من": "from",
    "is": "is", "هو": "is",
    "state": "state", "حالة": "state", "الحالة": "state",
    "grade": "grade", "درجة": "grade",
    "before": "before", "قبل": "before",
    "after": "after", "بعد": "after", "منذ": "after",
    "number": "number", "رقم": "number",
    "id": "id",
}  # fmt: skip

_CONDITION_WORDS = {
    "متاخر": Condition.LATE, "overdue": Condition.LATE,
    "متعذر": Condition.FAILED, "فاشل": Condition.FAILED,
    "منتظر": Condition.WAITING, "queued": Condition.WAITING,
    "محجوز": Condition.HELD,
    "معاد": Condition.RETURNED,
    "مرحل": Condition.RELAYED,
    "مسلم": Condition.DELIVERED,
    "مقروا": Condition.READ, "مقرو": Condition.READ,
    "معالج": Condition.PROCESSED, "closed": Condition.PROCESSED,
    "مفتوح": Condition.OPEN,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for. Empty fields ask nothing; several agencies under one key mean any of them."""

    words: tuple[str, ...] = ()  # folded; each must occur in number, subject or an address
    number: str | None = None  # upper case, whole or beginning: ``MOF/2026/000123``, ``MOF/2026/``
    ids: tuple[str, ...] = ()  # Message-ID with its brackets, or a 13-character id
    to: tuple[str, ...] = ()
    sender: tuple[str, ...] = ()
    conditions: frozenset[Condition] = frozenset()
    states: frozenset[State] = frozenset()
    grade: Grade | None = None
    at_least: bool = False  # ``grade:E3+``
    after: date | None = None  # on this day or later, in the reader's zone
    before: date | None = None  # earlier than this day
    unclear: tuple[str, ...] = ()  # what was written and not understood

    @property
    def asks_of_delivery(self) -> bool:
        """True when a condition speaks of one recipient's row."""
        return bool(self.to or self.conditions or self.states or self.grade is not None)


def parse_day(text: str) -> date | None:
    """``2026-11-01``, ``1/11/2026`` or ``01-11-2026`` (day first) in any digits; None for anything else."""
    plain = fold(text)
    match = re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", plain)
    parts = (match[1], match[2], match[3]) if match else None
    if match is None and (match := re.fullmatch(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})", plain)):
        parts = (match[3], match[2], match[1])
    if parts is None:
        return None
    try:
        return date(int(parts[0]), int(parts[1]), int(parts[2]))
    except ValueError:
        return None


def parse(text: str, agencies: Callable[[str], Sequence[str]] | None = None) -> Query:
    """Read a search line; see the module's docstring.

    ``agencies`` finds the codes that a word after ``to:`` or ``from:`` may mean (a code, a part of
    a name); without it only codes are understood.
    """
    found = _Found(agencies or code_only)
    for match in _TOKEN.finditer(text[:MAX_TEXT].replace("\x00", " ")):
        key, quoted, bare = match[1], match[2], match[3]
        value = quoted if quoted is not None else bare
        name = _KEYS.get(key.casefold()) if key else None
        if key and name is None:
            value = f"{key}:{value}"  # a colon inside a subject is no key
        if not found.take(name, value.strip()):
            found.unclear.append(f"{key}:{value}" if name else value)
    return found.query()


def code_only(value: str) -> Sequence[str]:
    """The code that was written, whether or not there is such an agency."""
    return [value.upper()] if _CODE.fullmatch(value) else []


class _Found:
    """The parts of a query while the line is being read."""

    def __init__(self, agencies: Callable[[str], Sequence[str]]) -> None:
        self.agencies = agencies
        self.words: list[str] = []
        self.number: str | None = None
        self.ids: list[str] = []
        self.to: list[str] = []
        self.sender: list[str] = []
        self.conditions: set[Condition] = set()
        self.states: set[State] = set()
        self.grade: tuple[Grade, bool] | None = None
        self.after: date | None = None
        self.before: date | None = None
        self.unclear: list[str] = []

    def take(self, name: str | None, value: str) -> bool:
        """Use one token; False when it says nothing that can be asked."""
        if name is None:
            return self._word(value)
        plain = fold(value)
        match name:
            case "to" | "from":
                codes = [code for part in value.split(",") for code in self.agencies(part.strip())]
                (self.to if name == "to" else self.sender).extend(codes)
                return bool(codes)
            case "is":
                condition = _CONDITION_WORDS.get(plain) or _member(Condition, plain)
                self.conditions |= {condition} if condition else set()
                return condition is not None
            case "state":
                state = _member(State, plain)
                self.states |= {state} if state else set()
                return state is not None
            case "grade":
                match_ = _GRADE.fullmatch(plain)
                if match_:
                    self.grade = (Grade(int(match_[1])), bool(match_[2]))
                return match_ is not None
            case "before" | "after":
                day = parse_day(value)
                if day is not None:
                    setattr(self, name, day)
                return day is not None
            case "number":
                self.number = plain.upper().replace(" ", "") or None
                return self.number is not None
            case _:
                self.ids.append(value)
                return bool(value)

    def _word(self, value: str) -> bool:
        if value.startswith("<") and value.endswith(">") and "@" in value:
            self.ids.append(value)
            return True
        plain = fold(value)
        if _NUMBER.fullmatch(plain):
            self.number = plain.upper()
        elif plain and len(self.words) < MAX_WORDS:
            self.words.append(plain)
        return True

    def query(self) -> Query:
        grade, at_least = self.grade or (None, False)
        return Query(
            words=tuple(dict.fromkeys(self.words)),
            number=self.number,
            ids=tuple(self.ids[:4]),
            to=tuple(dict.fromkeys(self.to))[:20],
            sender=tuple(dict.fromkeys(self.sender))[:20],
            conditions=frozenset(self.conditions),
            states=frozenset(self.states),
            grade=grade,
            at_least=at_least,
            after=self.after,
            before=self.before,
            unclear=tuple(self.unclear[:8]),
        )


def _member(kind: type[E], value: str) -> E | None:
    return kind(value) if value in {member.value for member in kind} else None
