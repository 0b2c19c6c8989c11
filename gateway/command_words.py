"""The words of a command mail: what a registry writes to a letter's address to have it registered,
referred, set in progress, returned or closed.

A command is the first line of the text, or several lines, or the subject when the text is empty::

    قيد                 قيد 512/2026          register 512
    إحالة إلى مديرية المشتريات للإجراء: للسرعة        refer to Procurement for action: urgent
    إحالة إلى المستشار القانوني للعلم            refer to the legal counsel for information
    قيد الإجراء                         in progress
    معاد: لا يخص هذه الوزارة               return: not for this ministry
    تم        تم: صرفت المخصصات         done       done: paid

Alef and hamza, ya, ta marbuta, diacritics, digits and case do not matter. A line must be a command as a
whole: «تم استلام كتابكم وسنجيب» is a person's words and goes to the author. What was meant as a command and
cannot be read as one is told by :func:`doubt`, so that a referral with its remark does not go to the author
because of a slip. Never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from tracker.filing import MAX_NUMBER, MAX_TARGET, MAX_TEXT, Deed, Purpose, plain
from tracker.search import fold

MOST = 5  # commands of one mail
NOTE = 8  # lines: what is longer is a letter, and no command with something above it
MOST_LINE = 600  # characters of a command

_END = r"\s*[.!،]?\s*$"
_SAID = r"\s*[:：\-–]\s*(?P<said>.+)$"
# The words are matched folded; what a person wrote after them is taken from the line itself.
_PROGRESS = re.compile(
    rf"(?:(?:قيد|تحت) (?:ال)?(?:اجرا|تنفيذ|معالجه|دراسه)|in[ -]progress)(?:{_END}|{_SAID})"
)
_REGISTER = re.compile(
    r"(?:(?:تم )?القيد|تم التسجيل|مقيد|قيد|قيدوه|تسجيل|سجل|وارد|register(?:ed)?)"
    r"(?:\s*(?:برقم|بالرقم|رقم|no\.?|number|as|:)\s*)?[\s:#]*"
    rf"(?P<number>[^\s:].{{0,{MAX_NUMBER}}}?)?{_END}"
)
_REFER = re.compile(
    r"(?:(?:تمت? )?(?:ال)?احاله|تمت? احالته|محال|احيل|يحال|حول|تحويل|refer(?:red)?)"
    r"\s*(?:الي|ل|to)\s*[:：]?\s*(?P<to>[^:：]+?)"
    r"(?:\s*[,،(]?\s*(?P<purpose>للاجرا|للعلم|for action|for information)\s*\)?)?"
    rf"(?:{_END}|\s*[:：]\s*(?P<said>.+)$)"
)
_RETURN = re.compile(rf"(?:معاد|اعاده|يعاد|اعيد|مرتجع|return(?:ed)?)(?:{_END}|{_SAID})")
_CLOSE = re.compile(rf"(?:تم|منجز|انجز|تم الانجاز|اغلاق|مغلق|حفظ|done|closed?)(?:{_END}|{_SAID})")
_HASNUMBER = re.compile(r"\d")
_RE = re.compile(r"^(?:(?:re|fw|fwd|رد|ا?عاده توجيه)\s*:\s*|\[[^\]]{1,80}\]\s*)+", re.IGNORECASE)
_QUOTED = re.compile(r"^>|^(?:on|في|بتاريخ)\b.{0,200}[:：]$")
_HELP = re.compile(r"(?:مساعده|ال?اوامر|help|commands|[?؟])\s*[.!?؟]?")
_NEAR = re.compile(
    r"(?:احاله|محال|احيل|يحال|refer(?:red)?|معاد|مرتجع|return(?:ed)?)\b"
    r"|(?:قيد|قيدوه|تسجيل|register(?:ed)?)(?:\s*(?:برقم|بالرقم|رقم|no\.?|number|as|:)\s*)?[\s:#]*\d"
)
_ENDS = re.compile(r"^(?:-- ?|[-_=*]{3,}.*|(?:from|sent|من|المرسل)\s*:.*)$")
_GREETING = re.compile(r"^(?:السلام عليكم|تحيه طيبه|بعد التحيه|dear|hello|hi)\b.{0,60}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One thing to be done."""

    deed: Deed
    number: str = ""
    to: str = ""
    purpose: Purpose = Purpose.ACTION
    remark: str = ""
    text: str = ""


