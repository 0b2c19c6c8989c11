"""The replay of recorded letters: none under the policy that decided them differs, the right ones do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic_core
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.chain import Policy
from policies.facts import Answered, AttachmentFact, Facts
from policies.load import LETTERS, load_policy
from policies.rates import PolicyState
from policies.replay import Aspect, Changed, Replay, standing_of
from policies.replay_report import warm_us
from policies.reread import Rereader
from tests.unit.test_policy_facts import RETURN, read, relay, signed_in
from tracker.model import Connection
from tracker.recorded import Recorded

START = 1_767_520_800_000_000  # Sunday 2026-01-04, 10:00 UTC
HOUR = 3_600_000_000
MOF, MOH = relay("MOF"), relay("MOH")
CLIENT = signed_in("MOF", "a@mof.example")
STRANGER = relay("", "203.0.113.1")

RICH = """rules:
  - id: answers-keep-their-degree
    priority: 101
    description: {ar: لا يقل الجواب عن درجة ما يجيب عنه, en: An answer is never lower than what it answers}
    match: {answers: true, author: [own, missing]}
    raise_classification: answered
    raise_urgency: answered
  - id: urgent-is-due-soon
    priority: 102
    description: {ar: العاجل, en: Urgent letters are due in two working days}
    match: {urgency_at_least: urgent, recipient: agency}
    due: 2 working days
  - id: bulk
    priority: 103
    description: {ar: كثرة, en: Too many letters of one mailbox}
    match: {recipient: agency, author: own}
    limit: {per: mailbox, count: 3, window: 1h}
    hold: {approvers: [registry], persons: 2, expires: 8h}
  - id: bulk-pair
    priority: 104
    description: {ar: كثرة, en: Too many letters of one pair}
    match: {recipient: agency}
    limit: {per: pair, count: 5, window: 1h, then: reject}
    reply: {code: 450, status: 4.7.1, en: Too many letters, ar: كتب كثيرة}
  - id: macros-are-held
    priority: 105
    description: {ar: وحدات الماكرو, en: Macros wait for approval}
    match: {attachment_macros: true}
    action: hold
  - id: big-would-be-held
    priority: 106
    mode: shadow
    description: {ar: كبير, en: A trial}
    match: {size_over: 60}
    action: hold
  - id: at-night
    priority: 107
    description: {ar: ليلاً, en: Outside office hours the registry is told}
    match: {working_time: false}
    when: 'recipients > 1 || subject.contains("x")'
    notify: registry@moh.example
"""


def made(folder: Path, *extra: str, default: bool = True) -> Policy:
    folder.mkdir(exist_ok=True)
    (folder / "letters.yaml").write_text(LETTERS.read_text("utf-8") if default else "rules: []\n", "utf-8")
    for i, text in enumerate(extra):
        (folder / f"more-{i}.yaml").write_text(text, "utf-8")
    return load_policy(folder)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return made(tmp_path_factory.mktemp("policy") / "rich", RICH)


class Past:
    """Decides letters with a policy as the gateway does, and keeps what it would record."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.rows: list[Recorded] = []
        self._state = PolicyState()

    def letter(self, facts: Facts, at_us: int, answers: int | None = None) -> dict[str, Any]:
        """Decide and record; ``answers`` is the place of an earlier letter."""
        if answers is not None:
            known = self.rows[answers]
            classification, urgency, due_us = standing_of(
                self.decision(answers)["verdicts"], self.policy.marks
            )
            answered = Answered(
                letter_id=known.letter_id, classification=classification, urgency=urgency, due_us=due_us
            )
            facts = replace(facts, answered=answered)
        facts = replace(facts, at_us=at_us)
        decision = self.policy.decide(facts, self._state).to_json()
        n = len(self.rows) + 1
        self.rows.append(
            Recorded(
                submission_id=n,
                letter_id=n * 10,
                at_us=at_us,
                kind="letter",
                number=f"MOF/2026/{n:06d}",
                agency=facts.submitter,
                version=self.policy.version,
                facts_version=2,
                facts=pydantic_core.to_json(facts.to_json()).decode(),
                decision=pydantic_core.to_json(decision).decode(),
            )
        )
        return decision

    def decision(self, n: int) -> dict[str, Any]:
        return dict(pydantic_core.from_json(self.rows[n].decision))

    def under(self, candidate: Policy, **more: Any) -> tuple[Replay, list[Changed]]:
        replay = Replay(candidate, **more)
        return replay, list(replay.feed(self.rows))


