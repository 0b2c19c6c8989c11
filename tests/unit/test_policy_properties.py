"""What must hold of every policy and every letter: made up by hypothesis, valid and broken."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from policies.agency import Mode
from policies.author import AuthorKind
from policies.chain import Policy
from policies.facts import (
    Answered,
    AttachmentFact,
    Automatic,
    Crypto,
    Facts,
    Pending,
    Place,
    RecipientFacts,
    SenderKind,
)
from policies.faults import ConfigFaults
from policies.load import DEFAULT_SET, LETTERS, load_policy_texts
from policies.rates import PolicyState
from policies.rule import Answer
from policies.rule_entry import Match, RuleEntry
from policies.verdict import Action
from tracker.model import Address, Door, Recipient

# A failing example is shown as it was found: to make it smaller takes minutes.
QUICK = settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.generate])

AGENCIES = st.sampled_from(["MOF", "MOH", "MOI"])
WORDS = st.sampled_from(["restricted", "secret", "top-secret", "ordinary"])
URGENCIES = st.sampled_from(["urgent", "very-urgent", "immediate", "normal"])
BOXES = st.sampled_from(["a@mof.example", "@moh.example", "b@moh.example", "trusted", "all"])
WHEN = st.sampled_from(
    [
        "size > 1000",
        'subject.contains("x") || urgency == "urgent"',
        "attachments.exists(a, a.macros && a.size > 10)",
        "attachments[0].size > 10",
        'header("X-Test") == "1"',
        'at_least(classification, "secret") && working_time',
        'in_group(author, "trusted")',
        "recipients / (size - 1000) > 1",
        'recipient == "b@moh.example"',
    ]
)


def listed(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=3)


VALID: dict[str, st.SearchStrategy[Any]] = {
    "door": listed(st.sampled_from(["relay", "submission"])),
    "peer": listed(st.sampled_from(["10.0.0.0/8", "192.0.2.1", "::1"])),
    "submitter": listed(AGENCIES | st.just("all")),
    "submitter_mode": listed(st.sampled_from([m.value for m in Mode])),
    "sender": listed(st.sampled_from([k.value for k in SenderKind])),
    "sender_mailbox": listed(BOXES),
    "author": listed(st.sampled_from([k.value for k in AuthorKind])),
    "author_mailbox": listed(BOXES),
    "recipient": listed(st.sampled_from([p.value for p in Place])),
    "recipient_agency": listed(AGENCIES | st.just("all")),
    "recipient_mailbox": listed(BOXES),
    "recipient_mode": listed(st.sampled_from([m.value for m in Mode])),
    "automatic": st.booleans() | listed(st.sampled_from([a.value for a in Automatic])),
    "classification": listed(WORDS),
    "classification_at_least": WORDS,
    "urgency": listed(URGENCIES),
    "urgency_at_least": URGENCIES,
    "subject_contains": listed(st.sampled_from(["x", "سري", "budget"])),
    "header": st.dictionaries(
        st.sampled_from(["X-Test", "X-Other"]), st.booleans() | st.sampled_from(["1", "*a*", "*"]), min_size=1
    ),
    "authentication": listed(st.sampled_from(["spf=fail", "dmarc=pass"])),
    "crypto": listed(st.sampled_from([c.value for c in Crypto])),
    "attachment_type": listed(st.sampled_from(["application/pdf", "image/*", "application/zip"])),
    "attachment_extension": listed(st.sampled_from(["pdf", ".zip"])),
    "attachment_odd": listed(st.sampled_from(["mismatch", "bidi"])),
    "attachment_name": listed(st.sampled_from(["*.pdf", "plan*", "plan.pdf"])),
    "attachments_over": st.integers(0, 3),
    "attachment_size_over": st.integers(0, 50),
    "size_over": st.just("settings") | st.integers(0, 3000),
    "recipients_over": st.just("settings") | st.integers(0, 3),
    "hops_over": st.just("settings") | st.integers(0, 3),
    "weekday": listed(st.sampled_from(["sunday", "friday"])),
    "time": listed(st.sampled_from(["07:00-15:00", "22:00-06:00"])),
}
FLAGS = [name for name in Match.model_fields if name not in VALID]
for flag in FLAGS:
    VALID[flag] = st.booleans()

EFFECTS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"action": "accept", "kind": "letter"},
        {"action": "accept", "kind": "letter", "mailbox": "registry", "copy": "archive@moh.example"},
        {"action": "pass"},
        {"action": "pass", "route": "outbound"},
        {"action": "hold", "hold": {"persons": 2, "expires": "2 working days", "then": "release"}},
        {"action": "hold", "kind": "pass"},
        {"action": "reject", "reply": {"code": 550, "status": "5.7.1", "en": "No {sender}", "ar": "لا"}},
        {"require_tls": "requiretls", "notify": "boss@mof.example"},
        {"raise_classification": "secret"},
        {"raise_classification": "answered", "raise_urgency": "answered"},
        {"classification": "ordinary", "due": "3 working days"},
        {"urgency": "urgent", "tag": False, "subject_tag": "[{number}]", "digest": True},
        {"mailbox": "z@moh.example", "copy": ["c@moh.example"], "receipts": [], "receipts_to": "registry"},
        {"limit": {"per": "pair", "count": 2, "window": "1h", "then": "hold"}},
        {
            "limit": {"per": "mailbox", "count": 1, "window": "1h", "then": "reject"},
            "reply": {"code": 452, "status": "4.7.1", "en": "Later", "ar": "لاحقاً"},
        },
    ]
)


@st.composite
def matches(draw: st.DrawFn, least: int = 0) -> dict[str, Any]:
    keys = draw(st.lists(st.sampled_from(sorted(VALID)), min_size=least, max_size=4, unique=True))
    return {key: draw(VALID[key]) for key in keys}


@st.composite
def rules(draw: st.DrawFn, number: int) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": f"rule-{number}",
        "priority": draw(st.integers(100, 120)),
        "description": {"ar": "قاعدة", "en": "A rule"},
        "match": draw(matches()),
        "mode": draw(st.sampled_from(["active", "active", "shadow"])),
    }
    rule |= draw(EFFECTS)
    if draw(st.integers(0, 3)) == 0:
        rule["when"] = draw(WHEN)
    if draw(st.integers(0, 3)) == 0:
        rule["unless"] = draw(matches(1))
    return rule


GROUPS = json.dumps(
    {
        "groups": {
            "trusted": {"mailboxes": ["a@mof.example", "@moi.example"], "agencies": "MOH"},
            "all": {"agencies": ["MOF"], "groups": ["trusted"]},
        }
    }
)


def loaded(written: list[dict[str, Any]]) -> Policy:
    """A policy of those rules that the loader does not refuse."""
    left = list(written)
    while True:
        try:
            files = {"rules.yaml": json.dumps({"rules": left}), "groups.yaml": GROUPS}
            return load_policy_texts(files)
        except ConfigFaults as e:
            wrong = {int(f.key.split(".")[1]) for f in e.faults if f.key.startswith("rules.")}
            never = {f.key for f in e.faults if "never reached" in f.message}
            kept = [r for i, r in enumerate(left) if i not in wrong and r["id"] not in never]
            assert len(kept) < len(left), e
            left = kept


@st.composite
def books(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rules of one policy, as they stand in a file."""
    return [draw(rules(n)) for n in range(draw(st.integers(1, 8)))]


