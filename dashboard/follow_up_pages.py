"""Follow-up: the board of what is late and waited for, the lists behind its numbers, what silence means.

The board counts and a list shows by the same conditions (``tracker.board``, ``tracker.waiting_list``), an
agency's people at their own two ends only. Counts are kept for some seconds; what was looked at and taken out
is in the audit. A cell of the CSV that a spreadsheet would take for a formula is made text.
"""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, cast

from fastapi import APIRouter, Form, HTTPException
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from dashboard import show
from dashboard.language import N_
from dashboard.silence import KINDS, AgencyHabits, Matter, Silence, habits, silence_of
from dashboard.visit import SignedIn, Visit, agency_choices
from tracker import audit, board, letter_page, waiting_list
from tracker.access import Role, Viewer
from tracker.board import Board, Edges, Side, What
from tracker.evidence_kinds import EvidenceKind, KindSeen, evidence_kinds
from tracker.followups import Remindable, remindable
from tracker.letter_page import LetterPage
from tracker.model import id_text, id_value
from tracker.overview import Count
from tracker.question import day_us
from tracker.silence import questions
from tracker.waiting_list import Asked, Waiting, WaitingList

router = APIRouter()

MAX_EXPORT = 20_000
NEWEST = 500  # letters of an agency by which its evidence is measured
SENT_NEWEST = 3_000  # of an agency's own letters, by which it measures others
MEASURED_DAYS = 365
KINDS_SECONDS = 600.0

NAMES: dict[What, str] = {
    What.LATE: N_("Late"),
    What.TODAY: N_("Due today"),
    What.WEEK: N_("Due within 7 days"),
    What.ANSWER: N_("Waiting for an answer"),
    What.REGISTRATION: N_("Waiting for registration"),
    What.READ: N_("Waiting for reading"),
    What.UNDELIVERED: N_("Delayed on the way"),
    What.DOUBT: N_("In doubt"),
}
MEANINGS: dict[What, str] = {
    What.LATE: N_("The day by which an answer was due has passed."),
    What.TODAY: N_("An answer is due before the day is over."),
    What.WEEK: N_("An answer is due within seven days, today not counted."),
    What.ANSWER: N_("All letters that have a due date and no answer yet."),
    What.REGISTRATION: N_(
        "The agency's server has it, and nobody there has taken it in. Of the last 90 days."
    ),
    What.READ: N_("The agency's server has it, and nothing says that it was read. Of the last 90 days."),
    What.UNDELIVERED: N_("Not taken by the agency's server for hours; the author was told."),
    What.DOUBT: N_("Handed over, but the server's answer was never read."),
}
TONES = {
    What.LATE: "stop",
    What.TODAY: "warn",
    What.WEEK: "soft",
    What.ANSWER: "soft",
    What.REGISTRATION: "soft",
    What.READ: "soft",
    What.UNDELIVERED: "warn",
    What.DOUBT: "warn",
}


@dataclass(slots=True)
class BoardBook:
    """Boards and measurements kept for some time: many look, and the numbers are the same."""

    seconds: float = 10.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: dict[Any, tuple[float, Any]] = field(default_factory=dict)

    def get(self, key: Any, seconds: float, make: Callable[[], Any]) -> Any:
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and now - kept[0] < seconds:
            return kept[1]
        made = make()
        with self._lock:
            if len(self._kept) > 2_000:
                self._kept.clear()
            self._kept[key] = (now, made)
        return made


def _book(visit: Visit) -> BoardBook:
    return cast(BoardBook, visit.request.app.state.boards)


def edges(visit: Visit) -> Edges:
    """The times of the board, in the zone of the settings."""
    zone = visit.desk.settings.zone
    today = visit.dates.local(visit.now_us).date()
    return Edges(
        now_us=visit.now_us,
        midnight_us=day_us(today + timedelta(days=1), zone),
        week_us=day_us(today + timedelta(days=8), zone),
    )


def _counted(visit: Visit, side: Side) -> Board:
    viewer = visit.viewer

    def count() -> Board:
        codes = [agency.code for agency in visit.desk.agencies()]
        with visit.desk.engine.connect() as conn:
            return board.board(conn, viewer, side, codes, edges(visit))

    key = ("board", viewer.agency, viewer.sees_all, side)
    return cast(Board, _book(visit).get(key, _book(visit).seconds, count))


