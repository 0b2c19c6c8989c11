"""Examples beside the rules: what they may say, what is wrong with them, and when they fail."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from policies.chain import Policy
from policies.example import Example, examples, try_example
from policies.facts import Automatic
from policies.faults import ConfigFaults
from policies.load import LETTERS, load_policy
from policies.trial import Handing, facts_of
from tests.unit.test_policy_facts import AROUND
from tracker.model import Address, Door

ZONE = ZoneInfo("Asia/Amman")
NOW = 1_795_330_800_000_000  # Sunday 2026-11-22, 10:00 in Amman

GOOD = """examples:
  - name: A letter between agencies is registered
    from: a@mof.example
    to: b@moh.example
    at: 2026-11-22 10:00
    header: {Subject: "[عاجل] موازنة"}
    expect:
      action: accept
      kind: letter
      rule: inter-agency-letter
      hits: [inter-agency-letter]
      misses: [outbound, forwarded]
      hop: MOH
      urgency: urgent
      tag: true
  - name: One refused, one passes
    from: a@mof.example
    to: [b@new.example, b@mof.example]
    expect:
      b@new.example: {action: pass, rule: outbound}
      b@mof.example: {action: pass, rule: internal-passthrough, due: none}
  - name: From outside
    from: x@x.example
    peer: 203.0.113.1
    to: b@moh.example
    expect: {action: reject, reply: 550 5.7.1, rule: outside-to-agency}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "policy"
    (made / "examples").mkdir(parents=True)
    (made / "letters.yaml").write_text(LETTERS.read_text("utf-8"), "utf-8")
    return made


def put(folder: Path, text: str, name: str = "letters.yaml") -> list[Example]:
    (folder / "examples" / name).write_text(text, "utf-8")
    return examples(folder, ZONE, NOW)


def misfits(folder: Path, found: list[Example]) -> list[str]:
    policy = load_policy(folder)
    return [str(misfit) for one in found for misfit in try_example(policy, one, AROUND, ZONE)]


def test_examples_that_hold(folder: Path) -> None:
    found = put(folder, GOOD)
    assert [one.name for one in found][:1] == ["A letter between agencies is registered"]
    assert [one.line for one in found] == [2, 16, 22]
    assert found[0].file == "policy/examples/letters.yaml"
    assert misfits(folder, found) == []


def test_an_example_is_no_rule_and_no_part_of_the_version(folder: Path) -> None:
    before = load_policy(folder).version
    put(folder, GOOD)
    assert load_policy(folder).version == before


def test_what_does_not_hold_is_told_with_both(folder: Path) -> None:
    wrong = """examples:
  - from: a@mof.example
    to: b@moh.example
    at: 2026-11-22 10:00
    expect:
      action: hold
      rule: forwarded
      hits: [forwarded, inter-agency-letter]
      misses: inter-agency-letter
      shadow: forwarded
      classification: secret
      due: 2026-11-25
      receipts: [read]
      tag: false
      reply: "550"
"""
    told = misfits(folder, put(folder, wrong))
    assert told[0] == "b@moh.example: action is accept, expected hold (rule inter-agency-letter)"
    assert len(told) == 10 and all(text.startswith("b@moh.example: ") for text in told)
    assert any("due is none, expected 2026-11-25" in text for text in told)


def test_a_pair_of_files(folder: Path) -> None:
    (folder / "examples" / "sub").mkdir()
    (folder / "examples" / "sub" / "circular.eml").write_text(
        "From: a@mof.example\nSubject: x\nList-Id: <all.mof.example>\n\ntext\n", "utf-8"
    )
    found = put(
        folder,
        "from: a@mof.example\nto: b@moh.example\nexpect: {receipts: [], hits: [not-for-automatic]}\n",
        "sub/circular.expect.yaml",
    )
    assert [one.name for one in found] == ["circular"] and found[0].octets.count(b"\r\n") == 5
    assert misfits(folder, found) == []


BROKEN = [
    ("examples: 3", "must hold examples:, a list", 1),
    ("exampels: []", "must hold examples:, a list", 1),
    ("examples: []\nother: 1", "unknown key", 2),
    ("examples:\n  - from: a@x.example", "to: is required", 2),
    ("examples:\n  - {from: a@x.example, to: b@y.example, expect: {acton: hold}}", "did you mean action", 2),
    ("examples:\n  - from: a\n    to: b@y.example\n    expect: {}", "from", 2),
    (
        "examples:\n  - from: a@x.example\n    to: b@y.example\n    at: soon\n    expect: {}",
        "must be a time",
        4,
    ),
    (
        "examples:\n  - from: a@x.example\n    to: b@y.example\n    letter: no.eml\n    expect: {}",
        "No such file",
        4,
    ),
    (
        "examples:\n  - from: a@x.example\n    to: b@y.example\n    letter: ../../etc/hosts\n    expect: {}",
        "must lie beside",
        4,
    ),
    (
        "examples:\n  - from: a@x.example\n    to: b@y.example\n    expect:\n      c@y.example: {}",
        "is no recipient",
        5,
    ),
    ("examples: [", "is not YAML", 2),
]


@pytest.mark.parametrize(("text", "said", "line"), BROKEN)
def test_what_is_wrong_is_told_with_its_line(folder: Path, text: str, said: str, line: int) -> None:
    with pytest.raises(ConfigFaults) as raised:
        put(folder, text)
    assert any(said in str(fault) for fault in raised.value.faults), raised.value.faults
    assert min(fault.line for fault in raised.value.faults) <= line
    assert all("Expected" not in fault.key and "dict[" not in fault.key for fault in raised.value.faults)


def test_without_a_folder_there_are_no_examples(tmp_path: Path) -> None:
    assert examples(tmp_path, ZONE, NOW) == []


def test_a_message_that_nobody_sent_becomes_facts() -> None:
    policy: Policy = load_policy()
    octets = b"From: a@mof.example\r\nAuto-Submitted: auto-generated\r\n\r\nx\r\n"
    to = (Address.parse("b@moh.example"),)
    facts = facts_of(
        octets,
        Handing(sender=Address.parse("a@mof.example"), recipients=to, door=Door.SUBMISSION, at_us=NOW),
        AROUND,
        policy.needs_fields,
    )
    assert (facts.submitter, facts.account, facts.at_us) == ("MOF", "a@mof.example", NOW)
    assert facts.automatic == {Automatic.AUTO_GENERATED}
    other = facts_of(
        octets, Handing(sender=Address.parse("a@mof.example"), recipients=to, agency="MOH", at_us=NOW), AROUND
    )
    assert other.submitter == "MOH"
