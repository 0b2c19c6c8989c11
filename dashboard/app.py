"""The application: routes, the answers to what goes wrong, and what starts and stops with it.

``make_app(desk)`` is all that the supervisor needs; ``app.state.hub.stop()`` ends the live pages, so
that a graceful stop does not wait for them. Every error is a page in the reader's language, or JSON
under ``/api``; what was unforeseen is logged with a short name that the page shows, and nothing else
of it reaches the browser.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from dashboard import (
    api,
    follow_up_pages,
    hold_pages,
    live,
    pages,
    policy_editor,
    policy_pages,
    refusal_pages,
    register_pages,
    replay_pages,
    sign_in,
    verify_page,
    version_pages,
    worklist_page,
)
from dashboard.desk import DashboardDesk
from dashboard.guard import Guard
from dashboard.language import N_
from dashboard.replay_runs import ReplayRuns
from dashboard.sections import CountBook
from dashboard.throttle import Throttle
from dashboard.visit import STATIC, PasswordChangeNeeded, SignInNeeded, Visit, environment, own_pages_only
from policies.trial_room import TrialRoom
from tracker.outage import in_a_line, is_outage
from tracker.store_errors import DatabaseError

log = logging.getLogger("wasl.dashboard")

_ERRORS: dict[int, tuple[str, str]] = {
    400: (N_("This request could not be understood"), N_("Go back and try again.")),
    403: (N_("Not permitted"), N_("Your account may not do this. The attempt was recorded.")),
    404: (
        N_("Nothing here for you"),
        N_("There is no such page or letter, or it is not at one of your agency's two ends."),
    ),
    405: (N_("Not possible here"), N_("Go back and try again.")),
    413: (N_("Too large"), N_("More was sent than this page takes.")),
    429: (N_("Too many requests"), N_("Wait a moment and try again.")),
    500: (N_("Something went wrong here"), N_("The fault was recorded. No letter is affected by it.")),
    503: (
        N_("The record is out of reach at the moment"),
        N_("Letters are not lost. Try again in a minute."),
    ),
}


class _Static(StaticFiles):
    """Our own files; an address with a digest may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        kept = b"v=" in scope.get("query_string", b"")
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-cache"
        return answer


def make_app(desk: DashboardDesk) -> FastAPI:
    """The dashboard on a desk. Loads both languages and all templates, so that a fault shows at the start."""
    for language in ("ar", "en"):
        made = environment(language)
        for name in made.list_templates(extensions=["html"]):
            made.get_template(name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.replays.stop_all()
        app.state.trial_room.close()
        app.state.hub.stop()

    app = FastAPI(
        title="Wasl",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        dependencies=[Depends(own_pages_only)],
    )
    app.state.desk = desk
    app.state.throttle = Throttle()
    app.state.overviews = pages.OverviewBook()
    app.state.boards = follow_up_pages.BoardBook()
    app.state.policy_book = policy_pages.PolicyBook()
    app.state.counts = CountBook()
    app.state.replays = ReplayRuns()
    app.state.trial_room = TrialRoom()
    app.state.hub = live.Hub(desk)
    app.state.verify = verify_page.Desk()
    app.add_middleware(
        Guard,
        base_url=desk.settings.base_url,
        secure=desk.settings.secure,
        on_fault=_unforeseen,
    )

    @app.get("/healthz")
    def health() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    app.include_router(sign_in.router)
    app.include_router(verify_page.router)
    app.include_router(live.router)
    app.include_router(api.router)
    app.include_router(hold_pages.router)
    app.include_router(follow_up_pages.router)
    app.include_router(register_pages.router)
    app.include_router(policy_editor.router)
    app.include_router(replay_pages.router)
    app.include_router(version_pages.router)
    app.include_router(policy_pages.router)
    app.include_router(refusal_pages.router)
    app.include_router(worklist_page.router)
    app.include_router(pages.router)
    app.mount("/static", _Static(directory=STATIC), name="static")
    app.add_exception_handler(SignInNeeded, _sign_in_needed)
    app.add_exception_handler(PasswordChangeNeeded, _password_needed)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(DatabaseError, _record_away)
    app.add_exception_handler(OSError, _record_away)
    return app


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/") or request.url.path.endswith("/live")


def _error(
    request: Request, status: int, incident: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """The answer to an error, by the session if it was known before the error came."""
    if _is_api(request):
        return JSONResponse({"error": status, "incident": incident}, status, headers=headers)
    title, text = _ERRORS.get(status, _ERRORS[500 if status >= 500 else 400])
    visit = getattr(request.state, "visit", None) or Visit(request, None)
    try:
        return visit.page(
            "error.html",
            status,
            headers,
            code=status,
            title=visit.tongue.say(title),
            text=visit.tongue.say(text),
            incident=incident,
            search_line="",
        )
    except Exception:  # the error page itself: say it without one
        log.exception("the error page failed")
        return HTMLResponse(f"<!doctype html><title>Wasl</title><h1>{status}</h1>", status)


async def _sign_in_needed(request: Request, _error_: Exception) -> Response:
    if _is_api(request):
        return JSONResponse({"error": 401}, 401)
    if request.method == "GET":
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(sign_in.sign_in_url(request.url.path + query), 303)
    # What was sent is not done later, unseen: back to the page with the form, and the sign-in page says so.
    return RedirectResponse(sign_in.sign_in_url(_page_of_form(request), unsent=True), 303)


def _page_of_form(request: Request) -> str:
    """The page of ours that sent this; the first page when the browser does not say."""
    page = urlsplit(request.headers.get("referer", ""))
    if not page.path.startswith("/") or page.netloc.lower() != request.headers.get("host", "").lower():
        return "/"
    return page.path + (f"?{page.query}" if page.query else "")


async def _password_needed(request: Request, _error_: Exception) -> Response:
    return JSONResponse({"error": 403}, 403) if _is_api(request) else RedirectResponse("/password", 303)


async def _gone(request: Request, _error_: Exception) -> Response:
    """The browser went on to another page while it still sent: nobody reads this answer."""
    return Response(status_code=400)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(request, error.status_code, headers=dict(error.headers or {}))


async def _bad_request(request: Request, _error_: Exception) -> Response:
    return _error(request, 400)


async def _record_away(request: Request, error: Exception) -> Response:
    incident = secrets.token_hex(4)
    path, trace = request.url.path, None if is_outage(error) else error
    log.error("incident %s at %s: the record is away: %s", incident, path, in_a_line(error), exc_info=trace)
    return _error(request, 503, incident, {"Retry-After": "30"})


async def _unforeseen(request: Request, error: Exception) -> Response:
    incident = secrets.token_hex(4)
    log.error("incident %s at %s", incident, request.url.path, exc_info=error)
    return _error(request, 500, incident)
