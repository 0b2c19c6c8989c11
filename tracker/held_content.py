"""What a held letter carries, for those who decide it: the attachments as the facts of acceptance tell them.

Takes holds that ``tracker.holds`` has given to a viewer, so that whoever may not know of a hold cannot ask.
Mail that is no letter tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from tracker.holds import Hold
from tracker.letter_page import Attachment, attachments_of
from tracker.model import LetterKind
from tracker.schema import delivery, submission


def attachments(conn: Connection, found: Iterable[Hold]) -> dict[int, tuple[Attachment, ...]]:
    """The attachments of each hold by its id; at most 500 holds."""
    wanted = {hold.delivery_id: hold.id for hold in found if hold.kind is not LetterKind.PASS}
    ids = list(wanted)[:500]
    if not ids:
        return {}
    rows = conn.execute(
        select(delivery.c.id, submission.c.facts)
        .join(submission, submission.c.id == delivery.c.submission_id)
        .where(delivery.c.id.in_(ids))
    )
    return {wanted[row.id]: attachments_of(row.facts) for row in rows}