ATTACHMENTS = st.builds(
    AttachmentFact,
    name=st.sampled_from(["plan.pdf", "x.zip", ""]),
    declared=st.just("application/octet-stream"),
    detected=st.sampled_from(["application/pdf", "image/png", "application/zip"]),
    size=st.integers(0, 60),
    sha256=st.just("0" * 64),
    extension=st.sampled_from(["pdf", "zip", ""]),
    encrypted=st.booleans(),
    macros=st.booleans(),
    executable=st.booleans(),
    archive=st.booleans(),
    undecided=st.sampled_from(["", "", "timeout"]),
)
RECIPIENTS = st.builds(
    RecipientFacts,
    recipient=st.sampled_from(["b@moh.example", "a@mof.example", "c@x.example"]).map(
        lambda text: Recipient(address=Address.parse(text))
    ),
    place=st.just(Place.AGENCY),
    agency=AGENCIES,
    mode=st.sampled_from(list(Mode)),
    connected=st.booleans(),
    registry=st.none() | st.just(Address("diwan", "moh.example")),
    registry_routing=st.booleans(),
) | st.just(RecipientFacts(recipient=Recipient(address=Address("c", "x.example")), place=Place.OUTSIDE))
FACTS = st.builds(
    Facts,
    door=st.sampled_from([Door.RELAY, Door.SUBMISSION]),
    peer=st.sampled_from(["10.1.1.1", "192.0.2.1", "::1", "no address"]),
    submitters=st.sampled_from([("MOF",), ("MOF", "MOH")]),
    submitter=AGENCIES,
    submitter_mode=st.sampled_from(list(Mode)),
    outbound=st.just(True),
    sender=st.sampled_from(["a@mof.example", "", "A@MOI.example"]),
    sender_kind=st.sampled_from([SenderKind.OWN, SenderKind.OWN, SenderKind.NULL, SenderKind.RETURN]),
    sender_agency=st.none() | AGENCIES,
    author=st.sampled_from(["a@mof.example", "z@moi.example", ""]),
    author_kind=st.sampled_from([AuthorKind.OWN, AuthorKind.MISSING]),
    author_agency=st.none() | AGENCIES,
    vouched=st.booleans(),
    recipients=st.lists(RECIPIENTS, min_size=1, max_size=3).map(tuple),
    size=st.sampled_from([1, 1000, 2500]),
    subject=st.sampled_from(["", "Budget x", "كتاب سرّي"]),
    automatic=st.frozensets(st.sampled_from([Automatic.LIST, Automatic.AUTO_GENERATED])),
    crypto=st.sampled_from(list(Crypto)),
    hops=st.integers(0, 4),
    attachments=st.lists(ATTACHMENTS, max_size=2).map(tuple),
    at_us=st.integers(1_767_000_000_000_000, 1_767_600_000_000_000),
    reply_by_us=st.none() | st.just(1_768_000_000_000_000),
    marks=st.lists(
        st.sampled_from(
            [("subject", "عاجل"), ("subject", "سري"), ("importance", "High"), ("x-priority", "1 (Highest)")]
        ),
        max_size=2,
    ).map(tuple),
    fields=st.sampled_from([(), (("x-test", "1"),), (("x-other", "bar"), ("x-test", ""))]),
    answered=st.none() | st.just(Answered(letter_id=1, classification="secret", urgency="immediate")),
    results=st.sampled_from([(), (("spf", "fail"), ("dmarc", "pass"))]),
    stripped=st.sampled_from([(), ("wasl-urgency",)]),
    undecidable=st.sampled_from([(), ("too deep",)]),
    before=st.integers(0, 2),
)  # fmt: skip


