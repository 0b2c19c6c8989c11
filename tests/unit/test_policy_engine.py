"""Every match key and effect of rules, groups and marks, and the built-in set."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from policies.agency import Mode
from policies.chain import UNDECIDED, Policy
from policies.facts import Answered, AttachmentFact, Facts
from policies.load import DEFAULT, DEFAULT_SET, LETTERS, load_policy, load_policy_texts, policy_files
from policies.rates import PolicyState
from policies.rule import Answer
from policies.rule_entry import Match
from policies.verdict import Action, Kind, Then, Verdict
from tests.unit.test_policy_facts import read, relay, signed_in
from tracker.model import Address

MOF = relay("MOF")
DEFAULTS = load_policy()
PDF = AttachmentFact(
    name="plan.pdf", declared="a/b", detected="application/pdf", size=100, sha256="", odd=("bidi",)
)
SUNDAY = int(datetime(2026, 1, 4, 9, 30, tzinfo=ZoneInfo("Asia/Amman")).timestamp()) * 1_000_000
HOUR = 3_600_000_000


def letter(subject: str = "Budget", *to: str, more: str = "", **changes: Any) -> Facts:
    facts = read(f"From: a@mof.example\nSubject: {subject}{more}", MOF, to=to or ("b@moh.example",))
    return replace(facts, at_us=SUNDAY, **changes)


def policy(*rules: str, groups: str = "", alone: bool = False) -> Policy:
    """These rules, one a line without the words that all have, before the built-in letters."""
    text = "rules:\n"
    for n, rule in enumerate(rules):
        text += f"  - {{id: r-{n}, priority: {100 + n}, description: {{ar: س, en: Why {n}}}, {rule}}}\n"
    files = {"rules.yaml": text}
    if not alone:
        files["letters.yaml"] = LETTERS.read_text("utf-8")
    if groups:
        files["groups.yaml"] = groups
    return load_policy_texts(files)


def one(policy: Policy, facts: Facts, state: PolicyState | None = None) -> Verdict:
    (verdict,) = policy.decide(facts, state).verdicts
    return verdict


# Match keys: what holds and what does not, of the same letter.

FULL = letter(
    "كتاب عاجِل",
    attachments=(replace(PDF, extension="pdf", encrypted=True), replace(PDF, name="y.ZIP", extension="zip")),
    marks=(("subject", "عاجل"), ("sensitivity", "Company-Confidential")),
    results=(("spf", "fail"),),
    fields=(("x-spam", "Yes, 7"),),
    answered=Answered(letter_id=1, classification="secret"),
    reply_by_us=SUNDAY + HOUR,
    stripped=("wasl-urgency",),
)
KEYS: dict[str, tuple[str, str]] = {
    "door": ("relay", "submission"),
    "agency_server": ("true", "false"),
    "peer": ("[10.0.0.0/8]", "192.0.2.0/24"),
    "submitter": ("[MOH, MOF]", "MOH"),
    "submitter_mode": ("active", "[shadow, 'off']"),
    "sender": ("own", "'null'"),
    "sender_mailbox": ("'@mof.example'", "b@mof.example"),
    "author": ("[own, missing]", "outside"),
    "author_mailbox": ("A@MOF.example", "'@of.example'"),
    "author_is_account": ("false", "true"),
    "vouched": ("false", "true"),
    "recipient": ("agency", "outside"),
    "recipient_agency": ("MOH", "[MOF, MOI]"),
    "recipient_mailbox": ("b@moh.example", "a@moh.example"),
    "recipient_mode": ("active", "shadow"),
    "registry_routing": ("false", "true"),
    "connected": ("true", "false"),
    "same_agency": ("false", "true"),
    "outbound": ("true", "false"),
    "automatic": ("false", "true"),
    "classification": ("[restricted, secret]", "secret"),
    "classification_at_least": ("ordinary", "secret"),
    "urgency": ("urgent", "immediate"),
    "urgency_at_least": ("urgent", "very-urgent"),
    "answers": ("true", "false"),
    "reply_by": ("true", "false"),
    "subject_contains": ("[nothing, عاجل]", "nothing"),
    "header": ("{X-Spam: 'yes*', X-None: false}", "{X-Spam: yes}"),
    "authentication": ("[spf=fail, dkim=fail]", "spf=pass"),
    "crypto": ("none", "[smime, pgp]"),
    "attachment_type": ("application/*", "image/*"),
    "attachment_extension": (".ZIP", "exe"),
    "attachment_name": ("'*.zip'", "plan"),
    "attachment_encrypted": ("true", "false"),
    "attachment_signed": ("false", "true"),
    "attachment_macros": ("false", "true"),
    "attachment_executable": ("false", "true"),
    "attachment_archive": ("false", "true"),
    "attachment_odd": ("[mismatch, bidi]", "polyglot"),
    "attachment_undecided": ("false", "true"),
    "attachments_over": ("1", "2"),
    "attachment_size_over": ("99", "100"),
    "size_over": ("10", "1000000"),
    "recipients_over": ("0", "1"),
    "hops_over": ("settings", "0"),
    "looped": ("false", "true"),
    "unreadable": ("false", "true"),
    "undecidable": ("false", "true"),
    "forged_marks": ("true", "false"),
    "working_time": ("true", "false"),
    "weekday": ("[sunday, monday]", "friday"),
    "time": ("07:30-15:00", "'22:00-06:00'"),
}
NEVER = {"hops_over"}  # it has no hops: nothing is over any bound
SAFE = {"agency_server", "looped", "unreadable"}  # the safety rules decide on what does not hold


def test_every_key_is_tried() -> None:
    assert KEYS.keys() == Match.model_fields.keys()


@pytest.mark.parametrize("key", sorted(KEYS.keys() - NEVER))
def test_a_match_key(key: str) -> None:
    holds, fails = KEYS[key]
    for value, applies in ((holds, True), (fails, False)):
        if applies or key not in SAFE:
            made = policy(f"match: {{{key}: {value}}}, action: hold")
        assert (one(made, FULL).rule == "r-0") is (applies or key in SAFE), value
        inverted = policy(f"match: {{}}, unless: {{{key}: {value}}}, action: hold")
        assert (one(inverted, FULL).rule == "r-0") is not applies, value
        (step,) = [s for s in made.walk(FULL, FULL.recipients[0]) if s.rule.id == "r-0"]
        assert step.answer is Answer.HIT or (step.key == key and step.value and not applies)
    assert one(policy("match: {hops_over: 0}, action: hold"), replace(FULL, hops=1)).rule == "r-0"


def test_an_exception_needs_all_of_its_keys() -> None:
    made = policy("match: {}, unless: {urgency: urgent, attachment_name: 'plan*'}, action: hold")
    assert one(made, FULL).rule != "r-0"
    assert one(made, replace(FULL, marks=())).rule == "r-0"
    assert one(made, replace(FULL, attachments=())).rule == "r-0"
    (step,) = [s for s in made.walk(FULL, FULL.recipients[0]) if s.rule.id == "r-0"]
    assert step.key == "unless" and "urgent" in step.value


def test_groups_stand_for_what_is_in_them() -> None:
    groups = """
