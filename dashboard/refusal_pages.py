"""What was refused and why: the page that a refusal names, and the counts for those who look after an agency.

An SMTP reply is ASCII (RFC 5321), so a refusal bears the address of a page with the Arabic text of the rule
that refused. Whoever follows it has no account here: the page tells the words of the rule, and of the letter
nothing. What it does not know is a plain 404; nothing about visits of strangers is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from dashboard.language import N_
from dashboard.sections import may_edit_policy, may_see_policy, may_see_refusals
from dashboard.visit import Anyone, SignedIn
from tracker import audit
from tracker.refusals import DAY_US, Refused, refused

router = APIRouter()

DAYS = 30
MOST = 2_000  # rows of a day, agency and rule that are read
SHOWN = 300
# What stands for the names that a reply is filled with: the page does not know the letter.
_NAMES = {
    "{recipient}": N_("the recipient's address"),
    "{sender}": N_("the sender's address"),
    "{domain}": N_("the recipient's domain"),
    "{agency}": N_("the sending agency"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one rule refused to one agency in the days shown."""

    agency: str
    rule: str
    reply: str
    count: int
    last_us: int


def gathered(rows: Iterable[Refused]) -> list[Told]:
    """By agency and rule, the most frequent first."""
    found: dict[tuple[str, str], Told] = {}
    for row in rows:
        key = row.agency, row.rule
        known = found.get(key)
        latest = known is None or row.last_us > known.last_us
        found[key] = Told(
            agency=row.agency,
            rule=row.rule,
            reply=row.reply if latest or known is None else known.reply,
            count=row.count + (known.count if known is not None else 0),
            last_us=row.last_us if latest or known is None else known.last_us,
        )
    return sorted(found.values(), key=lambda told: (-told.count, told.agency, told.rule))


@router.get("/refused/{rule_id}")
def page_of_refusal(visit: Anyone, rule_id: str) -> Response:
    desk = visit.desk.policy
    rule = desk.in_force().policy.rule(rule_id) if desk is not None else None
    refusal = rule.effect.refusal if rule is not None else None
    if rule is None or refusal is None:
        raise HTTPException(404)
    words = {"ar": refusal.ar, "en": refusal.en}
    for name, stands in _NAMES.items():
        said = f"({visit.tongue.say(stands)})"
        words = {language: text.replace(name, said) for language, text in words.items()}
    first, second = ("ar", "en") if visit.tongue.code == "ar" else ("en", "ar")
    return visit.page(
        "refused.html",
        first=words[first],
        second=words[second],
        second_language=second,
        again=refusal.code < 500,
        status_code=refusal.status,
        id=rule.id,
        search_line="",
    )


@router.get("/refusals")
def refusals(visit: SignedIn) -> Response:
    viewer = visit.viewer
    if not may_see_refusals(viewer):
        visit.record(audit.Action.DENIED, "refusals")
        raise HTTPException(403)
    with visit.desk.engine.connect() as conn:
        rows = refused(conn, viewer, since_us=visit.now_us - DAYS * DAY_US, limit=MOST)
    told = gathered(rows)
    visit.record(audit.Action.VIEW_POLICY, "refusals")
    return visit.page(
        "refusals.html",
        told=told[:SHOWN],
        more=max(0, len(told) - SHOWN),
        days=DAYS,
        whole=viewer.sees_all,
        policy=visit.desk.policy is not None and may_see_policy(viewer),
        edit=may_edit_policy(viewer),
        search_line="",
    )
