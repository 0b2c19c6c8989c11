"""The pages of policy that read: the list of rules, one rule with its letters and days.

For those who see the letters of all agencies; others are refused, and it is recorded. What stands in the
files is shown as it is in force, which is not what is on disk while that has a fault or waits for approval.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from dashboard import ladder
from dashboard.chart import chart
from dashboard.policy_desk import PolicyDesk, PolicySet
from dashboard.rule_book import RuleBook, RuleLine, read_book
from dashboard.rule_words import Phrase, Teller
from dashboard.sections import may_edit_policy, may_see_policy
from dashboard.visit import SignedIn, Visit
from tracker import audit, queries, rule_hits
from tracker.model import id_value
from tracker.rule_hits import RuleUse
from tracker.search import fold

router = APIRouter()

DAYS = 30
PAGE = 200  # rules
DAY_US = 86_400 * 1_000_000


@dataclass(slots=True)
class PolicyBook:
    """What the rules in force say and how often they applied, kept while the version is the same."""

    seconds: float = 30.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _books: dict[str, RuleBook] = field(default_factory=dict)
    _uses: dict[str, tuple[float, RuleUse]] = field(default_factory=dict)

    def book(self, in_force: PolicySet) -> RuleBook:
        version = in_force.policy.version
        with self._lock:
            kept = self._books.get(version)
        if kept is None:
            kept = read_book(in_force.files)
            with self._lock:
                self._books = {version: kept}
        return kept

    def uses(self, visit: Visit, rules: list[str]) -> Mapping[str, RuleUse]:
        now = time.monotonic()
        with self._lock:
            fresh = {r: use for r, (at, use) in self._uses.items() if now - at < self.seconds}
        missing = [rule for rule in rules if rule not in fresh]
        if missing:
            with visit.desk.engine.connect() as conn:
                counted = rule_hits.uses(conn, missing, visit.now_us - DAYS * DAY_US)
            with self._lock:
                if len(self._uses) > 20_000:
                    self._uses.clear()
                self._uses.update({rule: (now, use) for rule, use in counted.items()})
            fresh |= counted
        return fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRule:
    """A rule with its words and its numbers."""

    rule: RuleLine
    match: tuple[Phrase, ...]
    effects: tuple[Phrase, ...]
    use: RuleUse = field(default_factory=RuleUse)


def policy_of(visit: Visit, *, edit: bool = False) -> PolicyDesk:
    """The policy's desk for those who may see it (or change it); 403, recorded, for others."""
    desk = visit.desk.policy
    if desk is None:
        raise visit.not_found("policy")
    if not (may_edit_policy if edit else may_see_policy)(visit.viewer):
        visit.record(audit.Action.DENIED, "policy")
        raise HTTPException(403)
    return desk


def book_of(request: Request) -> PolicyBook:
    return cast(PolicyBook, request.app.state.policy_book)


def teller_of(visit: Visit) -> Teller:
    return Teller(visit.tongue, visit.agency_name)


def show_rule(teller: Teller, rule: RuleLine, use: RuleUse | None = None) -> ShownRule:
    return ShownRule(
        rule=rule,
        match=teller.match(rule.match, rule.when, rule.unless),
        effects=teller.effects(rule.effects),
        use=use or RuleUse(),
    )


def _asked(visit: Visit) -> dict[str, str]:
    given = visit.request.query_params
    return {
        key: value
        for key in ("q", "action", "file", "mode")
        if (value := given.get(key, "").replace("\x00", "")[:100].strip())
    }


def _fits(shown: ShownRule, asked: Mapping[str, str]) -> bool:
    rule = shown.rule
    if "action" in asked and (rule.action or "none") != asked["action"]:
        return False
    if "file" in asked and rule.file != asked["file"]:
        return False
    if "mode" in asked and rule.shadow != (asked["mode"] == "shadow"):
        return False
    if "q" not in asked:
        return True
    text = [rule.id, rule.ar, rule.en, rule.when, *(phrase.text for phrase in shown.match + shown.effects)]
    hay = fold(" ".join(text))
    return all(word in hay for word in fold(asked["q"]).split())


@router.get("/policy")
def rules(visit: SignedIn) -> Response:
    desk = policy_of(visit)
    in_force, books, teller = desk.in_force(), book_of(visit.request), teller_of(visit)
    book, asked = books.book(in_force), _asked(visit)
    found = [shown for rule in book.rules if _fits(shown := show_rule(teller, rule), asked)]
    first = _number(visit.request.query_params.get("from"))
    page = found[first : first + PAGE]
    uses = books.uses(visit, [shown.rule.id for shown in page])
    visit.record(audit.Action.VIEW_POLICY, "rules", asked=asked)
    return visit.page(
        "rules.html",
        rules=[show_rule(teller, shown.rule, uses.get(shown.rule.id)) for shown in page],
        found=len(found),
        all=len(book.rules),
        first=first,
        following=first + PAGE if len(found) > first + PAGE else None,
        asked=asked,
        files=sorted({rule.file for rule in book.rules}),
        version=in_force.policy.version,
        days=DAYS,
        edit=may_edit_policy(visit.viewer),
        search_line="",
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else 0


@router.get("/policy/rules/{rule_id}")
def rule(visit: SignedIn, rule_id: str, cursor: str = "") -> Response:
    desk = policy_of(visit)
    in_force, books = desk.in_force(), book_of(visit.request)
    line = books.book(in_force).rule(rule_id)
    before = None
    if cursor:
        try:
            before = id_value(cursor)
        except ValueError:
            raise visit.not_found(f"rule {rule_id[:100]}") from None
    with visit.desk.engine.connect() as conn:
        use = rule_hits.uses(conn, [rule_id[:100]], visit.now_us - DAYS * DAY_US)[rule_id[:100]]
        if line is None and use.last_us is None:
            raise visit.not_found(f"rule {rule_id[:100]}")
        days = rule_hits.per_day(conn, rule_id, zone=visit.desk.settings.zone, at_us=visit.now_us, days=DAYS)
        listed = queries.of_rule(conn, visit.viewer, rule_id, before_id=before)
    visit.record(audit.Action.VIEW_POLICY, f"rule {rule_id}", hits=len(listed.letters))
    return visit.page(
        "rule.html",
        id=rule_id,
        shown=None if line is None else show_rule(teller_of(visit), line, use),
        use=use,
        chart=chart(days, rtl=visit.tongue.direction == "rtl"),
        listed=listed,
        glances={letter.id: ladder.glance(letter.recipients, visit.tongue) for letter in listed.letters},
        first=before is None,
        days=DAYS,
        edit=may_edit_policy(visit.viewer) and desk.editable,
        search_line="",
    )
