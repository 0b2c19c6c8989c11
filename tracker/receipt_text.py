"""What a receipt says to a person: first as data, once for each language, then as plain text.

A :class:`Page` is one language's worth of a receipt; ``tracker.receipt_html`` sets the same pages in
HTML. Everything in them that somebody else wrote has been through :func:`tracker.foreign_text.shown`.
In plain text such values stand between isolates (U+2068 … U+2069, Unicode UAX 9 §2.4), so that a
Latin number or an English subject does not turn the Arabic line around it. Times are Gregorian in
the gateway's zone, the Hijri date beside them. Never raises for anything that came from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import tzinfo

from hijridate import Gregorian

from tracker import receipt_words as words
from tracker.foreign_text import shown, turns_direction
from tracker.model import when
from tracker.notice import Kind, Notice, RecipientFacts
from tracker.receipt_words import LABELS
from tracker.states import Event
from tracker.verify_code import verify_link

LANGUAGES = ("ar", "en")
TABLE_ABOVE = 5  # recipients: then a table for both languages takes the place of the blocks
TABLE_ROWS = 250  # more are counted, the machine part and the dashboard have them all


@dataclass(frozen=True, slots=True)
class Line:
    """A label and a value; ``foreign`` values get an isolate, ``code`` ones a fixed pitch."""

    label: str
    value: str
    foreign: bool = True
    code: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One recipient as a block: the agency's name, the address, the lines about it."""

    name: str
    address: str
    tone: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A receipt in one language."""

    language: str
    title: str
    tone: str
    lead: str  # with {number} in place
    number: str
    facts: tuple[Line, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    verify: str
    footer: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One recipient in the table for both languages."""

    name_ar: str
    name_en: str
    address: str
    state_ar: str
    state_en: str
    time: str
    tone: str
    detail: str
    wire: bool = False  # the detail is what a server said


def stamp(us: int, zone: tzinfo) -> str:
    """``2026-11-22 14:24:18 +0300``, the same for both languages; microseconds of UTC in."""
    return when(us).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %z")


def hijri(us: int, zone: tzinfo) -> str:
    """The day in the Umm al-Qura calendar as ``1448-06-12``; "" outside its tables (1924–2077)."""
    day = when(us).astimezone(zone).date()
    try:
        return str(Gregorian.fromdate(day).to_hijri().isoformat())
    except (ValueError, OverflowError):
        return ""


def verify_url(notice: Notice) -> str:
    """Where the letter can be checked without an account; "" without a number or such a page."""
    base = notice.gateway.verify_base
    if not base or not notice.letter.number:
        return ""
    return verify_link(base, notice.letter.number, notice.letter.verify_code)


def pages(notice: Notice) -> tuple[Page, ...]:
    """The receipt in Arabic and in English."""
    return tuple(_page(notice, language) for language in LANGUAGES)


def rows(notice: Notice) -> tuple[Row, ...]:
    """The table of recipients, empty when they are few enough to be told one by one."""
    if len(notice.recipients) <= TABLE_ABOVE:
        return ()
    return tuple(_row(notice, recipient) for recipient in notice.recipients[:TABLE_ROWS])


def beyond_table(notice: Notice) -> int:
    """How many recipients the table leaves out."""
    return max(0, len(notice.recipients) - TABLE_ROWS) if len(notice.recipients) > TABLE_ABOVE else 0


def summary(notice: Notice) -> tuple[tuple[str, str, int], ...]:
    """How many recipients stand in which state, for a digest: Arabic word, English word, count."""
    counts: dict[Event, int] = {}
    for recipient in notice.recipients:
        counts[recipient.event] = counts.get(recipient.event, 0) + 1
    return tuple((words.STATES[e].ar, words.STATES[e].en, n) for e, n in counts.items())


def _label(key: str, language: str) -> str:
    return LABELS[key].get(language)


def _time(us: int, notice: Notice, language: str) -> str:
    zone = notice.gateway.zone
    beside = hijri(us, zone)
    if not beside:
        return stamp(us, zone)
    # A mark before the Arabic era keeps its letters from drawing the digits to their other side.
    era = "\u200eهـ" if language == "ar" else "AH"
    return f"{stamp(us, zone)} ({beside} {era})"


