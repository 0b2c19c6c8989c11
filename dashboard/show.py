"""How values look: text that others wrote, dates in both calendars, sizes, digests, reasons.

Everything shown was written by somebody else. ``visible`` escapes it and makes the controls that
reorder text (U+202A-202E, U+2066-2069) and other control characters plain to see; templates wrap it
in ``<bdi>``. Dates are Gregorian with the Levantine month names in Arabic, the Hijri date (Umm
al-Qura) beside them, in the zone of the settings, with European digits. Nothing here raises on odd
input: a time out of the calendar's range has no Hijri date.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from babel.dates import get_day_names, get_month_names
from hijridate import Gregorian
from markupsafe import Markup, escape

from dashboard.language import N_, Tongue
from tracker.model import when

_BIDI = "\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[{_BIDI}\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\ufeff]")
_BIDI_ONLY = re.compile(f"[{_BIDI}]")
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")


def _seen(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match[0]):04X}⟩"


def visible(text: object) -> Markup:
    """Escaped text in which each control character stands as ``⟨U+202E⟩``."""
    plain = str(escape("" if text is None else str(text)))
    return Markup(_CONTROL.sub(lambda match: f'<span class="control">{_seen(match)}</span>', plain))


def plain(text: object) -> str:
    """The same as plain text, for attributes, titles and JSON."""
    return _CONTROL.sub(_seen, "" if text is None else str(text))


def has_bidi(text: str) -> bool:
    """The text holds controls that reorder what is read."""
    return _BIDI_ONLY.search(text) is not None


def pretty(detail: object) -> str:
    """Evidence that has no form of its own, as indented JSON."""
    return json.dumps(detail, ensure_ascii=False, indent=2, sort_keys=True, default=str)


def short_digest(digest: bytes | str) -> str:
    """``9f2c…7a1e``."""
    text = digest.hex() if isinstance(digest, bytes) else digest
    return f"{text[:4]}…{text[-4:]}" if len(text) > 12 else text


_BREAKS = {
    "Accepted": "Ac\u00adcepted",
    "Relayed": "Re\u00adlayed",
    "Delivered": "Deliv\u00adered",
    "Fetched": "Fetch\u00aded",
    "Registered": "Regis\u00adtered",
    "Processed": "Pro\u00adcessed",
    "Forwarded": "For\u00adwarded",
    "Cancelled": "Can\u00adcelled",
    "Returned": "Re\u00adturned",
}


def breakable(word: str) -> str:
    """A step's name that may break where it must: seven of them stand beside each other on a phone."""
    return _BREAKS.get(word, word)


def grouped(number: int) -> str:
    """``48 211`` with narrow no-break spaces."""
    return f"{number:,}".replace(",", "\u202f")


def size(octets: int, tongue: Tongue) -> str:
    """``312 KB`` in units of 1024."""
    if octets < 1024:
        return tongue.count("%(num)s byte", "%(num)s bytes", octets)
    if octets < 1024 * 1024:
        return tongue.say("%(num)s KB", num=f"{octets / 1024:.0f}")
    return tongue.say("%(num)s MB", num=f"{octets / 1024 / 1024:.1f}")


