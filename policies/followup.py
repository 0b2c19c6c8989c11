"""Following up letters that want an answer, as ``followup.yaml`` has it: when whom, and when never.

A letter with a due date has a *plan* of steps for each agency that received it: reminders to its registry
before and after the due date, a word to a named mailbox when it stays late, and the record that the time
passed. A step of working days falls on the beginning of office hours of its day, counted from the last
working day that is not after the due date; so none falls on a holiday. An agency's own words take the place
of the general ones, those of an urgency the place of both.

Pure: what is due is told from the plan, the calendar, the clock that the caller gives and the steps done.
Whatever the clock does, a step that is done is done for ever, and none that lies before it comes after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cache, cached_property
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from policies.agency import Agency, Mode
from policies.agency_entry import Mailbox
from policies.calendar import Calendar
from policies.directory import Directory
from policies.document import Document
from policies.entry import ONE, Entry
from policies.faults import Fault, suggestion
from policies.marks import Marks
from tracker.model import Address

LOOK_BACK = 10  # working days after which a step that nobody took is no longer taken
MAX_DAYS = 250  # working days before or after a due date
_MOMENT = re.compile(r"([1-9][0-9]{0,3}) working (day|hour)s? (before|after)")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_CODE = re.compile(r"[A-Z][A-Z0-9-]{0,15}")


@dataclass(frozen=True, slots=True)
class Moment:
    """A time told from the due date: so many working days or hours before (negative) or after it."""

    amount: int
    unit: Literal["day", "hour"]

    def __str__(self) -> str:
        if not self.amount:
            return "on the day" if self.unit == "day" else "when due"
        side = "before" if self.amount < 0 else "after"
        return f"{abs(self.amount)} working {self.unit}{'s' if abs(self.amount) > 1 else ''} {side}"

    def at(self, due_us: int, calendar: Calendar) -> int:
        """When that is, UTC microseconds; never outside office hours."""
        if self.unit == "day":
            day = calendar.working_day(calendar.local(due_us).date(), self.amount)
            return calendar.opening(day)
        if self.amount < 0:
            return calendar.working_hours_before(due_us, -self.amount)
        if not self.amount:
            return calendar.next_working(due_us)
        return calendar.next_working(calendar.add_working_hours(due_us, self.amount))


WHEN_DUE = Moment(0, "hour")


def _moment(value: object) -> object:
    text = " ".join(value.lower().split()) if isinstance(value, str) else ""
    if text == "on the day":
        return Moment(0, "day")
    if text == "when due":
        return WHEN_DUE
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError(
            "must be such as 2 working days before, on the day, when due, 3 working days after, "
            "1 working hour before"
        )
    amount = int(match[1])
    if amount > (MAX_DAYS if match[2] == "day" else MAX_DAYS * 8):
        raise ValueError("is further than a year from the due date")
    return Moment(-amount if match[3] == "before" else amount, "day" if match[2] == "day" else "hour")


def _clock(value: object) -> object:
    if isinstance(value, int) and 0 <= value < 24 * 60:
        value = f"{value // 60:02d}:{value % 60:02d}"  # YAML 1.1 reads 10:30 as a number of minutes
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise ValueError("must be a time of day such as 08:00")
    return value


When = Annotated[Moment, BeforeValidator(_moment), WithJsonSchema({"type": "string"})]
_Box = Annotated[Mailbox, WithJsonSchema({"type": "string"})]
Mailboxes = Annotated[list[_Box], ONE, Field(max_length=20)]


class EscalationEntry(Entry):
    """Who is told that a letter stays late."""

    when: When = Field(default_factory=lambda: Moment(5, "day"))
    """When, told from the due date. Default: 5 working days after."""
    to: Mailboxes = Field(default_factory=list)
    """Mailboxes that are told; without one nobody is."""


class DigestEntry(Entry):
    """A list each working day of what is late, what waits and what came in."""

    at: Annotated[str, BeforeValidator(_clock)] = "08:00"
    """Time of day, in the zone of calendar.yaml."""
    registry: bool = True
    """To the registry of each agency."""
    to: Mailboxes = Field(default_factory=list)
    """Compliance staff: under an agency of that agency's letters, else of all."""


