"""Working days and office hours: Sunday to Thursday, 08:00 to 15:30 in Amman, holidays off."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.calendar import Calendar, CalendarEntry, build_calendar
from policies.document import parse_documents
from policies.faults import Fault
from policies.period import Period, Unit, period

TEXT = """
zone: Asia/Amman
office_hours: ["08:00-12:00", "13:00-15:30"]
holidays:
  - {date: 2026-01-06, ar: عطلة, en: A day off}
  - {date: 2026-03-20, until: 2026-03-23, ar: عيد الفطر, en: Eid al-Fitr}
"""


def made(text: str) -> tuple[Calendar, list[Fault]]:
    (document,) = parse_documents(text.encode(), "calendar.yaml")
    faults: list[Fault] = []
    return build_calendar(CalendarEntry.model_validate(document.data), document, faults), faults


CALENDAR, _ = made(TEXT)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Amman")).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("moment", "working"),
    [
        ("2026-01-04 08:00", True),  # a Sunday
        ("2026-01-04 07:59", False),
        ("2026-01-04 12:00", False),
        ("2026-01-04 15:29", True),
        ("2026-01-04 15:30", False),
        ("2026-01-02 10:00", False),  # Friday
        ("2026-01-03 10:00", False),
        ("2026-01-06 10:00", False),  # a holiday
        ("2026-03-22 10:00", False),  # within one
        ("2026-03-24 10:00", True),
    ],
)
def test_office_hours(moment: str, working: bool) -> None:
    assert CALENDAR.is_working(at(moment)) is working


@pytest.mark.parametrize(
    ("moment", "days", "end"),
    [
        ("2026-01-04 09:00", 1, "2026-01-05 15:30"),
        ("2026-01-05 09:00", 1, "2026-01-07 15:30"),  # the 6th is off
        ("2026-01-08 09:00", 1, "2026-01-11 15:30"),  # Thursday, then Sunday
        ("2026-01-08 16:00", 1, "2026-01-12 15:30"),  # after hours: as if it came on Sunday
        ("2026-01-09 10:00", 1, "2026-01-12 15:30"),
        ("2026-01-04 06:00", 3, "2026-01-08 15:30"),
        ("2026-03-19 10:00", 2, "2026-03-25 15:30"),
    ],
)
def test_working_days(moment: str, days: int, end: str) -> None:
    assert CALENDAR.add_working_days(at(moment), days) == at(end)
    assert CALENDAR.add(at(moment), Period(days, Unit.WORKING_DAYS)) == at(end)


@pytest.mark.parametrize(
    ("moment", "hours", "end"),
    [
        ("2026-01-04 09:00", 2, "2026-01-04 11:00"),
        ("2026-01-04 11:00", 2, "2026-01-04 14:00"),  # an hour's break
        ("2026-01-04 15:00", 1, "2026-01-05 08:30"),
        ("2026-01-05 15:00", 1, "2026-01-07 08:30"),
        ("2026-01-09 10:00", 4, "2026-01-11 12:00"),
        ("2026-01-04 08:00", 13, "2026-01-05 15:30"),
    ],
)
def test_working_hours(moment: str, hours: int, end: str) -> None:
    assert CALENDAR.add_working_hours(at(moment), hours) == at(end)


@given(st.integers(0, 4_000_000_000_000_000), st.integers(1, 60))
def test_a_span_ends_after_it_begins_and_grows(moment: int, amount: int) -> None:
    for add in (CALENDAR.add_working_days, CALENDAR.add_working_hours):
        assert moment < add(moment, amount) <= add(moment, amount + 1)


def test_around_the_clock() -> None:
    calendar, faults = made("zone: UTC\noffice_hours: 00:00-24:00\nworking_days: friday\n")
    assert not faults and calendar.is_working(0) is False  # a Thursday
    friday = 86_400_000_000
    assert calendar.is_working(friday) and calendar.add_working_days(friday, 1) == friday * 9
    assert calendar.add_working_hours(friday, 24) == friday * 2


LONG = "holidays: [{date: 2026-01-02, until: 2026-08-01, ar: x, en: x}]"
YEARS = [
    f"{{date: {year}-{m:02}-01, until: {year}-{m + 2:02}-28, ar: x, en: x}}"
    for year in (2026, 2027)
    for m in range(1, 11)
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("office_hours: ['08:00-12:00', '11:00-13:00']", "overlap"),
        ("holidays: [{date: 2026-01-02, until: 2026-01-01, ar: x, en: x}]", "before"),
        (LONG, "120 days"),
        (f"working_days: sunday\nholidays: [{', '.join(YEARS)}]", "a whole year without a working day"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(text: str, words: str) -> None:
    _, faults = made(text)
    assert any(words in fault.message for fault in faults) and faults[0].line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("48h", Period(172_800_000_000)),
        ("1 day", Period(86_400_000_000)),
        ("90s", Period(90_000_000)),
        ("3 working days", Period(3, Unit.WORKING_DAYS)),
        ("1 working hour", Period(1, Unit.WORKING_HOURS)),
    ],
)
def test_spans(text: str, expected: Period) -> None:
    assert period(text) == expected


@pytest.mark.parametrize("text", ["", "3", "h", "0h", "-1h", "1 working week", "2000 days", "1.5h", 5, None])
def test_no_spans(text: object) -> None:
    with pytest.raises(ValueError, match=r"span of time|three years"):
        period(text)
