"""Versions of the policy: what was in force when, what changed, approval by a second person, the way back.

Everyone who may see the policy reads them; acts are an administrator's. Who proposed a version cannot
approve it, and the store holds that too (``tracker.policy_store``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from dashboard import fault_words
from dashboard.policy_desk import FolderChanged, NotWritten, PolicyDesk
from dashboard.policy_editor import MAX_NOTE
from dashboard.policy_pages import policy_of
from dashboard.sections import may_edit_policy
from dashboard.text_change import changed_files
from dashboard.visit import SignedIn, Visit
from policies.faults import ConfigFaults
from tracker import audit, policy_store
from tracker.policy_store import PolicyStoreError, Standing
from tracker.store import Connection

router = APIRouter()

Field = Annotated[str, Form()]
LISTED = 100


@router.get("/policy/versions")
def versions(visit: SignedIn) -> Response:
    desk = policy_of(visit)
    with visit.desk.engine.connect() as conn:
        found = policy_store.versions(conn, LISTED)
        waiting = policy_store.proposed(conn)
    visit.record(audit.Action.VIEW_POLICY, "versions")
    return visit.page(
        "policy_versions.html",
        versions=found,
        waiting=waiting,
        in_force=desk.in_force().policy.version,
        Standing=Standing,
        edit=may_edit_policy(visit.viewer),
        search_line="",
    )


@router.get("/policy/versions/{digest}")
def version(visit: SignedIn, digest: str, against: str = "", done: str = "") -> Response:
    desk = policy_of(visit)
    visit.record(audit.Action.VIEW_POLICY, f"version {digest[:64]}")
    return _version(visit, desk, digest, against=against, done=done)


def _find(visit: Visit, conn: Connection, digest: str) -> str:
    try:
        return policy_store.find(conn, digest)
    except PolicyStoreError:
        raise visit.not_found(f"policy version {digest[:64]}") from None


def _version(
    visit: Visit,
    desk: PolicyDesk,
    digest: str,
    *,
    against: str = "",
    done: str = "",
    trouble: str = "",
    status: int = 200,
) -> Response:
    in_force = desk.in_force().policy.version
    with visit.desk.engine.connect() as conn:
        found = _find(visit, conn, digest)
        other = _find(visit, conn, against) if against else _before(conn, found, in_force)
        files = policy_store.files_of(conn, found) or {}
        before = policy_store.files_of(conn, other) or {} if other else {}
        line = next((v for v in policy_store.versions(conn, LISTED) if v.digest == found), None)
        waiting = next((a for a in policy_store.proposed(conn) if a.digest == found), None)
    account = visit.account.name
    return visit.page(
        "policy_version.html",
        status,
        digest=found,
        other=other,
        line=line,
        waiting=waiting,
        own=waiting is not None and policy_store.plain(waiting.by) == policy_store.plain(account),
        changes=changed_files(before, files) if other else (),
        files=sorted(files),
        in_force=in_force,
        edit=may_edit_policy(visit.viewer),
        editable=desk.editable,
        done=done,
        trouble=trouble,
        search_line="",
    )


def _before(conn: Connection, digest: str, in_force: str) -> str:
    """What to compare a version with: the one in force; that one with what was in force before it."""
    if digest != in_force:
        return in_force
    history = policy_store.history(conn, 50)
    return next((one.digest for one in history if one.digest != digest), "")


@router.post("/policy/versions/{digest}/approve")
def approve(visit: SignedIn, digest: str) -> Response:
    desk = policy_of(visit, edit=True)

    def act(found: str) -> None:
        desk.approve(found, by=visit.account.name)
        visit.record(audit.Action.POLICY_APPROVED, found)

    return _done(visit, desk, digest, act, "approved")


@router.post("/policy/versions/{digest}/rollback")
def rollback(visit: SignedIn, digest: str, note: Field = "") -> Response:
    desk = policy_of(visit, edit=True)

    def act(found: str) -> None:
        saved = desk.rollback(found, by=visit.account.name, note=_note(note))
        visit.record(
            audit.Action.POLICY_SAVED, f"rollback {found}", version=saved.version, proposed=saved.proposed
        )

    return _done(visit, desk, digest, act, "rolled-back")


@router.post("/policy/versions/{digest}/withdraw")
def withdraw(visit: SignedIn, digest: str) -> Response:
    """Give a proposal up: the files become again what is in force."""
    desk = policy_of(visit, edit=True)

    def act(found: str) -> None:
        with visit.desk.engine.connect() as conn:
            if all(one.digest != found for one in policy_store.proposed(conn)):
                raise PolicyStoreError(visit.tongue.say("This version is not proposed any more."))
        desk.rollback(desk.in_force().policy.version, by=visit.account.name, note="")
        visit.record(audit.Action.POLICY_SAVED, f"withdrawn {found}")

    return _done(visit, desk, digest, act, "withdrawn")


def _note(text: str) -> str:
    return text.replace("\x00", "").strip()[:MAX_NOTE]


def _done(visit: Visit, desk: PolicyDesk, digest: str, act: Callable[[str], None], word: str) -> Response:
    with visit.desk.engine.connect() as conn:
        found = _find(visit, conn, digest)
    try:
        act(found)
    except ConfigFaults as e:
        why = fault_words.line(e.faults[0], visit.tongue).striptags()
        told = visit.tongue.say("It has faults by now: %(why)s", why=why)
        return _version(visit, desk, found, trouble=told, status=422)
    except (NotWritten, FolderChanged, ValueError) as e:
        return _version(visit, desk, found, trouble=str(e), status=409)
    return RedirectResponse(f"/policy/versions/{found}?done={word}", 303)