Way = tuple[str | None, tuple[str, ...], tuple[str, ...]]  # who decided, what applied, what would have


def by_walking(policy: Policy, facts: Facts, state: PolicyState) -> list[Way]:
    """The decision as asking each rule in turn gives it, without the index."""
    out: list[Way] = []
    for recipient in facts.recipients:
        steps = policy.walk(facts, recipient, state)
        deciding = next((s for s in steps if s.decided), None)
        hits = [
            s.rule.id
            for s in steps
            if (s.answer is Answer.HIT and not s.shadow) or (s.answer is Answer.ERROR and s.decided)
        ]
        would = [s.rule.id for s in steps if s.shadow]
        rule = deciding.rule.id if deciding is not None else None
        out.append((rule, tuple(hits), tuple(would)))
    return out


@QUICK
@given(books(), st.lists(FACTS, min_size=1, max_size=4))
def test_the_index_decides_what_asking_each_rule_decides(
    book: list[dict[str, Any]], letters: list[Facts]
) -> None:
    policy = loaded(book)
    quick, slow = PolicyState(), PolicyState()
    for facts in letters:
        verdicts = policy.decide(facts, quick).verdicts
        walked = by_walking(policy, facts, slow)
        for v, (rule, hits, would) in zip(verdicts, walked, strict=True):
            assert (v.hits, v.would) == (hits, would)
            last = policy.rule(hits[-1]) if hits else None
            if rule is not None:
                assert v.rule == rule
            elif last is None or last.effect.action is None:
                assert v.rule == "undecided" and v.action is Action.HOLD
            assert (v.hold is not None) == (v.action is Action.HOLD)
            assert (v.action is Action.REJECT) <= (v.reply is not None)


