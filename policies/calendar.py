"""Working days and office hours, as ``calendar.yaml`` has them.

The built-in week is Sunday to Thursday, Friday and Saturday off. All reckoning is in the calendar's
own time zone; times in and out are UTC microseconds. What comes in outside office hours counts as
having come at their next beginning; a span of working days ends with the office hours of its last
day, the day of arrival not counted. Pure, and bounded: a calendar has working days in every stretch
of a year, or it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import islice, pairwise
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from policies.agency_entry import Text
from policies.document import Document
from policies.entry import ONE, Entry, Weekday
from policies.faults import Fault
from policies.period import Period, Unit

WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")  # as date.weekday()
MAX_SPAN = 120  # days of one holiday
FAR = 366 * 12  # days that are looked at in search of a working one
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000

_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]|24):([0-5][0-9])")


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{text!r} is no time zone such as Asia/Amman") from None
    return text


def _hours(text: str) -> str:
    begin, end = _minutes(text)
    if not begin < end <= 24 * 60:
        raise ValueError("must be a begin and a later end, such as 08:00-15:30")
    return text


def _minutes(text: str) -> tuple[int, int]:
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError("must be a begin and a later end, such as 08:00-15:30")
    return int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])


def _date(value: object) -> object:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"{value!r} is no date such as 2026-05-25") from None


Day = Annotated[date, BeforeValidator(_date)]


class HolidayEntry(Entry):
    """Days off."""

    date: Day
    """The day, or the first of several, such as 2026-05-25."""
    until: Day | None = None
    """The last of several days."""
    ar: Text
    """Its name in Arabic."""
    en: Text
    """Its name in English."""


class CalendarEntry(Entry):
    """`calendar.yaml`."""

    zone: Annotated[str, AfterValidator(_zone)] = "Asia/Amman"
    """The time zone in which days and hours are meant."""
    working_days: Annotated[list[Weekday], ONE, Field(min_length=1, max_length=7)] = Field(
        default=["sunday", "monday", "tuesday", "wednesday", "thursday"]
    )
    """Days of the week on which offices work."""
    office_hours: Annotated[list[Annotated[str, AfterValidator(_hours)]], ONE, Field(min_length=1)] = Field(
        default=["08:00-15:30"], max_length=6
    )
    """Hours of a working day, one or several stretches."""
    holidays: Annotated[list[HolidayEntry], Field(max_length=1000)] = Field(default_factory=list)
    """Days off that fall on working days."""


@dataclass(frozen=True)
class Calendar:
    """A working week with its holidays. ``hours`` are minutes of the day, in order, not touching."""

    zone: str
    working_days: frozenset[int]  # date.weekday()
    hours: tuple[tuple[int, int], ...]
    holidays: frozenset[int]  # date.toordinal()

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    def local(self, at_us: int) -> datetime:
        """That moment in the zone of the calendar."""
        return (EPOCH + timedelta(microseconds=at_us)).astimezone(self._zone)

    def is_working_day(self, day: date) -> bool:
        return day.weekday() in self.working_days and day.toordinal() not in self.holidays

    def is_working(self, at_us: int) -> bool:
        """True within office hours."""
        now = self.local(at_us)
        if not self.is_working_day(now.date()):
            return False
        minute = now.hour * 60 + now.minute
        return any(begin <= minute < end for begin, end in self.hours)

    def add_working_days(self, at_us: int, days: int) -> int:
        """The end of office hours on the ``days``-th working day after the day of arrival."""
        arrival = self._arrival(at_us).date()
        counted = list(islice(self._days(arrival + timedelta(days=1)), max(1, days)))
        return self._moment(counted[-1] if counted else arrival, self.hours[-1][1])

    def add_working_hours(self, at_us: int, hours: int) -> int:
        """When so many office hours have passed since the arrival."""
        begin = self._arrival(at_us)
        left = timedelta(hours=hours)
        at = at_us
        for day in self._days(begin.date()):
            for opens, closes in self.hours:
                start = max(self._moment(day, opens), _us(begin))
                end = self._moment(day, closes)
                if end <= start:
                    continue
                at = end
                if timedelta(microseconds=end - start) >= left:
                    return start + left // timedelta(microseconds=1)
                left -= timedelta(microseconds=end - start)
        return at

    def add(self, at_us: int, period: Period) -> int:
        """The end of a span that begins at ``at_us``."""
        if period.unit is Unit.TIME:
            return at_us + period.amount
        if period.unit is Unit.WORKING_DAYS:
            return self.add_working_days(at_us, period.amount)
        return self.add_working_hours(at_us, period.amount)

    def opening(self, day: date) -> int:
        """When office hours begin on that day."""
        return self._moment(day, self.hours[0][0])

    def closing(self, day: date) -> int:
        """When office hours end on that day."""
        return self._moment(day, self.hours[-1][1])

    def at(self, day: date, minute: int) -> int:
        """That minute of the day."""
        return self._moment(day, minute)

    def working_day(self, day: date, count: int = 0) -> date:
        """The ``count``-th working day after (before: negative) the last one that is not after ``day``."""
        found = day
        if not self.is_working_day(found):
            found = next(self._days_back(found - timedelta(days=1)), found)
        if count > 0:
            return [found, *islice(self._days(found + timedelta(days=1)), count)][-1]
        if count < 0:
            return [found, *islice(self._days_back(found - timedelta(days=1)), -count)][-1]
        return found

    def next_working(self, at_us: int) -> int:
        """The moment itself within office hours, else their next beginning."""
        return _us(self._arrival(at_us))

    def working_hours_before(self, at_us: int, hours: int) -> int:
        """The moment from which so many office hours lead to ``at_us``."""
        left, at = hours * HOUR_US, at_us
        for day in self._days_back(self.local(at_us).date()):
            at, left = self._back(day, at_us, left)
            if not left:
                break
        return at

    def _back(self, day: date, before_us: int, left: int) -> tuple[int, int]:
        """Go ``left`` microseconds of office hours back from ``before_us`` within a day."""
        at = before_us
        for opens, closes in reversed(self.hours):
            start, end = self._moment(day, opens), min(self._moment(day, closes), before_us)
            if end <= start:
                continue
            if end - start >= left:
                return end - left, 0
            left -= end - start
            at = start
        return at, left

    def _days_back(self, last: date) -> Iterator[date]:
        """Working days from this one backwards."""
        for number in range(FAR):
            try:
                day = last - timedelta(days=number)
            except OverflowError:
                return
            if self.is_working_day(day):
                yield day

    def _arrival(self, at_us: int) -> datetime:
        """The moment itself within office hours, else their next beginning."""
        now = self.local(at_us)
        for day in self._days(now.date()):
            for opens, closes in self.hours:
                if self._moment(day, closes) > at_us:
                    return max(now, self.local(self._moment(day, opens)))
        return now

    def _days(self, first: date) -> Iterator[date]:
        """Working days from this one on."""
        for number in range(FAR):
            try:
                day = first + timedelta(days=number)
            except OverflowError:
                return
            if self.is_working_day(day):
                yield day

    def _moment(self, day: date, minute: int) -> int:
        midnight = datetime.combine(day, time(), self._zone)
        if minute == 24 * 60:
            return _us(midnight + timedelta(days=1))
        return _us(midnight.replace(hour=minute // 60, minute=minute % 60))


def _us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def build_calendar(entry: CalendarEntry, document: Document, faults: list[Fault]) -> Calendar:
    """The calendar of a checked file; what does not fit together goes to ``faults``."""
    hours = sorted(_minutes(text) for text in entry.office_hours)
    if any(later[0] <= earlier[1] for earlier, later in pairwise(hours)):
        faults.append(document.fault(("office_hours",), "overlap or touch", "write them as one"))
    off: set[int] = set()
    for i, holiday in enumerate(entry.holidays):
        last = holiday.until or holiday.date
        days = (last - holiday.date).days
        if not 0 <= days < MAX_SPAN:
            what = "must not be before date" if days < 0 else f"makes a holiday of over {MAX_SPAN} days"
            faults.append(document.fault(("holidays", i, "until"), what))
            continue
        off.update(range(holiday.date.toordinal(), last.toordinal() + 1))
    working = frozenset(WEEK.index(day) for day in entry.working_days)
    calendar = Calendar(entry.zone, working, tuple(hours), frozenset(off))
    if not faults and off and not _works(calendar, min(off), max(off)):
        faults.append(document.fault(("holidays",), "leave a whole year without a working day"))
    return calendar


def _works(calendar: Calendar, first: int, last: int) -> bool:
    """Whether there is a working day in each year's stretch between two days."""
    idle = 0
    for number in range(first, last + 1):
        idle = 0 if calendar.is_working_day(date.fromordinal(number)) else idle + 1
        if idle > 366:
            return False
    return True
