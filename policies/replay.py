"""A candidate policy led past recorded letters, and what it would have decided otherwise.

The candidate decides the stored facts through the very engine that decides letters, in their order and
with its own state: rate limits count what the candidate lets pass, and an answer sees the classification,
urgency and due date that the candidate gave to the letter it answers. What is compared is the
decision that was recorded. Letters before the window only fill the counters (:attr:`Replay.warm_us`).

Nothing is written. What cannot be known is counted, not guessed: facts of an older version lack what came
later, and a header field that the candidate asks for was not kept when nobody asked (:class:`Unknown`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pydantic_core import from_json

from policies.chain import Policy
from policies.facts import FACTS_VERSION, Facts
from policies.marks import Marks
from policies.rates import PolicyState
from policies.verdict import Decision, Kind
from tracker.recorded import Recorded

MAX_GROUPS = 2_000


class Aspect(StrEnum):
    """What of a verdict changes."""

    VERDICT = "verdict"  # accepted, held, refused, passed; on what terms; as what
    ROUTE = "route"
    CLASS = "class"  # classification, urgency
    DUE = "due"
    OTHER = "other"  # receipts, tags, TLS, copies, notices


_ASPECTS: dict[str, Aspect] = {
    "action": Aspect.VERDICT,
    "kind": Aspect.VERDICT,
    "reply": Aspect.VERDICT,
    "hold": Aspect.VERDICT,
    "hop": Aspect.ROUTE,
    "redirect": Aspect.ROUTE,
    "mailbox": Aspect.ROUTE,
    "classification": Aspect.CLASS,
    "urgency": Aspect.CLASS,
    "due_us": Aspect.DUE,
}
# Of a recorded verdict, what names it or explains it and is no outcome.
_NAMES = frozenset({"to", "agency", "rule", "path", "reasons", "would_do"})
Json = dict[str, Any]
Reread = Callable[[Recorded, Facts, Iterable[str]], Facts | None]
Standing = tuple[str, str, int | None]  # classification, urgency, due


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would be otherwise for one recipient. Values as the record has them, None for none."""

    recipient: str
    agency: str | None
    aspect: Aspect
    before: Json
    after: Json
    rule_before: str
    rule_after: str


@dataclass(frozen=True, slots=True)
class Changed:
    """One recorded transaction about which the candidate decides otherwise."""

    submission_id: int
    letter_id: int
    at_us: int
    number: str | None
    agency: str | None
    changes: tuple[Change, ...]


@dataclass(slots=True)
class Tally:
    """How many letters a rule applied to, as recorded and under the candidate; those of shadow mode apart."""

    before: int = 0
    after: int = 0
    shadow_before: int = 0
    shadow_after: int = 0


@dataclass(slots=True)
class Group:
    """Letters that change alike."""

    aspect: Aspect
    rule_before: str
    rule_after: str
    before: str
    after: str
    letters: int = 0
    recipients: int = 0
    examples: list[Changed] = field(default_factory=list)


@dataclass(slots=True)
class Unknown:
    """Letters of which the replay does not know everything."""

    broken: int = 0  # facts that cannot be read: left out
    older: int = 0  # facts of an older version
    fields: int = 0  # header fields that the candidate asks for and the policy of then did not


