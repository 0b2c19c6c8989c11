"""What a reminder says: to the registry that owes an answer, or to who is told that it stays late.

A reminder stands in the thread of its letter and lists what else waits at that agency; of many letters at
once one mail is made, in no thread. It says what ends it: an answer through the gateway, or closing the
letter. Subjects of letters above a classification that policy names stand in no list. Pure; nothing here
fails that :mod:`tracker.plain_mail` does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from tracker import day_words
from tracker.foreign_text import shown
from tracker.plain_mail import Cell, Sheet, Table, isolated

LISTED = 20  # letters in a list; more are counted
GATHERED = 100  # of those that one mail is about


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedLetter:
    """One letter as a list tells it. ``days``: working days until (negative: since) its due date."""

    number: str | None
    subject: str  # "" where it is concealed
    concealed: bool
    sender_ar: str
    sender_en: str
    accepted_us: int
    due_us: int | None
    days: int = 0
    late: bool = False
    grade: int = 0
    href: str = ""
    to_ar: str = ""  # who owes the answer, where a list has several of them
    to_en: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminding:
    """What is reminded of. ``escalated``: to a mailbox beside the registry."""

    letters: tuple[OwedLetter, ...]  # one, or those gathered
    agency_ar: str
    agency_en: str
    zone: tzinfo
    escalated: bool = False
    by_hand: bool = False  # the sending agency asked for it
    others: tuple[OwedLetter, ...] = ()  # what else waits there
    more: int = 0  # and so many more
    board: str = ""  # address of the follow-up page


_COLUMNS = {
    "ar": ("الرقم", "من", "الموضوع", "المهلة", "الحالة"),
    "en": ("Number", "From", "Subject", "Due", "State"),
}


def subject(r: Reminding) -> str:
    """``تذكير: [MOF/2026/000123] …``, with the letter's own subject so that threads hold together."""
    if len(r.letters) > 1:
        word = "تنبيه بكتب متأخرة" if r.escalated else "تذكير بكتب تنتظر الرد"
        return f"{word}: {len(r.letters)}"
    (one,) = r.letters
    word = "تنبيه بكتاب متأخر" if r.escalated else "تذكير"
    tag = f"[{one.number}]" if one.number else ""
    said = shown(one.subject, 160)
    return f"{word}: {said if tag and tag in said else f'{tag} {said}'}".strip(" :")


def sheets(r: Reminding) -> tuple[Sheet, Sheet]:
    """The Arabic and the English sheet."""
    return _sheet(r, "ar"), _sheet(r, "en")


def _sheet(r: Reminding, language: str) -> Sheet:
    ar = language == "ar"
    tables = []
    if len(r.letters) > 1:
        title = "الكتب" if ar else "The letters"
        tables.append(letter_table(r.letters, r.zone, language, title, most=GATHERED))
    if r.others:
        title = "كتب أخرى تنتظر عندكم" if ar else "Other letters that wait at your agency"
        if r.escalated:
            title = "كتب أخرى تنتظر عند الجهة" if ar else "Other letters that wait there"
        tables.append(letter_table(r.others, r.zone, language, title, r.more))
    late = any(one.late for one in r.letters)
    return Sheet(
        language=language,
        title=_title(r, ar),
        lead=_lead(r, language),
        tables=tuple(tables),
        notes=_notes(r, ar),
        link=(("صفحة المتابعة" if ar else "The follow-up page"), r.board) if r.board else None,
        tone="bad" if r.escalated else "warn" if late else "calm",
    )


def _title(r: Reminding, ar: bool) -> str:
    many = len(r.letters) > 1
    if r.escalated:
        return (
            ("تنبيه: كتب متأخرة" if many else "تنبيه: كتاب متأخر")
            if ar
            else "Late letters"
            if many
            else "A late letter"
        )
    if ar:
        return "تذكير بكتب تنتظر الرد" if many else "تذكير بكتاب ينتظر الرد"
    return (
        "Reminder: letters that wait for an answer" if many else "Reminder: a letter that waits for an answer"
    )