def _page(notice: Notice, language: str) -> Page:
    letter, gateway, kind = notice.letter, notice.gateway, notice.kind
    official = letter.number is not None
    number = shown(letter.number or "", 80)
    facts: list[Line] = []
    if official:
        facts.append(Line(_label("number", language), number))
    if letter.subject:
        facts.append(Line(_label("subject", language), shown(letter.subject)))
    agency = shown(letter.agency_ar if language == "ar" else letter.agency_en) or shown(letter.agency)
    if agency:
        facts.append(Line(_label("agency", language), agency))
    accepted = _label("accepted" if official else "sent", language)
    facts.append(Line(accepted, _time(letter.accepted_us, notice, language)))
    if official and letter.sha256:
        facts.append(Line(_label("digest", language), letter.sha256.hex(), code=True))

    few = len(notice.recipients) <= TABLE_ABOVE
    entries = tuple(_entry(notice, r, language) for r in notice.recipients) if few else ()
    notes = [words.proves(kind, letter=official, language=language)]
    foreign = [letter.subject, *(r.reply for r in notice.recipients), *(r.person for r in notice.recipients)]
    if any(map(turns_direction, foreign)):
        notes.append(_label("turned", language))
    if notice.evidence is not None:
        notes.append(_label("attached", language))
    name = gateway.name_ar if language == "ar" else gateway.name_en
    return Page(
        language=language,
        title=words.KINDS[kind].title.get(language),
        tone=words.KINDS[kind].tone,
        lead=words.lead(kind, letter.number, letter=official, language=language),
        number=number,
        facts=tuple(facts),
        entries=entries,
        notes=tuple(notes),
        verify=verify_url(notice),
        footer=_label("footer", language).replace("{gateway}", f"{shown(name, 80)} ({gateway.domain})"),
        labels={key: value.get(language) for key, value in LABELS.items()},
    )


def _entry(notice: Notice, recipient: RecipientFacts, language: str) -> Entry:
    """What there is to say of one recipient; the notice's own news is not said again."""
    lines: list[Line] = []

    def say(key: str, value: str, *, foreign: bool = True, code: bool = False) -> None:
        if value:
            lines.append(Line(_label(key, language), value, foreign, code))

    def say_time(key: str, us: int | None) -> None:
        if us is not None:
            say(key, _time(us, notice, language))

    if notice.kind is Kind.DIGEST:
        say("state", words.STATES[recipient.event].get(language), foreign=False)
    if recipient.event is not Event.SUBMITTED:
        say_time("time", recipient.at_us)
    say("result" if recipient.event is Event.PROCESSED else "cause", cause(recipient, language))
    say("incoming", shown(recipient.incoming_number, 80))
    say("referred", shown(recipient.referred_to, 200))
    say("reply", shown(recipient.answer_number, 80))
    acts = (Event.REGISTERED, Event.REFERRED, Event.RETURNED, Event.PROCESSED)
    if recipient.event in acts and not recipient.answer_number:
        say("person", shown(recipient.person, 120) or _label("nobody", language))
    if recipient.event is Event.READ:
        say("shown", words.READ_MODES[recipient.read_mode].get(language), foreign=False)
    if recipient.event in (Event.FAILED, Event.LATE, Event.RELAYED, Event.DELIVERED, Event.REFUSED):
        say("answer", shown(recipient.reply, 600), code=True)
        say("server", shown(recipient.remote_mta, 255), code=True)
    if recipient.event in (Event.LATE, Event.FAILED):
        say("tried", str(recipient.attempts) if recipient.attempts else "")
        say_time("last", recipient.last_attempt_us)
    if recipient.event is Event.LATE:
        say_time("until", recipient.retry_until_us)
    return Entry(
        name=_name(recipient, language),
        address=shown(str(recipient.address), 260),
        tone=words.TONES.get(recipient.event, "calm"),
        lines=tuple(lines),
    )