class Replay:
    """One run. Feed it recorded transactions in their order; it keeps the counts and the examples."""

    def __init__(
        self,
        candidate: Policy,
        *,
        since_us: int = 0,
        agency: str | None = None,
        examples: int = 3,
        needs_of: Callable[[str], frozenset[str] | None] = lambda version: None,
        state: PolicyState | None = None,
        reread: Reread | None = None,
    ) -> None:
        """``agency``: only letters from or to it are told of. ``needs_of``: the header fields that a version
        asked for. ``examples``: how many are kept of each group. ``reread`` completes facts that lack
        something (``policies/reread.py``)."""
        self.candidate = candidate
        self.letters = 0
        self.recipients = 0
        self.changed: dict[Aspect, int] = dict.fromkeys(Aspect, 0)
        self.changed_letters = 0
        self.rules: dict[str, Tally] = {}
        self.versions: dict[str, int] = {}  # that decided, with letters
        self.unknown = Unknown()
        self.left_out = 0  # changes beyond MAX_GROUPS kinds of them
        self._groups: dict[tuple[str, ...], Group] = {}
        self._since_us = since_us
        self._agency = agency
        self._examples = examples
        self._state = PolicyState() if state is None else state
        self._otherwise: dict[int, Standing] = {}  # letter -> as the candidate has it
        self._needs = candidate.needs_fields
        self._lacking: dict[str, bool] = {}
        self._needs_of = needs_of
        self._reread = reread

    @property
    def groups(self) -> list[Group]:
        """Most letters first."""
        return sorted(self._groups.values(), key=lambda g: (-g.letters, g.aspect, g.rule_after, g.after))

    def feed(self, rows: Sequence[Recorded]) -> Iterator[Changed]:
        """The transactions about which the candidate decides otherwise."""
        for row in rows:
            changed = self._one(row)
            if changed is not None:
                yield changed

    def _one(self, row: Recorded) -> Changed | None:
        try:
            facts = read_facts(row)
        except ValueError:
            self.unknown.broken += row.at_us >= self._since_us
            return None
        older, fields = row.facts_version < FACTS_VERSION, self._lacks_fields(row.version)
        if (older or fields) and self._reread is not None:
            whole = self._reread(row, facts, self._needs)
            if whole is not None:
                facts, older, fields = whole, False, False
        if row.at_us >= self._since_us:
            self.unknown.older += older
            self.unknown.fields += fields
        known = facts.answered
        if known is not None and known.letter_id in self._otherwise:
            classification, urgency, due_us = self._otherwise[known.letter_id]
            answered = replace(known, classification=classification, urgency=urgency, due_us=due_us)
            facts = replace(facts, answered=answered)
        decision = self.candidate.decide(facts, self._state)
        was: Json = from_json(row.decision)
        return self._compare(row, decision, was)

    def _compare(self, row: Recorded, decision: Decision, was: Json) -> Changed | None:
        recorded: list[Json] = was.get("verdicts") or []
        now = [verdict.to_json() for verdict in decision.verdicts]
        marks = self.candidate.marks
        standing, would_be = standing_of(recorded, marks), standing_of(now, marks)
        if standing != would_be:
            self._otherwise[row.letter_id] = would_be
        else:
            self._otherwise.pop(row.letter_id, None)
        if row.at_us < self._since_us:
            return None
        if self._agency is not None and self._agency != row.agency and not _concerns(self._agency, recorded):
            return None
        self._count(row, decision, was)
        if len(recorded) == len(now) and all(map(alike, recorded, now)):
            return None
        paths: list[Json] = was.get("paths") or []
        found: list[Change] = []
        for i, after in enumerate(now):
            before = recorded[i] if i < len(recorded) and recorded[i].get("to") == after["to"] else {}
            if before and alike(before, after):
                continue
            hits = decision.verdicts[i].hits
            found += differences(before, after, _hits(before, paths), hits)
        if not found:
            return None
        changed = Changed(row.submission_id, row.letter_id, row.at_us, row.number, row.agency, tuple(found))
        self._gather(changed)
        return changed

    def _count(self, row: Recorded, decision: Decision, was: Json) -> None:
        self.letters += 1
        self.recipients += len(decision.verdicts)
        self.versions[row.version] = self.versions.get(row.version, 0) + 1
        if "paths" in was:  # a refusal of the whole letter was recorded without them
            before, would = set[str](), set[str]()
            for path in was["paths"]:
                before.update(path.get("hits", ()))
                would.update(path.get("would", ()))
        else:
            before, would = {v.get("rule", "") for v in was.get("verdicts", ())}, set()
        for rule in before:
            self._tally(rule).before += 1
        for rule in would:
            self._tally(rule).shadow_before += 1
        for rule in {rule for verdict in decision.verdicts for rule in verdict.hits}:
            self._tally(rule).after += 1
        for rule in {rule for verdict in decision.verdicts for rule in verdict.would}:
            self._tally(rule).shadow_after += 1

    def _lacks_fields(self, version: str) -> bool:
        """The policy of then did not ask for a header field that the candidate asks for."""
        if not self._needs or version == self.candidate.version:
            return False
        lacking = self._lacking.get(version)
        if lacking is None:
            then = self._needs_of(version)
            lacking = self._lacking[version] = then is None or not self._needs <= then
        return lacking

    def _tally(self, rule: str) -> Tally:
        found = self.rules.get(rule)
        if found is None:
            found = self.rules[rule] = Tally()
        return found

    def _gather(self, changed: Changed) -> None:
        self.changed_letters += 1
        for aspect in {change.aspect for change in changed.changes}:
            self.changed[aspect] += 1
        seen: set[tuple[str, ...]] = set()
        for change in changed.changes:
            before, after = outcome(change.aspect, change.before), outcome(change.aspect, change.after)
            if change.aspect is Aspect.DUE:
                before, after = _later(change)
            key = (change.aspect.value, change.rule_before, change.rule_after, before, after)
            group = self._groups.get(key)
            if group is None:
                if len(self._groups) >= MAX_GROUPS:
                    self.left_out += 1
                    continue
                group = Group(change.aspect, change.rule_before, change.rule_after, before, after)
                self._groups[key] = group
            group.recipients += 1
            if key not in seen:
                seen.add(key)
                group.letters += 1
                if len(group.examples) < self._examples:
                    group.examples.append(changed)