groups:
  health: {agencies: MOH, mailboxes: ['x@x.example']}
  both: {groups: [health], mailboxes: ['@mof.example']}
"""
    for key, value, applies in (
        ("recipient_agency", "both", True),
        ("submitter", "both", False),
        ("author_mailbox", "both", True),
        ("author_mailbox", "health", False),
        ("recipient_mailbox", "health", True),
        ("recipient_mailbox", "[x@x.example, health]", True),
    ):
        made = policy(f"match: {{{key}: {value}}}, action: hold", groups=groups)
        assert (one(made, FULL).rule == "r-0") is applies, (key, value)
    asks = 'match: {}, when: \'in_group(author, "both") && in_group("MOH", "health")\', action: hold'
    made = policy(asks, groups=groups)
    assert one(made, FULL).rule == "r-0" and made.groups["both"].agencies == {"MOH"}


def test_what_a_rule_needs_of_the_header_is_asked_for() -> None:
    made = policy(
        "match: {header: {X-Spam: true}}, tag: false",
        'match: {}, unless: {header: {X-Ok: true}}, when: \'header("X-Case") == "1"\', tag: false',
    )
    assert made.needs_fields == {"x-spam", "x-ok", "x-case"}


# Effects.


def test_everything_that_a_rule_can_set() -> None:
    made = policy(
        "match: {}, hop: 'MOF:outbound', mailbox: z@moh.example, copy: [c@x.example, C@x.example],"
        " require_tls: requiretls, classification: secret, raise_urgency: immediate, due: 2 working days,"
        " receipts: accepted, receipts_to: [author, d@x.example], digest: true, subject_tag: '({number})',"
        " sign: false, notify: n@x.example",
        "match: {}, copy: e@x.example, raise_classification: restricted, subject_tag: '{number}'",
    )
    v = one(made, letter())
    assert v.hits == ("r-0", "r-1", "inter-agency-letter") and v.action is Action.ACCEPT
    assert (v.hop, str(v.mailbox), v.require_tls, v.requiretls) == (
        "MOF:outbound",
        "z@moh.example",
        True,
        True,
    )
    assert [str(a) for a in v.copies] == ["C@x.example", "e@x.example"] and str(v.notify[0]) == "n@x.example"
    assert (v.classification, v.urgency) == ("secret", "immediate")
    assert v.due_us == made.calendar.add_working_days(SUNDAY, 2)
    assert (v.receipts, v.receipts_to, v.digest) == (("accepted",), ("author", "d@x.example"), True)
    assert (v.tag, v.sign, v.subject_tag, v.subject_shape) == (True, False, True, "{number}")
    plain = v.to_json()
    assert plain["mailbox"] == "z@moh.example" and plain["digest"] is True and plain["requiretls"] is True


def test_a_rule_sees_what_an_earlier_one_has_set() -> None:
    made = policy(
        "match: {classification: secret}, action: hold",
        "match: {subject_contains: salaries}, raise_classification: secret",
        "match: {classification_at_least: secret}, require_tls: true",
        "match: {}, when: 'classification == \"secret\"', subject_tag: false",
    )
    v = one(made, letter("Salaries"))
    assert v.hits == ("r-1", "r-2", "r-3", "inter-agency-letter") and v.require_tls
    assert one(made, letter()).hits == ("inter-agency-letter",)
    both = made.decide(letter("Salaries", "b@moh.example", "c@moh.example")).verdicts
    assert both[0].hits == both[1].hits


def test_an_answer_is_no_lower_than_what_it_answers() -> None:
    answered = Answered(letter_id=1, classification="secret", urgency="urgent")
    for marks, expected in (
        ((), "secret"),
        ((("subject", "محدود"),), "secret"),
        ((("sio-label", "Top Secret"),), ""),
    ):
        v = one(DEFAULTS, letter(answered=answered, marks=marks))
        assert v.refused if not expected else (v.classification, v.require_tls) == (expected, True)
    assert one(DEFAULTS, letter(answered=Answered(letter_id=1))).classification == ""


def test_what_the_author_asks_for_is_due_then() -> None:
    urgent = (("subject", "عاجل"),)
    assert one(DEFAULTS, letter(marks=urgent, reply_by_us=SUNDAY + 1)).due_us == SUNDAY + 1
    assert one(DEFAULTS, letter(marks=urgent)).due_us == DEFAULTS.calendar.add_working_days(SUNDAY, 3)
    assert one(DEFAULTS, letter()).due_us is None
    for wrong in (SUNDAY - 1, SUNDAY, 253_402_300_800_000_000):
        assert one(DEFAULTS, letter(reply_by_us=wrong)).due_us is None


def test_a_hold_and_its_terms() -> None:
    made = policy(
        "match: {}, action: hold,"
        " hold: {approvers: [registry, MOF, sami], persons: 2, expires: 8h, then: release},"
        " reply: {code: 550, status: 5.7.1, en: 'Not approved, {sender}', ar: 'لم يوافَق'}"
    )
    v = one(made, letter(more="\nX: y"))
    assert v.action is Action.HOLD and v.hold is not None and v.text_en == "Why 0"
    assert (v.hold.approvers, v.hold.persons, v.hold.then) == (("registry", "MOF", "sami"), 2, Then.RELEASE)
    assert v.hold.expires_us == SUNDAY + 8 * HOUR
    assert str(v.reply) == "550 5.7.1 Not approved, a@mof.example"


def test_what_is_held_becomes_what_the_rules_after_it_make_of_it() -> None:
    made = policy(
        "match: {attachment_encrypted: true}, action: hold",
        "match: {urgency: urgent}, action: hold, hold: {persons: 2}",
        "match: {size_over: 10}, action: reject, reply: {code: 550, status: 5.7.1, en: No, ar: لا}",
        "match: {}, require_tls: true",
    )
    v = one(made, FULL)
    assert (v.action, v.rule, v.kind, v.require_tls) == (Action.HOLD, "r-0", Kind.LETTER, True)
    assert v.hits == ("r-0", "r-3", "inter-agency-letter") and v.hold is not None and v.hold.persons == 1
    assert v.reasons == (("attachment_encrypted", "true"),)
    assert one(made, letter("x", "b@mof.example", attachments=FULL.attachments)).kind is Kind.PASS
    assert one(made, letter()).refused


def test_rates() -> None:
    made = policy(
        "match: {submitter: MOF}, limit: {per: mailbox, count: 3, window: 1h, then: reject},"
        " reply: {code: 452, status: 4.7.1, en: Too much, ar: كثير}"
    )
    state = PolicyState()
    facts = letter("x", "b@moh.example", "c@moh.example")
    assert [v.refused for v in made.decide(facts, state).verdicts] == [False, False]
    assert [v.refused for v in made.decide(facts, state).verdicts] == [False, True]
    assert not any(v.refused for v in made.decide(facts).verdicts), "without a state nothing is counted"
    later = replace(facts, at_us=SUNDAY + 2 * HOUR)
    assert [v.refused for v in made.decide(later, state).verdicts] == [False, False]
    assert not made.recipient(replace(facts, pending=frozenset())).refused
    pair = policy("match: {}, limit: {per: pair, count: 1, window: 1d}")
    state = PolicyState()
    verdicts = pair.decide(letter("x", "b@moh.example", "b@moi.example", "c@moh.example"), state).verdicts
    assert [v.action for v in verdicts] == [Action.ACCEPT, Action.ACCEPT, Action.HOLD]
    (step,) = [s for s in pair.walk(facts, facts.recipients[0], PolicyState()) if s.rule.id == "r-0"]
    assert (step.answer, step.key, step.value) == (Answer.MISS, "limit", "within")


# Shadow.


def test_a_rule_in_shadow_mode_changes_nothing() -> None:
    made = policy(
        "match: {}, mode: shadow, action: reject, reply: {code: 550, status: 5.7.1, en: No, ar: لا}",
        "match: {}, mode: shadow, require_tls: true, mailbox: registry, classification: secret",
        "match: {}, mode: shadow, limit: {per: agency, count: 1, window: 1h}",
    )
    state = PolicyState()
    first, second = one(made, letter(), state), one(made, letter(), state)
    assert (first.action, first.hits) == (Action.ACCEPT, ("inter-agency-letter",))
    assert first.would == ("r-0", "r-1") and second.would == ("r-0", "r-1", "r-2")
    assert first.would_do == ("reject 550 5.7.1", "mailbox require_tls classification")
    assert first.classification == "" and not first.require_tls and first.mailbox is None
    assert made.decide(letter()).to_json()["paths"] == [
        {"hits": ["inter-agency-letter"], "would": ["r-0", "r-1"]}
    ]


def test_for_an_agency_in_shadow_mode_nothing_is_held_refused_or_rerouted() -> None:
    made = policy(
        "match: {attachment_encrypted: true}, action: hold",
        "match: {}, copy: c@x.example",
        "match: {}, due: 1 working day",
    )
    sending = one(made, replace(FULL, submitter_mode=Mode.SHADOW, reply_by_us=None))
    assert (sending.action, sending.kind) == (Action.ACCEPT, Kind.SHADOW)
    assert sending.would == ("r-0", "r-1") and sending.copies == () and sending.due_us is not None
    (to,) = FULL.recipients
    receiving = one(made, replace(FULL, recipients=(replace(to, mode=Mode.SHADOW),)))
    assert receiving.action is Action.HOLD and receiving.would == ("r-1",) and receiving.copies == ()
    loop = replace(FULL, submitter_mode=Mode.SHADOW, looped=True)
    assert one(made, loop).rule == "mail-loop", "the safety rules know no shadow"


# Expressions that fail.


def test_a_rule_that_protects_and_cannot_be_judged_holds_the_letter() -> None:
    fails = "when: 'attachments[2].size > 1'"
    for effect in ("action: hold", "require_tls: true", "classification: secret"):
        v = one(policy(f"match: {{}}, {fails}, {effect}"), letter())
        assert (v.action, v.rule, v.kind) == (Action.HOLD, "r-0", Kind.LETTER)
        assert v.reasons == (("when", "index out of bounds: 2"),) and "could not be evaluated" in v.text_en
    for effect in ("tag: false", "action: pass", "mode: shadow, action: hold"):
        made = policy(f"match: {{}}, {fails}, {effect}")
        assert one(made, letter()).hits == ("inter-agency-letter",)
        (step,) = [s for s in made.walk(letter(), letter().recipients[0]) if s.rule.id == "r-0"]
        assert (step.answer, step.value) == (Answer.ERROR, "index out of bounds: 2")


# Marks.


@pytest.mark.parametrize(
    ("marks", "classification", "urgency"),
    [
        ([("subject", "سري للغاية")], "top-secret", ""),
        ([("subject", "سِرّي"), ("subject", "عاجل جدا")], "secret", "very-urgent"),
        ([("subject", "حالا"), ("importance", "low")], "", "immediate"),
        ([("importance", "High"), ("subject", "مذكرة")], "", "urgent"),
        ([("x-priority", "1 (Highest)")], "", "urgent"),
        ([("x-priority", "3")], "", ""),
        ([("sensitivity", "Company-Confidential")], "restricted", ""),
        ([("wasl-classification", "سري"), ("wasl-urgency", "immediate")], "secret", "immediate"),
        ([("wasl-urgency", "secret")], "", ""),
        ([("sio-label", "SECRET"), ("subject", "محدود")], "secret", ""),
        ([], "", ""),
    ],
)
def test_what_marks_mean(marks: list[tuple[str, str]], classification: str, urgency: str) -> None:
    assert DEFAULTS.marks.read(tuple(marks)) == (classification, urgency)


# The built-in set.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "accept inter-agency-letter"),
        ({"marks": (("subject", "سري للغاية"),)}, "reject refuse-top-secret"),
        ({"attachments": (replace(PDF, executable=True),)}, "reject refuse-executables"),
        ({"attachments": (replace(PDF, encrypted=True),)}, "hold hold-encrypted"),
        ({"attachments": (replace(PDF, macros=True),)}, "hold hold-macros"),
        ({"attachments": (replace(PDF, undecided="timeout"),)}, "hold hold-undecidable"),
        ({"undecidable": ("too deep",)}, "hold hold-undecidable"),
        ({"before": 500}, "hold hold-circular"),
        ({"marks": (("subject", "محدود"),)}, "accept inter-agency-letter tls"),
        ({"marks": (("subject", "سري"),)}, "accept inter-agency-letter tls"),
        ({"marks": (("subject", "عادي"),)}, "accept inter-agency-letter"),
    ],
)
def test_the_built_in_set(changes: dict[str, Any], said: str) -> None:
    v = one(DEFAULTS, letter(**changes))
    assert f"{v.action} {v.rule}{' tls' if v.require_tls else ''}" == said
    assert v.refused or v.kind is Kind.LETTER
    inside = one(DEFAULTS, replace(letter("x", "b@mof.example"), **changes))
    assert inside.action is Action.PASS and not inside.require_tls


def test_members_of_the_lists_may_send_what_is_held_of_others() -> None:
    groups = (DEFAULT / "groups.yaml").read_text("utf-8").replace("mailboxes: []", "mailboxes: a@mof.example")
    files = {p.name: p.read_text("utf-8") for p in DEFAULT_SET} | {"groups.yaml": groups}
    made = load_policy_texts(files)
    risky = letter(attachments=(replace(PDF, encrypted=True, macros=True),))
    assert one(DEFAULTS, risky).rule == "hold-encrypted" and one(made, risky).action is Action.ACCEPT


def test_letters_go_to_the_registry_of_an_agency_that_wishes_so() -> None:
    (to,) = letter().recipients
    diwan = Address("diwan", "moh.example")
    wishing = replace(to, registry=diwan, registry_routing=True)
    assert one(DEFAULTS, letter(recipients=(wishing,))).mailbox == diwan
    assert one(DEFAULTS, letter(recipients=(replace(wishing, registry_routing=False),))).mailbox is None
    itself = replace(wishing, recipient=replace(to.recipient, address=diwan))
    assert one(DEFAULTS, letter(recipients=(itself,))).mailbox is None


def test_clients_that_send_in_bulk() -> None:
    client = signed_in("MOF", "a@mof.example")
    facts = replace(read("From: a@mof.example", client), at_us=SUNDAY)
    state = PolicyState()
    actions = [one(DEFAULTS, facts, state).action for _ in range(501)]
    assert set(actions[:500]) == {Action.ACCEPT} and actions[500] is Action.HOLD


def test_a_folder_that_says_nothing_of_it_holds_what_cannot_be_decided() -> None:
    undecidable = letter(undecidable=("time",))
    assert one(policy("match: {}, tag: false"), undecidable).rule == "undecidable"
    own = policy("match: {undecidable: true}, action: pass")
    assert one(own, undecidable).action is Action.PASS and own.rule("undecidable") is None


def test_a_folder_has_its_own_marks_groups_and_calendar(tmp_path: Path) -> None:
    for path in DEFAULT_SET:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "one.yaml").write_text("expect: hold\n")
    assert len(policy_files(tmp_path)) == len(DEFAULT_SET)
    same = load_policy(tmp_path)
    assert [r.id for r in same.rules] == [r.id for r in DEFAULTS.rules]
    calendar = tmp_path / "calendar.yaml"
    calendar.write_text(calendar.read_text("utf-8").replace("08:00-15:30", "09:00-14:00"), "utf-8")
    other = load_policy(tmp_path)
    assert other.version != same.version and other.calendar.hours == ((540, 840),)
    copy = tmp_path.parent / "copy of it"
    tmp_path.rename(copy)
    assert load_policy(copy).version == other.version, "a version is what it says, wherever it lies"
    assert load_policy_texts(dict(other.texts)).version == other.version


def test_a_kept_version_is_what_it_was() -> None:
    texts = dict(DEFAULTS.texts)
    assert load_policy_texts(texts).version == DEFAULTS.version
    texts["default/safety.yaml"] = texts["default/safety.yaml"].replace("priority: 81", "priority: 82")
    assert load_policy_texts(texts).version != DEFAULTS.version


def test_no_rule_decides_for_strangers() -> None:
    assert one(Policy((), "x"), letter()).rule == UNDECIDED
