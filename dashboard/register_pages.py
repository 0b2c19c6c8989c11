"""The register desk of an agency (سجل الوارد): what waits, what is under way, acts on one letter or many.

What may be seen is said by ``tracker.incoming``, whose act is taken by ``tracker.filing``: lists, a page and
an act ask the same. An act is confirmed on a page of its own, which changes nothing and has room for what the
act needs (a number, to whom, a reason); what became another thing in between is told letter by letter, and
stops no other. Those who see everything look at any agency's register and act in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query
from fastapi.responses import RedirectResponse, Response

from dashboard.language import N_
from dashboard.visit import SignedIn, Visit, agency_choices, asked_id
from tracker import audit, incoming, letter_chain
from tracker.filing import (
    MAX_NUMBER,
    MAX_TARGET,
    MAX_TEXT,
    Bar,
    Deed,
    Filed,
    Filing,
    Purpose,
    Stage,
    may_file,
)
from tracker.incoming import Entry, EntryList
from tracker.letter_page import LetterPage
from tracker.link_work import LinkJudgement
from tracker.model import id_text, now_us

router = APIRouter()

Field = Annotated[str, Form()]
Fields = Annotated[list[str] | None, Form()]
MAX_AT_ONCE = 100

VIEWS: dict[str, tuple[str, tuple[Stage, ...]]] = {
    "waiting": (N_("Waiting"), ()),
    "open": (N_("Under way"), (Stage.REGISTERED, Stage.REFERRED, Stage.IN_PROGRESS)),
    "ended": (N_("Ended"), (Stage.CLOSED, Stage.RETURNED)),
}
DEEDS = {
    Deed.REGISTER: N_("Register"),
    Deed.REFER: N_("Refer"),
    Deed.PROGRESS: N_("In progress"),
    Deed.RETURN: N_("Return"),
    Deed.CLOSE: N_("Close"),
}
STAGES = {
    Stage.REGISTERED: N_("registered"),
    Stage.REFERRED: N_("referred"),
    Stage.IN_PROGRESS: N_("in progress"),
    Stage.RETURNED: N_("returned"),
    Stage.CLOSED: N_("closed"),
}
BARS = {
    Bar.UNKNOWN: N_("It is not there, or not yours to know."),
    Bar.NOT_YOURS: N_("Only the registry of the agency that received it may do this."),
    Bar.REGISTERED: N_("It is registered already."),
    Bar.TAKEN: N_("Another letter has this incoming number."),
    Bar.ASSIGNED: N_("The gateway assigns this agency's incoming numbers."),
    Bar.NUMBER: N_("The incoming number of your register is missing."),
    Bar.ENDED: N_("It was closed or returned; “In progress” opens it again."),
    Bar.SAME: N_("That is how it stands already."),
    Bar.REASON: N_("A return needs a reason."),
    Bar.TARGET: N_("A referral needs somebody to whom."),
}
PURPOSES = {Purpose.ACTION: N_("for action"), Purpose.INFORMATION: N_("for information")}


def _words(visit: Visit) -> dict[str, Any]:
    """What the templates of the register share."""
    say = visit.tongue.say
    return {
        "Deed": Deed,
        "Stage": Stage,
        "deeds": {deed: say(text) for deed, text in DEEDS.items()},
        "stages": {stage: say(text) for stage, text in STAGES.items()},
        "bars": {bar: say(text) for bar, text in BARS.items()},
        "purposes": {purpose: say(text) for purpose, text in PURPOSES.items()},
        "search_line": "",
    }


def _agency(visit: Visit, given: str) -> str:
    """Whose register is looked at; of those who see everything the one they chose, else the first."""
    viewer = visit.viewer
    if viewer.agency is not None:
        return viewer.agency
    if not viewer.sees_all:
        raise HTTPException(403)
    known = [choice.code for choice in agency_choices(visit)]
    return given if given in known else known[0] if known else ""


def _year(visit: Visit) -> int:
    return incoming.year_of(visit.desk.settings.zone, visit.now_us)


@router.get("/register")
def desk(visit: SignedIn, view: str = "waiting", cursor: str = "", q: str = "", agency: str = "") -> Response:
    code, view = _agency(visit, agency), view if view in VIEWS else "waiting"
    line = q.replace("\x00", "").strip()[:80]
    at = asked_id(cursor)
    with visit.desk.engine.connect() as conn:
        if line:
            entries = incoming.found(conn, visit.viewer, code, line, _year(visit))
            listed = EntryList(entries=entries, next=None)
        elif view == "waiting":
            listed = incoming.waiting(conn, visit.viewer, code, after=at)
        else:
            listed = incoming.taken(conn, visit.viewer, code, stages=VIEWS[view][1], before=at)
        proposed = len(letter_chain.proposals(conn, visit.viewer))
    visit.record(audit.Action.VIEW_REGISTER, line or view, agency=code, hits=len(listed.entries))
    return visit.page(
        "register.html",
        agency=code,
        agencies=agency_choices(visit) if visit.viewer.agency is None else [],
        view=view,
        views={key: visit.tongue.say(name) for key, (name, _) in VIEWS.items()},
        line=line,
        listed=listed,
        first=at is None,
        acts=_offered(visit, code, view if not line else ""),
        assigns=visit.desk.register is not None and visit.desk.register.assigns(code),
        proposed=proposed,
        year=_year(visit),
        done=_done(visit),
        **_words(visit),
    )


def _offered(visit: Visit, code: str, view: str) -> list[Deed]:
    """The acts that stand above a list."""
    if visit.desk.register is None or not may_file(visit.viewer, code):
        return []
    if view == "waiting":
        return [Deed.REGISTER, Deed.REFER, Deed.RETURN, Deed.CLOSE]
    if view == "ended":
        return [Deed.PROGRESS]
    return [Deed.REFER, Deed.PROGRESS, Deed.RETURN, Deed.CLOSE]


def _done(visit: Visit) -> tuple[str, int] | None:
    """What was just done, as the address says after an act: the words are ours, the number is a number."""
    given = visit.request.query_params
    number = given.get("n", "")
    if given.get("done") not in set(Deed) or not number.isdigit() or len(number) > 4:
        return None
    return given["done"], int(number)


@router.get("/register/gaps")
def gaps(visit: SignedIn, year: str = "", agency: str = "") -> Response:
    """Numbers of a year that no letter has."""
    code, now = _agency(visit, agency), _year(visit)
    asked = int(year) if year.isdigit() and len(year) == 4 else now
    with visit.desk.engine.connect() as conn:
        missing = incoming.gaps(conn, visit.viewer, code, asked)
    visit.record(audit.Action.VIEW_REGISTER, f"gaps {asked}", agency=code)
    return visit.page(
        "register_gaps.html",
        agency=code,
        year=asked,
        this_year=now,
        gaps=missing,
        most=incoming.MOST_GAPS,
        **_words(visit),
    )


def _entries(visit: Visit, code: str, ids: Sequence[str]) -> tuple[Entry, ...]:
    """The letters of these ids at the agency that the viewer may know of, in their order."""
    numbers = list(
        dict.fromkeys(number for text in ids[:MAX_AT_ONCE] if (number := asked_id(text)) is not None)
    )
    with visit.desk.engine.connect() as conn:
        return incoming.entries(conn, visit.viewer, numbers, code)


def _deed(act: str) -> Deed:
    try:
        return Deed(act)
    except ValueError:
        raise HTTPException(400) from None


@router.get("/register/confirm")
def confirm(
    visit: SignedIn,
    act: str = "",
    id: Annotated[list[str] | None, Query()] = None,
    back: str = "",
) -> Response:
    """What is about to be done, with room for what it needs; changes nothing."""
    deed, register = _deed(act), visit.desk.register
    if register is None or visit.viewer.agency is None:
        raise HTTPException(403)
    code = visit.viewer.agency
    chosen = _entries(visit, code, id or [])
    if not chosen:
        return RedirectResponse("/register", 303)
    free = [one for one in chosen if one.bar(deed) is None]
    visit.record(
        audit.Action.VIEW_REGISTER, f"confirm {deed}", letters=[id_text(e.letter_id) for e in chosen]
    )
    return visit.page(
        "register_confirm.html",
        deed=deed,
        entries=free,
        barred=[(one, one.bar(deed)) for one in chosen if one.bar(deed) is not None],
        assigns=register.assigns(code),
        back=back if back in ("letter", *VIEWS) else "waiting",
        limits={"number": MAX_NUMBER, "to": MAX_TARGET, "text": MAX_TEXT},
        **_words(visit),
    )


@router.post("/register/act")
def act(
    visit: SignedIn,
    act: Field = "",
    id: Fields = None,
    number: Fields = None,
    to: Field = "",
    purpose: Field = Purpose.ACTION.value,
    remark: Field = "",
    text: Field = "",
    back: Field = "",
) -> Response:
    """Do it; ``number`` has one for each ``id`` where the registry keeps its own."""
    deed, register, code = _deed(act), visit.desk.register, visit.viewer.agency
    if register is None or code is None:
        raise HTTPException(403)
    if purpose not in set(Purpose):
        raise HTTPException(400)
    given = list(zip(id or [], [*(number or []), *[""] * len(id or [])], strict=False))[:MAX_AT_ONCE]
    at = now_us()
    filings = [
        Filing(
            letter_id=letter_id,
            agency=code,
            deed=deed,
            at_us=at,
            person=visit.viewer,
            name=visit.account.display or visit.account.name,
            number=own[: MAX_NUMBER + 1],
            to=to,
            purpose=Purpose(purpose),
            remark=remark,
            text=text,
        )
        for name, own in given
        if (letter_id := asked_id(name)) is not None
    ]
    if not filings:
        return RedirectResponse("/register", 303)
    filed = register.file(filings)
    visit.counts.forget()
    visit.record(
        audit.Action.REGISTRY_ACT,
        deed.value,
        done=[id_text(one.letter_id) for one in filed if one.bar is None],
        barred={id_text(one.letter_id): one.bar.value for one in filed if one.bar is not None},
    )
    if any(one.bar is not None for one in filed) or (deed is Deed.REGISTER and len(filed) > 1):
        return _outcome(visit, deed, filed, back)
    if back == "letter":
        return RedirectResponse(f"/letters/{id_text(filed[0].letter_id)}", 303)
    view = back if back in VIEWS else "waiting"
    return RedirectResponse(f"/register?view={view}&done={deed.value}&n={len(filed)}", 303)


def _outcome(visit: Visit, deed: Deed, filed: Sequence[Filed], back: str) -> Response:
    """Letter by letter, when not all went the same way or each has a number of its own."""
    known = {
        one.letter_id: one
        for one in _entries(visit, visit.viewer.agency or "", [id_text(f.letter_id) for f in filed])
    }
    return visit.page(
        "register_outcome.html",
        deed=deed,
        lines=[(one, known.get(one.letter_id)) for one in filed],
        back=back if back in VIEWS else "waiting",
        **_words(visit),
    )


@router.get("/register/links")
def links(visit: SignedIn) -> Response:
    """Letters that name others without having had them: a person says what they are."""
    with visit.desk.engine.connect() as conn:
        proposed = letter_chain.proposals(conn, visit.viewer)
    visit.record(audit.Action.VIEW_REGISTER, "links", hits=len(proposed))
    judges = visit.desk.register is not None
    return visit.page("register_links.html", proposals=proposed, judges=judges, **_words(visit))


@router.post("/register/link")
def judge(
    visit: SignedIn, letter: Field = "", to: Field = "", accept: Field = "", back: Field = ""
) -> Response:
    register, letter_id, to_id = visit.desk.register, asked_id(letter), asked_id(to)
    if register is None or letter_id is None or to_id is None or accept not in ("yes", "no"):
        raise HTTPException(400)
    word = LinkJudgement(
        letter_id=letter_id,
        to_id=to_id,
        person=visit.viewer,
        accept=accept == "yes",
        at_us=now_us(),
        name=visit.account.display or visit.account.name,
    )
    linked = register.judge(word)
    pair = f"{id_text(letter_id)} {id_text(to_id)}"
    if linked.bar is Bar.UNKNOWN or linked.bar is Bar.NOT_YOURS:
        raise visit.not_found(f"link {pair}")
    visit.record(audit.Action.LINK_JUDGED, pair, accept=accept, barred=linked.bar)
    shown = asked_id(back) if back else None
    return RedirectResponse(f"/letters/{id_text(shown)}" if shown is not None else "/register/links", 303)


def of_letter(visit: Visit, page: LetterPage) -> dict[str, Any]:
    """What the page of a letter shows of registers and of the letters that belong to it."""
    register = visit.desk.register
    with visit.desk.engine.connect() as conn:
        entries = incoming.of_letter(conn, visit.viewer, page.id)
        linked = letter_chain.chain(conn, visit.viewer, page.id)
        proposed = letter_chain.proposals_of(conn, visit.viewer, page.id)
    own = [one for one in entries if one.may_act and one.agency == visit.viewer.agency]
    address = register.address(page.id, own[0].agency) if register is not None and own else ""
    return {
        "entries": entries,
        "chain": linked,
        "by_id": {one.id: one for one in linked},
        "proposals": proposed,
        "acts": register is not None,
        "address": address,
        **_words(visit),
    }