def read_facts(row: Recorded) -> Facts:
    """The facts of a recorded transaction, at its time; raises ValueError."""
    facts = Facts.from_json(from_json(row.facts))
    return facts if facts.at_us else replace(facts, at_us=row.at_us)


def standing_of(verdicts: Sequence[Mapping[str, Any]], marks: Marks) -> Standing:
    """What the letter itself bears by these verdicts, as acceptance reckons it (``gateway/drafting.py``)."""
    kept = [v for v in verdicts if v.get("kind") != Kind.REPORT.value]
    dues = [v["due_us"] for v in kept if v.get("due_us") is not None]
    return (
        marks.classifications.highest([v.get("classification", "") for v in kept]),
        marks.urgencies.highest([v.get("urgency", "") for v in kept]),
        min(dues, default=None),
    )


def alike(before: Json, after: Json) -> bool:
    """Whether two verdicts, as the record has them, come to the same."""
    for key, value in after.items():
        if key not in _NAMES and before.get(key) != value:
            return False
    return all(key in after or key in _NAMES for key in before)


def _concerns(agency: str, verdicts: list[Json]) -> bool:
    return any(v.get("agency") == agency for v in verdicts)


def _hits(before: Json, paths: list[Json]) -> tuple[str, ...]:
    path = before.get("path")
    return tuple(paths[path].get("hits", ())) if isinstance(path, int) and path < len(paths) else ()


def differences(
    before: Json, after: Json, hits_before: Sequence[str], hits_after: Sequence[str]
) -> list[Change]:
    """What of two verdicts on one recipient differs, and by which rules."""
    differing: dict[Aspect, tuple[Json, Json]] = {}
    for key in sorted((before.keys() | after.keys()) - _NAMES):
        old, new = before.get(key), after.get(key)
        if old != new:
            ends = differing.setdefault(_ASPECTS.get(key, Aspect.OTHER), ({}, {}))
            ends[0][key], ends[1][key] = old, new
    out = []
    for aspect, (old, new) in differing.items():
        rule_before, rule_after = str(before.get("rule", "")), str(after.get("rule", ""))
        if rule_before == rule_after and hits_before:
            # The same rule decides: what came or went on the way to it is what makes the difference.
            rule_before = ", ".join(r for r in hits_before if r not in hits_after) or rule_before
            rule_after = ", ".join(r for r in hits_after if r not in hits_before) or rule_after
        out.append(
            Change(
                recipient=str(after["to"]),
                agency=after.get("agency"),
                aspect=aspect,
                before=old,
                after=new,
                rule_before=rule_before,
                rule_after=rule_after,
            )
        )
    return out


def outcome(aspect: Aspect, values: Mapping[str, Any]) -> str:
    """One side of a change in words, such as ``hold`` or ``classification secret``."""
    if aspect is Aspect.VERDICT and set(values) <= {"action", "kind", "reply", "hold"}:
        words = [str(values[key]) for key in ("action", "kind") if values.get(key)]
        words += [str(values["reply"]).partition(" ")[0]] if values.get("reply") else []
        return " ".join(words)
    words = []
    for key, value in values.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        words.append(f"{key} {'none' if value in (None, '') else value}")
    return "; ".join(words)


def _later(change: Change) -> tuple[str, str]:
    old, new = change.before.get("due_us"), change.after.get("due_us")
    if old is None or new is None:
        return "none" if old is None else "set", "none" if new is None else "set"
    return "set", "earlier" if new < old else "later"