class UrgencyFollowUpEntry(Entry):
    """What is otherwise for letters of one urgency."""

    reminders: Annotated[list[When], ONE, Field(max_length=20)] | None = None
    """When the registry is reminded."""
    escalation: EscalationEntry | None = None
    """Who else is told when a letter stays late; without `to:` those of the general words."""
    expiry: When | Literal["never"] | None = None
    """When the record says that the time for an answer passed."""


class AgencyFollowUpEntry(UrgencyFollowUpEntry):
    """What is otherwise for letters to one agency."""

    enabled: bool = True
    """false: the agency is not reminded and gets no digest."""
    digest: DigestEntry | None = None
    """Its registry's digest, and that of its own compliance staff."""


class FollowUpEntry(Entry):
    """`followup.yaml`."""

    reminders: Annotated[list[When], ONE, Field(max_length=20)] = Field(
        default_factory=lambda: [Moment(-2, "day"), Moment(0, "day"), Moment(3, "day")]
    )
    """When the registry of the agency that owes an answer is reminded. Default: 2 working days before, on the
    day, 3 working days after."""
    escalation: EscalationEntry = Field(default_factory=EscalationEntry)
    """Who else is told when a letter stays late."""
    expiry: When | Literal["never"] = Field(default_factory=lambda: WHEN_DUE)
    """When the record says that the time for an answer passed. Default: when due."""
    digest: DigestEntry = Field(default_factory=DigestEntry)
    """A list each working day."""
    gather_above: Annotated[int, Field(ge=1, le=100, strict=True)] = 5
    """More reminders than this to one mailbox at one time go as one mail."""
    conceal_from: str | None = "secret"
    """From this classification on a subject stands in no list; null: in all."""
    enabled: bool = True
    """false: nobody is reminded and there are no digests."""
    agencies: Annotated[dict[str, AgencyFollowUpEntry], Field(max_length=5000)] = Field(default_factory=dict)
    """By the code of the agency that owes the answer."""
    urgencies: Annotated[dict[str, UrgencyFollowUpEntry], Field(max_length=50)] = Field(default_factory=dict)
    """By urgency (marks.yaml)."""