@QUICK
@given(books(), st.lists(FACTS, min_size=1, max_size=5))
def test_the_same_facts_give_the_same_outcome(book: list[dict[str, Any]], letters: list[Facts]) -> None:
    """Whatever was decided before, from the record as from the wire, in a copy of the state as in it."""
    policy = loaded(book)
    before = [policy.decide(f) for f in letters]
    again = [policy.decide(Facts.from_json(json.loads(json.dumps(f.to_json())))) for f in reversed(letters)]
    plain = [replace(f, before=0) for f in reversed(letters)]  # not recorded: of a session only
    for f, decision in zip(plain, again, strict=True):
        assert policy.decide(f) == decision
    assert [policy.decide(f) for f in letters] == before
    state = PolicyState()
    for f in letters:
        copy = state.copy()
        assert policy.decide(f, copy) == policy.decide(f, state)


@QUICK
@given(st.data(), st.integers(1, 6), FACTS, st.randoms(use_true_random=False))
def test_the_order_of_keys_rules_and_files_does_not_matter(
    data: st.DataObject, count: int, facts: Facts, random: Any
) -> None:
    written = [data.draw(rules(n)) for n in range(count)]
    policy = loaded(written)
    kept = [r for r in written if policy.rule(r["id"]) is not None]
    shuffled = [_turned(r, random) for r in random.sample(kept, len(kept))]
    half = len(shuffled) // 2
    files = {
        "b.yaml": json.dumps({"rules": shuffled[:half]}),
        "a.yaml": json.dumps({"rules": shuffled[half:]}),
        "groups.yaml": json.dumps(_turned(json.loads(GROUPS), random)),
    }
    other = load_policy_texts(files)
    assert [r.id for r in other.rules] == [r.id for r in policy.rules]
    assert other.decide(facts).verdicts == policy.decide(facts).verdicts


