"""One request: who asks, in which language, and how the answer is rendered and recorded.

``signed_in`` is the dependency of every page that shows anything; it raises :class:`SignInNeeded`,
which becomes a redirect for people and 401 for programs. A session is looked up in the store for
each request, so that a disabled account or a changed role ends it at once.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import quote, urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import State

from dashboard import fault_words, show
from dashboard.compiled_templates import compiled_templates
from dashboard.desk import AgencyName, DashboardDesk
from dashboard.ladder import STEPS
from dashboard.language import LANGUAGES, Tongue, tongue
from dashboard.sections import Count, CountBook, Section, may_edit_policy, sections
from policies.faults import Fault
from tracker import accounts, audit, board, holds, incoming
from tracker.access import Role, Viewer
from tracker.model import id_text, id_value, now_us
from tracker.queries import ListedRecipient
from tracker.store_errors import DatabaseError

LANGUAGE_COOKIE = "wasl_language"
STATIC = Path(str(files("dashboard").joinpath("static")))


class SignInNeeded(Exception):
    """Nobody is signed in, or the session is over."""


class PasswordChangeNeeded(Exception):
    """The account was given a password by somebody else and must choose its own first."""


def desk_of(state: State) -> DashboardDesk:
    return cast(DashboardDesk, state.desk)


def cookie_name(secure: bool) -> str:
    """The ``__Host-`` prefix binds the cookie to this host and to https (RFC 6265bis §4.1.3.2)."""
    return "__Host-wasl" if secure else "wasl"


def safe_path(path: str | None, default: str = "/letters") -> str:
    """A path on this host to go on to; anything else becomes the default."""
    if not path or not path.startswith("/") or path.startswith("//"):
        return default
    if any(ord(char) < 0x21 or char == "\\" for char in path) or urlsplit(path).netloc:
        return default
    return path


class Visit:
    """A request together with its session (if any), language and dates."""

    def __init__(self, request: Request, session: accounts.Session | None) -> None:
        self.request = request
        self.desk = desk_of(request.app.state)
        self.session = session
        self.tongue = tongue(self._language())
        self.dates = show.Dates(self.tongue, self.desk.settings.zone)
        self.now_us = now_us()

    def _language(self) -> str:
        if self.session is not None and self.session.account.language in LANGUAGES:
            return self.session.account.language
        chosen = self.request.cookies.get(LANGUAGE_COOKIE)
        return chosen if chosen in LANGUAGES else self.desk.settings.language

    @property
    def account(self) -> accounts.Account:
        if self.session is None:
            raise SignInNeeded
        return self.session.account

    @property
    def viewer(self) -> Viewer:
        return self.account.viewer

    @property
    def peer(self) -> str:
        return self.request.client.host if self.request.client else ""

    def agency_name(self, code: str | None) -> str:
        return self.desk.name(code).in_(self.tongue.code) if code else ""

    def parties(self, recipients: Iterable[ListedRecipient]) -> list[str]:
        """To whom a letter went: each agency once, however many of its mailboxes; the others by address."""
        return list(dict.fromkeys(self.agency_name(row.agency) or row.address for row in recipients))

    def record(self, action: audit.Action, object_: str = "", **detail: object) -> None:
        """Write into the audit, before anything is shown: what cannot be recorded is not shown."""
        account = self.session.account if self.session else None
        row_id = self.desk.next_id()
        self.desk.write(
            lambda conn: audit.record(
                conn,
                row_id,
                action,
                account=account.name if account else "",
                agency=account.agency if account else None,
                object_=object_,
                detail=detail,
                peer=self.peer,
            )
        )

    def not_found(self, what: str) -> HTTPException:
        """404 for what is not there and for what is not for these eyes; recorded either way."""
        self.record(audit.Action.DENIED, what)
        return HTTPException(404)

    @property
    def counts(self) -> CountBook:
        """Numbers that every page shows."""
        return cast(CountBook, self.request.app.state.counts)

    def _count(self, what: Count) -> int:
        return self.counts.get((what, self.viewer), lambda: self._counted(what))

    def _counted(self, what: Count) -> int:
        viewer = self.viewer
        with self.desk.engine.connect() as conn:
            if what is Count.HOLDS:
                return holds.count_open(conn, viewer)
            if what is Count.INCOMING:
                return incoming.count_waiting(conn, viewer)
            return board.late_at(conn, viewer.agency, self.now_us) if viewer.agency is not None else 0

    @property
    def sections(self) -> list[Section]:
        """The navigation of the account; of nobody, nothing."""
        if self.session is None or self.session.account.must_change:
            return []
        try:
            return sections(self.viewer, self._count, policy=self.desk.policy is not None)
        except DatabaseError:  # the page that says so must not need the record
            return []

    @property
    def config_faults(self) -> tuple[Fault, ...]:
        """Faults of the policy files on disk, for those who can mend them."""
        if self.session is None or self.desk.policy is None or not may_edit_policy(self.viewer):
            return ()
        return self.desk.policy.faults()

    def html(self, template: str, **values: Any) -> str:
        """A template, or a part of one, in the reader's language."""
        account = self.session.account if self.session else None
        return (
            environment(self.tongue.code)
            .get_template(template)
            .render(
                visit=self,
                account=account,
                viewer=account.viewer if account else None,
                dates=self.dates,
                gateway=self.desk.settings.gateway_name,
                **values,
            )
        )

    def page(
        self, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        here = self.request.url.path + (f"?{self.request.url.query}" if self.request.url.query else "")
        reading = self.request.method in ("GET", "HEAD")
        text = self.html(template, here=here if reading else "/letters", **values)
        return HTMLResponse(text, status_code=status, headers=dict(headers or {}))


def load_session(request: Request, *, touch: bool = True) -> accounts.Session | None:
    """The living session of the request's cookie; notes that it was used, unless told otherwise."""
    desk = desk_of(request.app.state)
    token = request.cookies.get(cookie_name(desk.settings.secure))
    if not token:
        return None
    with desk.engine.connect() as conn:
        found = accounts.session(conn, token, idle_us=desk.settings.idle_seconds * 1_000_000)
    at = now_us()
    if touch and found is not None and found.wants_touch(at):
        digest = found.token_hash
        desk.write(lambda conn: accounts.touch_session(conn, digest, at))
    return found


def anyone(request: Request) -> Visit:
    """Dependency: a visit with or without a session."""
    visit = Visit(request, load_session(request))
    request.state.visit = visit
    return visit


def signed_in(request: Request) -> Visit:
    """Dependency: a visit of somebody who is signed in and has chosen his own password."""
    visit = anyone(request)
    if visit.account.must_change:
        raise PasswordChangeNeeded
    return visit


Anyone = Annotated[Visit, Depends(anyone)]
SignedIn = Annotated[Visit, Depends(signed_in)]


def own_pages_only(request: Request) -> None:
    """Dependency of the whole application: nothing is changed from a foreign page."""
    if getattr(request.state, "foreign", False):
        raise HTTPException(403)


@functools.cache
def _static_versions() -> dict[str, str]:
    return {
        path.relative_to(STATIC).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in STATIC.rglob("*")
        if path.is_file()
    }


def static_url(name: str) -> str:
    """The address of a static file with its digest, so that it may be kept for ever."""
    return f"/static/{quote(name)}?v={_static_versions()[name]}"


@functools.cache
def environment(language: str) -> Environment:
    """The templates in one language."""
    spoken: Tongue = tongue(language)
    made = Environment(
        loader=PackageLoader("dashboard", "templates"),
        bytecode_cache=compiled_templates(),
        optimized=False,  # else a filter of this language would be asked while compiling for both
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    install: Callable[..., None] = made.install_gettext_callables  # type: ignore[attr-defined]
    install(spoken.catalogue.gettext, spoken.catalogue.ngettext, newstyle=True)
    made.filters.update(
        visible=show.visible,
        plain=show.plain,
        grouped=show.grouped,
        breakable=show.breakable,
        digest=show.short_digest,
        pretty=show.pretty,
        id_text=id_text,
        urgency=functools.partial(show.urgency, tongue=spoken),
        classification=functools.partial(show.classification, tongue=spoken),
        kind=functools.partial(show.content_kind, tongue=spoken),
        report=functools.partial(show.report_kind, tongue=spoken),
        stray=functools.partial(show.stray, tongue=spoken),
        octets=functools.partial(show.size, tongue=spoken),
        fault_words=functools.partial(fault_words.told, tongue=spoken),
        fault_line=functools.partial(fault_words.line, tongue=spoken),
    )
    made.tests.update(ordinary=show.is_ordinary, bidi=show.has_bidi)
    made.globals.update(
        static=static_url,
        tongue=spoken,
        split_name=show.split_name,
        step_names=[spoken.say(word) for _, word, _ in STEPS],
        Role=Role,
    )
    return made


def asked_id(text: str) -> int | None:
    """An id that an address or a form bears, None for none; what is no id is answered with 400."""
    if not text:
        return None
    try:
        return id_value(text)
    except ValueError:
        raise HTTPException(400) from None


def agency_choices(visit: Visit) -> list[AgencyName]:
    """The agencies by name in the reader's language."""
    return sorted(visit.desk.agencies(), key=lambda agency: agency.in_(visit.tongue.code))
