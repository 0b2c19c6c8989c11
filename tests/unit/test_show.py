"""Rendering of values: text of others, dates, plural forms, the ladder, the catalogue."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.extract import extract_from_dir
from hypothesis import given
from hypothesis import strategies as st

from dashboard import show
from dashboard.ladder import Mark, ladder, standing
from dashboard.language import tongue
from dashboard.original import ends_within, header_text, without_bcc
from dashboard.throttle import Throttle
from dashboard.visit import safe_path
from tracker.letter_page import EvidenceLine, RecipientRow
from tracker.states import Event, Grade, Outcome, State

AR, EN = tongue("ar"), tongue("en")
AMMAN = ZoneInfo("Asia/Amman")
# Sunday 22 November 2026, 11:42:07.406 in Amman
AT = 1_795_336_927_406_000
DAY = 86_400_000_000


def test_controls_that_reorder_are_plain_to_see() -> None:
    for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x00, 0x1B, 0x85):
        shown = str(show.visible(f"a{chr(code)}b"))
        assert chr(code) not in shown
        assert f"U+{code:04X}" in shown


def test_text_of_others_is_escaped() -> None:
    assert str(show.visible("<b>&\"'")) == "&lt;b&gt;&amp;&#34;&#39;"


@given(st.text())
def test_visible_never_lets_markup_or_controls_through(text: str) -> None:
    shown = re.sub(r'<span class="control">⟨U\+[0-9A-F]+⟩</span>', "", str(show.visible(text)))
    assert "<" not in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", show.plain(text))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("تقرير.pdf", ("تقرير", "pdf")),
        ("../../etc/passwd", ("passwd", "")),
        ("C:\\a\\b.docx", ("b", "docx")),
        (".profile", (".profile", "")),
        ("", ("", "")),
        ("invoice.pdf.exe", ("invoice.pdf", "exe")),
    ],
)
def test_a_name_and_its_extension_stand_apart(name: str, parts: tuple[str, str]) -> None:
    assert show.split_name(name) == parts


def test_dates_in_both_calendars() -> None:
    arabic, english = show.Dates(AR, AMMAN), show.Dates(EN, AMMAN)
    assert arabic.day(AT) == "الأحد 22 تشرين الثاني 2026"
    assert arabic.hijri(AT) == "12 جمادى الآخرة 1448"
    assert english.day(AT) == "Sunday 22 November 2026"
    assert english.hijri(AT) == "12 Jumada II 1448 AH"
    assert arabic.exact(AT) == "11:42:07.406"
    assert arabic.listed(AT, AT + 60_000_000) == "11:42"
    assert arabic.listed(AT - DAY, AT) == "أمس 11:42"
    assert arabic.listed(AT - 300 * DAY, AT) == "26 كانون الثاني"
    assert arabic.listed(AT - 400 * DAY, AT) == "18 تشرين الأول 2025"


def test_months_are_the_levantine_ones() -> None:
    arabic = show.Dates(AR, AMMAN)
    months = [arabic.plain_day(AT + n * 30 * DAY).split(" ", 1)[1].rsplit(" ", 1)[0] for n in range(12)]
    assert {"كانون الأول", "شباط", "آذار", "نيسان", "أيار", "حزيران", "تموز", "آب", "أيلول"} <= set(months)


def test_a_time_beyond_the_calendar_has_no_hijri_date() -> None:
    assert show.Dates(AR, AMMAN).hijri(0) != ""
    assert show.Dates(AR, AMMAN).hijri(-2_000_000_000_000_000) == ""


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (0, "منذ اليوم"),
        (1, "منذ يوم"),
        (2, "منذ يومين"),
        (3, "منذ 3 أيام"),
        (10, "منذ 10 أيام"),
        (11, "منذ 11 يوماً"),
        (99, "منذ 99 يوماً"),
        (100, "منذ 100 يوم"),
        (102, "منذ 102 يوم"),
        (103, "منذ 103 أيام"),
        (111, "منذ 111 يوماً"),
    ],
)
def test_arabic_plural_forms_are_those_of_cldr(days: int, told: str) -> None:
    assert AR.count("for %(num)s day", "for %(num)s days", days) == told


def test_arabic_plural_forms_agree_with_cldr_for_every_number() -> None:
    from babel import Locale

    order = ["zero", "one", "two", "few", "many", "other"]
    rule = Locale("ar").plural_form
    formula = AR.catalogue.plural  # type: ignore[attr-defined]
    assert [order[formula(n)] for n in range(1000)] == [rule(n) for n in range(1000)]


def test_english_plural_forms() -> None:
    assert EN.count("for %(num)s day", "for %(num)s days", 1) == "for 1 day"
    assert EN.count("for %(num)s day", "for %(num)s days", 2) == "for 2 days"


def _texts() -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    keywords = {
        "N_": None,
        "_": None,
        "gettext": None,
        "ngettext": (1, 2),
        "say": None,
        "count": (1, 2),
    }
    house = Path(show.__file__).parent
    for _, _, message, _, _ in extract_from_dir(
        str(house), [("**.py", "python"), ("templates/**.html", "jinja2")], {"**": {}}, keywords=keywords
    ):
        found.add((message,) if isinstance(message, str) else tuple(message[:2]))
    return found


def test_every_text_is_in_the_catalogue_with_the_same_places_to_fill() -> None:
    names = re.compile(r"%\((\w+)\)s")
    catalogue = AR.catalogue._catalog  # type: ignore[attr-defined]
    texts = _texts()
    assert len(texts) > 150
    for text in texts:
        if len(text) == 1:
            told = catalogue.get(text[0])
            assert told, f"no Arabic for {text[0]!r}"
            assert set(names.findall(told)) == set(names.findall(text[0])), text[0]
        else:
            forms = [catalogue.get((text[0], form)) for form in range(6)]
            assert all(forms[1:]), f"no Arabic for {text!r}"
    known = {key if isinstance(key, str) else key[0] for key in catalogue if key}
    assert known <= {text[0] for text in texts}, "texts in the catalogue that nothing uses"


def _row(
    *events: Event, state: State = State.SENT, outcome: Outcome = Outcome.OPEN, **more: object
) -> RecipientRow:
    grades = {Event.RELAYED: 2, Event.DELIVERED: 3, Event.FETCHED: 4, Event.READ: 5, Event.REGISTERED: 6}
    grades[Event.PROCESSED] = 7
    values: dict[str, object] = {
        "id": 1,
        "agency": "MOH",
        "address": "diwan@moh.gov.example",
        "bcc": False,
        "hop": "MOH",
        "state": state,
        "grade": Grade(max([1, *(grades.get(event, 0) for event in events)])),
        "outcome": outcome,
        "late": False,
        "next_us": AT,
        "tries": 1,
        "last_reply": None,
        "changed_us": AT,
        "events": tuple(
            EvidenceLine(
                id=n,
                delivery_id=1,
                event=event,
                grade=Grade.NONE,
                at_us=AT,
                noted_us=AT,
                source="smtp",
                reporter="",
                detail={},
                ledger_index=n,
            )
            for n, event in enumerate(events)
        ),
        "attempts": (),
    }
    return RecipientRow(**(values | more))  # type: ignore[arg-type]


def _marks(row: RecipientRow) -> str:
    letters = {
        Mark.DONE: "#",
        Mark.NONE: ".",
        Mark.HINT: "?",
        Mark.LATE: "!",
        Mark.FAILED: "x",
        Mark.HELD: "~",
        Mark.CLOSED: "_",
    }
    return "".join(letters[step.mark] for step in ladder(row, AR))


@pytest.mark.parametrize(
    ("row", "marks"),
    [
        (_row(state=State.QUEUED), "#......"),
        (_row(Event.RELAYED), "##....."),
        (_row(Event.DELIVERED), "###...."),  # the mailbox cannot be without the relay
        (_row(Event.RELAYED, Event.DELIVERED, Event.SEEN), "###?..."),
        (_row(Event.RELAYED, Event.READ), "#####.."),  # what was read was fetched
        (_row(Event.RELAYED, Event.REGISTERED), "###..#."),  # registering proves no reading
        (_row(Event.RELAYED, Event.PROCESSED), "###...#"),
        (_row(Event.RELAYED, Event.READ, Event.PROCESSED), "#####.#"),
        (_row(Event.FAILED, state=State.FAILED, outcome=Outcome.FAILED), "#x_____"),
        (_row(Event.RELAYED, Event.FAILED, state=State.FAILED, outcome=Outcome.FAILED), "##x____"),
        (_row(Event.IN_DOUBT, state=State.QUEUED), "#~....."),
        (_row(Event.HELD, state=State.HELD), "#~....."),
        (_row(Event.LATE, state=State.QUEUED, late=True), "#!....."),
        (_row(Event.DELIVERED, late=True), "###..!."),
        (_row(Event.DELIVERED, Event.REGISTERED, late=True), "###..#!"),
        (_row(state=State.REFUSED, outcome=Outcome.FAILED, grade=Grade.NONE), "x______"),
        (_row(Event.DELIVERED, Event.RETURNED, outcome=Outcome.RETURNED, grade=Grade.REGISTERED), "###..x_"),
    ],
)
def test_the_ladder_claims_nothing_above_its_evidence(row: RecipientRow, marks: str) -> None:
    assert _marks(row) == marks


def test_the_sentence_beside_the_ladder() -> None:
    dates = show.Dates(AR, AMMAN)
    assert standing(_row(Event.DELIVERED), AR, dates, AT + 2 * DAY).text == (
        "في الصندوق · لا يوجد تأكيد منذ يومين"
    )
    failed = _row(
        Event.FAILED,
        state=State.FAILED,
        outcome=Outcome.FAILED,
        last_reply="550 5.1.1 <x@y>: Recipient address rejected",
    )
    assert standing(failed, AR, dates, AT).text == "صندوق غير موجود"


@pytest.mark.parametrize(
    ("modes", "told", "beside"),
    [
        (("manual-action",), "proven: shown by an act of the user", "shown by the user"),
        (
            ("automatic-action",),
            "proven: shown, as the program says without an act of the user",
            "shown automatically",
        ),
        (("automatic-action", "manual-action"), "proven: shown by an act of the user", "shown by the user"),
        ((None,), "proven", ""),
    ],
)
def test_how_it_was_read_is_said(modes: tuple[str | None, ...], told: str, beside: str) -> None:
    read = _row(*[Event.READ for _ in modes])
    events = tuple(
        replace(line, source="mdn", detail={"type": "displayed", "mode": mode})
        for line, mode in zip(read.events, modes, strict=True)
    )
    row = replace(read, events=events)
    assert ladder(row, EN)[4].told == told
    text = standing(row, EN, show.Dates(EN, AMMAN), AT).text
    assert text == "Read, not yet registered" + (f" · {beside}" if beside else "")


@pytest.mark.parametrize(
    ("detail", "sentence"),
    [
        ({"type": "deleted"}, "Deleted at d@h, perhaps unread; no reading is proven"),
        ({"type": "processed"}, "Dealt with by a rule of d@h without being shown; no reading is proven"),
        (
            {"type": "dispatched"},
            "Sent on or printed by the client of d@h without being shown; no reading is proven",
        ),
        ({"type": "denied"}, "The reader at d@h does not say whether it was read"),
        ({"type": "failed"}, "The client of d@h could not make a read receipt"),
        (
            {"type": "displayed", "modifiers": ["error"]},
            "The client of d@h could not show it without an error",
        ),
        ({"type": "displayed", "in_words": True}, "Words from d@h say that it was read: a hint"),
        ({"type": "deleted", "refusal": "full"}, "A filter at d@h says that it did not take it: full"),
    ],
)
def test_what_proves_no_reading_is_told_as_that(detail: dict[str, object], sentence: str) -> None:
    from dashboard.desk import AgencyName
    from dashboard.timeline import _sentence

    def nobody(code: str) -> AgencyName:
        return AgencyName(code=code, ar=code, en=code)

    row = _row(Event.AUTO_REPLY, address="d@h")
    line = replace(row.events[0], source="mdn", detail=detail)
    for language in (EN, AR):
        told = _sentence(line, row, None, language, nobody)  # type: ignore[arg-type]
        text = re.sub(r"<[^>]+>", "", str(told))
        assert (sentence in text) == (language is EN) and "d@h" in text


def test_every_event_has_its_sentence() -> None:
    from dashboard.timeline import _SENTENCES

    assert set(_SENTENCES) == set(Event)


def test_bcc_is_taken_out_and_nothing_else() -> None:
    octets = b"To: a@b\r\nBcc: x@y,\r\n z@y\r\nSubject: Bcc: no\r\nresent-bcc : q@r\r\n\r\nBcc: body\r\n"
    assert without_bcc(octets) == b"To: a@b\r\nSubject: Bcc: no\r\n\r\nBcc: body\r\n"
    assert without_bcc(b"Bcc: x@y\r\n\r\nbody") == b"\r\nbody"
    assert without_bcc(b"\r\nBcc: body") == b"\r\nBcc: body"
    assert without_bcc(b"Bcc: x@y") == b""
    assert not ends_within(b"To: a@b\r\nX: ", 5000)
    assert ends_within(b"To: a@b\r\n\r\nbody", 5000)


def test_a_header_is_text_whatever_its_octets() -> None:
    assert header_text("Subject: كتاب\r\n\r\nbody".encode()) == "Subject: كتاب\n"
    assert "\ufffd" in header_text(b"Subject: \xff\r\n\r\n")


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:1", "/a\nb", "", None]
)
def test_no_redirect_leaves_this_host(path: str | None) -> None:
    assert safe_path(path) == "/letters"


def test_a_path_on_this_host_is_kept() -> None:
    assert safe_path("/letters?q=%D9%85&is=late") == "/letters?q=%D9%85&is=late"


def test_guessing_is_slowed_down_and_time_heals() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    for _ in range(5):
        assert throttle.wait("rana", "192.0.2.1") == 0
        throttle.failed("rana", "192.0.2.1")
    first = throttle.wait("Rana ", "192.0.2.1")
    assert first > 0
    assert throttle.wait("rana", "192.0.2.2") == 0
    now[0] += first
    throttle.failed("rana", "192.0.2.1")
    assert throttle.wait("rana", "192.0.2.1") > first
    now[0] += 7200
    assert throttle.wait("rana", "192.0.2.1") == 0


def test_an_office_that_tries_many_names_is_slowed_down_too() -> None:
    throttle = Throttle(lambda: 0.0)
    for n in range(40):
        throttle.failed(f"name{n}", "192.0.2.9")
    assert throttle.wait("another", "192.0.2.9") > 0
