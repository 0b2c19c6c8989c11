"""The plan of following up: what is due when, led through weeks by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.agency import Agency, Mode
from policies.calendar import Calendar
from policies.directory import Directory
from policies.faults import ConfigFaults
from policies.followup import Done, FollowUp, Moment, Plan, Step, StepKind, reach, takings, upcoming
from policies.load import LETTERS, load_policy, load_policy_texts

ZONE = ZoneInfo("Asia/Amman")
EID = range(date(2026, 5, 26).toordinal(), date(2026, 5, 31).toordinal())
CALENDAR = Calendar("Asia/Amman", frozenset({6, 0, 1, 2, 3}), ((480, 930),), frozenset(EID))
HOUR = 3_600_000_000
DAY = 24 * HOUR


def at(text: str) -> int:
    """``2026-05-25 08:00`` in Amman as UTC microseconds."""
    moment = datetime.fromisoformat(text).replace(tzinfo=ZONE)
    return int(moment.timestamp()) * 1_000_000


def shown(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).astimezone(ZONE).strftime("%Y-%m-%d %H:%M")


def made(text: str = "", directory: Directory | None = None) -> FollowUp:
    files = {"letters.yaml": LETTERS.read_text("utf-8")}
    if text:
        files["followup.yaml"] = text
    return load_policy_texts(files, directory=directory).followup


def walk(
    plan: Plan, due: int, since: int, start: int, end: int, every: int = HOUR // 4
) -> Iterator[tuple[int, Step, int]]:
    """When which steps are taken, looking every quarter of an hour."""
    done: list[Done] = []
    now = start
    while now < end:
        for one in takings(plan, due, since, done, now, CALENDAR):
            done.append(Done(one.step.key, one.step.kind, one.step_us, now, one.taken))
            if one.taken:
                yield now, one.step, one.step_us
        now += every


@pytest.mark.parametrize(
    ("moment", "due", "when"),
    [
        (Moment(-2, "day"), "2026-05-21 15:30", "2026-05-19 08:00"),
        (Moment(0, "day"), "2026-05-21 15:30", "2026-05-21 08:00"),
        (Moment(0, "day"), "2026-05-22 12:00", "2026-05-21 08:00"),  # a Friday: the day before
        (Moment(3, "day"), "2026-05-21 15:30", "2026-05-31 08:00"),  # over the weekend and the feast
        (Moment(1, "day"), "2026-05-28 15:30", "2026-05-31 08:00"),  # due within the feast
        (Moment(-1, "day"), "2026-05-31 15:30", "2026-05-25 08:00"),
        (Moment(-1, "hour"), "2026-05-21 12:00", "2026-05-21 11:00"),
        (Moment(-2, "hour"), "2026-05-24 09:00", "2026-05-21 14:30"),
        (Moment(0, "hour"), "2026-05-21 15:30", "2026-05-24 08:00"),
        (Moment(2, "hour"), "2026-05-21 15:00", "2026-05-24 09:30"),
    ],
)
def test_moments_fall_on_working_days(moment: Moment, due: str, when: str) -> None:
    assert shown(moment.at(at(due), CALENDAR)) == when


def test_a_letter_is_followed_through_the_feast() -> None:
    follow = made("escalation: {to: office@pm.gov.example}\n")
    due = at("2026-05-24 15:30")
    steps = list(walk(follow.plan("MOH"), due, at("2026-05-18 09:00"), due - 6 * DAY, due + 20 * DAY))
    assert [(shown(now), step.key) for now, step, _ in steps] == [
        ("2026-05-20 08:00", "2 working days before"),
        ("2026-05-24 08:00", "on the day"),
        ("2026-05-24 15:30", "expire"),
        ("2026-06-01 08:00", "3 working days after"),
        ("2026-06-03 08:00", "escalate"),
    ]


def test_what_came_late_is_not_reminded_of_what_lay_before_it() -> None:
    due = at("2026-05-21 15:30")
    steps = list(walk(made().plan("MOH"), due, at("2026-05-20 10:00"), at("2026-05-20 10:00"), due + 2 * DAY))
    assert [(shown(now), step.key) for now, step, _ in steps] == [
        ("2026-05-21 08:00", "on the day"),
        ("2026-05-21 15:30", "expire"),
    ]


def test_after_an_outage_one_reminder_stands_for_all() -> None:
    due, follow = at("2026-05-14 15:30"), made("escalation: {to: office@pm.gov.example}\n")
    came = at("2026-05-05 09:00")
    back = at("2026-05-24 08:00")  # 6 working days later
    first = takings(follow.plan("MOH"), due, came, [], back, CALENDAR)
    assert [(t.step.key, t.taken) for t in first] == [
        ("2 working days before", False),
        ("on the day", False),
        ("expire", True),
        ("3 working days after", True),
        ("escalate", True),
    ]
    done = [Done(t.step.key, t.step.kind, t.step_us, back, t.taken) for t in first]
    assert takings(follow.plan("MOH"), due, came, done, back + DAY, CALENDAR) == []
    # What is weeks old is let be, whoever switched this on today.
    month = at("2026-06-25 09:00")
    assert not any(t.taken for t in takings(follow.plan("MOH"), due, came, [], month, CALENDAR))


def test_a_changed_plan_reminds_of_nothing_that_lies_before_what_was_done() -> None:
    due, came = at("2026-05-14 15:30"), at("2026-05-05 09:00")
    done = [Done("3 working days after", StepKind.REMIND, at("2026-05-19 08:00"), at("2026-05-19 08:00"))]
    plan = made("reminders: [on the day, 2 working days after, 4 working days after]\n").plan("MOH")
    taken = [t for t in takings(plan, due, came, done, at("2026-05-19 12:00"), CALENDAR) if t.taken]
    assert [t.step.key for t in taken] == ["expire"]
    taken = [t for t in takings(plan, due, came, done, at("2026-05-20 12:00"), CALENDAR) if t.taken]
    assert sorted(t.step.key for t in taken) == ["4 working days after", "expire"]


def test_a_day_has_one_reminder_unless_the_plan_tells_hours() -> None:
    due, came = at("2026-05-21 15:30"), at("2026-05-10 09:00")
    first = [Done("on the day", StepKind.REMIND, at("2026-05-21 08:00"), at("2026-05-21 08:00"))]
    hours = made("reminders: [on the day, 1 working hour before]\n").plan("MOH")
    taken = takings(hours, due, came, first, at("2026-05-21 15:00"), CALENDAR)
    assert [t.step.key for t in taken] == ["1 working hour before"]
    done = [Done("1 working hour before", StepKind.REMIND, at("2026-05-20 09:00"), at("2026-05-21 08:00"))]
    days = made("reminders: [on the day]\nexpiry: never\n").plan("MOH")
    assert takings(days, due, came, done, at("2026-05-21 12:00"), CALENDAR) == []
    assert [t.taken for t in takings(days, due, came, done, at("2026-05-24 08:00"), CALENDAR)] == [True]


def test_nothing_goes_out_when_the_office_is_closed() -> None:
    plan, due = made().plan("MOH"), at("2026-05-24 15:30")
    for moment in ("2026-05-24 07:59", "2026-05-24 15:30", "2026-05-23 10:00", "2026-05-27 10:00"):
        taken = [t for t in takings(plan, due, at("2026-05-10 09:00"), [], at(moment), CALENDAR) if t.taken]
        assert all(t.step.kind is StepKind.EXPIRE for t in taken), moment


_moments = st.one_of(
    st.builds(Moment, st.integers(-6, 8), st.just("day")),
    st.builds(Moment, st.integers(-12, 20), st.just("hour")),
)


@settings(max_examples=120, deadline=None)
@given(
    moments=st.lists(_moments, min_size=1, max_size=5, unique=True),
    escalate=st.one_of(st.none(), _moments),
    due=st.integers(at("2026-05-10 00:00"), at("2026-06-10 00:00")),
    lead=st.integers(1, 20 * 24),
    gaps=st.lists(st.one_of(st.integers(-30, 90), st.sampled_from((1, 2, 3, 24))), min_size=20, max_size=60),
)
def test_no_step_twice_none_on_a_holiday_order_kept(
    moments: list[Moment], escalate: Moment | None, due: int, lead: int, gaps: list[int]
) -> None:
    """The clock goes on by leaps of up to four days and back by up to one: whatever it does, this holds."""
    steps = [Step(StepKind.REMIND, m) for m in moments]
    if escalate is not None:
        steps.append(Step(StepKind.ESCALATE, escalate))
    plan, since = Plan(tuple(steps)), due - lead * HOUR
    done: list[Done] = []
    now = since
    for gap in gaps:
        for one in takings(plan, due, since, done, now, CALENDAR):
            assert one.step.key not in {d.key for d in done}, "a step twice"
            assert one.step_us <= now
            if one.taken:
                local = CALENDAR.local(now)
                assert CALENDAR.is_working(now), f"at {local}, when nobody works"
                assert CALENDAR.is_working_day(CALENDAR.local(one.step_us).date())
                assert one.step_us >= since
                if one.step.kind is StepKind.REMIND:
                    before = [d for d in done if d.taken and d.kind is StepKind.REMIND]
                    assert all(d.step_us <= one.step_us for d in before), "out of order"
                    assert one.step.moment.unit == "hour" or all(
                        CALENDAR.local(d.at_us).date() != local.date() for d in before
                    ), "two a day"
            done.append(Done(one.step.key, one.step.kind, one.step_us, now, one.taken))
        now += gap * HOUR


@settings(max_examples=150, deadline=None)
@given(
    moment=_moments,
    due=st.integers(at("2026-05-01 00:00"), at("2026-06-20 00:00")),
    now=st.integers(at("2026-05-01 00:00"), at("2026-06-20 00:00")),
)
def test_what_is_due_is_in_reach(moment: Moment, due: int, now: int) -> None:
    for kind in (StepKind.REMIND, StepKind.EXPIRE):
        step = Step(kind, moment)
        low, high = reach(step, now, CALENDAR)
        taken = [t for t in takings(Plan((step,)), due, due - 40 * DAY, [], now, CALENDAR) if t.taken]
        assert not taken or low <= due < high
        if moment.unit == "day" and low <= due < high and CALENDAR.is_working(now):
            assert takings(Plan((step,)), due, due - 40 * DAY, [], now, CALENDAR), "in reach and not due"


def test_agencies_and_urgencies_have_words_of_their_own() -> None:
    agencies = [
        Agency(code="MOH", name_ar="الصحة", name_en="Health", domains=("moh.gov.example",)),
        Agency(code="MOI", name_ar="الداخلية", name_en="Interior", domains=("moi.gov.example",)),
        Agency(
            code="MOJ", name_ar="العدل", name_en="Justice", domains=("moj.gov.example",), mode=Mode.SHADOW
        ),
    ]
    follow = made(
        "escalation: {when: 5 working days after, to: a@pm.gov.example}\n"
        "agencies:\n"
        "  MOH: {reminders: [1 working day before], escalation: {when: 1 working day after}, expiry: never}\n"
        "  MOI: {enabled: false}\n"
        "urgencies:\n  immediate: {reminders: [when due]}\n",
        Directory(agencies),
    )
    assert [follow.follows(a) for a in agencies] == [True, False, False]
    assert [s.key for s in follow.plan("MOH").steps] == ["1 working day before", "escalate"]
    assert [str(a) for a in follow.plan("MOH").escalate_to] == ["a@pm.gov.example"]
    assert [s.key for s in follow.plan("MOH", "immediate").steps] == ["when due", "escalate"]
    assert follow.plan("MOJ").steps[0].key == "2 working days before"
    assert follow.conceals("secret") and follow.conceals("top-secret") and not follow.conceals("restricted")
    assert not made("enabled: false\n").follows(agencies[0])
    assert made("conceal_from: null\n").concealed == frozenset()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("reminders: [3 days before]\n", "reminders.0"),
        ("reminders: [999 working days before]\n", "reminders.0"),
        ("urgencies: {urgnt: {expiry: never}}\n", "did you mean urgent"),
        ("conceal_from: geheim\n", "conceal_from"),
        ("agencies: {moh: {}}\n", "agencies.moh"),
        ("agencies: {MOK: {}}\n", "no agency MOK"),
        ('digest: {at: "25:00"}\n', "digest.at"),
        ("escalation: {to: nobody}\n", "escalation.to"),
        ("agencies: {MOH: {digest: {to: x@moi.gov.example}}}\n", "may not see the letters of MOH"),
        ("reminder: []\n", "reminder"),
    ],
)
def test_a_fault_names_its_place(text: str, where: str) -> None:
    directory = Directory(
        Agency(code=code, name_ar=code, name_en=code, domains=(f"{code.lower()}.gov.example",))
        for code in ("MOH", "MOI")
    )
    with pytest.raises(ConfigFaults) as caught:
        made(text, directory)
    assert len(caught.value.faults) == 1
    assert where in str(caught.value.faults[0]), str(caught.value.faults[0])


def test_the_next_step_is_told() -> None:
    follow, due = made(), at("2026-05-24 15:30")
    ahead = upcoming(follow.plan("MOH"), due, due - 10 * DAY, [], at("2026-05-20 09:00"), CALENDAR)
    assert ahead is not None and ahead.step.key == "on the day"
    assert upcoming(follow.plan("MOH"), due, due - 10 * DAY, [], due + 60 * DAY, CALENDAR) is None


def test_the_file_is_part_of_the_version() -> None:
    other = load_policy_texts(
        {"letters.yaml": LETTERS.read_text("utf-8"), "followup.yaml": "reminders: []\n"}
    )
    plain = load_policy_texts({"letters.yaml": LETTERS.read_text("utf-8")})
    assert other.version != plain.version and "followup.yaml" in other.texts
    assert load_policy().followup.plan("MOH").steps


def test_days_of_other_zones_and_leaps_of_the_clock() -> None:
    """Kiritimati's day begins 14 hours before that of UTC; summer time begins in Amman's old rules."""
    calendar = Calendar("Pacific/Kiritimati", frozenset(range(7)), ((540, 1020),), frozenset())
    due = int(datetime(2026, 5, 21, 23, 0, tzinfo=UTC).timestamp()) * 1_000_000
    assert calendar.local(Moment(0, "day").at(due, calendar)).hour == 9
    assert calendar.local(Moment(-1, "day").at(due, calendar)).date() == date(2026, 5, 21)
    step = timedelta(microseconds=Moment(1, "day").at(due, calendar) - Moment(0, "day").at(due, calendar))
    assert step == timedelta(days=1)
