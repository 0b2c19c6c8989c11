"""The verify page: anybody, without an account, checks a letter by number and code, or by a file of his own.

It tells sender and addressees by agency, the day, whether the kept copy is unchanged, and how far the letter
went at each agency; no subject, no person, no address (:mod:`tracker.public_view`). A file is hashed in the
browser (``static/verify.js``): only SHA-256 digests come here. A wrong code is answered as a number that does
not exist, before the record is asked, so that nobody learns which numbers there are. One address may ask
thirty times a minute; each question that found a letter is in the audit.

How it fails: a page that says so, in the reader's language; 404 where the page is switched off.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field, StringConstraints

from dashboard.ladder import Step, steps_of
from dashboard.language import N_
from dashboard.turnstile import Turnstile
from dashboard.visit import Anyone, Visit
from tracker import audit, integrity, public_view
from tracker.integrity import Finding
from tracker.public_view import Fit, PublicLetter
from tracker.verify_code import VerifyCodes

router = APIRouter()

DIGESTS = 300
_KEPT_S = 600.0  # how long the result of a look at the archive is kept
_LARGE = 64 << 20

_CONTROLS = "\x00\u200e\u200f\u2066\u2067\u2068\u2069"
_DIGITS = str.maketrans("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹", "0123456789" * 2, _CONTROLS)

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digests = Annotated[list[Digest], Field(max_length=DIGESTS)]


class Asked(BaseModel):
    """What the browser says of a file."""

    number: Annotated[str, Field(max_length=200)] = ""
    code: Annotated[str, Field(max_length=60)] = ""
    whole: Digests = []
    own: Digests = []
    text: Digests = []
    parts: Digests = []
    evidence: Digests = []  # commitments that the records of a receipt open (LEDGER.md 5)
    kind: Literal["letter", "receipt", "report", "document"] = "letter"


@dataclass(slots=True)
class Desk:
    """What the page keeps beside the record: how often it is asked, and which letters it looked at."""

    turnstile: Turnstile = field(default_factory=Turnstile)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: OrderedDict[int, tuple[float, Finding]] = field(default_factory=OrderedDict)

    def unchanged(self, visit: Visit, letter_id: int) -> Finding:
        """Does the kept copy match its seal? Hashing it is not done twice in ten minutes."""
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(letter_id)
        if kept is not None and now - kept[0] < _KEPT_S and kept[1] is not Finding.WAITING:
            return kept[1]
        with visit.desk.engine.connect() as conn:
            found = integrity.check(conn, letter_id, visit.desk.open_content, large=_LARGE).finding
        with self._lock:
            self._kept[letter_id] = now, found
            while len(self._kept) > 1000:
                self._kept.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is shown of a letter."""

    letter: PublicLetter
    rows: tuple[tuple[str, tuple[Step, ...], bool], ...]  # agency's name, its ladder, whether none got it
    finding: Finding


def verdict(fit: Fit, asked: Asked) -> str:
    """What a file is: the ``whole`` letter, an ``attachment``, all its ``parts``, ``some`` or ``nothing``.

    Of a receipt what became of its evidence: ``sealed`` (all stands in the ledger), ``unsealed`` (not all,
    and some of the letter's waits for its seal), ``foreign`` or ``bare``; another ``report`` is itself.
    """
    if fit.whole:
        return "whole"
    if asked.kind == "receipt":
        if not asked.evidence:
            return "bare"
        if fit.evidence == len(set(asked.evidence)):
            return "sealed"
        return "unsealed" if fit.waiting else "foreign"
    if asked.kind == "report":
        return "report"
    if asked.kind == "document":
        return "attachment" if any(fit.parts) else "nothing"
    if not fit.text and not any(fit.parts):
        return "nothing"
    complete = all(fit.parts) and (fit.text or not asked.text) and not fit.missing
    return "parts" if complete else "some"


def _codes(visit: Visit) -> VerifyCodes:
    if visit.desk.verify is None:
        raise HTTPException(404)
    return visit.desk.verify


def _desk(request: Request) -> Desk:
    return cast(Desk, request.app.state.verify)


def _must_wait(visit: Visit) -> int:
    """Seconds until this address may ask again; 0: now."""
    return _desk(visit.request).turnstile.wait(visit.peer)


