"""What a registry does with a letter that its agency received: the acts, their bars, incoming numbers.

Plain frozen values; :mod:`tracker.registry_desk` writes them, :mod:`tracker.incoming` reads what came of
them. The words follow the registry's desk: قيد (register), إحالة (refer), قيد الإجراء (in progress),
إعادة (return), إغلاق (close). A number of the registry's own is kept as it was given; its *key* is what
makes it that number in its year, whatever digits, spaces or year were written with it. Nothing here fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tracker.access import Role, Viewer
from tracker.holds import CONSOLE
from tracker.noting import Note
from tracker.search import fold
from tracker.states import Event

MAX_NUMBER = 60  # characters of a registry's own number
MAX_TARGET = 200  # of whom a letter is referred to
MAX_TEXT = 1000  # of a reason, a result, a remark
MAX_SEQ = 99_999_999  # in a registry's own number: what is larger is no place in a row

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


class Deed(StrEnum):
    """What is done."""

    REGISTER = "register"
    REFER = "refer"
    PROGRESS = "progress"
    RETURN = "return"
    CLOSE = "close"

    @property
    def event(self) -> Event:
        return _EVENTS[self]

    @classmethod
    def of(cls, event: Event) -> Deed | None:
        """The act that an event is; None for any other event."""
        return next((deed for deed, one in _EVENTS.items() if one is event), None)


_EVENTS = {
    Deed.REGISTER: Event.REGISTERED,
    Deed.REFER: Event.REFERRED,
    Deed.PROGRESS: Event.IN_PROGRESS,
    Deed.RETURN: Event.RETURNED,
    Deed.CLOSE: Event.PROCESSED,
}


class Stage(StrEnum):
    """How far an agency is with a letter; what nobody took in has none."""

    REGISTERED = "registered"
    REFERRED = "referred"
    IN_PROGRESS = "in-progress"
    RETURNED = "returned"
    CLOSED = "closed"

    @property
    def ended(self) -> bool:
        return self in (Stage.RETURNED, Stage.CLOSED)


STAGE_OF = {
    Deed.REGISTER: Stage.REGISTERED,
    Deed.REFER: Stage.REFERRED,
    Deed.PROGRESS: Stage.IN_PROGRESS,
    Deed.RETURN: Stage.RETURNED,
    Deed.CLOSE: Stage.CLOSED,
}


class Purpose(StrEnum):
    """What a letter is referred for."""

    ACTION = "action"  # للإجراء
    INFORMATION = "information"  # للعلم


class Bar(StrEnum):
    """Why an act is not taken."""

    UNKNOWN = "unknown"  # no such letter there, or none that the person may know of
    NOT_YOURS = "not-yours"  # another agency's, or an account that only looks
    REGISTERED = "registered"  # has its incoming number
    TAKEN = "taken"  # another letter has that number
    ASSIGNED = "assigned"  # the agency's numbers are given by the gateway
    NUMBER = "number"  # its own number is missing, or is none
    ENDED = "ended"  # closed or returned; setting it in progress opens it again
    SAME = "same"  # stands so already
    REASON = "reason"  # a return needs one
    TARGET = "target"  # a referral needs one


BARS = {
    Bar.UNKNOWN: "there is no such letter at this agency",
    Bar.NOT_YOURS: "only the registry of the agency that received it may do this",
    Bar.REGISTERED: "it is registered already",
    Bar.TAKEN: "another letter has this incoming number",
    Bar.ASSIGNED: "the gateway assigns this agency's incoming numbers: give none",
    Bar.NUMBER: "give the incoming number of your register",
    Bar.ENDED: "it was closed or returned; `in progress` opens it again",
    Bar.SAME: "that is how it stands already",
    Bar.REASON: "say why it is returned",
    Bar.TARGET: "say to whom it is referred",
}
"""What a bar means, in words for the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """One act on a letter at one agency that received it.

    ``letter_id`` may be 0 where something was ``observed``: the note's delivery tells it.
    ``shape`` is that of numbers which the gateway assigns there; None: the registry has its own.
    ``observed``: what a watched mailbox of the registry shows; it is recorded, whatever stood before.
    """

    letter_id: int
    agency: str
    deed: Deed
    at_us: int
    person: Viewer
    name: str = ""  # of the person, as the record tells it
    where: str = "dashboard"  # dashboard, mail, console
    shape: str | None = None
    number: str = ""  # the registry's own, as given
    to: str = ""  # whom it is referred to
    purpose: Purpose = Purpose.ACTION
    remark: str = ""  # beside a referral, for the agency's own eyes
    text: str = ""  # the reason of a return, the result
    detail: dict[str, Any] = field(default_factory=dict)  # what else proves it
    answer_id: int | None = None  # the letter from that agency that does it by answering
    observed: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """Where a letter stands at an agency after an act. ``bar``: the act was not taken, and why."""

    letter_id: int
    agency: str
    letter: str | None = None  # its outgoing number
    incoming: str | None = None  # its incoming number
    stage: Stage | None = None
    events: tuple[Event, ...] = ()
    bar: Bar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingNumber:
    """A number of an incoming register."""

    text: str
    key: str
    year: int
    seq: int | None


REGISTRY = Viewer(account="", role=Role.REGISTRY)
"""Whoever keeps a watched mailbox: the person is unknown."""


def may_file(person: Viewer, agency: str) -> bool:
    """Registry and compliance of that agency, and who has the gateway's own files in hand."""
    if person.role is Role.VIEWER:
        return False
    if person.agency is None:
        return person.account.startswith(CONSOLE)
    return person.agency == agency


def plain(text: str, most: int) -> str:
    """Text of one person's hand, on one line, without what turns or breaks lines."""
    return " ".join(_UNSAFE.sub(" ", text).split())[:most].strip()


def own_number(text: str, year: int) -> IncomingNumber | None:
    """A number of the registry's own, of ``year`` unless it says the year before; None for what is none."""
    shown = plain(text, MAX_NUMBER + 1)
    if not shown or len(shown) > MAX_NUMBER:
        return None
    words = re.findall(r"[^\W_]+", fold(shown))
    if not any(word.isdecimal() for word in words):
        return None
    if len(words) > 1:
        for wanted in (year, year - 1):
            if str(wanted) in words:
                words.remove(str(wanted))
                year = wanted
                break
    words = [str(int(w)) if w.isdecimal() and w.isascii() and len(w) < 12 else w for w in words]
    digits = [int(w) for w in words if w.isdecimal() and w.isascii()]
    seq = digits[0] if len(digits) == 1 and digits[0] <= MAX_SEQ else None
    return IncomingNumber(text=shown, key=" ".join(words), year=year, seq=seq)