def plain(
    subject: str = "Budget",
    *to: str,
    conn: Connection = MOF,
    sender: str = "a@mof.example",
    more: str = "",
    attachments: Sequence[AttachmentFact] = (),
) -> Facts:
    facts = read(
        f"From: {sender}\nSubject: {subject}\n{more}".rstrip(), conn, sender, to or ("b@moh.example",)
    )
    return replace(facts, attachments=tuple(attachments))


MACROS = AttachmentFact(name="a.docm", declared="", detected="", size=5, sha256="0" * 64, macros=True)

letters = st.fixed_dictionaries(
    {
        "conn": st.sampled_from([MOF, MOH, CLIENT, STRANGER, relay("OLD"), relay("ALL")]),
        "sender": st.sampled_from(
            ["a@mof.example", "a@moh.example", "c@mof.example", "", "u@x.example", str(RETURN)]
        ),
        "author": st.sampled_from(
            ["a@mof.example", "a@moh.example", "x@x.example", "a@mof.example, b@moh.example"]
        ),
        "to": st.lists(
            st.sampled_from(
                ["b@moh.example", "d@moh.example", "b@moi.example", "b@mof.example", "b@x.example"]
            ),
            min_size=1,
            max_size=4,
            unique=True,
        ),
        "header": st.lists(
            st.sampled_from(
                [
                    "Subject: [سري] [عاجل] x",
                    "Subject: كتاب",
                    "Importance: high",
                    "Sensitivity: company-confidential",
                    "Auto-Submitted: auto-replied",
                    "List-Id: <l.example>",
                    "X-Priority: 1",
                    "Reply-By: Tue, 24 Nov 2026 10:00:00 +0300",
                    "Message-ID: <1@mof.example>",
                ]
            ),
            max_size=4,
            unique=True,
        ),
        "macros": st.booleans(),
        "after": st.integers(0, 3 * HOUR),
        "answers": st.none() | st.integers(0, 30),
    }
)


@given(drawn=st.lists(letters, min_size=1, max_size=14))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_policy_that_decided_would_decide_the_same(rich: Policy, drawn: list[dict[str, Any]]) -> None:
    past, at = Past(rich), START
    for one in drawn:
        at += one["after"]
        lines = [f"From: {one['author']}", *one["header"]]
        facts = read("\n".join(lines), one["conn"], one["sender"], tuple(one["to"]))
        if one["macros"]:
            facts = replace(facts, attachments=(MACROS,))
        answers = one["answers"]
        past.letter(facts, at, answers % len(past.rows) if answers is not None and past.rows else None)
    replay, changed = past.under(rich)
    assert changed == [] and replay.groups == [] and not any(replay.changed.values())
    assert replay.letters == len(drawn) and not replay.unknown.broken
    assert all((t.before, t.shadow_before) == (t.after, t.shadow_after) for t in replay.rules.values())


