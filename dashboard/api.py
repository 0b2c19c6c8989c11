"""The same letters for programs: JSON under ``/api``, by the same session and access conditions.

Times are ISO 8601 in UTC, ids the 13-character form. What a viewer may not know is absent.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from dashboard import show
from dashboard.pages import Asked, find_letter, find_letters
from dashboard.visit import SignedIn
from tracker import audit, letter_page
from tracker.letter_page import EvidenceLine, LetterPage
from tracker.model import id_text, when
from tracker.queries import ListedLetter

router = APIRouter(prefix="/api")


@router.get("/letters")
def letters(visit: SignedIn) -> dict[str, Any]:
    asked = Asked.of(visit)
    found = find_letters(visit, asked)
    action = audit.Action.SEARCH if asked.anything else audit.Action.LIST
    visit.record(action, asked.line, fields=dict(asked.fields), hits=len(found.letters), api=True)
    return {
        "letters": [_listed(letter) for letter in found.letters],
        "next": None if found.next is None else id_text(found.next),
        "searched_back_to": _time(found.reached_us),
        "not_understood": list(asked.query.unclear),
    }


@router.get("/letters/{ref:path}")
def letter(visit: SignedIn, ref: str) -> dict[str, Any]:
    letter_id = find_letter(visit, ref)
    with visit.desk.engine.connect() as conn:
        page = letter_page.read(conn, visit.viewer, letter_id)
    if page is None:
        raise visit.not_found(f"letter {ref[:100]}")
    visit.record(audit.Action.VIEW_LETTER, id_text(letter_id), number=page.number, api=True)
    return _page(page)


def _time(us: int | None) -> str | None:
    return None if us is None else when(us).isoformat()


def _listed(letter: ListedLetter) -> dict[str, Any]:
    return {
        "id": id_text(letter.id),
        "number": letter.number,
        "agency": letter.agency,
        "author": letter.author,
        "subject": letter.subject,
        "subject_shown": show.plain(letter.subject),
        "classification": letter.classification,
        "urgency": letter.urgency,
        "due": _time(letter.due_us),
        "accepted": _time(letter.accepted_us),
        "recipients": [
            {"agency": row.agency, "address": row.address}
            | (
                {}
                if row.state is None or row.grade is None or row.outcome is None
                else {
                    "state": row.state.value,
                    "grade": f"E{int(row.grade)}",
                    "outcome": row.outcome.value,
                    "late": row.late,
                }
            )
            for row in letter.recipients
        ],
    }


def _evidence(line: EvidenceLine) -> dict[str, Any]:
    return {
        "id": id_text(line.id),
        "delivery": None if line.delivery_id is None else id_text(line.delivery_id),
        "event": line.event.value,
        "grade": f"E{int(line.grade)}",
        "at": _time(line.at_us),
        "noted": _time(line.noted_us),
        "source": line.source,
        "reporter": line.reporter,
        "detail": line.detail,
        "ledger_index": line.ledger_index,
    }


def _page(page: LetterPage) -> dict[str, Any]:
    return {
        "id": id_text(page.id),
        "number": page.number,
        "kind": page.kind,
        "agency": page.agency,
        "author": page.author,
        "author_name": page.author_name,
        "message_id": page.message_id,
        "subject": page.subject,
        "subject_shown": show.plain(page.subject),
        "classification": page.classification,
        "urgency": page.urgency,
        "due": _time(page.due_us),
        "accepted": _time(page.accepted_us),
        "recipients": [
            {
                "id": id_text(row.id),
                "agency": row.agency,
                "address": row.address,
                "bcc": row.bcc,
                "state": row.state.value,
                "grade": f"E{int(row.grade)}",
                "outcome": row.outcome.value,
                "late": row.late,
                "last_reply": row.last_reply,
                "attempts": row.tries,
            }
            for row in page.recipients
        ]
        + [{"agency": row.agency, "address": row.address} for row in page.named],
        "evidence": [_evidence(line) for line in page.events],
        "attachments": [
            {"name": item.name, "declared": item.declared, "detected": item.detected, "size": item.size}
            for sent in page.submissions[:1]
            for item in sent.attachments
        ],
        "digests": [{"sha256": sent.sha256.hex(), "size": sent.size} for sent in page.submissions],
        "ledger": None
        if page.ledger is None
        else {
            "index": page.ledger.index,
            "checkpoint": page.ledger.checkpoint,
            "sealed": page.ledger.sealed,
        },
    }