def may_see_habits(viewer: Viewer) -> bool:
    """What silence means: for compliance staff and administrators."""
    return viewer.sees_all or (viewer.role is Role.COMPLIANCE and viewer.agency is not None)


def _sides(viewer: Viewer) -> tuple[Side, ...]:
    return (Side.IN,) if viewer.sees_all else (Side.IN, Side.OUT)


def _words(visit: Visit) -> dict[str, Any]:
    return {
        "names": {what: visit.tongue.say(text) for what, text in NAMES.items()},
        "meanings": {what: visit.tongue.say(text) for what, text in MEANINGS.items()},
        "tones": TONES,
        "What": What,
        "Side": Side,
        "habits_page": may_see_habits(visit.viewer),
        "search_line": "",
    }


def _side(visit: Visit, word: str) -> Side:
    sides = _sides(visit.viewer)
    return Side(word) if word in sides else sides[0]


@router.get("/follow-up")
def follow_up(visit: SignedIn, side: str = "") -> Response:
    if visit.viewer.agency is None and not visit.viewer.sees_all:
        visit.record(audit.Action.DENIED, "follow-up")
        raise HTTPException(403)
    shown = _side(visit, side)
    counted = _counted(visit, shown)
    visit.record(audit.Action.VIEW_FOLLOW_UP, "board", side=shown.value)
    rows = [
        (code, visit.agency_name(code), counts)
        for code, counts in counted.rows.items()
        if any(count.value for count in counts.values()) or code == visit.viewer.agency
    ]
    rows.sort(key=lambda row: (-row[2][What.LATE].value, -row[2][What.TODAY].value, row[1]))
    return visit.page(
        "follow_up.html",
        side=shown,
        sides=_sides(visit.viewer),
        rows=rows,
        quiet=len(counted.rows) - len(rows),
        totals={what: counted.total(what) for what in What},
        **_words(visit),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAsked:
    """A list as its address asks for it."""

    asked: Asked
    fields: Mapping[str, str]
    after: tuple[int, int] | None

    @classmethod
    def of(cls, visit: Visit) -> ListAsked:
        """Raises HTTPException 400 for a list that there is not."""
        given = visit.request.query_params
        try:
            what = What(given.get("what", What.LATE.value))
            after = _cursor(given.get("cursor", ""))
        except ValueError:
            raise HTTPException(400) from None
        side = _side(visit, given.get("side", ""))
        words = {
            key: value
            for key in ("agency", "from", "urgency")
            if (value := given.get(key, "").replace("\x00", "")[:60].strip())
        }
        asked = Asked(
            what=what,
            side=side,
            agency=words.get("agency"),
            sender=words.get("from"),
            urgency=words.get("urgency"),
        )
        fields = {"what": what.value, **({} if visit.viewer.sees_all else {"side": side.value}), **words}
        return cls(asked=asked, fields=fields, after=after)


def _cursor(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    key, _, row = text.partition(".")
    number = int(key, 16)
    if not 0 <= number < 1 << 62 or len(key) > 16:
        raise ValueError("no cursor")
    return number, id_value(row)


def _cursor_text(cursor: tuple[int, int] | None) -> str:
    return "" if cursor is None else f"{cursor[0]:x}.{id_text(cursor[1])}"


@router.get("/follow-up/list")
def listed(visit: SignedIn) -> Response:
    wanted = ListAsked.of(visit)
    with visit.desk.engine.connect() as conn:
        found: WaitingList = waiting_list.waiting(
            conn, visit.viewer, wanted.asked, edges(visit), after=wanted.after
        )
    visit.record(
        audit.Action.VIEW_FOLLOW_UP,
        wanted.asked.what.value,
        fields=dict(wanted.fields),
        hits=len(found.lines),
        more=wanted.after is not None,
    )
    return visit.page(
        "follow_up_list.html",
        asked=wanted.asked,
        fields=wanted.fields,
        lines=found.lines,
        next=_cursor_text(found.next),
        first=wanted.after is None,
        agencies=agency_choices(visit),
        standing=lambda line: standing(line, visit),
        total=_total(visit, wanted.asked),
        sides=_sides(visit.viewer),
        **_words(visit),
    )


def _total(visit: Visit, asked: Asked) -> Count | None:
    """The number on the board for this list; None when it is narrowed by what the board does not count."""
    if asked.urgency is not None or asked.sender is not None:
        return None
    counted = _counted(visit, asked.side)
    if asked.agency is None:
        return counted.total(asked.what)
    row = counted.rows.get(asked.agency)
    return row[asked.what] if row is not None else Count(value=0)


_STANDS = (
    (1, N_("on its way")),
    (2, N_("with the agency's server")),
    (3, N_("in the mailbox")),
    (4, N_("fetched by the client")),
    (5, N_("read, not registered")),
    (6, N_("registered, not answered")),
    (7, N_("opened again")),
)


def standing(line: Waiting, visit: Visit) -> str:
    """How far the evidence goes, in a few words."""
    return visit.tongue.say(dict(_STANDS).get(int(line.grade), N_("on its way")))


@router.get("/follow-up/list.csv")
def exported(visit: SignedIn) -> Response:
    """The whole list as CSV in UTF-8 with the mark that spreadsheets look for."""
    wanted = ListAsked.of(visit)
    visit.record(audit.Action.EXPORT, f"follow-up {wanted.asked.what.value}", fields=dict(wanted.fields))
    name = f"follow-up-{wanted.asked.what.value}-{visit.dates.local(visit.now_us):%Y-%m-%d}.csv"
    return StreamingResponse(
        _csv(visit, wanted.asked),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


_COLUMNS = (
    N_("Number"),
    N_("From agency"),
    N_("To agency"),
    N_("Recipient"),
    N_("Subject"),
    N_("Classification"),
    N_("Urgency"),
    N_("Date of the letter"),
    N_("Due"),
    N_("Late"),
    N_("Where it stands"),
    N_("Grade"),
)


def _csv(visit: Visit, asked: Asked) -> Iterator[str]:
    say, dates = visit.tongue.say, visit.dates

    def line(cells: list[str]) -> str:
        out = io.StringIO()
        csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(map(defused, cells))
        return out.getvalue()

    yield "\ufeff" + line([say(name) for name in _COLUMNS])
    times = edges(visit)
    with visit.desk.engine.connect() as conn:
        for one in waiting_list.all_waiting(conn, visit.viewer, asked, times, MAX_EXPORT):
            late = one.due_us is not None and one.due_us < times.now_us
            yield line(
                [
                    one.number or id_text(one.letter_id),
                    visit.agency_name(one.sender) or one.author,
                    visit.agency_name(one.agency),
                    one.address,
                    one.subject,
                    show.classification(one.classification, visit.tongue),
                    show.urgency(one.urgency, visit.tongue),
                    f"{dates.local(one.accepted_us):%Y-%m-%d %H:%M}",
                    f"{dates.local(one.due_us):%Y-%m-%d %H:%M}" if one.due_us is not None else "",
                    dates.overdue(one.due_us, times.now_us) if late and one.due_us is not None else "",
                    standing(one, visit),
                    f"E{int(one.grade)}",
                ]
            )


def defused(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, and without controls."""
    plain = show.plain(text.replace("\r", " ").replace("\n", " ").replace("\t", " "))
    return (
        f"'{plain}" if plain.lstrip()[:1] in ("=", "+", "-", "@", "|", "%", "＝", "＋", "－", "＠") else plain
    )


# Reminding by hand.


def may_remind(viewer: Viewer, sending_agency: str | None) -> bool:
    """Registry and compliance of the agency that waits, and compliance of the whole."""
    if viewer.agency is None:
        return viewer.role is Role.COMPLIANCE
    return viewer.agency == sending_agency and viewer.role in (Role.REGISTRY, Role.COMPLIANCE)


def reminders_of(visit: Visit, page: LetterPage) -> list[Remindable]:
    """The recipients of a letter whom this viewer may have reminded."""
    if visit.desk.remind is None or not may_remind(visit.viewer, page.agency):
        return []
    with visit.desk.engine.connect() as conn:
        return remindable(conn, page.id)


def _letter_of(visit: Visit, ref: str) -> LetterPage:
    with visit.desk.engine.connect() as conn:
        letter_id = letter_page.find(conn, visit.viewer, ref)
        page = letter_page.read(conn, visit.viewer, letter_id) if letter_id is not None else None
    if page is None:
        raise visit.not_found(f"letter {ref[:100]}")
    if visit.desk.remind is None or not may_remind(visit.viewer, page.agency):
        visit.record(audit.Action.DENIED, f"remind of {id_text(page.id)}")
        raise HTTPException(403)
    return page


@router.get("/follow-up/remind")
def remind_page(visit: SignedIn, letter: str = "") -> Response:
    """Who is about to be reminded; changes nothing."""
    page = _letter_of(visit, letter)
    today = visit.dates.local(visit.now_us).date().isoformat()
    rows = reminders_of(visit, page)
    return visit.page(
        "follow_up_remind.html",
        page=page,
        rows=[row for row in rows if today not in row.asked],
        done=[row for row in rows if today in row.asked],
        **_words(visit),
    )


@router.post("/follow-up/remind")
def remind(visit: SignedIn, letter: Annotated[str, Form()] = "") -> Response:
    page = _letter_of(visit, letter)
    assert visit.desk.remind is not None
    account = visit.account
    to = visit.desk.remind(page.id, account.display or account.name)
    visit.record(audit.Action.REMINDED, id_text(page.id), number=page.number, to=list(to))
    return RedirectResponse(f"/letters/{id_text(page.id)}", 303)


# What silence means.


@router.get("/follow-up/silence")
def silence(visit: SignedIn) -> Response:
    viewer = visit.viewer
    if not may_see_habits(viewer):
        visit.record(audit.Action.DENIED, "silence")
        raise HTTPException(403)
    visit.record(audit.Action.VIEW_FOLLOW_UP, "silence")
    rows = [one for one in measured(visit).values() if one.of]
    rows.sort(key=lambda one: visit.agency_name(one.agency))
    return visit.page(
        "follow_up_silence.html",
        rows=rows,
        kinds=list(EvidenceKind),
        kind_words=KINDS,
        meaning=lambda row: meaning(row, visit),
        newest=NEWEST if viewer.sees_all else SENT_NEWEST,
        **_words(visit),
    )


def meaning(row: AgencyHabits, visit: Visit) -> tuple[str, ...]:
    """What silence says at an agency, a sentence for each matter."""
    return tuple(dict.fromkeys(row.told(matter, visit.tongue) for matter in Matter))


def measured(visit: Visit) -> dict[str, AgencyHabits]:
    """What each agency's servers and clients really give, of its newest letters (of ours, for an agency)."""
    viewer = visit.viewer
    since = visit.now_us - MEASURED_DAYS * board.DAY_US
    book = _book(visit)
    if viewer.sees_all:
        out: dict[str, AgencyHabits] = {}
        for agency in visit.desk.agencies():

            def of_agency(code: str = agency.code) -> list[KindSeen]:
                with visit.desk.engine.connect() as conn:
                    return evidence_kinds(conn, since, code, newest=NEWEST)

            out |= habits(book.get(("kinds", agency.code), KINDS_SECONDS, of_agency))
        return out

    def of_sender() -> list[KindSeen]:
        with visit.desk.engine.connect() as conn:
            return evidence_kinds(conn, since, sender=viewer.agency, newest=SENT_NEWEST)

    return habits(book.get(("kinds of", viewer.agency), KINDS_SECONDS, of_sender))


def habits_of(visit: Visit, codes: set[str]) -> dict[str, AgencyHabits]:
    """The habits of a letter's receiving agencies, for those who may see them."""
    viewer = visit.viewer
    if not may_see_habits(viewer):
        return {}
    if not viewer.sees_all:
        return {code: one for code, one in measured(visit).items() if code in codes}
    since = visit.now_us - MEASURED_DAYS * board.DAY_US
    out: dict[str, AgencyHabits] = {}
    for code in sorted(codes)[:10]:

        def of_agency(code: str = code) -> list[KindSeen]:
            with visit.desk.engine.connect() as conn:
                return evidence_kinds(conn, since, code, newest=NEWEST)

        out |= habits(_book(visit).get(("kinds", code), KINDS_SECONDS, of_agency))
    return out


def silences(visit: Visit, page: LetterPage) -> dict[int, Silence | None]:
    """What is not known of each recipient of a letter, by delivery."""
    with visit.desk.engine.connect() as conn:
        asked = questions(conn, [row.id for row in page.recipients])
    known = habits_of(visit, {row.agency for row in page.recipients if row.agency})
    return {
        row.id: silence_of(row, asked.get(row.id), known.get(row.agency or ""), visit.tongue, visit.dates)
        for row in page.recipients
    }
