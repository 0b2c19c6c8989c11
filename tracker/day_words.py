"""Days, counts and the state of a letter in words, Arabic and English, for mail that people read.

Dates are Gregorian with the month names of the Levant, in the zone of whoever writes; digits are European.
Arabic counts follow CLDR: one, two, three to ten, eleven and more. Nothing here fails.
"""

from __future__ import annotations

from datetime import date, tzinfo

from tracker.model import when
from tracker.states import Grade

_DAYS = {
    "ar": ("الاثنين", "الثلاثاء", "الأربعاء", "الخميس", "الجمعة", "السبت", "الأحد"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
_MONTHS = {
    "ar": (
        "كانون الثاني", "شباط", "آذار", "نيسان", "أيار", "حزيران",
        "تموز", "آب", "أيلول", "تشرين الأول", "تشرين الثاني", "كانون الأول",
    ),
    "en": (
        "January", "February", "March", "April", "May", "June",
        "July", "August", "September", "October", "November", "December",
    ),
}  # fmt: skip
_STANDS = {
    Grade.RELAYED: ("تسلّمه خادم الجهة", "with the agency's server"),
    Grade.DELIVERED: ("في صندوق البريد", "in the mailbox"),
    Grade.FETCHED: ("سُحب", "fetched"),
    Grade.READ: ("قُرئ ولم يُقيَّد", "read, not registered"),
    Grade.REGISTERED: ("قُيّد في الوارد", "registered"),
    Grade.PROCESSED: ("أُعيد فتحه", "opened again"),
}


def day(day_: date, language: str) -> str:
    """``الأحد 22 تشرين الثاني 2026``."""
    return f"{_DAYS[language][day_.weekday()]} {day_.day} {_MONTHS[language][day_.month - 1]} {day_.year}"


def moment(us: int, zone: tzinfo, language: str) -> str:
    """The day with the time of day."""
    at = when(us).astimezone(zone)
    return f"{day(at.date(), language)}{'،' if language == 'ar' else ','} {at:%H:%M}"


def working_days(count: int, language: str) -> str:
    """``3 أيام عمل``."""
    if language == "en":
        return f"{count} working day{'' if count == 1 else 's'}"
    if count == 1:
        return "يوم عمل واحد"
    if count == 2:
        return "يومي عمل"
    return f"{count} أيام عمل" if 3 <= count % 100 <= 10 else f"{count} يوم عمل"


def letters(count: int, language: str, *, more: bool = False) -> str:
    """``3 كتب``; ``more``: there are more than were counted."""
    shown = f"{count}+" if more else str(count)
    if language == "en":
        return f"{shown} letter{'' if count == 1 and not more else 's'}"
    if count == 1 and not more:
        return "كتاب واحد"
    if count == 2 and not more:
        return "كتابان"
    return f"{shown} كتب" if 3 <= count % 100 <= 10 else f"{shown} كتاباً"


def stands(grade: int, language: str) -> str:
    """How far the evidence goes at the agency."""
    words = _STANDS.get(Grade(grade))
    return "" if words is None else words[0] if language == "ar" else words[1]
