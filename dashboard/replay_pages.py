"""Trying a policy on past letters: choose a candidate, see what would have been decided otherwise.

For administrators. The candidate is a version that is kept, the files as they stand on disk, or the text in
the editor; it is compiled before anything runs, so that faults are told at once. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from dashboard.language import N_, Tongue
from dashboard.policy_desk import PolicyDesk
from dashboard.policy_editor import MAX_TEXT, form_of, unix_lines, version_of
from dashboard.policy_pages import policy_of
from dashboard.replay_runs import ReplayRuns, Run, RunState, TooManyRuns
from dashboard.visit import SignedIn, Visit, agency_choices
from policies.faults import ConfigFaults, Fault
from policies.replay import Aspect
from policies.versions import Draft, good_name
from tracker import audit, policy_store
from tracker.policy_store import PolicyStoreError

router = APIRouter()

DAYS = (1, 7, 30, 90, 365)
MAX_SHOWN = 200  # groups, rules
ON_DISK = "disk"

ASPECTS = {
    Aspect.VERDICT: N_("verdict"),
    Aspect.ROUTE: N_("route"),
    Aspect.CLASS: N_("class"),
    Aspect.DUE: N_("due date"),
    Aspect.OTHER: N_("other"),
}
# What a difference may name, as the record has it, and the words of its values.
_KEYS = {
    "action": N_("action"),
    "kind": N_("recorded as"),
    "reply": N_("reply"),
    "hold": N_("terms of approval"),
    "classification": N_("classification"),
    "urgency": N_("urgency"),
    "hop": N_("server"),
    "redirect": N_("delivered to"),
    "mailbox": N_("delivered to"),
    "due_us": N_("due date"),
    "require_tls": N_("encrypted connections only"),
    "requiretls": N_("encrypted all the way"),
    "tag": N_("our fields"),
    "sign": N_("signature"),
    "subject_tag": N_("number in the subject"),
    "subject_shape": N_("number in the subject"),
    "receipts": N_("receipts"),
    "receipts_to": N_("receipts to"),
    "digest": N_("receipts gathered"),
    "ask_read": N_("asking for a read receipt"),
    "copies": N_("copies"),
    "notify": N_("notify"),
}
_WORDS = {
    "accept": N_("accept"),
    "hold": N_("hold for approval"),
    "reject": N_("refuse"),
    "pass": N_("let pass"),
    "letter": N_("as a letter"),
    "report": N_("as a report"),
    "shadow": N_("in shadow"),
    "none": N_("none"),
    "True": N_("yes"),
    "False": N_("no"),
    "set": N_("set"),
    "earlier": N_("earlier"),
    "later": N_("later"),
    "secret": N_("Secret"),
    "top-secret": N_("Top secret"),
    "restricted": N_("Restricted"),
    "ordinary": N_("Ordinary"),
    "urgent": N_("Urgent"),
    "very-urgent": N_("Very urgent"),
    "immediate": N_("Immediate"),
    "normal": N_("Normal"),
}


def outcome_words(text: str, tongue: Tongue) -> str:
    """One side of a difference in the reader's language; what we have no word for stays as it is."""
    told = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, _, rest = part.partition(" ")
        named = tongue.say(_KEYS[key]) if rest and key in _KEYS and key not in _WORDS else ""
        values = rest if named else part
        words = " ".join(tongue.say(_WORDS[word]) if word in _WORDS else word for word in values.split())
        told.append(f"{named}: {words}" if named else words)
    return tongue.comma.join(told) or "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleShift:
    """A rule that would apply to more or fewer letters."""

    rule: str
    before: int
    after: int
    shadow_before: int
    shadow_after: int


def shifts(run: Run) -> list[RuleShift]:
    """The rules whose counts change, the largest changes first."""
    found = [
        RuleShift(
            rule=rule,
            before=tally.before,
            after=tally.after,
            shadow_before=tally.shadow_before,
            shadow_after=tally.shadow_after,
        )
        for rule, tally in run.report.rules.items()
        if (tally.before, tally.shadow_before) != (tally.after, tally.shadow_after)
    ]
    found.sort(key=lambda s: (-abs(s.after - s.before), -abs(s.shadow_after - s.shadow_before), s.rule))
    return found


def runs_of(request: Request) -> ReplayRuns:
    return cast(ReplayRuns, request.app.state.replays)


