"""Faults of policy files, all at once and each in its place; the schema that editors know."""

from __future__ import annotations

import pytest

from policies.faults import ConfigFaults
from policies.load import DEFAULT, load_policy_texts
from policies.schema_export import FILES, json_schema
from tests.unit.test_policy_engine import policy
from tests.unit.test_policy_facts import AROUND

BROKEN = """rules:
  - id: one
    priority: 100
    description: &d {ar: س, en: x}
    match: {submitter: MOQ, recipient_agency: minstries, classification: sekret, urgency_at_least: soon}
    when: |
      size > 1000 &&
        subjekt == "x"
    hop: MOHH
    raise_classification: top
    hold: {approvers: [MOX, complianc]}
    action: hold
  - {id: two, priority: 101, description: {ar: س, en: x}, match: {size_over: 5, door: relay}, action: pass}
  - {id: three, priority: 102, description: {ar: س, en: x}, match: {door: relay, size_over: 9}, action: hold}
  - {id: four, priority: 103, description: {ar: س, en: x}, match: {attachment_typ: x/y}, tag: maybe}
  - {id: two, priority: 104, description: *d, match: {recipient: outside, connected: true}, tag: true}
  - {id: five, priority: 105, description: {ar: س, en: x}, match: {}, unless: {}, due: soon}
"""


def test_all_faults_at_once_with_their_places() -> None:
    with pytest.raises(ConfigFaults) as refused:
        load_policy_texts({"a.yaml": BROKEN}, directory=AROUND.directory, label="policy/")
    found = [
        (f.line, f.column, f.key.removeprefix("rules."), f.message, f.hint) for f in refused.value.faults
    ]
    lines = BROKEN.split("\n")

    def place(line: int, text: str) -> tuple[int, int]:
        return line, lines[line - 1].index(text) + 1

    expected = [
        (*place(5, "MOQ"), "0.match.submitter.0", "there is no agency MOQ"),
        (*place(5, "minstries"), "0.match.recipient_agency.0", "there is no group minstries"),
        (*place(5, "sekret"), "0.match.classification.0", "there is no classification sekret"),
        (*place(5, "urgency_at"), "0.match.urgency_at_least", "there is no urgency soon"),
        (*place(8, "subjekt"), "0.when", "there is no subjekt"),
        (*place(9, "hop"), "0.hop", "there is no next hop MOHH"),
        (*place(10, "raise"), "0.raise_classification", "there is no classification top"),
        (*place(11, "MOX"), "0.hold.approvers.0", "there is no agency MOX"),
        (*place(11, "complianc"), "0.hold.approvers.1", "there is no role complianc"),
        (14, 0, "three", "is never reached: two decides on all it applies to"),
        (*place(15, "attachment_typ"), "3.match.attachment_typ", "unknown key"),
        (*place(15, "tag"), "3.tag", "must be true or false"),
        (*place(16, "id"), "4.id", "the id two is already that of policy/a.yaml:13"),
        (*place(16, "connected"), "4.match.connected", "can never hold: the recipient is in no agency"),
    ]
    for line, column, key, message in expected:
        near = [f for f in found if f[0] == line and f[3] == message]
        assert near, (line, message, found)
        assert near[0][2].endswith(key) or key.startswith("0.match"), near
        assert near[0][1] == column or key.startswith("0.match"), near
    hints = {f[4] for f in found}
    assert {
        "did you mean secret?",
        "did you mean subject?",
        "did you mean compliance?",
        "did you mean MOH?",
    } <= hints
    assert "did you mean attachment_type?" in hints


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("match: {}, when: '', tag: false", "must not be empty"),
        (f"match: {{}}, when: '{'size > 1 || ' * 200} true', tag: false", "longer than 2000"),
        ("match: {}, unless: {}, tag: false", "unless: is empty"),
        ("match: {}, action: hold, limit: {per: agency, count: 1, window: 1h}", "leave out action"),
        ("match: {}, limit: {per: agency, count: 1, window: 1h, then: reject}", "a reply belong together"),
        ("match: {}, limit: {per: agency, count: 1, window: 3 working days}", "span of time"),
        ("match: {}, hold: {persons: 1}, tag: false", "terms of action: hold"),
        ("match: {}, hold: {persons: 3}, action: hold", "at most 2"),
        ("match: {}, hop: X, route: outbound, action: pass", "exclude each other"),
        ("match: {}, urgency: urgent, raise_urgency: urgent", "exclude each other"),
        ("match: {}, mailbox: nobody", "e-mail address"),
        ("match: {}, subject_tag: '[no]'", "must hold {number}"),
        ("match: {}, subject_tag: '{number} {x}'", "only {number}"),
        ("match: {}, due: tomorrow", "span of time"),
        ("match: {}, receipts_to: boss", "e-mail address"),
        ("match: {peer: 10.0.0.300}, tag: false", "is no network"),
        ("match: {time: '8-9'}, tag: false", "times of day"),
        ("match: {header: {'X Y': true}}, tag: false", "is no field name"),
        ("match: {authentication: spf}, tag: false", "method and a result"),
        ("match: {attachment_type: pdf}, tag: false", "type such as"),
        ("match: {author_mailbox: Boss}, tag: false", "must be an address, @domain"),
        ("match: {submitter: 'M F'}, tag: false", "agency's code"),
        ("match: {door: []}, tag: false", "at least 1"),
        ("match: {looped: 1}, tag: false", "true or false"),
        (
            "match: {classification: secret, classification_at_least: top-secret}, tag: false",
            "can never hold",
        ),
        ("match: {agency_server: false, submitter: MOF}, tag: false", "can never hold"),
        (
            "match: {}, action: reject, tag: false, reply: {code: 550, status: 5.7.1, en: x, ar: x}",
            "only notify",
        ),
    ],
)
def test_impossible_values(rule: str, words: str) -> None:
    with pytest.raises(ConfigFaults) as refused:
        policy(rule)
    assert words in str(refused.value) and all(f.line == 2 for f in refused.value.faults)