def _too_many(visit: Visit, wait: int) -> str:
    return visit.tongue.count(
        "Too many questions. Try again in %(num)s second.",
        "Too many questions. Try again in %(num)s seconds.",
        wait,
    )


def cleaned(number: str) -> str:
    """A number as it was typed or copied, in the form in which it is kept."""
    return number.translate(_DIGITS).strip()[:200]


def _unknown(asked: Asked) -> str:
    """What is said when no letter was found."""
    if asked.number.strip() and asked.code:
        return N_("No letter has this number and this code.")
    if asked.kind in ("receipt", "report"):
        return N_("This file is a receipt or a report, not a letter. Give its letter's number and code too.")
    if asked.kind == "document":
        return N_("A single document is compared with one letter. Give the letter's number and code too.")
    return N_("No letter with exactly this content went through here. Give its number and code too.")


def _by_code(visit: Visit, codes: VerifyCodes, number: str, code: str) -> PublicLetter | None:
    if not codes.fits(number, code.replace("\x00", "")):
        return None  # as for a number that nobody has: the record is not asked
    with visit.desk.engine.connect() as conn:
        return public_view.by_number(conn, number)


def _told(visit: Visit, found: PublicLetter, how: str) -> Told:
    visit.record(audit.Action.VERIFIED, found.number, by=how)
    names = [visit.agency_name(one.agency) for one in found.addressees]
    ladders = [steps_of(one.grade, one.failed, visit.tongue) for one in found.addressees]
    failed = [one.failed for one in found.addressees]
    return Told(
        letter=found,
        rows=tuple(zip(names, ladders, failed, strict=True)),
        finding=_desk(visit.request).unchanged(visit, found.id),
    )


@router.get("/verify")
def verify_form(visit: Anyone, number: str = "", code: str = "") -> Response:
    return _page(visit, cleaned(number), code)


@router.get("/verify/{number:path}")
def verify_letter(visit: Anyone, number: str, code: str = "") -> Response:
    return _page(visit, cleaned(number), code)


def _page(visit: Visit, number: str, code: str) -> Response:
    codes = _codes(visit)
    told: Told | None = None
    fault: str | None = None
    status, headers = 200, {"X-Robots-Tag": "noindex"}
    if bool(number) != bool(code):
        fault, status = visit.tongue.say("Give both, the number and its code."), 422
    elif number and code:
        if wait := _must_wait(visit):
            fault, status, headers = _too_many(visit, wait), 429, headers | {"Retry-After": str(wait)}
        else:
            found = _by_code(visit, codes, number, code)
            told = _told(visit, found, "code") if found is not None else None
            if told is None:
                fault = visit.tongue.say("No letter has this number and this code.")
                status = 404
    return visit.page(
        "verify.html",
        status,
        headers,
        number=number,
        code=code[:60],
        told=told,
        fit=None,
        asked=None,
        verdict="",
        fault=fault,
    )


@router.post("/verify/file")
def verify_file(visit: Anyone, asked: Asked) -> Response:
    """The answer to digests: a part of the page, as HTML."""
    codes = _codes(visit)
    fault: str | None = None
    status, headers = 200, {}
    found: PublicLetter | None = None
    fit: Fit | None = None
    number = cleaned(asked.number)
    how = "code"
    if wait := _must_wait(visit):
        fault, status, headers = _too_many(visit, wait), 429, {"Retry-After": str(wait)}
    else:
        if number and asked.code:
            found = _by_code(visit, codes, number, asked.code)
        if found is None and asked.own:
            how = "digest"
            with visit.desk.engine.connect() as conn:
                found = public_view.by_digest(conn, [bytes.fromhex(one) for one in asked.own])
        if found is None:
            fault = visit.tongue.say(_unknown(asked))
        else:
            with visit.desk.engine.connect() as conn:
                fit = public_view.compare(
                    conn,
                    found.id,
                    whole=[bytes.fromhex(one) for one in asked.whole],
                    text=[bytes.fromhex(one) for one in asked.text],
                    parts=[bytes.fromhex(one) for one in asked.parts],
                    evidence=[bytes.fromhex(one) for one in asked.evidence],
                )
    told = _told(visit, found, how) if found is not None else None
    word = verdict(fit, asked) if fit is not None else ""
    html = visit.html("verify_answer.html", told=told, fit=fit, asked=asked, verdict=word, fault=fault)
    return HTMLResponse(html, status, headers)
