"""One replay from the record to a report: for the command line and for the dashboard.

:func:`run` reads page by page and tells how far it is; ``stop`` lets a page of the dashboard give up. A
:class:`Report` is plain values: counts, the kinds of changes with examples, the rules with what they
applied to, and what could not be known. Raises the database's errors, nothing for what stands in a record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policies.chain import Policy
from policies.faults import ConfigFaults
from policies.replay import Aspect, Change, Changed, Group, Replay, Reread, Tally, Unknown, outcome
from policies.versions import compile_version
from tracker import policy_store, recorded
from tracker.model import id_text, now_us

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a candidate would do otherwise to the letters of a window (microseconds UTC)."""

    candidate: str
    since_us: int
    until_us: int
    agency: str | None
    letters: int  # recorded transactions that were decided again
    recipients: int
    changed: int  # of the letters
    aspects: dict[Aspect, int]  # of the changed letters
    groups: tuple[Group, ...]  # most letters first
    left_out: int  # changes of still more kinds
    rules: dict[str, Tally]  # by id
    versions: dict[str, int]  # that decided then, with letters
    unknown: Unknown
    complete: bool  # False: it was stopped, or goes on

    @classmethod
    def empty(cls, candidate: str, since_us: int, until_us: int, agency: str | None) -> Report:
        """Before the first letter."""
        return cls(
            candidate=candidate,
            since_us=since_us,
            until_us=until_us,
            agency=agency,
            letters=0,
            recipients=0,
            changed=0,
            aspects=dict.fromkeys(Aspect, 0),
            groups=(),
            left_out=0,
            rules={},
            versions={},
            unknown=Unknown(),
            complete=False,
        )

    @classmethod
    def of(
        cls, replay: Replay, since_us: int, until_us: int, agency: str | None, *, complete: bool
    ) -> Report:
        """What a replay has found so far."""
        return cls(
            candidate=replay.candidate.version,
            since_us=since_us,
            until_us=until_us,
            agency=agency,
            letters=replay.letters,
            recipients=replay.recipients,
            changed=replay.changed_letters,
            aspects=replay.changed,
            groups=tuple(replay.groups),
            left_out=replay.left_out,
            rules=replay.rules,
            versions=replay.versions,
            unknown=replay.unknown,
            complete=complete,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "candidate": self.candidate,
            "since_us": self.since_us,
            "until_us": self.until_us,
            "agency": self.agency,
            "letters": self.letters,
            "recipients": self.recipients,
            "changed": self.changed,
            "aspects": {aspect.value: count for aspect, count in self.aspects.items()},
            "groups": [
                {
                    "aspect": g.aspect.value,
                    "before": g.before,
                    "after": g.after,
                    "rule_before": g.rule_before,
                    "rule_after": g.rule_after,
                    "letters": g.letters,
                    "recipients": g.recipients,
                    "examples": [name_of(one) for one in g.examples],
                }
                for g in self.groups
            ],
            "left_out": self.left_out,
            "rules": {
                rule: {
                    "before": t.before,
                    "after": t.after,
                    "shadow_before": t.shadow_before,
                    "shadow_after": t.shadow_after,
                }
                for rule, t in sorted(self.rules.items())
            },
            "versions": self.versions,
            "unknown": {
                "broken": self.unknown.broken,
                "older": self.unknown.older,
                "fields": self.unknown.fields,
            },
            "complete": self.complete,
        }


def run(
    read: recorded.Read,
    candidate: Policy,
    *,
    since_us: int,
    until_us: int | None = None,
    agency: str | None = None,
    examples: int = 3,
    reread: Reread | None = None,
    progress: Progress = lambda done, total: None,
    told: Callable[[Changed], None] = lambda changed: None,
    stop: Callable[[], bool] = lambda: False,
    so_far: Callable[[int, int, Callable[[], Report]], None] = lambda done, total, report: None,
) -> Report:
    """Lead the candidate past the window. ``told`` gets every changed transaction as it is found, ``so_far``
    how far it is and, when it asks, what was found until then."""
    until = now_us() if until_us is None else until_us
    begin = since_us - warm_us(candidate)
    with read() as conn:
        total = recorded.count(conn, begin, until)
    replay = Replay(
        candidate, since_us=since_us, agency=agency, examples=examples, needs_of=needs_of(read), reread=reread
    )
    done, complete = 0, True

    def report(complete: bool = False) -> Report:
        return Report.of(replay, since_us, until, agency, complete=complete)

    progress(0, total)
    so_far(0, total, report)
    for rows in recorded.recorded(read, begin, until):
        for changed in replay.feed(rows):
            told(changed)
        done += len(rows)
        progress(min(done, total), total)
        so_far(min(done, total), total, report)
        if stop():
            complete = False
            break
    return report(complete)


def warm_us(policy: Policy) -> int:
    """How long before a window the rate limits of a policy begin to count."""
    return max((rule.limit.window_us for rule in policy.rules if rule.limit is not None), default=0)


def needs_of(read: recorded.Read) -> Callable[[str], frozenset[str] | None]:
    """The header fields that a version asked for; None when the version cannot be told any more."""

    def needs(version: str) -> frozenset[str] | None:
        with read() as conn:
            files = policy_store.files_of(conn, version)
        if files is None:
            return None
        try:
            return compile_version(files).needs_fields
        except ConfigFaults:
            return None

    return needs


def name_of(changed: Changed) -> str:
    """A letter as people call it: its number, else its id."""
    return changed.number or id_text(changed.letter_id)


def change_json(changed: Changed) -> dict[str, Any]:
    """One changed transaction as plain values."""
    return {
        "letter": id_text(changed.letter_id),
        "number": changed.number,
        "at_us": changed.at_us,
        "agency": changed.agency,
        "changes": [
            {
                "recipient": change.recipient,
                "agency": change.agency,
                "aspect": change.aspect.value,
                "before": change.before,
                "after": change.after,
                "rule_before": change.rule_before,
                "rule_after": change.rule_after,
            }
            for change in changed.changes
        ],
    }


def side(change: Change, after: bool) -> str:
    """One side of a change in words."""
    return outcome(change.aspect, change.after if after else change.before)
