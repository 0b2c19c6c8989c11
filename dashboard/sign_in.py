"""Signing in and out, choosing a password, choosing a language: what an account does for itself.

Guessing is slowed down (``dashboard/throttle.py``) and a wrong name costs and says the same as a
wrong password. A session token is new at each sign-in and leaves the browser when it ends.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Annotated, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from dashboard.language import LANGUAGES, N_
from dashboard.throttle import Throttle
from dashboard.visit import LANGUAGE_COOKIE, Anyone, Visit, cookie_name, safe_path
from tracker import accounts, audit
from tracker.accounts import AccountError, Fault
from tracker.store import Connection

router = APIRouter()
Field = Annotated[str, Form()]

# A language chosen before signing in becomes the account's; what another left in this browser does not.
CHOSEN_COOKIE = "wasl_language_chosen"
_CHOSEN_SECONDS = 600

# argon2 takes 64 MiB and a core for each password that is tried.
_AT_ONCE = threading.BoundedSemaphore(2)

_FAULTS = {
    Fault.TOO_SHORT: N_("The new password needs at least 12 characters."),
    Fault.TOO_LONG: N_("The new password is too long."),
    Fault.TOO_PLAIN: N_("The new password is too easy to guess."),
    Fault.SAME: N_("The new password is the old one."),
}


def throttle_of(request: Request) -> Throttle:
    return cast(Throttle, request.app.state.throttle)


def sign_in_url(path: str, *, unsent: bool = False) -> str:
    """Where to sign in, to go on to ``path``; ``unsent``: what was sent was not taken."""
    asked = {} if path in ("/", "/letters") else {"next": path}
    if unsent:
        asked["unsent"] = "1"
    return f"/sign-in?{urlencode(asked)}" if asked else "/sign-in"


def onward(path: str) -> str:
    """Where to go after signing in: not back to the sign-in page."""
    target = safe_path(path)
    return "/letters" if target.startswith("/sign-") else target


@router.get("/sign-in")
def sign_in_page(visit: Anyone, next: str = "", unsent: str = "") -> Response:
    if visit.session is not None:
        return RedirectResponse(onward(next), 303)
    return visit.page("sign_in.html", next=safe_path(next, ""), name="", fault=None, unsent=bool(unsent))


@router.post("/sign-in")
def sign_in(visit: Anyone, name: Field = "", password: Field = "", next: Field = "") -> Response:
    throttle = throttle_of(visit.request)
    name = name.replace("\x00", "")
    wait = throttle.wait(name, visit.peer)
    if wait:
        told = _too_many(visit, wait)
        return visit.page(
            "sign_in.html", 429, {"Retry-After": str(wait)}, next=safe_path(next, ""), name=name, fault=told
        )
    with _AT_ONCE, visit.desk.engine.connect() as conn:
        account = accounts.verify(conn, name, password)
    if account is None:
        throttle.failed(name, visit.peer)
        visit.record(audit.Action.SIGN_IN_FAILED, name[:100])
        told = visit.tongue.say("The account name or the password is not right.")
        return visit.page("sign_in.html", 401, next=safe_path(next, ""), name=name, fault=told)
    throttle.succeeded(name, visit.peer)
    answer = RedirectResponse("/password" if account.must_change else onward(next), 303)
    _begin(visit, account, answer, audit.Action.SIGN_IN)
    chosen = visit.request.cookies.get(CHOSEN_COOKIE)
    if chosen in LANGUAGES and chosen != account.language:
        visit.desk.write(lambda conn: accounts.set_language(conn, account.id, chosen))
    answer.delete_cookie(CHOSEN_COOKIE, path="/", secure=visit.desk.settings.secure, httponly=True)
    return answer


def _too_many(visit: Visit, wait: int) -> str:
    return visit.tongue.count(
        "Too many attempts. Try again in %(num)s second.",
        "Too many attempts. Try again in %(num)s seconds.",
        wait,
    )


def _begin(visit: Visit, account: accounts.Account, answer: Response, action: audit.Action) -> None:
    """Open a session for the account, end the one that was there, and record why."""
    row_id = visit.desk.next_id()
    earlier = visit.session.token_hash if visit.session else None

    def begin(conn: Connection) -> str:
        if earlier is not None:
            accounts.end_session(conn, earlier)
        token = accounts.begin_session(conn, account.id, visit.peer)
        audit.record(conn, row_id, action, account=account.name, agency=account.agency, peer=visit.peer)
        return token

    token = visit.desk.write(begin)
    secure = visit.desk.settings.secure
    answer.set_cookie(cookie_name(secure), token, path="/", secure=secure, httponly=True, samesite="lax")


@router.post("/sign-out")
def sign_out(visit: Anyone) -> Response:
    if visit.session is not None:
        digest = visit.session.token_hash
        visit.desk.write(lambda conn: accounts.end_session(conn, digest))
        visit.record(audit.Action.SIGN_OUT)
    answer = RedirectResponse("/sign-in", 303)
    secure = visit.desk.settings.secure
    answer.delete_cookie(cookie_name(secure), path="/", secure=secure, httponly=True, samesite="lax")
    return answer


@router.get("/password")
def password_page(visit: Anyone) -> Response:
    return visit.page("password.html", account_name=visit.account.name, fault=None)


@router.post("/password")
def change_password(visit: Anyone, current: Field = "", new: Field = "", again: Field = "") -> Response:
    account = visit.account
    throttle = throttle_of(visit.request)
    say = visit.tongue.say
    if wait := throttle.wait(account.name, visit.peer):
        return _password_fault(visit, _too_many(visit, wait), 429, {"Retry-After": str(wait)})
    if new != again:
        return _password_fault(visit, say("The two new passwords differ."))
    with _AT_ONCE, visit.desk.engine.connect() as conn:
        right = accounts.verify(conn, account.name, current)
    if right is None:
        throttle.failed(account.name, visit.peer)
        return _password_fault(visit, say("The present password is not right."))
    try:
        if new == current:
            raise AccountError(Fault.SAME, "the new password is the old one")
        accounts.check_password(account.name, new)
    except AccountError as error:
        return _password_fault(visit, say(_FAULTS.get(error.fault, _FAULTS[Fault.TOO_PLAIN])))
    with _AT_ONCE:
        digest = accounts.hash_password(new)
    visit.desk.write(lambda conn: accounts.put_password(conn, account.id, digest, must_change=False))
    answer = RedirectResponse("/letters", 303)
    _begin(visit, account, answer, audit.Action.PASSWORD_CHANGED)
    return answer


def _password_fault(
    visit: Visit, told: str, status: int = 422, headers: Mapping[str, str] | None = None
) -> Response:
    return visit.page("password.html", status, headers, account_name=visit.account.name, fault=told)


@router.post("/language")
def choose_language(visit: Anyone, to: Field = "", next: Field = "") -> Response:
    language = to if to in LANGUAGES else visit.tongue.code
    if visit.session is not None:
        account_id = visit.session.account.id
        visit.desk.write(lambda conn: accounts.set_language(conn, account_id, language))
    answer = RedirectResponse(safe_path(next), 303)
    keep = functools.partial(
        answer.set_cookie, path="/", secure=visit.desk.settings.secure, httponly=True, samesite="lax"
    )
    keep(LANGUAGE_COOKIE, language, max_age=365 * 86_400)
    if visit.session is None:
        keep(CHOSEN_COOKIE, language, max_age=_CHOSEN_SECONDS)
    return answer
