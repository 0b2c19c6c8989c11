"""From the dashboard of a running gateway: a rule saved there holds a letter, a person releases it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.servers.certificates import Authority
from tests.servers.place import wait_until
from tests.wire.gateway_front import MOF, MOH, gateway_front
from tests.wire.wire_letters import letter

PASSWORD = "a long sentence for tests"
RULE = """\
rules:
  - id: desk-looks-first
    priority: 101
    description: {ar: يراجعها المتابعون, en: Compliance looks first}
    match: {subject_contains: [LOOK-FIRST]}
    action: hold
    hold: {approvers: [compliance], expires: 2h, then: refuse}
"""


@contextmanager
def signed_in(url: str, name: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"Origin": url}, timeout=30) as client:
        answer = client.post("/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        if answer.headers["location"] == "/password":
            fields = {"current": PASSWORD, "new": f"{PASSWORD} 2", "again": f"{PASSWORD} 2"}
            assert client.post("/password", data=fields).status_code == 303
        yield client


def test_a_rule_of_the_dashboard_holds_and_a_person_releases(tmp_path: Path, authority: Authority) -> None:
    with gateway_front(tmp_path, authority, agencies=(MOF, MOH)) as front:
        for name, role in (("boss", "admin"), ("rana", "compliance")):
            front.house.run("user", "add", name, "--role", role, "--password-stdin", words=PASSWORD + "\n")
        url = f"http://127.0.0.1:{front.wasl.ports['dashboard']}"
        with signed_in(url, "boss") as boss:
            check = boss.post("/policy/check", json={"name": "20-desk.yaml", "text": RULE}).json()
            assert check["good"], check["html"]
            fields = {"text": RULE, "opened": "", "act": "save", "note": "first"}
            saved = boss.post(
                "/policy/files/20-desk.yaml", files={key: (None, value) for key, value in fields.items()}
            )
            assert saved.status_code == 303, saved.text
            assert (front.house.root / "policy" / "20-desk.yaml").read_text("utf-8") == RULE
            assert "desk-looks-first" in boss.get("/policy?q=desk-looks-first").text
            octets, _ = letter(subject="LOOK-FIRST please")
            front.accept(octets, "diwan@moh.gov.example")
            assert "LOOK-FIRST please" in boss.get("/holds").text
            assert 'name="id"' not in boss.get("/holds").text, "the rule names compliance"
        with signed_in(url, "rana") as rana:
            page = rana.get("/holds").text
            found = re.search(r'name="id" value="(\w+)"', page)
            assert found is not None, page
            assert not front.sink(MOH).received
            done = rana.post("/holds/decide", data={"act": "release", "id": found[1], "note": "fine"})
            assert done.headers["location"] == "/holds?done=released&n=1"
            wait_until(lambda: bool(front.sink(MOH).received), "the released letter", hint=front.wasl.log)
            rule = rana.get("/policy/rules/desk-looks-first").text
            assert "LOOK-FIRST please" in rule
            assert rana.get(f"/holds/{found[1]}").text.count("rana") >= 1