def cause(recipient: RecipientFacts, language: str) -> str:
    """Why: the words of the rule or the clerk, else what the status code means; "" if neither tells."""
    given = recipient.reason_ar if language == "ar" else recipient.reason_en
    given = given or recipient.reason_en or recipient.reason_ar
    if given:
        return shown(given, 600)
    action = recipient.action
    if action is None or action in ("delivered", "relayed"):
        return ""
    status = recipient.shown_status
    meaning = words.CAUSES.get(f"{status.subject}.{status.detail}")
    return meaning.get(language) if meaning else ""


def _name(recipient: RecipientFacts, language: str) -> str:
    name = recipient.agency_ar if language == "ar" else recipient.agency_en
    return shown(name or recipient.agency_en or recipient.agency_ar or recipient.agency, 200)


def _row(notice: Notice, recipient: RecipientFacts) -> Row:
    state = words.STATES[recipient.event]
    bad = words.TONES.get(recipient.event) in ("bad", "warn")
    incoming = shown(recipient.incoming_number, 80)
    label = LABELS["incoming"]
    taken_in = f"{label.ar} / {label.en}: {incoming}" if incoming else ""
    return Row(
        name_ar=_name(recipient, "ar"),
        name_en=_name(recipient, "en"),
        address=shown(str(recipient.address), 260),
        state_ar=state.ar,
        state_en=state.en,
        time=stamp(recipient.at_us, notice.gateway.zone)[:16],
        tone=words.TONES.get(recipient.event, "calm"),
        detail=shown(recipient.reply, 160) if bad else taken_in,
        wire=bad,
    )


def _isolated(text: str) -> str:
    """A foreign value between FIRST STRONG ISOLATE and POP DIRECTIONAL ISOLATE."""
    return f"\u2068{text}\u2069"


def _isolated_ltr(text: str) -> str:
    return f"\u2066{text}\u2069"


def plain(notice: Notice) -> str:
    """The receipt as plain text, Arabic first; lines end with CRLF."""
    table = _plain_table(notice)
    out: list[str] = []
    for i, page in enumerate(pages(notice)):
        if i:
            out += ["", "-" * 60, ""]
        out += _plain_page(page, arabic=page.language == "ar")
        out += table if table and not i else []
    return "\r\n".join(out) + "\r\n"


def _plain_page(page: Page, *, arabic: bool) -> list[str]:
    def value(line: Line) -> str:
        if not (arabic and line.foreign):
            return line.value
        return _isolated(line.value) if not line.value[:4].isdigit() else _isolated_ltr(line.value)

    number = _isolated_ltr(page.number) if arabic else page.number
    out = [page.title, "", page.lead.replace("{number}", number), ""]
    out += [f"{line.label}: {value(line)}" for line in page.facts]
    for entry in page.entries:
        address = _isolated_ltr(f"<{entry.address}>") if arabic else f"<{entry.address}>"
        name = f"{_isolated(entry.name) if arabic else entry.name} " if entry.name else ""
        out += ["", f"{page.labels['recipient']}: {name}{address}"]
        out += [f"  {line.label}: {value(line)}" for line in entry.lines]
    out += ["", *page.notes]
    if page.verify:
        out += [f"{page.labels['verify']}: {page.verify}"]
    return [*out, "", page.footer]


def _plain_table(notice: Notice) -> list[str]:
    table = rows(notice)
    if not table:
        return []
    out = ["", "-" * 60, ""]
    out += [f"{n}  {ar} / {en}" for ar, en, n in summary(notice)]
    for row in table:
        names = " / ".join(filter(None, dict.fromkeys((row.name_ar, row.name_en))))
        out += ["", f"{_isolated(names)} {_isolated_ltr(f'<{row.address}>')}".strip()]
        out.append(f"  {row.state_ar} / {row.state_en}  {_isolated_ltr(row.time)}")
        out += [f"  {_isolated(row.detail)}"] if row.detail else []
    left = beyond_table(notice)
    if left:
        out += ["", f"{LABELS['more'].ar} {left}", f"{LABELS['more'].en} {left}"]
    return out
