"""The worklist: reports and answers that fitted no letter with certainty, for administrators of the whole.

They count as nothing. A person looks at each and takes it off the list; what was taken off stays to be seen,
and the audit has who did it. Others are answered with 403, recorded.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException
from fastapi.responses import RedirectResponse, Response

from dashboard.visit import SignedIn, Visit, asked_id
from tracker import audit, letter_chain, unmatched, worklist
from tracker.model import id_text, id_value

router = APIRouter()


def _only_administrators(visit: Visit) -> None:
    if not visit.viewer.may_see_worklist:
        visit.record(audit.Action.DENIED, "worklist")
        raise HTTPException(403)


@router.get("/worklist")
def worklist_page(visit: SignedIn, cursor: str = "", done: str = "") -> Response:
    _only_administrators(visit)
    visit.record(audit.Action.VIEW_WORKLIST, "done" if done else "")
    try:
        before = id_value(cursor) if cursor else None
    except ValueError:
        before = None
    with visit.desk.engine.connect() as conn:
        items, onward = unmatched.unmatched(conn, visit.viewer, before_id=before, done=bool(done))
        proposed = 0 if done else len(letter_chain.proposals(conn, visit.viewer))
    return visit.page(
        "worklist.html",
        items=items,
        next=onward,
        first=before is None,
        proposed=proposed,
        done=bool(done),
        search_line="",
    )


@router.post("/worklist/done")
def take_off(
    visit: SignedIn, id: Annotated[str, Form()] = "", cursor: Annotated[str, Form()] = ""
) -> Response:
    """One was looked at; asking again changes nothing."""
    _only_administrators(visit)
    item = asked_id(id)
    if item is None:
        raise HTTPException(400)
    if visit.desk.write(lambda conn: worklist.take_off(conn, item)):
        visit.record(audit.Action.WORKLIST_DONE, id_text(item))
    back = asked_id(cursor)
    return RedirectResponse("/worklist" + (f"?cursor={id_text(back)}" if back is not None else ""), 303)