def _turned(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = random.sample(list(value.items()), len(value))
        return {key: _turned(v, random) for key, v in items}
    return value


@QUICK
@given(books(), FACTS)
def test_what_is_refused_at_rcpt_is_refused_in_the_letter(book: list[dict[str, Any]], facts: Facts) -> None:
    policy = loaded(book)
    facts = replace(facts, recipients=facts.recipients[:1])
    early = policy.recipient(replace(facts, pending=frozenset({Pending.HEADER, Pending.VOUCHED})))
    if early.refused:
        (final,) = policy.decide(facts).verdicts
        assert final.refused or final.action is Action.HOLD
        if final.refused and final.rule == early.rule:
            assert final.reply == early.reply


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["settings", "hold", "1h", "a@b.example", "MOF", "'", "((", "size >", "x.all(", "\x00"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
# What names something that is kept elsewhere, with names that nobody has.
NAMING = ["submitter", "recipient_agency", "sender_mailbox", "author_mailbox", "recipient_mailbox"]
NAMING += ["classification", "classification_at_least", "urgency", "urgency_at_least"]
NOBODY = st.sampled_from(["no-such-group", "MOQ", "secrt", "answered", "settings"])
KEYS = sorted({info.alias or name for name, info in RuleEntry.model_fields.items()})


@st.composite
def broken_rules(draw: st.DrawFn) -> Any:
    rule: dict[str, Any] = draw(rules(draw(st.integers(0, 2))))
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.sampled_from([rule, rule["match"] if isinstance(rule.get("match"), dict) else rule]))
        keys = KEYS if where is rule else sorted(VALID)
        where[draw(st.sampled_from(keys) | st.text(max_size=8))] = draw(JUNK)
    if isinstance(rule.get("match"), dict) and draw(st.booleans()):
        rule["match"][draw(st.sampled_from(NAMING))] = draw(NOBODY)
    return rule if draw(st.integers(0, 9)) else draw(JUNK)


def faults_are_placed(files: dict[str, str]) -> None:
    try:
        policy = load_policy_texts(files)
    except ConfigFaults as e:
        assert e.faults
        for fault in e.faults:
            assert fault.file and fault.message and str(fault)
            # Only a file as a whole has no line: it is empty, or no YAML at all.
            assert fault.line >= 1 or "is empty" in fault.message or "is not YAML" in fault.message
            assert fault.line <= sum(text.count("\n") + 1 for text in files.values()) + 300
    else:
        assert policy.rules


@settings(max_examples=150, deadline=None)
@given(st.lists(broken_rules(), max_size=3), st.booleans())
def test_no_document_of_that_shape_raises_anything_but_faults(written: list[Any], block: bool) -> None:
    files = {"rules.yaml": json.dumps({"rules": written}, indent=1 if block else None, ensure_ascii=block)}
    faults_are_placed(files | {"groups.yaml": GROUPS})


@QUICK
@given(st.sampled_from(["groups", "calendar", "marks", "rules"]), JUNK, st.data())
def test_nor_does_any_other_file_of_a_policy(kind: str, junk: Any, data: st.DataObject) -> None:
    name = f"{kind}.yaml"
    whole = json.loads(GROUPS) if kind == "groups" else {}
    if kind in ("calendar", "marks"):
        from policies.document import parse_documents

        file = next(p for p in DEFAULT_SET if p.name == name)
        whole = parse_documents(file.read_bytes(), name)[0].data
    if whole and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(whole)))
        inner = whole[key]
        if isinstance(inner, list) and inner and isinstance(inner[0], dict) and data.draw(st.booleans()):
            inner[0][data.draw(st.sampled_from(sorted(inner[0])))] = junk
        else:
            whole[key] = junk
    else:
        whole = junk
    faults_are_placed({"letters.yaml": LETTERS.read_text("utf-8"), name: json.dumps(whole)})


@QUICK
@given(st.data())
def test_nor_does_any_text(data: st.DataObject) -> None:
    """A good file with pieces cut out, doubled and put in."""
    text = data.draw(st.sampled_from([p.read_text("utf-8") for p in DEFAULT_SET]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 30))
        put = data.draw(
            st.text(max_size=6) | st.sampled_from(["\n", "  ", ": ", "- ", "{", "&a", "*a", "|\n", '"'])
        )
        text = text[:at] + put + text[at + cut :]
    try:
        load_policy_texts({"letters.yaml": text})
    except ConfigFaults as e:
        assert e.faults


@pytest.mark.parametrize(
    "text",
    [
        'rules: "\\UFFFFFFFF"',
        'rules: "\\U00110000"',
        "%YAML 1.99999999999\n---\nrules: []",
        "[" * 3000,
        "? " * 3000,
        "rules: &a [*a]",
    ],
    ids=["beyond int", "beyond Unicode", "version", "brackets", "keys", "itself"],
)
def test_nor_does_what_the_yaml_reader_itself_trips_over(text: str) -> None:
    with pytest.raises(ConfigFaults) as refused:
        load_policy_texts({"letters.yaml": text})
    assert all(fault.file == "letters.yaml" for fault in refused.value.faults)