def part_of(visit: Visit, run: Run) -> str:
    """What a run has found so far."""
    groups = run.report.groups
    changed = shifts(run)
    return visit.html(
        "replay_part.html",
        run=run,
        RunState=RunState,
        groups=groups[:MAX_SHOWN],
        more_groups=max(0, len(groups) - MAX_SHOWN) + run.report.left_out,
        shifts=changed[:MAX_SHOWN],
        aspects={aspect: visit.tongue.say(text) for aspect, text in ASPECTS.items()},
        outcome=lambda text: outcome_words(text, visit.tongue),
    )


@router.get("/policy/replay")
def choose(visit: SignedIn) -> Response:
    desk = policy_of(visit, edit=True)
    visit.record(audit.Action.VIEW_POLICY, "replay")
    return _choose(visit, desk)


def _choose(
    visit: Visit, desk: PolicyDesk, faults: Sequence[Fault] = (), trouble: str = "", status: int = 200
) -> Response:
    with visit.desk.engine.connect() as conn:
        versions = policy_store.versions(conn, 30)
    return visit.page(
        "replay.html",
        status,
        versions=versions,
        in_force=desk.in_force().policy.version,
        editable=desk.editable,
        agencies=agency_choices(visit),
        days=DAYS,
        runs=runs_of(visit.request).recent(),
        RunState=RunState,
        faults=list(faults)[:50],
        trouble=trouble,
        name="",
        rules=0,
        search_line="",
    )


@router.post("/policy/replay")
async def begin(visit: SignedIn) -> Response:
    form = await form_of(visit)
    return await run_in_threadpool(_begin, visit, form)


def _begin(visit: Visit, form: FormData) -> Response:
    desk = policy_of(visit, edit=True)

    def field(key: str, limit: int = 100) -> str:
        value = form.get(key)
        return value.replace("\x00", "")[:limit] if isinstance(value, str) else ""

    days = int(field("since")) if field("since").isdigit() and len(field("since")) < 5 else 7
    agency = field("agency") or None
    if agency is not None and all(known.code != agency for known in visit.desk.agencies()):
        raise HTTPException(400)
    try:
        draft, title = _candidate(visit, desk, field("version"), field("name"), field("text", MAX_TEXT))
        run = runs_of(visit.request).begin(
            visit.desk.engine,
            draft,
            version_of(visit.request, draft),
            by=visit.account.name,
            title=title,
            days=min(max(days, 1), max(DAYS)),
            agency=agency,
        )
    except ConfigFaults as e:
        return _choose(visit, desk, e.faults, status=422)
    except TooManyRuns:
        told = visit.tongue.say("Other trials are waiting already. Try again in a while.")
        return _choose(visit, desk, trouble=told, status=429)
    visit.record(
        audit.Action.POLICY_TRIED, run.title, version=run.candidate, days=run.days, agency=run.agency
    )
    return RedirectResponse(f"/policy/replay/{run.id}", 303)


def _candidate(visit: Visit, desk: PolicyDesk, version: str, name: str, text: str) -> tuple[Draft, str]:
    """The policy to try and what to call it; raises 404."""
    say = visit.tongue.say
    if name:
        if not good_name(name):
            raise HTTPException(400)
        files = desk.on_disk() | {name: unix_lines(text)}
        return desk.draft(files), say("%(name)s as in the editor", name=name)
    if version in ("", ON_DISK):
        return desk.draft(desk.on_disk()), say("the files on disk")
    with visit.desk.engine.connect() as conn:
        try:
            found = policy_store.find(conn, version)
        except PolicyStoreError:
            raise visit.not_found(f"policy version {version[:64]}") from None
        kept = policy_store.files_of(conn, found) or {}
    return Draft.of_version(kept), say("version %(version)s", version=found[:12])


def _run(visit: Visit, run_id: str) -> Run:
    policy_of(visit, edit=True)
    run = runs_of(visit.request).get(run_id)
    if run is None:
        raise visit.not_found(f"replay {run_id[:40]}")
    return run


@router.get("/policy/replay/{run_id}")
def run_page(visit: SignedIn, run_id: str) -> Response:
    run = _run(visit, run_id)
    visit.record(audit.Action.VIEW_POLICY, f"replay {run.id}", version=run.candidate)
    return visit.page("replay_run.html", run=run, part=part_of(visit, run), search_line="")


@router.get("/policy/replay/{run_id}/part")
def run_part(visit: SignedIn, run_id: str) -> Response:
    run = _run(visit, run_id)
    return HTMLResponse(part_of(visit, run))


@router.post("/policy/replay/{run_id}/stop")
def stop(visit: SignedIn, run_id: str) -> Response:
    run = _run(visit, run_id)
    run.stop.set()
    return RedirectResponse(f"/policy/replay/{run.id}", 303)
