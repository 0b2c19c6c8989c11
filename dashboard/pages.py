"""The pages of the first floor: letters, one letter, its header and original.

Each look is written into the audit before it is shown, and whatever a viewer may not see is
answered like what is not there. Pages only read; ``dashboard/live.py`` shows the same parts again
when something changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from fastapi import APIRouter, HTTPException
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from dashboard import ladder, register_pages, roll, timeline
from dashboard.follow_up_pages import reminders_of, silences
from dashboard.original import HEADER_LIMIT, ends_within, header_text, without_bcc
from dashboard.sections import may_see_policy
from dashboard.visit import SignedIn, Visit, agency_choices
from tracker import audit, holds, integrity, letter_page, overview, queries, search
from tracker.access import End, Viewer
from tracker.holds import Act, HoldState
from tracker.letter_page import LetterPage, SubmissionView
from tracker.model import id_text, id_value
from tracker.queries import LetterList

router = APIRouter()

FILTERS = ("to", "from", "is", "state", "grade", "after", "before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as it stands in the address: the line, the fields of the form, the page."""

    line: str
    fields: Mapping[str, str]
    query: search.Query
    cursor: int | None

    @classmethod
    def of(cls, visit: Visit) -> Asked:
        given = visit.request.query_params
        line = given.get("q", "").replace("\x00", "")[: search.MAX_TEXT].strip()
        fields = {
            key: value for key in FILTERS if (value := given.get(key, "").replace("\x00", "")[:60].strip())
        }
        tokens = [f'{key}:"{value}"' for key, value in fields.items() if '"' not in value]
        folded = [
            (agency.code, search.fold(f"{agency.ar}"), search.fold(agency.en))
            for agency in visit.desk.agencies()
        ]

        def agencies(written: str) -> list[str]:
            exact = [code for code, _, _ in folded if code == written.upper()]
            plain = search.fold(written)
            named = [code for code, *names in folded if plain and any(plain in name for name in names)]
            return exact or named or list(search.code_only(written))

        try:
            cursor = id_value(given["cursor"]) if given.get("cursor") else None
        except ValueError:
            cursor = None
        query = search.parse(" ".join([*tokens, line]), agencies)
        return cls(line=line, fields=fields, query=query, cursor=cursor)

    @property
    def anything(self) -> bool:
        return bool(self.line or self.fields)


@dataclass(slots=True)
class OverviewBook:
    """The counts of each agency, kept for some seconds: many people look, the numbers are the same."""

    seconds: float = 10.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: dict[tuple[str | None, bool], tuple[float, overview.Overview]] = field(default_factory=dict)

    def get(self, visit: Visit) -> overview.Overview:
        viewer: Viewer = visit.viewer
        key = (viewer.agency, viewer.sees_all)
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and now - kept[0] < self.seconds:
            return kept[1]
        with visit.desk.engine.connect() as conn:
            counted = overview.overview(conn, viewer, zone=visit.desk.settings.zone)
        with self._lock:
            self._kept[key] = (now, counted)
        return counted


def find_letters(visit: Visit, asked: Asked) -> LetterList:
    with visit.desk.engine.connect() as conn:
        return queries.letters(
            conn, visit.viewer, asked.query, zone=visit.desk.settings.zone, before_id=asked.cursor
        )


def list_part(visit: Visit, asked: Asked, found: LetterList | None = None) -> str:
    """The part of the list page that changes by itself."""
    counts = cast(OverviewBook, visit.request.app.state.overviews).get(visit)
    listed = find_letters(visit, asked) if found is None else found
    parameters = {key: value for key, value in (("q", asked.line), *asked.fields.items()) if value}
    return visit.html(
        "letters_part.html",
        counts=counts,
        listed=listed,
        asked=asked,
        parameters=parameters,
        glances={letter.id: ladder.glance(letter.recipients, visit.tongue) for letter in listed.letters},
    )


def version_of(part: str) -> str:
    """A short name for exactly this text of a part."""
    return hashlib.sha256(part.encode()).hexdigest()[:16]


@router.get("/")
def home(visit: SignedIn) -> Response:
    return RedirectResponse("/letters", 303)


@router.get("/letters")
def letters(visit: SignedIn) -> Response:
    asked = Asked.of(visit)
    found = find_letters(visit, asked)
    action = audit.Action.SEARCH if asked.anything else audit.Action.LIST
    visit.record(
        action, asked.line, fields=dict(asked.fields), hits=len(found.letters), more=asked.cursor is not None
    )
    part = list_part(visit, asked, found)
    query = visit.request.url.query
    live = "/letters/live" + (f"?{query}" if query else "") if asked.cursor is None else None
    return visit.page(
        "letters.html",
        part=part,
        live=live,
        version=version_of(part),
        asked=asked,
        agencies=agency_choices(visit),
        search_line=asked.line,
    )