def test_a_letter_that_would_be_held_is_told_with_the_rules(tmp_path: Path) -> None:
    base = made(tmp_path / "base")
    past = Past(base)
    for n in range(5):
        past.letter(plain("Budget" if n % 2 else "Salaries", "b@moh.example", "b@moi.example"), START + n)
    rule = """rules:
  - id: salaries-are-held
    priority: 104
    description: {ar: الرواتب, en: Salaries}
    match: {subject_contains: salaries, recipient_agency: MOH}
    action: hold
"""
    replay, changed = past.under(made(tmp_path / "other", rule), examples=2)
    assert [one.number for one in changed] == [f"MOF/2026/{n:06d}" for n in (1, 3, 5)]
    (change,) = changed[0].changes
    assert (change.recipient, change.agency, change.aspect) == ("b@moh.example", "MOH", Aspect.VERDICT)
    assert (change.rule_before, change.rule_after) == ("inter-agency-letter", "salaries-are-held")
    verdict = next(g for g in replay.groups if g.aspect is Aspect.VERDICT)
    assert (verdict.before.split()[0], verdict.after.split()[0]) == ("accept", "hold")
    assert (verdict.letters, verdict.recipients, len(verdict.examples)) == (3, 3, 2)
    assert replay.rules["salaries-are-held"].after == 3 and replay.rules["salaries-are-held"].before == 0
    assert replay.changed_letters == 3 and replay.letters == 5 and replay.recipients == 10
    assert replay.versions == {base.version: 5}
    none, told = past.under(made(tmp_path / "other", rule), agency="MOI")
    assert none.letters == 5 and len(told) == 3  # letters to MOI and MOH
    none, told = past.under(made(tmp_path / "other", rule), agency="OLD")
    assert none.letters == 0 and told == []


def test_an_answer_sees_what_the_candidate_made_of_the_letter_it_answers(
    tmp_path: Path, rich: Policy
) -> None:
    past = Past(rich)
    past.letter(plain("Plans"), START)
    past.letter(
        plain("Re: Plans", "a@mof.example", conn=MOH, sender="b@moh.example"), START + HOUR, answers=0
    )
    past.letter(plain("Re: Re: Plans"), START + 2 * HOUR, answers=1)
    raised = """rules:
  - id: plans-are-secret
    priority: 100
    description: {ar: الخطط, en: Plans}
    match: {subject_contains: plans}
    unless: {answers: true}
    classification: secret
    urgency: urgent
"""
    _, changed = past.under(made(tmp_path / "other", RICH, raised))
    assert [one.submission_id for one in changed] == [1, 2, 3]  # each takes its degree from the one before
    for one in changed:
        aspects = {change.aspect: change for change in one.changes}
        assert aspects[Aspect.CLASS].after["classification"] == "secret"
        assert aspects[Aspect.DUE].before == {"due_us": None} and aspects[Aspect.DUE].after["due_us"]


