"""One letter and one recipient before the rules: the facts, and what the policy makes of them.

A :class:`Case` is what conditions look at. Facts are as they were recorded; what belongs to the policy's
version (the meaning of marks, groups, the calendar) is worked out here, each once and when first asked.
Classification and urgency change while rules set them. For expressions the case is a CEL context whose
variables and functions are the tables below; only the names that an expression has are put in. Functions
are total: what makes no sense gives an empty answer, and nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from policies.attachment_fact import MORE
from policies.author import AuthorKind
from policies.calendar import EPOCH, WEEK, Calendar
from policies.facts import Answered, AttachmentFact, Facts, Place, RecipientFacts, SenderKind
from policies.groups import Groups
from policies.marks import Marks, Scale
from policies.period import MAX_WORKING_DAYS
from tracker.model import Address, Door, Recipient

if TYPE_CHECKING:
    import cel

MAX_LISTED = 100  # attachments, members and fields that an expression sees


class Surface:
    """What of a policy its rules need to look at a letter: marks, groups, calendar."""

    __slots__ = ("calendar", "groups", "marks")

    def __init__(self, marks: Marks, groups: Groups, calendar: Calendar) -> None:
        self.marks = marks
        self.groups = groups
        self.calendar = calendar


class Case:
    """The facts ``f`` of a letter, the recipient ``r``, and what has been made of them so far."""

    __slots__ = (
        "_context",
        "_given",
        "_local",
        "_said",
        "_working",
        "before",
        "classification",
        "f",
        "r",
        "surface",
        "urgency",
    )

    def __init__(self, facts: Facts, recipient: RecipientFacts, surface: Surface, before: int = 0) -> None:
        """``before``: recipients of the same transaction that were taken before those in the facts."""
        self.f = facts
        self.before = before or facts.before
        self.r = recipient
        self.surface = surface
        self._said = surface.marks.read(facts.marks)
        self.classification, self.urgency = self._said
        self._context: cel.Context | None = None
        self._given: set[str] = set()
        self._local: datetime | None = None
        self._working: bool | None = None

    def turn(self, recipient: RecipientFacts) -> None:
        """Go on to the next recipient of the same letter."""
        self.r = recipient
        self.classification, self.urgency = self._said
        self._given -= _CHANGING

    def mark(self, classification: str, urgency: str) -> None:
        """What a rule has set."""
        self.classification, self.urgency = classification, urgency
        self._given -= _CHANGING

    @property
    def local(self) -> datetime:
        """When the letter came in, by the calendar's clock."""
        if self._local is None:
            self._local = self.surface.calendar.local(self.f.at_us)
        return self._local

    @property
    def working(self) -> bool:
        """Whether that was within office hours."""
        if self._working is None:
            self._working = self.surface.calendar.is_working(self.f.at_us)
        return self._working

    def context(self, names: Iterable[str]) -> cel.Context:
        """The CEL context with at least these variables and functions."""
        if self._context is None:
            import cel

            self._context = cel.Context()
        context, given = self._context, self._given
        for name in names:
            if name not in given:
                given.add(name)
                if name in VARIABLES:
                    context.add_variable(name, VARIABLES[name][0](self))
                if name in FUNCTIONS:
                    context.add_function(name, FUNCTIONS[name][0](self))
        return context

    @staticmethod
    def examples() -> Iterator[Case]:
        """Letters on which expressions are tried before they are let into force."""
        yield from _examples()


def moment(us: int) -> datetime:
    """UTC microseconds as CEL takes them."""
    return EPOCH + timedelta(microseconds=us)


def _attachment(a: AttachmentFact) -> dict[str, Any]:
    return {
        "name": a.name,
        "declared": a.declared,
        "type": a.detected,
        "size": a.size,
        "sha256": a.sha256,
        "extension": a.extension,
        "encrypted": a.encrypted,
        "signed": a.signed,
        "macros": a.macros,
        "executable": a.executable,
        "archive": a.archive,
        "members": list(a.members[:MAX_LISTED]),
        "odd": list(a.odd),
        "undecided": a.undecided,
    }


def _answered(a: Answered | None) -> dict[str, Any]:
    if a is None:
        return dict.fromkeys(ANSWERED_FIELDS, "")
    return {
        "number": a.number,
        "agency": a.agency,
        "classification": a.classification,
        "urgency": a.urgency,
    }


def _authentication(f: Facts) -> dict[str, str]:
    out = {"spf": "none", "dkim": "none", "dmarc": "none", "arc": "none"}
    for method, result in f.results:
        out[method] = result
    return out


ATTACHMENT_FIELDS = ("name", "declared", "type", "size", "sha256", *MORE)
ANSWERED_FIELDS = ("number", "agency", "classification", "urgency")