def _lead(r: Reminding, language: str) -> tuple[str, ...]:
    ar = language == "ar"
    agency = isolated(r.agency_ar if ar else r.agency_en)
    if len(r.letters) > 1:
        count = day_words.letters(len(r.letters), language)
        if r.escalated:
            return (
                f"عند {agency}: {count} تجاوزت مهلة الرد."
                if ar
                else f"At {agency} {count} are past their due date.",
            )
        return (
            f"السادة ديوان {agency}: ينتظر الردَّ عندكم {count}، وبيانها أدناه."
            if ar
            else f"To the registry of {agency}: {count} wait for your answer; they are listed below.",
        )
    (one,) = r.letters
    number = isolated(one.number or "—")
    sender = isolated(one.sender_ar if ar else one.sender_en)
    said = isolated(shown(one.subject, 300)) if one.subject else ""
    came = isolated(day_words.moment(one.accepted_us, r.zone, language))
    due = "" if one.due_us is None else isolated(day_words.moment(one.due_us, r.zone, language))
    lines = []
    if ar:
        if r.escalated:
            lines.append(f"لم يُردّ بعد على كتاب عند {agency}.")
        else:
            lines.append(f"السادة ديوان {agency}،")
        lines.append(f"الكتاب رقم {number} من {sender}، بتاريخ {came}.")
        lines += [f"الموضوع: {said}"] if said else []
        lines += [f"مهلة الرد: {due}، {_days(one, language)}."] if due else []
    else:
        if r.escalated:
            lines.append(f"A letter at {agency} has not been answered.")
        else:
            lines.append(f"To the registry of {agency},")
        lines.append(f"Letter {number} from {sender}, of {came}.")
        lines += [f"Subject: {said}"] if said else []
        word = "was" if one.late else "is"
        lines += [f"An answer {word} due by {due}, {_days(one, language)}."] if due else []
    state = day_words.stands(one.grade, language)
    if state:
        lines.append(
            f"آخر ما هو مثبت عند الجهة: {state}."
            if ar
            else f"The last that is proven at the agency: {state}."
        )
    return tuple(lines)


def _days(one: OwedLetter, language: str) -> str:
    ar = language == "ar"
    if one.days == 0:
        if one.late:
            return "وقد انقضت اليوم" if ar else "which passed today"
        return "أي اليوم" if ar else "that is today"
    count = day_words.working_days(abs(one.days), language)
    if one.late:
        return f"ومضى عليها {count}" if ar else f"{count} ago"
    return f"وبقي عليها {count}" if ar else f"{count} from now"


def _notes(r: Reminding, ar: bool) -> tuple[str, ...]:
    if r.escalated:
        return (
            "أُرسل هذا التنبيه آلياً بموجب سياسة المتابعة بعد تذكير الديوان."
            if ar
            else "This was sent automatically as the follow-up policy says, after the registry was reminded.",
        )
    asked: tuple[str, ...] = ()
    if r.by_hand:
        asked = (
            "أُرسل هذا التذكير بطلب من الجهة المرسلة."
            if ar
            else "The sending agency asked for this reminder.",
        )
    return (
        *asked,
        "ينتهي التذكير بالرد على الكتاب من بريدكم، أو بإغلاقه في الديوان. هذه رسالة آلية لا يُرد عليها."
        if ar
        else "Reminders end when you answer the letter by mail or close it at the registry. "
        "This is an automatic message; answers to it are not read.",
    )


def letter_table(
    letters: Sequence[OwedLetter],
    zone: tzinfo,
    language: str,
    title: str,
    more: int = 0,
    most: int = LISTED,
) -> Table:
    """A list of letters, at most ``most`` of them."""
    ar = language == "ar"
    more += max(0, len(letters) - most)
    several = any(one.to_ar or one.to_en for one in letters)
    columns: tuple[str, ...] = _COLUMNS[language]
    if several:
        columns = (*columns[:2], "إلى" if ar else "To", *columns[2:])
    told = day_words.letters(more, language)
    return Table(
        title=title,
        columns=columns,
        rows=tuple(_row(one, zone, language, several) for one in letters[:most]),
        more=(f"و{told} غيرها." if ar else f"and {told} more.") if more else "",
    )


def _row(one: OwedLetter, zone: tzinfo, language: str, several: bool) -> tuple[Cell, ...]:
    ar = language == "ar"
    hidden = "(الموضوع محجوب لدرجة سريته)" if ar else "(subject not shown: classified)"
    due = ""
    if one.due_us is not None:
        due = day_words.moment(one.due_us, zone, language)
        if one.late:
            due += " (متأخر)" if ar else " (late)"
    return (
        Cell(one.number or "—", code=True, href=one.href),
        Cell((one.sender_ar if ar else one.sender_en) or "—"),
        *([Cell((one.to_ar if ar else one.to_en) or "—")] if several else []),
        Cell(hidden if one.concealed else shown(one.subject, 120) or "—"),
        Cell(due or "—"),
        Cell(day_words.stands(one.grade, language) or "—"),
    )
