"""What the daily digest says: what is late, what waits, what came in, for a registry or for compliance staff.

One mail each working day to each reader, none when there is nothing to say. A registry reads of its own
agency's incoming letters; an agency's compliance staff of both its ends; that of the whole of all agencies,
by number. Subjects that policy conceals stand in no list. Pure; fails as :mod:`tracker.plain_mail` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, tzinfo

from tracker import day_words
from tracker.board import Counts, What
from tracker.overview import Count
from tracker.plain_mail import Cell, Sheet, Table
from tracker.reminder import OwedLetter, letter_table

COLUMNS = (What.LATE, What.TODAY, What.WEEK, What.REGISTRATION, What.READ, What.UNDELIVERED, What.DOUBT)
_WORDS = {
    What.LATE: ("متأخر", "late"),
    What.TODAY: ("يستحق اليوم", "due today"),
    What.WEEK: ("خلال 7 أيام", "due within 7 days"),
    What.ANSWER: ("بانتظار الرد", "waiting for an answer"),
    What.REGISTRATION: ("بانتظار القيد", "waiting for registration"),
    What.READ: ("بانتظار القراءة", "waiting for reading"),
    What.UNDELIVERED: ("لم يُسلَّم بعد", "not delivered yet"),
    What.DOUBT: ("مصيره غير معلوم", "in doubt"),
}


NOUGHT = Count(value=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Counts of one agency (or of one end of it)."""

    name_ar: str
    name_en: str
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What one reader is told."""

    title_ar: str  # of the reader: the agency, or the exchange
    title_en: str
    day: date
    zone: tzinfo
    own: Counts | None = None  # of the agency; None: of the whole
    late: tuple[OwedLetter, ...] = ()
    late_count: Count = NOUGHT
    due: tuple[OwedLetter, ...] = ()  # today
    unregistered: tuple[OwedLetter, ...] = ()
    arrived: tuple[OwedLetter, ...] = ()
    arrived_count: Count = NOUGHT
    since: date | None = None  # of what came in
    owed: tuple[OwedLetter, ...] = ()  # late at others, of an agency's own letters
    owed_count: Count = NOUGHT
    agencies: tuple[Section, ...] = ()  # what others owe
    board: str = ""

    @property
    def empty(self) -> bool:
        """Nothing that anybody has to do or know."""
        waits = any(one.value for one in self.own.values()) if self.own is not None else False
        return not (waits or self.late or self.arrived_count.value or self.agencies)


def subject(d: Digest) -> str:
    """``متابعة يوم الأحد 22 تشرين الثاني 2026: 3 كتب متأخرة``."""
    late = Count(value=d.late_count.value + d.owed_count.value, more=d.late_count.more or d.owed_count.more)
    told = f": {day_words.letters(late.value, 'ar', more=late.more)} متأخرة" if late.value else ""
    if late.value == 1 and not late.more:
        told = ": كتاب واحد متأخر"
    if late.value == 2 and not late.more:
        told = ": كتابان متأخران"
    return f"متابعة يوم {day_words.day(d.day, 'ar')}{told}"


def sheets(d: Digest) -> tuple[Sheet, Sheet]:
    """The Arabic and the English sheet."""
    return _sheet(d, "ar"), _sheet(d, "en")


def _sheet(d: Digest, language: str) -> Sheet:
    ar = language == "ar"
    day = day_words.day(d.day, language)
    name = d.title_ar if ar else d.title_en
    lead = []
    if d.own is not None:
        told = _summary(d.own, language)
        both = ("على جهتكم" if ar else "Your agency owes") if d.agencies else ""
        lead.append(f"{both}: {told}" if both else told.capitalize())
    tables: list[Table] = []

    def listed(letters: Sequence[OwedLetter], count: Count, arabic: str, english: str) -> None:
        if letters:
            title = f"{arabic if ar else english} ({count.value}{'+' if count.more else ''})"
            tables.append(letter_table(letters, d.zone, language, title, max(0, count.value - len(letters))))

    listed(d.late, d.late_count, "متأخرة", "Late")
    if d.own is not None:
        listed(d.due, d.own[What.TODAY], "تستحق اليوم", "Due today")
        listed(d.unregistered, d.own[What.REGISTRATION], "بانتظار القيد", "Waiting for registration")
    since = day_words.day(d.since, language) if d.since is not None else ""
    listed(d.arrived, d.arrived_count, f"وردت منذ {since}", f"Arrived since {since}")
    listed(d.owed, d.owed_count, "كتبكم المتأخر ردّها عند غيركم", "Your letters that others are late with")
    if d.agencies:
        tables.append(_agencies(d.agencies, language, own=d.own is not None))
    return Sheet(
        language=language,
        title=f"متابعة {name}، {day}" if ar else f"Follow-up of {name}, {day}",
        lead=tuple(lead),
        tables=tuple(tables),
        notes=(
            "رسالة آلية تُرسل كل يوم عمل فيه ما يُذكر."
            if ar
            else "Sent each working day on which there is something to say.",
        ),
        link=(("صفحة المتابعة" if ar else "The follow-up page"), d.board) if d.board else None,
        tone="bad" if d.late_count.value or d.owed_count.value else "calm",
    )


def _summary(counts: Counts, language: str) -> str:
    ar = language == "ar"
    told = [
        f"{_WORDS[what][0 if ar else 1]}: {_count(counts[what])}" for what in COLUMNS if counts[what].value
    ]
    if not told:
        return "لا شيء متأخر ولا شيء ينتظر." if ar else "nothing is late and nothing waits."
    return (" · ".join(told)) + "."


def _agencies(sections: Sequence[Section], language: str, *, own: bool) -> Table:
    ar = language == "ar"
    title = "بحسب الجهة المرسل إليها" if ar else "By receiving agency"
    if own:
        title = "ما على غيركم من كتبكم، بحسب الجهة" if ar else "What other agencies owe to yours"
    return Table(
        title=title,
        columns=("الجهة" if ar else "Agency", *(_WORDS[what][0 if ar else 1] for what in COLUMNS)),
        rows=tuple(
            (
                Cell(one.name_ar if ar else one.name_en),
                *(Cell(_count(one.counts[what]) if one.counts[what].value else "–") for what in COLUMNS),
            )
            for one in sections
        ),
    )


def _count(count: Count) -> str:
    return f"{count.value}{'+' if count.more else ''}"
