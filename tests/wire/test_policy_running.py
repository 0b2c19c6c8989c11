"""The policy of a running gateway: files that change, a broken one, versions, the way back, a replay."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ready
from tests.servers.certificates import Authority
from tests.servers.place import wait_until
from tests.wire.gateway_front import MOF, MOH, Front, gateway_front
from tests.wire.wire_letters import letter

pytestmark = pytest.mark.servers

DIWAN = "diwan@moh.gov.example"
BUDGET = """rules:
  - id: budget-is-held
    priority: 104
    description: {ar: الموازنة بانتظار الموافقة, en: The budget waits for approval}
    match: {subject_contains: budget}
    action: hold
    kind: letter
"""


def wasl(front: Front, *words: str, person: str = "") -> tuple[int, list[dict[str, Any]], str]:
    """``wasl policy …`` as a person types it: status, lines of JSON, standard error."""
    env = dict(os.environ) | ({"SUDO_USER": person} if person else {})
    done = ready.run(["policy", *words, "--config", front.house.settings, "--json"], env=env)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def sent(front: Front, subject: str) -> str:
    octets, message_id = letter(DIWAN, subject=subject)
    front.accept(octets, DIWAN)
    return message_id


def states(front: Front, message_id: str) -> list[str]:
    return [d.state for d in front.deliveries(message_id).values()]


def version(front: Front) -> str:
    return str(wasl(front, "versions", "--limit", "1")[1][0]["digest"])


def test_the_life_of_a_policy(tmp_path: Path, authority: Authority) -> None:
    with gateway_front(tmp_path, authority, agencies=(MOF, MOH)) as front:
        folder = front.house.root / "policy"
        first = version(front)
        before = sent(front, "The budget of today")
        front.arrived(MOH, before)

        # A file is put into the folder: a second later it is in force.
        (folder / "more.yaml").write_text(BUDGET, "utf-8")
        wait_until(lambda: version(front) != first, "the new version", hint=front.wasl.log)
        second = version(front)
        held = sent(front, "The budget of tomorrow")
        assert states(front, held) == ["held"]
        submissions = front.submissions(front.letter(held).id)
        assert [s.policy_version for s in submissions] == [second]

        # A broken one changes nothing; the fault is told to whoever looks.
        (folder / "more.yaml").write_text(BUDGET + "    colour: red\n", "utf-8")
        front.wasl.wait_log("unknown key")
        assert version(front) == second
        connection = http.client.HTTPConnection("127.0.0.1", front.wasl.ports["metrics"], timeout=90)
        connection.request("GET", "/healthz")
        health = json.loads(connection.getresponse().read())
        connection.close()
        assert any("more.yaml:8" in fault for fault in health["config_faults"]), health
        status, told, _ = wasl(front, "check")
        assert status == 1 and told[0]["line"] == 8
        assert states(front, sent(front, "budget again")) == ["held"]

        # What decided each letter can be told, whatever is in force by now.
        status, (told_of,), words = wasl(front, "explain", front.letter(held).number)
        assert status == 0, words
        (reasoned,) = told_of["recipients"]
        assert told_of["policy"] == second and reasoned["differs"] == []
        assert reasoned["verdict"]["rule"] == "budget-is-held"
        steps = {step["rule"]: step for step in reasoned["rules"]}
        assert steps["budget-is-held"]["decided"] and steps["mac-return"]["key"] == "recipient"

        # The way back writes the files; what was held under the rule is told by a replay.
        status, (answer,), words = wasl(front, "rollback", first[:8], "--note", "too strict", person="rana")
        assert status == 0, words
        assert answer["in_force"] == first == answer["activation"]["digest"]
        assert not (folder / "more.yaml").exists() and version(front) == first
        assert wasl(front, "versions")[1][0]["last"]["note"] == "too strict"
        last = sent(front, "budget for all")
        front.arrived(MOH, last)
        status, lines, words = wasl(front, "replay", "--since", "1h", "--csv", str(tmp_path / "changes.csv"))
        assert status == 0, words
        summary = lines[-1]["summary"]
        assert (summary["letters"], summary["changed"], summary["candidate"]) == (4, 2, first)
        assert {line["changes"][0]["rule_before"] for line in lines[:-1]} == {"budget-is-held"}
        assert len((tmp_path / "changes.csv").read_text("utf-8-sig").splitlines()) >= 3
        _, lines, _ = wasl(front, "replay", "--since", "1h", "--version", second)
        assert lines[-1]["summary"]["aspects"]["verdict"] == 2  # the two that went out
        rules = {line["id"]: line for line in wasl(front, "rules")[1]}
        assert rules["inter-agency-letter"]["hits"] == 2
        front.verify()


def test_a_second_person_agrees(tmp_path: Path, authority: Authority) -> None:
    sections = {"policy": {"second_person": True}}
    with gateway_front(tmp_path, authority, agencies=(MOF, MOH), sections=sections) as front:
        folder = front.house.root / "policy"
        first = version(front)
        (folder / "more.yaml").write_text(BUDGET, "utf-8")
        status, (answer,), words = wasl(front, "reload", "--note", "the minister asks", person="rana")
        assert status == 0, words
        assert answer["in_force"] == first and answer["waiting"]
        waiting = answer["waiting"]
        told = front.house.rows("check", "--offline")
        assert any("waits for a second person" in str(line["text"]) for line in told), told
        front.arrived(MOH, sent(front, "The budget of today"))
        status, _, words = wasl(front, "approve", waiting, person="rana")
        assert status == 1 and "another person" in words
        status, (answer,), words = wasl(front, "approve", waiting[:6], person="sami")
        assert status == 0 and answer["in_force"] == waiting, words
        assert answer["activation"]["second"].startswith("sami")
        assert states(front, sent(front, "The budget of tomorrow")) == ["held"]
        assert [line["standing"] for line in wasl(front, "versions")[1]] == ["active", "known"]