def split_name(name: str) -> tuple[str, str]:
    """A file name and its extension apart, so that neither can pose as the other."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1] or name
    stem, dot, extension = base.rpartition(".")
    return (stem, extension[:12]) if dot and stem else (base, "")


_KINDS = (
    ("application/pdf", N_("PDF")),
    ("application/msword", N_("Word document")),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml", N_("Word document")),
    ("application/vnd.ms-excel", N_("Excel workbook")),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml", N_("Excel workbook")),
    ("application/vnd.ms-powerpoint", N_("Presentation")),
    ("application/vnd.openxmlformats-officedocument.presentationml", N_("Presentation")),
    ("application/zip", N_("ZIP archive")),
    ("application/x-dosexec", N_("Windows program")),
    ("application/vnd.microsoft.portable-executable", N_("Windows program")),
    ("message/rfc822", N_("Message")),
    ("image/", N_("Image")),
    ("audio/", N_("Sound")),
    ("video/", N_("Video")),
    ("text/", N_("Text")),
)


def content_kind(content_type: str, tongue: Tongue) -> str:
    """A content type in words; one that we do not know as it is written."""
    lower = content_type.lower()
    known = next((name for prefix, name in _KINDS if lower.startswith(prefix)), None)
    return tongue.say(known) if known else content_type


_REASONS: dict[tuple[str, str], str] = {
    ("1", "1"): N_("Mailbox does not exist"),
    ("1", "2"): N_("The domain takes no mail"),
    ("1", "3"): N_("The address is malformed"),
    ("1", "6"): N_("The mailbox has moved"),
    ("1", "10"): N_("The domain takes no mail"),
    ("2", "0"): N_("The mailbox has a problem"),
    ("2", "1"): N_("The mailbox is disabled"),
    ("2", "2"): N_("The mailbox is full"),
    ("2", "3"): N_("Too large for the mailbox"),
    ("3", "2"): N_("The server takes no mail at present"),
    ("3", "4"): N_("Too large for the server"),
    ("4", "1"): N_("The server does not answer"),
    ("4", "2"): N_("The connection broke"),
    ("4", "4"): N_("No way to the server"),
    ("4", "6"): N_("The letter went round in a loop"),
    ("4", "7"): N_("The time for delivery ran out"),
    ("6", "3"): N_("The server cannot take this form of letter unchanged"),
    ("6", "7"): N_("The server cannot take this address"),
    ("7", "1"): N_("Refused by the server's policy"),
    ("7", "8"): N_("The server refused the gateway's credentials"),
    ("7", "10"): N_("The encryption that is required was not to be had"),
}


def reason(reply: str | None) -> str | None:
    """What an SMTP reply means, to be translated, by its enhanced status (RFC 3463 §3); None if unknown."""
    match = _STATUS.search(reply or "")
    if match is None:
        return None
    known = _REASONS.get((match[2], match[3]))
    if known is None and match[2] == "7":
        return _REASONS["7", "1"]
    return known


def is_permanent(reply: str | None) -> bool:
    """A 5xx answer."""
    return (reply or "").lstrip()[:1] == "5"


_HIJRI_EN = (
    "Muharram", "Safar", "Rabi I", "Rabi II", "Jumada I", "Jumada II",
    "Rajab", "Shaban", "Ramadan", "Shawwal", "Dhu al-Qadah", "Dhu al-Hijjah",
)  # fmt: skip
_HIJRI_AR = (
    "محرّم", "صفر", "ربيع الأول", "ربيع الآخر", "جمادى الأولى", "جمادى الآخرة",
    "رجب", "شعبان", "رمضان", "شوال", "ذو القعدة", "ذو الحجة",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dates:
    """Times as a reader of one language sees them in one zone; all arguments are microseconds UTC."""

    tongue: Tongue
    zone: ZoneInfo

    @property
    def _locale(self) -> str:
        return "ar_JO" if self.tongue.code == "ar" else "en_GB"

    def local(self, us: int) -> datetime:
        return when(us).astimezone(self.zone)

    def iso(self, us: int) -> str:
        return self.local(us).isoformat(timespec="milliseconds")

    def day(self, us: int) -> str:
        """``الأحد 22 تشرين الثاني 2026``."""
        at = self.local(us)
        weekday = get_day_names("wide", locale=self._locale)[at.weekday()]
        return f"{weekday} {self.plain_day(us)}"

    def plain_day(self, us: int) -> str:
        """``22 تشرين الثاني 2026``."""
        at = self.local(us)
        return f"{at.day} {get_month_names('wide', locale=self._locale)[at.month]} {at.year}"

    def hijri(self, us: int) -> str:
        """``12 جمادى الآخرة 1448``; empty outside 1343 to 1500 AH."""
        at = self.local(us).date()
        try:
            day = Gregorian(at.year, at.month, at.day).to_hijri()
        except (OverflowError, ValueError):
            return ""
        months = _HIJRI_AR if self.tongue.code == "ar" else _HIJRI_EN
        suffix = "" if self.tongue.code == "ar" else " AH"
        return f"{day.day} {months[day.month - 1]} {day.year}{suffix}"

    def clock(self, us: int) -> str:
        """``09:47``."""
        return f"{self.local(us):%H:%M}"

    def exact(self, us: int) -> str:
        """``09:47:12.406``."""
        at = self.local(us)
        return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"

    def moment(self, us: int) -> str:
        """``22 تشرين الثاني 2026، 09:47``."""
        return f"{self.plain_day(us)}{self.tongue.comma}{self.clock(us)}"

    def listed(self, us: int, now_us: int) -> str:
        """In a list: the time of day for today, ``yesterday``, else the day."""
        at, now = self.local(us), self.local(now_us)
        if at.date() == now.date():
            return self.clock(us)
        if at.date() == now.date() - timedelta(days=1):
            yesterday = self.tongue.say("yesterday")
            return f"{yesterday} {self.clock(us)}"
        if at.year == now.year:
            return f"{at.day} {get_month_names('wide', locale=self._locale)[at.month]}"
        return self.plain_day(us)

    def since(self, us: int, now_us: int) -> str:
        """``منذ يومين``: how long ago, in the largest unit that fits."""
        minutes = max(0, (now_us - us) // 60_000_000)
        if minutes < 1:
            return self.tongue.say("for less than a minute")
        if minutes < 60:
            return self.tongue.count("for %(num)s minute", "for %(num)s minutes", minutes)
        if minutes < 48 * 60:
            return self.tongue.count("for %(num)s hour", "for %(num)s hours", minutes // 60)
        return self.tongue.count("for %(num)s day", "for %(num)s days", minutes // (24 * 60))

    def left(self, us: int, now_us: int) -> str:
        """``خلال 3 ساعات``: how long until then, in the largest unit that fits."""
        minutes = (us - now_us) // 60_000_000
        if minutes < 1:
            return self.tongue.say("at any moment")
        if minutes < 60:
            return self.tongue.count("in %(num)s minute", "in %(num)s minutes", minutes)
        if minutes < 48 * 60:
            return self.tongue.count("in %(num)s hour", "in %(num)s hours", minutes // 60)
        return self.tongue.count("within %(num)s day", "within %(num)s days", minutes // (24 * 60))

    def overdue(self, due_us: int, now_us: int) -> str:
        """``متأخر يومين``."""
        hours = max(1, (now_us - due_us) // 3_600_000_000)
        if hours < 48:
            return self.tongue.count("%(num)s hour overdue", "%(num)s hours overdue", hours)
        return self.tongue.count("%(num)s day overdue", "%(num)s days overdue", hours // 24)

    def given_day(self, day: date) -> str:
        return f"{day.day} {get_month_names('wide', locale=self._locale)[day.month]} {day.year}"


_URGENCY = {
    "immediate": N_("Immediate"),
    "very-urgent": N_("Very urgent"),
    "very urgent": N_("Very urgent"),
    "urgent": N_("Urgent"),
    "normal": N_("Normal"),
}
_CLASSIFICATION = {
    "top-secret": N_("Top secret"),
    "top secret": N_("Top secret"),
    "secret": N_("Secret"),
    "restricted": N_("Restricted"),
    "ordinary": N_("Ordinary"),
}


def urgency(word: str, tongue: Tongue) -> str:
    """The word of the list in this language; a word that we do not know stays as it is."""
    known = _URGENCY.get(word.lower())
    return tongue.say(known) if known else word


def classification(word: str, tongue: Tongue) -> str:
    known = _CLASSIFICATION.get(word.lower())
    return tongue.say(known) if known else word


def is_ordinary(word: str) -> bool:
    """A degree or urgency that need not be shown."""
    return word.lower() in ("", "normal", "ordinary", "عادي")


_REPORTS = {
    "dsn": N_("delivery report"),
    "mdn": N_("read receipt"),
    "bounce": N_("bounce"),
    "auto-reply": N_("automatic answer"),
    "letter": N_("letter"),
    "other": N_("other"),
}


def report_kind(kind: str, tongue: Tongue) -> str:
    """What came back, in a word."""
    return tongue.say(_REPORTS[kind]) if kind in _REPORTS else kind


# Why a report or an answer proves nothing by itself (tracker.matching, gateway.inbound).
_STRAYS = frozenset(
    {
        N_("no action that is known"),
        N_("names no recipient of this letter"),
        N_("came in from another server than the recipient's agency's own"),
        N_("speaks of a letter that has not been sent there"),
        N_("its letter is no longer in the record"),
        N_("a report that names no recipient"),
        N_("a receipt that says nothing known"),
        N_("its From is not of the recipient's agency"),
        N_("one recipient speaks for another"),
    }
)


def stray(why: str, tongue: Tongue) -> str:
    """The reason for which something stands in the worklist, in the reader's language."""
    return tongue.say(why) if why in _STRAYS else why