def test_rates_are_counted_anew_and_letters_before_the_window_fill_them(tmp_path: Path) -> None:
    base = made(tmp_path / "base")
    past = Past(base)
    for n in range(8):
        past.letter(plain(f"Letter {n}"), START + n * HOUR // 100)
    limited = """rules:
  - id: five-an-hour
    priority: 104
    description: {ar: خمسة, en: Five an hour}
    match: {recipient: agency}
    limit: {per: mailbox, count: 5, window: 1h}
"""
    candidate = made(tmp_path / "other", limited)
    assert warm_us(candidate) == HOUR and warm_us(base) == 0
    _, changed = past.under(candidate)
    assert [one.submission_id for one in changed] == [6, 7, 8]
    replay, changed = past.under(candidate, since_us=past.rows[6].at_us)
    assert [one.submission_id for one in changed] == [7, 8] and replay.letters == 2


def test_a_verdict_of_an_earlier_program_is_compared_with_what_it_had(tmp_path: Path, rich: Policy) -> None:
    """Facts of version 1 lack the time and the marks; a refusal of a whole letter was kept without a path."""
    past = Past(rich)
    past.letter(plain("[عاجل] Plans"), START)
    past.letter(plain("x", "b@x.example", conn=STRANGER), START)
    facts = pydantic_core.from_json(past.rows[0].facts)
    facts = {k: v for k, v in facts.items() if k not in ("at_us", "marks")} | {"v": 1}
    old = past.rows[0]._replace(facts=pydantic_core.to_json(facts).decode(), facts_version=1)
    refused = past.rows[1]._replace(
        decision=pydantic_core.to_json({"verdicts": past.decision(1)["verdicts"]}).decode(), kind="refused"
    )
    broken = old._replace(facts='{"v": 99}')
    replay = Replay(rich)
    (changed,) = replay.feed([old, refused, broken])
    assert {change.aspect for change in changed.changes} == {Aspect.CLASS, Aspect.DUE}
    assert (replay.unknown.older, replay.unknown.broken) == (1, 1)
    assert replay.letters == 2


def test_header_fields_that_nobody_asked_for_are_told_of(tmp_path: Path) -> None:
    base = made(tmp_path / "base")
    past = Past(base)
    past.letter(plain(), START)
    asking = """rules:
  - id: spam
    priority: 104
    description: {ar: مزعج, en: Spam}
    match: {header: {X-Spam: true}}
    action: hold
"""
    candidate = made(tmp_path / "other", asking)
    for needs, lacking in ((lambda version: None, 1), (lambda version: frozenset({"x-spam"}), 0)):
        replay, _ = past.under(candidate, needs_of=needs)
        assert replay.unknown.fields == lacking
    assert past.under(base)[0].unknown.fields == 0


def test_routes_and_the_rest_are_told_apart(tmp_path: Path) -> None:
    base = made(tmp_path / "base")
    past = Past(base)
    past.letter(plain(), START)
    routed = """rules:
  - id: to-the-registry
    priority: 104
    description: {ar: إلى الديوان, en: To the registry}
    match: {recipient_agency: MOH}
    mailbox: diwan@moh.example
    require_tls: true
"""
    _, (changed,) = past.under(made(tmp_path / "other", routed))
    assert {c.aspect: c.after for c in changed.changes} == {
        Aspect.ROUTE: {"mailbox": "diwan@moh.example"},
        Aspect.OTHER: {"require_tls": True},
    }
    assert {c.rule_after for c in changed.changes} == {"to-the-registry"}


def test_what_facts_lack_is_read_again_from_the_archive(tmp_path: Path, rich: Policy) -> None:
    octets = b"From: a@mof.example\r\nSubject: Plans\r\nImportance: high\r\nX-Spam: yes\r\n\r\nbody\r\n"
    past = Past(rich)
    past.letter(plain("Plans"), START)
    facts = {k: v for k, v in pydantic_core.from_json(past.rows[0].facts).items() if k != "at_us"} | {"v": 1}
    old = past.rows[0]._replace(facts=pydantic_core.to_json(facts).decode(), facts_version=1)
    asking = """rules:
  - id: spam
    priority: 104
    description: {ar: مزعج, en: Spam}
    match: {header: {X-Spam: true}}
    action: hold
"""
    candidate = made(tmp_path / "other", RICH, asking)
    opened: list[str] = []

    def open_(key: str) -> bytes:
        opened.append(key)
        if key != "good":
            raise FileNotFoundError(2, "gone", key)
        return octets

    for key, found in (("good", True), ("gone", False), (None, False)):
        keys = {past.rows[0].submission_id: key}
        replay = Replay(candidate, reread=Rereader(keys.get, open_))
        changes = {c.aspect: c for one in replay.feed([old]) for c in one.changes}
        assert (Aspect.VERDICT in changes and Aspect.CLASS in changes) is found  # header, and a mark
        if found:  # reckoned from when the letter came
            assert START < changes[Aspect.DUE].after["due_us"] < START + 7 * 24 * HOUR
        assert (replay.unknown.older, replay.unknown.fields) == ((0, 0) if found else (1, 1))
    assert opened == ["good", "gone"]
    assert list(Replay(rich, reread=Rereader(lambda submission_id: "good", open_)).feed(past.rows)) == []
    assert opened == ["good", "gone"]  # what lacks nothing is not read again
