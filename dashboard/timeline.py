"""What happened to a letter, told line by line with its grade and its raw evidence.

Each event has one sentence in the catalogue; what others wrote (names, addresses, replies) is put
into it isolated and escaped. An event that the sentence table lacks is shown by its own name, and
detail that has no form here as JSON: nothing recorded is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dashboard.desk import AgencyName
from dashboard.language import N_, Tongue
from dashboard.show import Dates, pretty, reason, visible
from tracker.letter_page import AttemptLine, EvidenceLine, LetterPage, RecipientRow
from tracker.states import MOVES, Event, Grade

_SENTENCES: dict[Event, str] = {
    Event.SUBMITTED: N_("Wasl accepted it and recorded it under number %(number)s"),
    Event.REFUSED: N_("Refused at the door: %(reply)s"),
    Event.HELD: N_("Held for approval: %(agency)s"),
    Event.APPROVED: N_("Approved for %(agency)s by %(person)s; the rule asks for another person too"),
    Event.RELEASED: N_("Released for delivery to %(agency)s by %(person)s"),
    Event.ATTEMPTED: N_("The server of %(agency)s put it off: %(reply)s"),
    Event.IN_DOUBT: N_("Handed to the server of %(agency)s, but its answer was never read"),
    Event.RELAYED: N_("The server of %(agency)s took it: %(reply)s"),
    Event.DELIVERED: N_("The server of %(agency)s put it into the mailbox %(address)s: %(reply)s"),
    Event.LATE: N_("Late: not yet taken by the server of %(agency)s"),
    Event.FAILED: N_("Could not be delivered to %(address)s: %(reply)s"),
    Event.CANCELLED: N_("Delivery to %(address)s was cancelled by %(person)s"),
    Event.REQUEUED: N_("Put into the queue again for %(address)s by %(person)s"),
    Event.FETCHED: N_("The client of %(address)s fetched it"),
    Event.SEEN: N_("Seen (a hint, not conclusive): %(agency)s"),
    Event.NOTICED: N_("Noticed in the mailbox (a hint): %(text)s · %(person)s"),
    Event.READ: N_("Matched read receipt from %(address)s"),
    Event.REGISTERED: N_("Registered as incoming %(number)s by %(person)s, %(agency)s"),
    Event.IN_PROGRESS: N_("In progress: %(text)s · %(person)s, %(agency)s"),
    Event.REFERRED: N_("Referred by %(person)s, %(agency)s, to %(target)s"),
    Event.RETURNED: N_("Returned by %(person)s, %(agency)s: %(text)s"),
    Event.PROCESSED: N_("Closed: %(text)s · %(person)s, %(agency)s"),
    Event.EXPIRED: N_("The time for an answer passed without an act of %(agency)s"),
    Event.AUTO_REPLY: N_("Automatic answer from %(address)s, noted and not counted"),
    Event.FORWARDED: N_("Forwarded by a mailbox of %(agency)s"),
    Event.REMINDED: N_("%(agency)s was reminded, at %(target)s"),
    Event.LINKED: N_("Letter %(answer)s refers to it · %(person)s"),
}

_NOTHING = Markup("—")
_UNNUMBERED = N_("Wasl accepted it and recorded it")
_UNREAD = N_("The client of %(address)s answers, but proves no reading: %(reply)s")
_NOT_READ = {
    "displayed": N_("The client of %(address)s could not show it without an error; no reading is proven"),
    "deleted": N_("Deleted at %(address)s, perhaps unread; no reading is proven"),
    "processed": N_("Dealt with by a rule of %(address)s without being shown; no reading is proven"),
    "dispatched": N_(
        "Sent on or printed by the client of %(address)s without being shown; no reading is proven"
    ),
    "denied": N_("The reader at %(address)s does not say whether it was read"),
    "failed": N_("The client of %(address)s could not make a read receipt"),
}
_FILTERED = N_("A filter at %(address)s says that it did not take it: %(reply)s")
_READ_IN_WORDS = N_("Words from %(address)s say that it was read: a hint, no receipt that counts")
_READ_BY = {
    "manual-action": N_("Matched read receipt from %(address)s: shown by an act of the user"),
    "automatic-action": N_(
        "Matched read receipt from %(address)s: shown, as it says without an act of the user"
    ),
}
_TURNED_DOWN = N_("Not released for %(address)s, refused by %(person)s")
_NOT_DECIDED = N_("Not released for %(address)s: nobody approved it in time")
_RELEASED_BY_TIME = N_("Released for delivery to %(agency)s: the time for a decision ran out")
_ASKED = N_("%(person)s had %(agency)s reminded, at %(target)s")
_ESCALATED = N_("%(target)s was told that %(agency)s is late")
_NOTICED = {
    "moved": N_("Moved to %(target)s in the mailbox (a hint) · %(person)s"),
    "copied": N_("Copied to %(target)s in the mailbox (a hint) · %(person)s"),
    "removed": N_("Removed from its folder (a hint) · %(person)s"),
}
_ANSWERED = {
    Event.PROCESSED: N_("Answered by %(agency)s with letter %(answer)s"),
    Event.IN_PROGRESS: N_("Answered by %(agency)s with letter %(answer)s; it goes on"),
    Event.REGISTERED: N_("Registered as incoming %(number)s by its answer, %(agency)s"),
    Event.LINKED: N_("Letter %(answer)s of %(agency)s refers to it"),
}
_FOR_INFORMATION = N_("Referred for information by %(person)s, %(agency)s, to %(target)s")
_TAKEN_IN = N_("Taken in: %(text)s · %(person)s, %(agency)s")
_IN_THE_BOX = N_("Found in the mailbox %(address)s")
_REPORTED = N_("The server of %(agency)s reports it in the mailbox %(address)s")

SOURCES = {
    "wasl": N_("Wasl itself"),
    "smtp": N_("SMTP reply"),
    "lmtp": N_("LMTP reply"),
    "dsn": N_("delivery report (DSN)"),
    "mdn": N_("read receipt (MDN)"),
    "auto-reply": N_("automatic answer"),
    "imap": N_("mailbox (IMAP)"),
    "imap-proxy": N_("mailbox session (IMAP proxy)"),
    "answer": N_("an answer that passed through Wasl"),
    "folder": N_("folder of the mailbox"),
    "keyword": N_("keyword in the mailbox"),
    "person": N_("a named person"),
    "timer": N_("timer"),
}

_KEYS = {
    "reply": N_("Reply"),
    "peer": N_("Server"),
    "tls": N_("Encryption"),
    "hop": N_("Next hop"),
    "reporting_mta": N_("Reporting server"),
    "action": N_("Action"),
    "status": N_("Status"),
    "diagnostic": N_("Diagnostic"),
    "remote_mta": N_("Server behind it"),
    "final_recipient": N_("Recipient as reported"),
    "original_message_id": N_("Message-ID as reported"),
    "mode": N_("Mode"),
    "type": N_("Disposition"),
    "sending_mode": N_("Receipt sent"),
    "reporting_ua": N_("Program"),
    "from": N_("From"),
    "sha256": N_("SHA-256"),
    "message_id": N_("Message-ID"),
    "size": N_("Size"),
    "sender": N_("Envelope sender"),
    "author": N_("Author"),
    "number": N_("Number"),
    "incoming_number": N_("Incoming number"),
    "answer": N_("Answered with"),
    "rule": N_("Rule"),
    "note": N_("Note"),
    "approvals": N_("Approvals"),
    "needs": N_("Approvals needed"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One known field of an evidence's detail."""

    name: str
    value: str


