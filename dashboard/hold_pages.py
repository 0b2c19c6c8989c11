"""The desk of held letters: what waits for approval, one hold with its acts, deciding singly and in bulk.

Who may know of a hold and who may decide it is said by ``tracker.holds`` alone: the list, the count, a page
and an act ask the same function. An act is confirmed on a page of its own, which changes nothing; what
became another thing in between is told letter by letter, and stops no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query
from fastapi.responses import RedirectResponse, Response

from dashboard.language import N_
from dashboard.rule_words import Teller
from dashboard.sections import may_see_policy
from dashboard.visit import SignedIn, Visit, asked_id
from tracker import audit, held_content, holds, queries
from tracker.hold_desk import Decided
from tracker.holds import Act, Bar, Hold, HoldState
from tracker.model import id_text, id_value

router = APIRouter()

Field = Annotated[str, Form()]
MAX_AT_ONCE = 100
MAX_NOTE = 1000

BARS = {
    Bar.UNKNOWN: N_("It is not there, or not yours to know."),
    Bar.DECIDED: N_("It has been decided already."),
    Bar.NOT_APPROVER: N_("The rule names others to decide this."),
    Bar.AUTHOR: N_("Nobody approves a letter of his own."),
    Bar.TWICE: N_("You have approved it; another person must."),
    Bar.REASON: N_("A refusal says why: write a note."),
}


@router.get("/holds")
def desk(visit: SignedIn, cursor: str = "", mine: str = "", rule: str = "") -> Response:
    after = asked_id(cursor)
    with visit.desk.engine.connect() as conn:
        listed = holds.open_holds(
            conn, visit.viewer, after=after, mine=mine == "1", rule=rule.replace("\x00", "")[:80] or None
        )
        carried = held_content.attachments(conn, listed.holds)
    visit.record(audit.Action.VIEW_HOLDS, rule[:80], hits=len(listed.holds), mine=mine == "1")
    return visit.page(
        "holds.html",
        holds=listed.holds,
        next=listed.next,
        first=after is None,
        carried=carried,
        mine=mine == "1",
        rule=rule[:80],
        decides=visit.desk.decide_holds is not None,
        done=_done(visit),
        **_words(visit),
    )


def _words(visit: Visit) -> dict[str, Any]:
    """What the templates of holds share."""
    teller = Teller(visit.tongue, visit.agency_name)
    return {
        "approvers": lambda hold: teller.approvers(hold.approvers),
        "bars": {bar: visit.tongue.say(text) for bar, text in BARS.items()},
        "Act": Act,
        "HoldState": HoldState,
        "sees_policy": may_see_policy(visit.viewer),
        "search_line": "",
    }


def _done(visit: Visit) -> tuple[str, int] | None:
    """What was just done, as the address says after an act: the words are ours, the number is a number."""
    given = visit.request.query_params
    number = given.get("n", "")
    if (
        given.get("done") not in ("released", "approved", "refused")
        or not number.isdigit()
        or len(number) > 4
    ):
        return None
    return given["done"], int(number)


def _chosen(visit: Visit, ids: Sequence[str]) -> tuple[Hold, ...]:
    """The holds of these ids that the viewer may know of, in their order."""
    numbers = list(
        dict.fromkeys(number for text in ids[:MAX_AT_ONCE] if (number := asked_id(text)) is not None)
    )
    if not numbers:
        return ()
    with visit.desk.engine.connect() as conn:
        found = {number: holds.hold_page(conn, visit.viewer, number) for number in numbers}
    return tuple(hold for hold in found.values() if hold is not None)


@router.get("/holds/confirm")
def confirm(visit: SignedIn, act: str = "", id: Annotated[list[str] | None, Query()] = None) -> Response:
    """What is about to be decided, with room for a note; changes nothing."""
    if act not in (Act.RELEASE, Act.REFUSE) or visit.desk.decide_holds is None:
        raise HTTPException(400)
    chosen = _chosen(visit, id or [])
    if not chosen:
        return RedirectResponse("/holds", 303)
    free = [hold for hold in chosen if holds.bar_of(hold, visit.viewer, Act(act)) is None]
    with visit.desk.engine.connect() as conn:
        carried = held_content.attachments(conn, free)
    visit.record(audit.Action.VIEW_HOLDS, "confirm", holds=[id_text(hold.id) for hold in chosen])
    return visit.page(
        "hold_confirm.html",
        act=Act(act),
        holds=free,
        barred=[(hold, holds.bar_of(hold, visit.viewer, Act(act))) for hold in chosen if hold not in free],
        last=sum(hold.given + 1 >= hold.needs for hold in free),
        carried=carried,
        **_words(visit),
    )


@router.post("/holds/decide")
def decide(
    visit: SignedIn,
    act: Field = "",
    note: Field = "",
    id: Annotated[list[str] | None, Form()] = None,
) -> Response:
    decide_holds = visit.desk.decide_holds
    if act not in (Act.RELEASE, Act.REFUSE) or decide_holds is None:
        raise HTTPException(400)
    ids = list(dict.fromkeys(n for text in (id or [])[:MAX_AT_ONCE] if (n := asked_id(text)) is not None))
    if not ids:
        return RedirectResponse("/holds", 303)
    plain = note.replace("\x00", "").strip()[:MAX_NOTE]
    decided = decide_holds(ids, visit.viewer, Act(act), plain)
    visit.counts.forget()
    visit.record(
        audit.Action.HOLD_DECIDED,
        act,
        done=[id_text(one.hold_id) for one in decided if one.bar is None],
        barred={id_text(one.hold_id): one.bar.value for one in decided if one.bar is not None},
    )
    if any(one.bar is not None for one in decided):
        return _outcome(visit, Act(act), decided)
    waiting = sum(one.state is HoldState.OPEN for one in decided)
    if waiting and waiting != len(decided):
        return _outcome(visit, Act(act), decided)
    word = "refused" if act == Act.REFUSE else "approved" if waiting else "released"
    return RedirectResponse(f"/holds?done={word}&n={len(decided)}", 303)


def _outcome(visit: Visit, act: Act, decided: Sequence[Decided]) -> Response:
    """Letter by letter, when not all went the same way."""
    known = {hold.id: hold for hold in _chosen(visit, [id_text(one.hold_id) for one in decided])}
    return visit.page(
        "hold_outcome.html",
        act=act,
        lines=[(one, known.get(one.hold_id)) for one in decided],
        **_words(visit),
    )


@router.get("/holds/{hold_id}")
def hold_page(visit: SignedIn, hold_id: str) -> Response:
    try:
        number = id_value(hold_id)
    except ValueError:
        raise visit.not_found(f"hold {hold_id[:40]}") from None
    with visit.desk.engine.connect() as conn:
        hold = holds.hold_page(conn, visit.viewer, number)
        if hold is None:
            raise visit.not_found(f"hold {hold_id[:40]}")
        carried = held_content.attachments(conn, [hold])
        letter = queries.by_ids(conn, visit.viewer, [hold.letter_id]).get(hold.letter_id)
        others = [
            other for other in holds.of_letter(conn, visit.viewer, hold.letter_id) if other.id != hold.id
        ]
    visit.record(audit.Action.VIEW_HOLDS, f"hold {id_text(hold.id)}", letter=id_text(hold.letter_id))
    return visit.page(
        "hold.html",
        hold=hold,
        others=others,
        attachments=carried.get(hold.id, ()),
        letter=letter,
        decides=visit.desk.decide_holds is not None,
        **_words(visit),
    )