def letter_part(visit: Visit, letter_id: int, *, full_check: bool = False) -> tuple[str, LetterPage] | None:
    """The part of a letter's page that changes by itself, or None."""
    with visit.desk.engine.connect() as conn:
        page = letter_page.read(conn, visit.viewer, letter_id)
        if page is None:
            return None
        large = 1 << 62 if full_check else integrity.LARGE
        held = holds.of_letter(conn, visit.viewer, letter_id)
        shown = {line.id for line in page.events}
        checked = integrity.check(conn, letter_id, visit.desk.open_content, only=shown, large=large)
    html = visit.html(
        "letter_part.html",
        page=page,
        checked=checked,
        attachments=_attachments(page),
        sent=page.submissions[0] if page.submissions else None,
        rows=[
            (
                row,
                ladder.ladder(row, visit.tongue),
                ladder.standing(row, visit.tongue, visit.dates, visit.now_us),
            )
            for row in roll.worst_first(page.recipients)
        ],
        tally=roll.counted(page.recipients, visit.tongue),
        opened=roll.OPEN if len(page.recipients) > roll.FEW else roll.FEW,
        silent=silences(visit, page),
        reminds=reminders_of(visit, page),
        newest=timeline.NEWEST,
        entries=timeline.timeline(page, visit.tongue, visit.dates, visit.desk.name),
        tries=timeline.tries(page.recipients, visit.tongue),
        End=End,
        held=held,
        HoldState=HoldState,
        HoldAct=Act,
        sees_policy=visit.desk.policy is not None and may_see_policy(visit.viewer),
        register=register_pages.of_letter(visit, page),
    )
    return html, page


def _attachments(page: LetterPage) -> list[letter_page.Attachment]:
    """Those of the first transaction; the others carry the same letter (promise 1)."""
    return list(page.submissions[0].attachments) if page.submissions else []


def find_letter(visit: Visit, ref: str) -> int:
    """The id behind a number or id in the address; raises 404, recorded, for foreign eyes too."""
    with visit.desk.engine.connect() as conn:
        letter_id = letter_page.find(conn, visit.viewer, ref)
    if letter_id is None:
        raise visit.not_found(f"letter {ref[:100]}")
    return letter_id


@router.get("/letters/{ref}/header")
def header(visit: SignedIn, ref: str) -> Response:
    page, sent = _content_of(visit, ref)
    visit.record(audit.Action.VIEW_HEADERS, id_text(page.id), number=page.number)
    with _opened(visit, sent) as content:
        head = _beginning(content, page.end)
    return visit.page("header.html", page=page, text=header_text(head))


@router.get("/letters/{ref}/original.eml")
def original(visit: SignedIn, ref: str) -> Response:
    """The archived octets; for a receiving agency without the Bcc field, which is not theirs to read."""
    page, sent = _content_of(visit, ref)
    visit.record(audit.Action.DOWNLOAD_ORIGINAL, id_text(page.id), number=page.number, end=page.end.value)
    name = (page.number or id_text(page.id)).replace("/", "-")
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in name)
    opened = _opened(visit, sent)
    with contextlib.ExitStack() as stack:
        content = stack.enter_context(opened)
        first = _beginning(content, page.end)
        stack.pop_all()  # open until the last octet is out

    def octets() -> Iterator[bytes]:
        with opened as content:
            yield first
            yield from itertools.islice(content.chunks(HEADER_LIMIT), 1, None)

    return StreamingResponse(
        octets(),
        media_type="message/rfc822",
        headers={"Content-Disposition": f'attachment; filename="{safe}.eml"'},
    )


def _beginning(content: integrity.Content, end: End) -> bytes:
    """The first octets with the header, as this end may read it."""
    first = next(iter(content.chunks(HEADER_LIMIT)), b"")
    if end is End.SENDER:
        return first
    if not ends_within(first, content.size):
        raise HTTPException(404)
    return without_bcc(first)


class _opened:
    """The archived content of a submission, closed at the end; 404 when it was disposed of."""

    def __init__(self, visit: Visit, sent: SubmissionView) -> None:
        try:
            self.content = visit.desk.open_content(sent.archive_key)
        except OSError as error:
            raise HTTPException(404) from error

    def __enter__(self) -> integrity.Content:
        return self.content

    def __exit__(self, *_: object) -> None:
        self.content.close()


def _content_of(visit: Visit, ref: str) -> tuple[LetterPage, SubmissionView]:
    """The letter and the transaction that brought it to the viewer; 403 for other roles, recorded."""
    letter_id = find_letter(visit, ref)
    with visit.desk.engine.connect() as conn:
        page = letter_page.read(conn, visit.viewer, letter_id)
    if page is None or not page.submissions:
        raise visit.not_found(f"content of {ref[:100]}")
    if not visit.viewer.may_take_content:
        visit.record(audit.Action.DENIED, f"content of {id_text(letter_id)}")
        raise HTTPException(403)
    return page, page.submissions[0]


@router.get("/letters/{ref:path}")
def letter(visit: SignedIn, ref: str, check: str = "") -> Response:
    letter_id = find_letter(visit, ref)
    made = letter_part(visit, letter_id, full_check=check == "full")
    if made is None:
        raise visit.not_found(f"letter {ref[:100]}")
    part, page = made
    visit.record(audit.Action.VIEW_LETTER, id_text(letter_id), number=page.number)
    return visit.page(
        "letter.html",
        part=part,
        page=page,
        live=f"/letters/{id_text(letter_id)}/live",
        version=version_of(part),
        search_line="",
    )