NEWEST = 25  # so many entries stand open on the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the timeline."""

    id: int
    tone: str  # done, soft, warn, stop
    sentence: Markup
    grade: str | None  # "E3" for what raises the ladder
    at_us: int
    new_day: bool  # its day is another than that of the line above
    source: str
    facts: tuple[Fact, ...]
    transcript: str | None
    rest: str | None  # JSON of what has no form of its own
    ledger_index: int | None


def timeline(
    page: LetterPage, tongue: Tongue, dates: Dates, name: Callable[[str], AgencyName]
) -> tuple[Entry, ...]:
    """The lines of a letter, newest first."""
    rows = {row.id: row for row in page.recipients}
    entries: list[Entry] = []
    day = None
    for line in sorted(page.events, key=lambda event: (event.at_us, event.id), reverse=True):
        own_day = dates.local(line.at_us).date()
        row = rows.get(line.delivery_id) if line.delivery_id is not None else None
        entries.append(_entry(line, row, page, tongue, name, own_day != day))
        day = own_day
    return tuple(entries)


def _entry(
    line: EvidenceLine,
    row: RecipientRow | None,
    page: LetterPage,
    tongue: Tongue,
    name: Callable[[str], AgencyName],
    new_day: bool,
) -> Entry:
    lifts = MOVES[line.event].grade
    facts, transcript, rest = _evidence(line.detail, tongue)
    return Entry(
        id=line.id,
        tone=_tone(line.event, lifts),
        sentence=_sentence(line, row, page, tongue, name),
        grade=f"E{int(lifts)}" if lifts else None,
        at_us=line.at_us,
        new_day=new_day,
        source=tongue.say(SOURCES[line.source]) if line.source in SOURCES else line.source,
        facts=facts,
        transcript=transcript,
        rest=rest,
        ledger_index=line.ledger_index,
    )


def _tone(event: Event, lifts: Grade) -> str:
    if event in (Event.FAILED, Event.REFUSED, Event.CANCELLED, Event.RETURNED):
        return "stop"
    if event in (Event.LATE, Event.HELD, Event.EXPIRED, Event.IN_DOUBT, Event.ATTEMPTED):
        return "warn"
    return "done" if lifts else "soft"