class Doubt(StrEnum):
    """What a mail is that was meant for the gateway and is no command."""

    HELP = "help"  # asks what can be written
    UNREAD = "unread"  # begins as a command does and is none
    BELOW = "below"  # a command that stands below something else


def doubt(text: str, subject: str = "") -> tuple[Doubt, str] | None:
    """Why a mail without :func:`commands` was meant as one, and the line; None: somebody's words."""
    lines = _lines(text)
    first = lines[0] if lines else _RE.sub("", subject.strip())
    folded = fold(plain(first, MAX_TEXT))
    if _HELP.fullmatch(folded):
        return Doubt.HELP, first
    if _NEAR.match(folded):
        return Doubt.UNREAD, first
    own: list[str] = []
    for line in lines:
        if _ENDS.match(fold(line[:200])) or _QUOTED.match(fold(line[:300])):
            break
        own.append(line)
    if len(own) <= NOTE:
        for line in own[1:]:
            if command(line) is not None:
                return Doubt.BELOW, line
    return None


def _lines(text: str) -> list[str]:
    """The lines that a person wrote: none of a quotation above them, and no greeting."""
    lines = [line for raw in text[:4000].splitlines() if (line := raw.strip())]
    while lines and _QUOTED.match(fold(lines[0][:300])):
        lines = lines[1:]
    if lines and _GREETING.match(fold(lines[0][:120])):
        lines = lines[1:]
    return lines


def commands(text: str, subject: str = "") -> tuple[Command, ...]:
    """What a mail asks for; empty when it is no command but somebody's words."""
    found: list[Command] = []
    lines = _lines(text)
    for line in lines:
        one = command(line)
        if one is None or len(found) >= MOST:
            break
        found.append(one)
    if not found and not lines:
        one = command(_RE.sub("", subject.strip()))
        if one is not None:
            found.append(one)
    return tuple(found)


def command(line: str) -> Command | None:
    """One line as a command; None for any other."""
    line = plain(line, MOST_LINE + 1)
    if not line or len(line) > MOST_LINE:
        return None
    folded = fold(line)
    if (match := _PROGRESS.match(folded)) is not None:
        return Command(deed=Deed.PROGRESS, text=_said(match, line))
    if (match := _RETURN.match(folded)) is not None:
        return Command(deed=Deed.RETURN, text=_said(match, line))
    if (match := _CLOSE.match(folded)) is not None:
        return Command(deed=Deed.CLOSE, text=_said(match, line))
    if (match := _REFER.match(folded)) is not None:
        return _referral(match, line)
    if (match := _REGISTER.match(folded)) is not None:
        number = match["number"] or ""
        if not number:
            return Command(deed=Deed.REGISTER)
        # A number, and not a sentence that begins with the word.
        if _HASNUMBER.search(number) and len(number.split()) <= 3:
            return Command(deed=Deed.REGISTER, number=_own(line, number))
    return None


def _referral(match: re.Match[str], line: str) -> Command | None:
    to = _own(line, match["to"])
    if not to or len(to) > MAX_TARGET or len(to.split()) > 12:
        return None
    purpose = match["purpose"] or ""
    told = Purpose.INFORMATION if purpose in ("للعلم", "for information") else Purpose.ACTION
    return Command(deed=Deed.REFER, to=to, purpose=told, remark=_said(match, line))


def _said(match: re.Match[str], line: str) -> str:
    """What stands after the colon, as it was written."""
    said = match["said"]
    return _own(line, said)[:MAX_TEXT] if said else ""


def _own(line: str, folded: str) -> str:
    """The words of the line that folding made ``folded``; as folded where they are no words of it."""
    words = [(word, fold(word)) for word in line.split()]
    wanted = folded.split()
    for start in range(len(words) - len(wanted) + 1):
        run = words[start : start + len(wanted)]
        if all(known == one for (_, known), one in zip(run, wanted, strict=True)):
            return " ".join(word for word, _ in run)
    return folded.strip()
