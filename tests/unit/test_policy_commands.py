"""``wasl policy`` without a running gateway: what it says, what it answers in JSON, how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway import cli
from gateway.commands.policy_replay import moment
from tests.unit.shell import ROOT, Said, Shell


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway of two agencies that never ran."""
    home = tmp_path_factory.mktemp("policy") / "gw"
    csv = home.parent / "two.csv"
    rows = "MOF,المالية,Finance,mof.example\nMOH,الصحة,Health,moh.example\n"
    csv.write_text(f"code,name_ar,name_en,domain\n{rows}", "utf-8")
    words = [sys.executable, "-m", "gateway.cli", "init", str(home), "--hostname", "wasl.example"]
    words += ["--agencies", str(csv), "--next-hop-template", "smtp://mail.{domain}:25"]
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    return home


Command = Callable[..., Said]


@pytest.fixture
def policy(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    wasl = Shell(monkeypatch, capsys)

    def run(*words: object) -> Said:
        return wasl("policy", *words, "--config", home / "wasl.toml")

    return run


@pytest.fixture
def candidate(tmp_path: Path, home: Path) -> Path:
    made = tmp_path / "candidate"
    (made / "examples").mkdir(parents=True)
    for file in (home / "policy").glob("*.yaml"):
        (made / file.name).write_bytes(file.read_bytes())
    (made / "more.yaml").write_text(
        "rules:\n  - id: plans-wait\n    priority: 104\n    description: {ar: الخطط, en: Plans wait}\n"
        "    match: {subject_contains: plans}\n    action: hold\n    kind: letter\n",
        "utf-8",
    )
    (made / "examples" / "plans.yaml").write_text(
        "examples:\n  - name: plans wait\n    from: a@mof.example\n    to: b@moh.example\n"
        "    header: {Subject: Plans}\n    expect: {action: hold, rule: plans-wait}\n",
        "utf-8",
    )
    return made


def test_check_tells_every_fault_with_its_place(policy: Command, candidate: Path) -> None:
    said = policy("check", candidate, "--json")
    assert said.status == 0 and said.lines[0]["rules"] > 20
    (candidate / "more.yaml").write_text("rules:\n  - id: x\n    colour: red\n", "utf-8")
    said = policy("check", candidate, "--json")
    assert said.status == 1 and {line["line"] for line in said.lines} <= {2, 3}
    said = policy("check", candidate)
    assert said.status == 1 and "candidate/more.yaml:3:5: rules.0.colour: unknown key" in said.err


def test_examples_are_tried(policy: Command, candidate: Path) -> None:
    said = policy("test", candidate)
    assert (said.status, said.out) == (0, "1 examples, none not as expected\n")
    (candidate / "more.yaml").unlink()
    said = policy("test", candidate)
    assert (
        said.status == 1
        and "plans.yaml:2: plans wait: b@moh.example: action is accept, expected hold" in said.err
    )
    said = policy("test", candidate, "--json")
    assert [line["ok"] for line in said.lines] == [False]
    assert policy("test", candidate, "--only", "nothing").status == 0


def test_a_message_is_tried(policy: Command, candidate: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.eml"
    file.write_bytes("From: a@mof.example\nSubject: [سري] plans\n\ntext\n".encode())
    words = ("try", file, "--from", "a@mof.example", "--to", "b@moh.example", "--to", "c@x.example")
    said = policy(*words, "--at", "2026-11-22T10:00", "--candidate", candidate, "--json")
    assert said.status == 0, said.err
    first, second = said.lines[0]["recipients"]
    assert first["verdict"]["rule"] == "plans-wait" and first["verdict"]["classification"] == "secret"
    assert second["verdict"]["action"] == "reject" and second["text"]["ar"]
    said = policy(*words)
    assert said.status == 0 and "b@moh.example  accept" in said.out and "rules did not apply" in said.out
    assert "plans-wait" not in said.out
    said = policy(*words, "--all")
    assert "mac-return" in said.out
    assert policy(*words, "--agency", "NOBODY").status == 2
    assert policy(*words, "--door", "window").status == 2
    assert policy(*words, "--at", "soon").status == 2


def test_folders_are_compared(policy: Command, candidate: Path, home: Path) -> None:
    said = policy("diff", home / "policy", candidate)
    assert said.status == 1 and "+  - id: plans-wait" in said.out and "+++ " in said.out
    assert "examples" not in said.out
    said = policy("diff", home / "policy", "folder")
    assert (said.status, said.out) == (0, "")
    assert "no active version" in policy("diff").err  # it never ran


def test_rules_are_listed_in_their_order(policy: Command) -> None:
    said = policy("rules", "--json")
    priorities = [line["priority"] for line in said.lines]
    assert priorities == sorted(priorities) and said.lines[0]["hits"] == 0
    said = policy("rules")
    assert any(line.startswith("150\tinter-agency-letter\tsender: own; ") for line in said.out.splitlines())


def test_the_shape_for_editors(policy: Command, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for kind in ("rules", "groups", "calendar", "marks"):
        monkeypatch.setattr(sys, "argv", ["wasl", "policy", "schema", kind])
        with pytest.raises(SystemExit):
            cli.main()
        assert json.loads(capsys.readouterr().out)["$schema"]


def test_versions_are_kept_and_rolled_back_without_a_gateway(policy: Command, home: Path) -> None:
    """Acts open the record themselves when no gateway runs; the first one keeps what lies in the folder."""
    said = policy("rollback", "abcd")
    assert said.status == 1 and "no policy version abcd" in said.err
    (first,) = policy("versions", "--json").lines
    assert first["standing"] == "active"
    more = home / "policy" / "more.yaml"
    more.write_text(
        "rules:\n  - id: more\n    priority: 104\n    description: {ar: أ, en: More}\n"
        "    match: {recipient: agency}\n    receipts: []\n",
        "utf-8",
    )
    said = policy("rollback", first["digest"][:8], "--note", "as it was")
    assert said.status == 0 and f"policy version {first['digest']} is in force" in said.out, said.err
    assert not more.exists()
    newest, *_ = policy("versions", "--json").lines
    assert newest["digest"] == first["digest"] and newest["last"]["note"] == "as it was"
    assert len(policy("versions").out.splitlines()) == 3
    assert policy("replay", "--since", "7d").out.splitlines()[-1] == "no letter would be decided otherwise"
    assert policy("replay", "--since", "yesterday").status == 2
    said = policy("explain", "MOF/2026/000001")
    assert said.status == 1 and "there is no letter" in said.err


def test_moments() -> None:
    zone = ZoneInfo("Asia/Amman")
    assert moment("2026-11-22", zone) == 1_795_294_800_000_000
    assert moment("2026-11-22T10:00+00:00", zone) == 1_795_341_600_000_000
    assert moment("30d", zone) < moment("12h", zone) < moment("5 min", zone)
    for text in ("", "d", "30 years", "2026-13-01"):
        with pytest.raises(ValueError, match="such as"):
            moment(text, zone)