def _sentence(
    line: EvidenceLine,
    row: RecipientRow | None,
    page: LetterPage,
    tongue: Tongue,
    name: Callable[[str], AgencyName],
) -> Markup:
    detail = line.detail
    text = _SENTENCES.get(line.event, line.event.value)
    number = detail.get("incoming_number") or detail.get("number") or (None if row else page.number)
    if line.event is Event.SUBMITTED and not number:
        text = _UNNUMBERED
    if line.event is Event.DELIVERED and not detail.get("reply"):
        text = _IN_THE_BOX if line.source in ("imap", "imap-proxy") else _REPORTED
    if line.event is Event.REGISTERED and number is None:
        text = _TAKEN_IN
    if line.source == "answer":
        text = _ANSWERED.get(line.event, text)
    if line.event is Event.REFERRED and detail.get("purpose") == "information":
        text = _FOR_INFORMATION
    if line.event is Event.REMINDED and detail.get("escalated"):
        text = _ESCALATED
    elif line.event is Event.REMINDED and detail.get("person"):
        text = _ASKED
    if line.event is Event.NOTICED:
        text = _NOTICED.get(str(detail.get("act")), text)
    if line.event is Event.AUTO_REPLY and line.source == "mdn":
        text = _NOT_READ.get(str(detail.get("type")), _UNREAD)
        text = _READ_IN_WORDS if detail.get("in_words") else _FILTERED if detail.get("refusal") else text
    if line.event is Event.READ:
        text = _READ_BY.get(str(detail.get("mode")), text)
    if line.event is Event.REFUSED and detail.get("hold"):
        text = _NOT_DECIDED if detail.get("expired") else _TURNED_DOWN
    if line.event is Event.RELEASED and detail.get("expired"):
        text = _RELEASED_BY_TIME
    reply = detail.get("reply") or detail.get("diagnostic") or detail.get("refusal")
    reply = str(reply or detail.get("type") or "")
    by = detail.get("by") if line.event is Event.FORWARDED else None
    if line.event is Event.FAILED and (known := reason(str(detail.get("status") or reply))):
        reply_shown: Markup = visible(tongue.say(known))
    else:
        reply_shown = Markup('<bdi dir="ltr" class="reply">%s</bdi>') % visible(reply) if reply else _NOTHING
    agency = str(by) if by else row.agency if row is not None else page.agency
    agency_name = name(agency).in_(tongue.code) if agency else ""
    values = {
        "number": _isolated(number or "—", "ltr"),
        "reply": reply_shown,
        "agency": _isolated(agency_name or (row.hop if row else "—")),
        "address": _isolated(row.address if row is not None else page.author, "ltr"),
        "person": _isolated(_person(detail, line.reporter, tongue)),
        "answer": _isolated(str(detail.get("answer") or "—"), "ltr"),
        "target": _isolated(str(detail.get("to") or "—")),
        "text": Markup("«%s»") % _isolated(str(detail["text"])) if detail.get("text") else _NOTHING,
    }
    return Markup(tongue.say(text)) % values


def _person(detail: dict[str, Any], reporter: str, tongue: Tongue) -> str:
    return str(detail.get("person") or reporter or tongue.say("the registry, person unknown"))


def _isolated(text: object, direction: str = "auto") -> Markup:
    return Markup('<bdi dir="%s">%s</bdi>') % (direction, visible(text))


def _evidence(detail: dict[str, Any], tongue: Tongue) -> tuple[tuple[Fact, ...], str | None, str | None]:
    """Known fields, the transcript, and everything else as JSON."""
    facts, rest = [], {}
    transcript = None
    for key, value in detail.items():
        if value in (None, "", [], {}):
            continue
        if key == "transcript" and isinstance(value, str):
            transcript = value
        elif key in _KEYS and isinstance(value, str | int) and not isinstance(value, bool):
            facts.append(Fact(name=tongue.say(_KEYS[key]), value=str(value)))
        else:
            rest[key] = value
    return tuple(facts), transcript, pretty(rest) if rest else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One attempt as it is shown."""

    line: AttemptLine
    row: RecipientRow
    result: str


_RESULTS = {
    Event.RELAYED.value: N_("taken"),
    Event.DELIVERED.value: N_("in the mailbox"),
    Event.ATTEMPTED.value: N_("put off"),
    Event.FAILED.value: N_("refused"),
    Event.IN_DOUBT.value: N_("in doubt"),
}


def tries(rows: Sequence[RecipientRow], tongue: Tongue) -> tuple[Try, ...]:
    """All attempts, newest first."""
    found = [
        Try(
            line=line,
            row=row,
            result=tongue.say("under way")
            if line.ended_us is None
            else tongue.say(_RESULTS.get(line.result or "", line.result or "—")),
        )
        for row in rows
        for line in row.attempts
    ]
    return tuple(sorted(found, key=lambda item: item.line.id, reverse=True))
