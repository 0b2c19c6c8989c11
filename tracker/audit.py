"""The audit: who signed in, looked at what, searched for what (DESIGN promise 5).

Rows are only ever added. What a person typed is kept as it was, cut at a few hundred characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import Connection, insert

from tracker.model import now_us
from tracker.schema import audit


class Action(StrEnum):
    SIGN_IN = "sign-in"
    SIGN_IN_FAILED = "sign-in-failed"
    SIGN_OUT = "sign-out"
    PASSWORD_CHANGED = "password-changed"
    LIST = "list"
    SEARCH = "search"
    WATCH_LIST = "watch-list"
    VIEW_LETTER = "view-letter"
    WATCH_LETTER = "watch-letter"
    VIEW_HEADERS = "view-headers"
    DOWNLOAD_ORIGINAL = "download-original"
    VIEW_WORKLIST = "view-worklist"
    WORKLIST_DONE = "worklist-done"  # one was looked at and taken off
    VIEW_POLICY = "view-policy"
    VIEW_HOLDS = "view-holds"
    VIEW_FOLLOW_UP = "view-follow-up"
    EXPORT = "export"
    REMINDED = "reminded"
    POLICY_SAVED = "policy-saved"
    POLICY_APPROVED = "policy-approved"
    POLICY_TRIED = "policy-tried"  # a candidate over recorded letters
    HOLD_DECIDED = "hold-decided"
    VIEW_REGISTER = "view-register"
    REGISTRY_ACT = "registry-act"
    LINK_JUDGED = "link-judged"
    VERIFIED = "verified"  # by anybody, with number and code or the letter itself
    DENIED = "denied"  # asked for what is not there, or not for these eyes
    ACCOUNT_MADE = "account-made"
    ACCOUNT_CHANGED = "account-changed"


def record(
    conn: Connection,
    row_id: int,
    action: Action,
    *,
    account: str,
    agency: str | None = None,
    object_: str = "",
    detail: Mapping[str, object] | None = None,
    peer: str = "",
    at_us: int | None = None,
) -> None:
    """Add one row; ``row_id`` comes from the process's :class:`tracker.model.IdSource`."""
    conn.execute(
        insert(audit).values(
            id=row_id,
            at_us=now_us() if at_us is None else at_us,
            account=account[:200],
            agency=agency,
            action=action.value,
            object=object_[:400],
            detail=dict(detail or {}),
            peer=peer[:100],
        )
    )