# Variables of expressions: how each is found, its type, and what it is (docs/policy.md is made of this).
VARIABLES: dict[str, tuple[Callable[[Case], Any], str, str]] = {
    "door": (lambda c: c.f.door.value, "string", "`relay` or `submission`"),
    "peer": (lambda c: c.f.peer, "string", "address of the peer"),
    "account": (lambda c: c.f.account or "", "string", "account that signed in, or empty"),
    "submitter": (lambda c: c.f.submitter or "", "string", "code of the agency that hands the letter in"),
    "sender": (
        lambda c: c.f.sender.lower(),
        "string",
        "envelope sender, lower case; empty for <>",
    ),
    "sender_kind": (lambda c: c.f.sender_kind.value, "string", "whose the sender is, as in the key `sender`"),
    "author": (lambda c: c.f.author.lower(), "string", "address in From, lower case"),
    "author_name": (lambda c: c.f.author_name, "string", "name in From"),
    "author_kind": (lambda c: c.f.author_kind.value, "string", "whose From is, as in the key `author`"),
    "author_agency": (lambda c: c.f.author_agency or "", "string", "code of the agency of From"),
    "vouched": (lambda c: c.f.vouched, "bool", "the agency's own server vouches for a sender of elsewhere"),
    "recipient": (lambda c: c.r.recipient.address.key, "string", "address of this recipient, lower case"),
    "recipient_place": (lambda c: c.r.place.value, "string", "where it lies, as in the key `recipient`"),
    "recipient_agency": (lambda c: c.r.agency or "", "string", "code of its agency"),
    "recipient_mode": (lambda c: c.r.mode.value, "string", "mode of its agency"),
    "recipients": (lambda c: len(c.f.recipients) + c.before, "int", "number of recipients"),
    "size": (lambda c: c.f.size, "int", "octets of the letter"),
    "subject": (lambda c: c.f.subject, "string", "the subject as people read it"),
    "subject_number": (lambda c: c.f.subject_number or "", "string", "a letter number in the subject"),
    "message_id": (lambda c: c.f.message_id or "", "string", "Message-ID"),
    "content_type": (lambda c: c.f.content_type, "string", "type of the whole message, lower case"),
    "crypto": (lambda c: c.f.crypto.value, "string", "`none`, `smime`, `pgp` or `signed`"),
    "automatic": (
        lambda c: sorted(a.value for a in c.f.automatic),
        "list(string)",
        "why it is taken for a message that no person wrote",
    ),
    "hops": (lambda c: c.f.hops, "int", "Received fields"),
    "header_faults": (lambda c: list(c.f.header_faults), "list(string)", "what is wrong with the header"),
    "undecidable": (lambda c: list(c.f.undecidable), "list(string)", "why the structure cannot be judged"),
    "authentication": (
        lambda c: _authentication(c.f),
        "map(string, string)",
        "results of `spf`, `dkim`, `dmarc` and `arc` on what came in; `none` where there is none",
    ),
    "attachments": (
        lambda c: [_attachment(a) for a in c.f.attachments[:MAX_LISTED]],
        "list(map)",
        f"attachments, each with {', '.join(f'`{name}`' for name in ATTACHMENT_FIELDS)}",
    ),
    "classification": (lambda c: c.classification, "string", "as marked, or as an earlier rule set it"),
    "urgency": (lambda c: c.urgency, "string", "as marked, or as an earlier rule set it"),
    "answers": (lambda c: c.f.answered is not None, "bool", "answers a letter that the record knows"),
    "answered": (
        lambda c: _answered(c.f.answered),
        "map(string, string)",
        f"that letter: {', '.join(f'`{name}`' for name in ANSWERED_FIELDS)}; empty when there is none",
    ),
    "has_reply_by": (lambda c: c.f.reply_by_us is not None, "bool", "the author says when an answer is due"),
    "reply_by": (
        lambda c: moment(c.f.reply_by_us or 0),
        "timestamp",
        "Reply-By; the beginning of 1970 when there is none",
    ),
    "at": (lambda c: moment(c.f.at_us), "timestamp", "when the letter came in"),
    "weekday": (lambda c: WEEK[c.local.weekday()], "string", "day on which it came in, such as `sunday`"),
    "hour": (lambda c: c.local.hour, "int", "hour of the day in which it came in, by the calendar's zone"),
    "working_time": (lambda c: c.working, "bool", "it came in within office hours"),
}

_CHANGING = {
    "recipient",
    "recipient_place",
    "recipient_agency",
    "recipient_mode",
    "classification",
    "urgency",
}


def _header(case: Case) -> Callable[..., str]:
    fields = case.f.fields
    return lambda name="", *_: next((v for n, v in fields if n == str(name).lower()), "")


def _headers(case: Case) -> Callable[..., list[str]]:
    fields = case.f.fields
    return lambda name="", *_: [v for n, v in fields if n == str(name).lower()][:MAX_LISTED]