@pytest.mark.parametrize(
    ("first", "second", "reached"),
    [
        ("match: {submitter: [MOF, MOH]}, action: pass", "match: {submitter: MOF}, tag: false", False),
        ("match: {submitter: MOF}, action: pass", "match: {submitter: [MOF, MOH]}, tag: false", True),
        ("match: {submitter: MOF}, action: hold", "match: {submitter: MOF}, tag: false", True),
        ("match: {submitter: MOF}, action: hold, kind: pass", "match: {submitter: MOF}, tag: false", False),
        ("match: {submitter: MOF}, action: hold", "match: {submitter: MOF}, action: hold", False),
        ("match: {size_over: 5}, action: pass", "match: {size_over: 6}, tag: false", False),
        ("match: {size_over: 5}, action: pass", "match: {size_over: 4}, tag: false", True),
        ("match: {vouched: false}, action: pass", "match: {vouched: true}, tag: false", True),
        ("match: {vouched: true}, when: size > 5, action: pass", "match: {vouched: true}, tag: true", True),
        ("match: {}, unless: {vouched: true}, action: pass", "match: {vouched: true}, tag: false", True),
        ("match: {vouched: true}, mode: shadow, action: pass", "match: {vouched: true}, tag: false", True),
        ("match: {subject_contains: x}, action: pass", "match: {subject_contains: x}, tag: false", False),
        ("match: {subject_contains: x}, action: pass", "match: {subject_contains: [x, y]}, tag: false", True),
        ("match: {urgency: urgent}, action: pass", "match: {urgency: urgent}, tag: false", False),
        ("match: {urgency: urgent}, action: pass", "match: {urgency: urgent}, urgency: normal", True),
        ("match: {}, limit: {per: agency, count: 1, window: 1h}", "match: {}, tag: false", True),
    ],
)  # fmt: skip
def test_rules_that_are_never_reached(first: str, second: str, reached: bool) -> None:
    if reached:
        policy(first, second, alone=True)
        return
    with pytest.raises(ConfigFaults, match="r-1: is never reached: r-0"):
        policy(first, second, alone=True)


def test_a_group_that_holds_itself_and_marks_that_mean_two_things() -> None:
    with pytest.raises(ConfigFaults) as refused:
        load_policy_texts(
            {
                "a.yaml": "rules: []",
                "groups.yaml": "groups:\n  a: {groups: b}\n  b: {groups: a}\n"
                "  c: {groups: d, agencies: MOQ}\n",
                "marks.yaml": (DEFAULT / "marks.yaml").read_text("utf-8")
                + "  - {source: subject, value: سرى, classification: restricted}\n"
                + "  - {source: subject, value: x, urgency: never}\n",
            },
            directory=AROUND.directory,
        )
    told = [f"{f.file}:{f.line} {f.message}" for f in refused.value.faults]
    assert told[0] == "groups.yaml:2 a holds itself" and told[1] == "groups.yaml:3 b holds itself"
    assert {"groups.yaml:4 there is no group d", "groups.yaml:4 there is no agency MOQ"} <= set(told)
    assert any("means two things" in t for t in told) and any("no urgency never" in t for t in told)


# The schema.


def test_the_schema_knows_every_key_and_describes_it() -> None:
    for kind in FILES:
        schema = json_schema(kind)
        assert schema["$schema"].startswith("https://json-schema.org/") and "properties" in schema
        for name, block in schema.get("$defs", {}).items():
            for key, field in block.get("properties", {}).items():
                assert field.get("description"), f"{kind}: {name}.{key}"
    rule = json_schema()["$defs"]["RuleEntry"]
    assert rule["additionalProperties"] is False and "copy" in rule["properties"]
    assert set(rule["required"]) == {"id", "priority", "description", "match"}
    assert {"type": "string"} in json_schema()["$defs"]["Match"]["properties"]["submitter"]["anyOf"]
    marked = json_schema("marks")["$defs"]["MarkEntry"]["properties"]["value"]["anyOf"]
    assert {"type": "string"} in marked and {"type": "integer"} in marked  # x-priority: [1, 2]