class StepKind(StrEnum):
    REMIND = "remind"
    ESCALATE = "escalate"
    EXPIRE = "expire"  # the record says that the time passed; no mail


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan. ``key`` is what it is known by: done once, done for ever."""

    kind: StepKind
    moment: Moment

    @property
    def key(self) -> str:
        return str(self.moment) if self.kind is StepKind.REMIND else self.kind.value


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps for letters of one urgency to one agency."""

    steps: tuple[Step, ...]
    escalate_to: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was taken, or passed over. ``step_us``: when it was due; ``at_us``: when it was taken."""

    key: str
    kind: StepKind
    step_us: int
    at_us: int
    taken: bool = True


@dataclass(frozen=True, slots=True)
class Taking:
    """A step to take now (``taken``), or to pass over for ever."""

    step: Step
    step_us: int
    taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """When a digest goes out, and to whom."""

    minute: int  # of the day
    registry: bool
    to: tuple[Address, ...]


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """The compiled file."""

    entry: FollowUpEntry = field(default_factory=FollowUpEntry)
    concealed: frozenset[str] = frozenset()  # classifications whose subjects stand in no list

    @property
    def enabled(self) -> bool:
        return self.entry.enabled

    @property
    def gather_above(self) -> int:
        return self.entry.gather_above

    def follows(self, agency: Agency) -> bool:
        """True when letters to this agency are followed up; never in shadow mode or switched off."""
        own = self.entry.agencies.get(agency.code)
        return self.enabled and agency.mode is Mode.ACTIVE and (own is None or own.enabled)

    @cached_property
    def _plans(self) -> dict[tuple[str, str], Plan]:
        return {}

    def plan(self, agency: str, urgency: str = "") -> Plan:
        """The plan for letters of an urgency to an agency."""
        entry = self.entry
        key = (agency if agency in entry.agencies else "", urgency if urgency in entry.urgencies else "")
        found = self._plans.get(key)
        if found is None:
            found = self._plans[key] = self._made(*key)
        return found

    def _made(self, agency: str, urgency: str) -> Plan:
        entry = self.entry
        reminders, escalation, expiry = entry.reminders, entry.escalation, entry.expiry
        for other in (entry.agencies.get(agency), entry.urgencies.get(urgency)):
            if other is None:
                continue
            reminders = other.reminders if other.reminders is not None else reminders
            if other.escalation is not None:
                escalation = other.escalation.model_copy(
                    update={} if other.escalation.to else {"to": escalation.to}
                )
            expiry = other.expiry if other.expiry is not None else expiry
        steps = [Step(StepKind.REMIND, moment) for moment in dict.fromkeys(reminders)]
        if escalation.to:
            steps.append(Step(StepKind.ESCALATE, escalation.when))
        if expiry != "never":
            steps.append(Step(StepKind.EXPIRE, expiry))
        return Plan(tuple(steps), tuple(escalation.to))

    def digest(self, agency: str | None) -> Digest:
        """The digest of an agency, or (None) that of the whole."""
        entry = self.entry.digest
        if agency is None:
            return Digest(minute=_minute(entry.at), registry=False, to=tuple(entry.to))
        own = self.entry.agencies.get(agency)
        if own is not None and own.digest is not None:
            d = own.digest
            return Digest(minute=_minute(d.at), registry=d.registry, to=tuple(d.to))
        return Digest(minute=_minute(entry.at), registry=entry.registry, to=())

    def conceals(self, classification: str) -> bool:
        """Whether the subject of such a letter stands in no list."""
        return classification in self.concealed

    @property
    def urgencies(self) -> tuple[str, ...]:
        """Those with words of their own."""
        return tuple(self.entry.urgencies)


def takings(
    plan: Plan, due_us: int, since_us: int, done: Iterable[Done], now_us: int, calendar: Calendar
) -> list[Taking]:
    """The steps that are to be taken or passed over now, in order.

    ``since_us``: when the letter came; a step before that is passed over. Of several reminders that are due
    at once the last is taken. None comes outside office hours, none that lies before one that was taken
    (what the plan was before does not matter), and of those told in days no second one on a day.
    """
    done = tuple(done)
    known = {one.key for one in done}
    open_now = calendar.is_working(now_us)
    today = calendar.local(now_us).date()
    oldest = calendar.opening(calendar.working_day(today, -LOOK_BACK))
    last = max((d.step_us for d in done if d.taken and d.kind is StepKind.REMIND), default=None)
    reminded = any(
        d.taken and d.kind is StepKind.REMIND and calendar.local(d.at_us).date() == today for d in done
    )
    ripe: list[tuple[int, Step]] = []
    out: list[Taking] = []
    for step in plan.steps:
        if step.key in known:
            continue
        at = _at(step, due_us, calendar)
        if at > now_us:
            continue
        overtaken = step.kind is StepKind.REMIND and last is not None and at < last
        if at < since_us or at < oldest or overtaken:
            out.append(Taking(step, at, taken=False))
        elif step.kind is StepKind.EXPIRE:
            out.append(Taking(step, at, taken=True))
        elif open_now:
            ripe.append((at, step))
    reminders = [one for one in ripe if one[1].kind is StepKind.REMIND]
    latest = max(reminders, key=lambda one: one[0], default=None)
    for at, step in ripe:
        if step.kind is StepKind.ESCALATE:
            out.append(Taking(step, at, taken=True))
        elif (at, step) != latest:
            out.append(Taking(step, at, taken=False))
        elif not reminded or step.moment.unit == "hour":
            out.append(Taking(step, at, taken=True))
    return sorted(out, key=lambda one: (one.taken, one.step_us, one.step.kind is not StepKind.REMIND))


def upcoming(
    plan: Plan, due_us: int, since_us: int, done: Iterable[Done], now_us: int, calendar: Calendar
) -> Taking | None:
    """The next step that lies ahead, if nothing changes before it."""
    known = {one.key for one in done}
    ahead = [
        Taking(step, at, taken=True)
        for step in plan.steps
        if step.key not in known and (at := _at(step, due_us, calendar)) > now_us and at >= since_us
    ]
    return min(ahead, key=lambda one: one.step_us, default=None)


def reach(step: Step, now_us: int, calendar: Calendar) -> tuple[int, int]:
    """Due dates (from, before) within which a step is due now and was not long ago.

    Tight for steps of days, which hang on the day of the due date alone: what is in reach is taken, so that
    the next look does not find it again.
    """
    moment = step.moment
    today = calendar.local(now_us).date()
    low = calendar.working_day(today, -max(moment.amount, 0) - LOOK_BACK - 1)
    if moment.unit == "hour":
        ahead = calendar.add_working_hours(now_us, -moment.amount) + 1 if moment.amount < 0 else now_us
        return calendar.at(low, 0), max(ahead, now_us) + 1
    high = calendar.working_day(today, max(-moment.amount, 0) + 1)
    oldest = calendar.opening(calendar.working_day(today, -LOOK_BACK))
    found = [
        day
        for n in range((high - low).days + 1)
        if oldest <= moment.at(calendar.at(day := low + timedelta(days=n), 0), calendar) <= now_us
    ]
    if not found:
        return 0, 0
    return calendar.at(found[0], 0), calendar.at(found[-1] + timedelta(days=1), 0)


def _at(step: Step, due_us: int, calendar: Calendar) -> int:
    if step.kind is StepKind.EXPIRE and step.moment == WHEN_DUE:
        return due_us  # no mail: it need not wait for the office
    return step.moment.at(due_us, calendar)


@cache
def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def build_followup(
    entry: FollowUpEntry,
    document: Document,
    marks: Marks,
    directory: Directory | None,
    faults: list[Fault],
) -> FollowUp:
    """The follow-up of a checked file; what names nothing goes to ``faults``."""
    codes = tuple(a.code for a in directory) if directory is not None else None
    for code in entry.agencies:
        loc = ("agencies", code)
        if not _CODE.fullmatch(code):
            faults.append(document.fault(loc, "must be an agency's code such as MOF"))
        elif codes is not None and code not in codes:
            faults.append(document.fault(loc, f"no agency {code} in the directory", suggestion(code, codes)))
    urgencies = marks.urgencies.words
    for urgency in entry.urgencies:
        if urgency not in urgencies:
            what = f"no urgency {urgency} in marks.yaml"
            faults.append(document.fault(("urgencies", urgency), what, suggestion(urgency, urgencies)))
    degrees = marks.classifications.words
    concealed: Sequence[str] = ()
    if entry.conceal_from is not None:
        if entry.conceal_from in degrees:
            concealed = degrees[degrees.index(entry.conceal_from) :]
        else:
            what = f"no classification {entry.conceal_from} in marks.yaml"
            hint = suggestion(entry.conceal_from, degrees)
            faults.append(document.fault(("conceal_from",), what, hint))
    if directory is not None:
        _foreign(entry.agencies, directory, document, faults)
    return FollowUp(entry=entry, concealed=frozenset(concealed))


def _foreign(
    agencies: Mapping[str, AgencyFollowUpEntry], directory: Directory, document: Document, faults: list[Fault]
) -> None:
    """An agency's digest tells of that agency's letters: no other agency's mailbox gets it."""
    for code, own in agencies.items():
        for i, address in enumerate(own.digest.to if own.digest is not None else ()):
            home = directory.by_domain(address.host)
            if home is not None and home.code != code:
                what = f"{address} is a mailbox of {home.code}, which may not see the letters of {code}"
                faults.append(document.fault(("agencies", code, "digest", "to", i), what))