def _has_header(case: Case) -> Callable[..., bool]:
    fields = case.f.fields
    return lambda name="", *_: any(n == str(name).lower() for n, _ in fields)


def _in_group(case: Case) -> Callable[..., bool]:
    groups = case.surface.groups

    def in_group(who: object = "", name: object = "", *_: object) -> bool:
        group = groups.get(str(name))
        if group is None:
            return False
        text = str(who)
        if "@" not in text:
            return text in group.agencies
        return group.holds(text.lower(), _agency_of(case, text.lower()))

    return in_group


def _agency_of(case: Case, key: str) -> str | None:
    """The agency of one of the addresses of this letter."""
    if key == case.f.author.lower():
        return case.f.author_agency
    if key == case.f.sender.lower():
        return case.f.sender_agency
    return case.r.agency if key == case.r.recipient.address.key else None


def _at_least(case: Case) -> Callable[..., bool]:
    marks = case.surface.marks

    def at_least(word: object = "", other: object = "", *_: object) -> bool:
        for scale in (marks.classifications, marks.urgencies):
            if scale.rank(str(other)):
                return scale.rank(str(word)) >= scale.rank(str(other))
        return False

    return at_least


def _is_working(case: Case) -> Callable[..., bool]:
    calendar = case.surface.calendar
    return lambda at=None, *_: isinstance(at, datetime) and calendar.is_working(_us(at))


def _add_days(case: Case) -> Callable[..., datetime]:
    calendar = case.surface.calendar
    return lambda at=EPOCH, days=1, *_: moment(calendar.add_working_days(_us(at), _count(days)))


def _add_hours(case: Case) -> Callable[..., datetime]:
    calendar = case.surface.calendar
    return lambda at=EPOCH, hours=1, *_: moment(calendar.add_working_hours(_us(at), _count(hours)))


def _us(at: object) -> int:
    if not isinstance(at, datetime):
        return 0
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)


def _count(value: object) -> int:
    return max(1, min(int(value), MAX_WORKING_DAYS)) if isinstance(value, int | float) else 1


# Functions of expressions: how each is made for a letter, how it is written, and what it gives.
FUNCTIONS: dict[str, tuple[Callable[[Case], Callable[..., Any]], str, str]] = {
    "header": (_header, 'header("X-Spam") -> string', "first value of a field; empty when there is none"),
    "headers": (_headers, 'headers("Received") -> list(string)', "all values of a field"),
    "has_header": (_has_header, 'has_header("X-Spam") -> bool', "the field is there"),
    "in_group": (
        _in_group,
        'in_group(author, "ministries") -> bool',
        "an agency's code, or an address of this letter, belongs to a group of groups.yaml",
    ),
    "at_least": (
        _at_least,
        'at_least(classification, "restricted") -> bool',
        "a classification or urgency is this one or higher",
    ),
    "is_working": (_is_working, "is_working(at) -> bool", "a moment lies within office hours"),
    "add_working_days": (
        _add_days,
        "add_working_days(at, 3) -> timestamp",
        "the end of the office hours of that working day",
    ),
    "add_working_hours": (
        _add_hours,
        "add_working_hours(at, 4) -> timestamp",
        "when so many office hours have passed",
    ),
}


@cache
def _example_facts() -> tuple[Facts, Facts]:
    to = Recipient(address=Address("clerk", "ministry.example"))
    bare = Facts(
        door=Door.RELAY,
        peer="192.0.2.1",
        submitter="AAA",
        sender="writer@agency.example",
        sender_kind=SenderKind.OWN,
        author="writer@agency.example",
        author_kind=AuthorKind.OWN,
        recipients=(RecipientFacts(recipient=to, place=Place.AGENCY, agency="BBB", connected=True),),
        size=2000,
        subject="Budget of the year",
        message_id="<1@agency.example>",
        at_us=1_767_520_800_000_000,
    )
    file = AttachmentFact(
        name="plan.pdf",
        declared="application/pdf",
        detected="application/pdf",
        size=100_000,
        sha256="0" * 64,
        extension="pdf",
        members=("a.txt",),
        odd=("bidi",),
    )
    full = replace(
        bare,
        attachments=(file, replace(file, encrypted=True, archive=True)),
        answered=Answered(letter_id=1, number="BBB/2026/1", agency="BBB"),
        reply_by_us=1_767_920_800_000_000,
        results=(("spf", "pass"),),
        header_faults=("bare CR",),
        undecidable=("too deep",),
    )
    return bare, full


def _examples() -> Iterator[Case]:
    marks = Marks(Scale(()), Scale(()), {})
    surface = Surface(marks, {}, Calendar("UTC", frozenset(range(5)), ((480, 930),), frozenset()))
    for facts in _example_facts():
        yield Case(facts, facts.recipients[0], surface)
