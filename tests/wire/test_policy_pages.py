"""The pages of policy over HTTP: who sees them, what saving does, conflicts, faults, two persons, trials."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from tests.wire.dashboard_house import browser, serve
from tests.wire.policy_house import OWN_RULES, PolicyHouse
from tracker import schema
from tracker.model import id_text

STRICTER = OWN_RULES.replace("recipients_over: 100", "recipients_over: 2")
BROKEN = OWN_RULES.replace("require_tls", "requir_tls")  # line 13
EVERYTHING = ["/policy", "/policy/rules/inter-agency-letter", "/policy/versions"]
EDITORS = ["/policy/files", "/policy/files/own.yaml", "/policy/replay"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyHouse]:
    built = PolicyHouse.build(tmp_path_factory.mktemp("policy"))
    yield built
    built.close()


@contextmanager
def fresh(root: Path, *, two_persons: bool = False) -> Iterator[tuple[PolicyHouse, str]]:
    """A house of its own, for what changes it."""
    built = PolicyHouse.build(root, two_persons=two_persons, letters=False)
    try:
        with serve(built) as base:
            yield built, base
    finally:
        built.close()


def opened(client: httpx.Client, name: str = "own.yaml") -> str:
    found = re.search(r'name="opened" value="([0-9a-f]*)"', client.get(f"/policy/files/{name}").text)
    assert found is not None
    return found[1]


def save(client: httpx.Client, text: str, digest: str, name: str = "own.yaml", **more: str) -> httpx.Response:
    fields = {"text": text, "opened": digest, "act": "save", "note": "لأن", **more}
    return client.post(f"/policy/files/{name}", files={key: (None, value) for key, value in fields.items()})


def actions(house: PolicyHouse, account: str) -> list[tuple[str, str]]:
    a = schema.audit.c
    with house.house.store.reader.connect() as conn:
        rows = conn.execute(select(a.action, a.object).where(a.account == account).order_by(a.id))
        return [(row.action, row.object) for row in rows]


# Who sees what


@pytest.mark.parametrize("who", ["mof.follow", "moh.diwan", "mop.view"])
def test_policy_is_not_for_the_people_of_one_agency(url: str, house: PolicyHouse, who: str) -> None:
    with browser(url, who) as client:
        for path in (*EVERYTHING, *EDITORS):
            assert client.get(path).status_code == 403, path
        assert 'href="/policy' not in client.get("/letters").text
        assert client.post("/policy/check", json={"name": "own.yaml", "text": ""}).status_code == 403
        assert save(client, STRICTER, "").status_code == 403
        assert client.post("/policy/replay", files={"version": (None, "disk")}).status_code == 403
    assert ("denied", "policy") in actions(house, who)


def test_compliance_of_the_whole_reads_and_changes_nothing(url: str, house: PolicyHouse) -> None:
    with browser(url, "audit.all") as client:
        for path in EVERYTHING:
            assert client.get(path).status_code == 200, path
        version = house.watch.current.version
        assert client.get(f"/policy/versions/{version}").status_code == 200
        for path in EDITORS:
            assert client.get(path).status_code == 403, path
        for act in ("approve", "rollback", "withdraw"):
            assert client.post(f"/policy/versions/{version}/{act}").status_code == 403
        assert save(client, STRICTER, "").status_code == 403
        page = client.get("/policy").text
        assert "/policy/files" not in page and "/policy/replay" not in page
    assert (house.folder / "own.yaml").read_text("utf-8") == OWN_RULES


def test_nobody_sees_it_without_a_session(url: str) -> None:
    with browser(url) as client:
        for path in (*EVERYTHING, *EDITORS):
            assert client.get(path).status_code == 303
        assert client.post("/policy/check", content="x" * 100_000).status_code == 303


@pytest.mark.parametrize(
    "path", ["/policy/files/own.yaml", "/policy/check", "/policy/replay", "/holds/decide"]
)
def test_nothing_is_changed_from_a_foreign_page(url: str, house: PolicyHouse, path: str) -> None:
    with browser(url, "root") as client:
        fields = {"text": (None, STRICTER), "opened": (None, opened(client)), "act": (None, "save")}
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert client.post(path, files=fields, headers=headers).status_code == 403
    assert (house.folder / "own.yaml").read_text("utf-8") == OWN_RULES


def test_names_lead_nowhere_else(url: str, house: PolicyHouse) -> None:
    with browser(url, "root") as client:
        for name in (
            "../x.yaml",
            "%2e%2e/x.yaml",
            "..%2fx.yaml",
            "x.txt",
            ".hidden.yaml",
            "settings/limits.json",
            "a\\b.yaml",
        ):
            assert client.get(f"/policy/files/{name}").status_code == 404, name
            assert save(client, STRICTER, "", name).status_code in (400, 404), name
        assert save(client, "rules: []\n", "", "default/safety.yaml").status_code == 400
        for path in (
            "/policy/rules/none-such",
            "/policy/versions/ffff",
            "/policy/replay/ffff",
            "/policy/versions/%00",
        ):
            assert client.get(path).status_code == 404, path
        assert client.get("/policy/rules/inter-agency-letter?cursor=zzz").status_code == 404
    assert sorted(path.name for path in house.folder.parent.glob("*.yaml")) == []


# The rules


def test_the_rules_in_words(url: str) -> None:
    with browser(url, "root") as client:
        page = client.get("/policy").text
        assert "كتاب من جهة إلى جهة يُسجَّل ويُرقَّم ويُتابَع" in page
        assert "own.yaml:16" in page and "default/safety.yaml:" in page
        assert 'lang="ar" dir="rtl"' in page
        assert (
            page.index('id="r-mac-return"')
            < page.index('id="r-many-recipients"')
            < page.index('id="r-outbound"')
        )
    with browser(url, "audit.all", "en") as client:
        client.post("/language", data={"to": "en"})
        page = client.get("/policy?q=hundred").text
        assert "more recipients than" in page and "hold for approval" in page
        assert page.count("<tr id=") == 1
        assert client.get("/policy?action=reject").text.count("<tr id=") >= 12
        assert client.get("/policy?file=own.yaml").text.count("<tr id=") == 3
        assert client.get("/policy?mode=shadow").text.count("<tr id=") == 0
        assert "No rule fits this filter" in client.get("/policy?q=%00<script>").text
        client.post("/language", data={"to": "ar"})


def test_a_rules_page_has_its_letters(url: str, house: PolicyHouse) -> None:
    with browser(url, "root") as client:
        page = client.get("/policy/rules/many-recipients").text
        assert id_text(house.letters["many"]) in page
        assert "recipients_over: 100" in page and "own.yaml:16" in page
        assert page.count('class="hits"') == 1, "one day of thirty"
        old = client.get("/policy/rules/hold-secret").text
        assert "قاعدة من إصدار سابق" in old and id_text(house.letters["pair"]) in old
        first = client.get("/policy/rules/inter-agency-letter").text
        onward = re.search(r'href="(\?cursor=[^"]+)"', first)
        assert onward is not None
        second = client.get(f"/policy/rules/inter-agency-letter{onward[1]}").text
        seen = [re.findall(r'id="l-([0-9a-zA-Z]+)"', page) for page in (first, second)]
        assert len(seen[0]) == 50 and seen[1] and not set(seen[0]) & set(seen[1])


# The editor


def test_faults_are_told_while_one_types(url: str, house: PolicyHouse) -> None:
    with browser(url, "root") as client:
        answer = client.post("/policy/check", json={"name": "own.yaml", "text": BROKEN}).json()
        assert not answer["good"]
        assert answer["lines"] and 13 in answer["lines"]
        assert "requir_tls" in answer["html"] and 'data-line="13"' in answer["html"]
        assert "مفتاح غير معروف" in answer["html"] and "أتقصد" in answer["html"]
        good = client.post("/policy/check", json={"name": "own.yaml", "text": STRICTER}).json()
        assert good["good"] and good["lines"] == []
        twice = client.post("/policy/check", json={"name": "new.yaml", "text": OWN_RULES}).json()
        assert not twice["good"], "checked with the other files of the folder"
        hostile = client.post(
            "/policy/check", json={"name": "own.yaml", "text": "<script>alert(1)</script>: ["}
        )
        assert "<script>" not in hostile.json()["html"]
        for body in ("", "[]", "{}", '{"name": "../x.yaml", "text": ""}', "\xff", '{"name": 1, "text": []}'):
            assert client.post("/policy/check", content=body.encode("latin-1")).status_code == 400, body
        assert client.post("/policy/check", content=b"x" * (7 << 20)).status_code == 413
    assert (house.folder / "own.yaml").read_text("utf-8") == OWN_RULES


def test_what_is_saved_stands_in_the_file_and_is_in_force(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, base), browser(base, "root") as client:
        before = house.watch.current.version
        answer = save(client, STRICTER.replace("\n", "\r\n"), opened(client))
        assert answer.status_code == 303, answer.text
        assert (house.folder / "own.yaml").read_bytes() == STRICTER.encode()
        now = house.watch.current.version
        assert now != before
        page = client.get(answer.headers["location"]).text
        assert "نافذ" in page and now[:12] in page
        versions = client.get("/policy/versions").text
        assert versions.index(now) < versions.index(before)
        assert "لأن" in versions and "root" in versions
        changes = client.get(f"/policy/versions/{now}").text
        assert "recipients_over: 2" in changes and "recipients_over: 100" in changes
        assert ("policy-saved", "own.yaml") in actions(house, "root")
        back = client.post(f"/policy/versions/{before}/rollback", data={"note": "was better"})
        assert back.status_code == 303, back.text
        assert house.watch.current.version == before
        assert (house.folder / "own.yaml").read_text("utf-8") == OWN_RULES


def test_a_broken_text_is_not_written(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, base), browser(base, "root") as client:
        answer = save(client, BROKEN, opened(client))
        assert answer.status_code == 422
        assert "requir_tls" in answer.text
        assert (house.folder / "own.yaml").read_text("utf-8") == OWN_RULES
        assert house.watch.faults == ()


def test_what_another_wrote_is_not_overwritten_unseen(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, base), browser(base, "root") as client:
        digest = opened(client)
        theirs = OWN_RULES.replace("priority: 103", "priority: 104")
        (house.folder / "own.yaml").write_text(theirs, "utf-8")
        answer = save(client, STRICTER, digest)
        assert answer.status_code == 409
        assert "priority: 104" in answer.text and "recipients_over: 2" in answer.text
        assert (house.folder / "own.yaml").read_text("utf-8") == theirs
        again = re.search(r'name="opened" value="([0-9a-f]+)"', answer.text)
        assert again is not None and again[1] != digest
        assert save(client, STRICTER, again[1]).status_code == 303
        assert (house.folder / "own.yaml").read_text("utf-8") == STRICTER


def test_files_are_made_and_removed(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, base), browser(base, "root") as client:
        assert client.get("/policy/new?name=20-new").headers["location"] == "/policy/files/20-new.yaml"
        assert client.get("/policy/new?name=../x").headers["location"] == "/policy/files?bad-name=1"
        page = client.get("/policy/files/20-new.yaml").text
        text = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
        assert text is not None
        assert save(client, text[1], "", "20-new.yaml").status_code == 303
        assert (house.folder / "20-new.yaml").exists()
        assert {"first-rule"} <= {rule.id for rule in house.watch.current.rules}
        assert save(client, text[1], "", "20-new.yaml").status_code == 409, "it is there by now"
        removed = save(client, "", opened(client, "20-new.yaml"), "20-new.yaml", act="remove")
        assert removed.status_code == 303
        assert not (house.folder / "20-new.yaml").exists()


def test_a_fault_on_disk_stands_above_every_page_of_an_administrator(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, base):
        (house.folder / "own.yaml").write_text(BROKEN, "utf-8")
        house.watch.read(None)
        assert house.watch.faults
        with browser(base, "root") as client:
            for path in ("/letters", "/policy", "/holds", "/worklist"):
                page = client.get(path).text
                assert 'class="banner"' in page and "own.yaml:13" in page and "غير معروف" in page, path
            assert "many-recipients" in client.get("/policy").text, "the last good version is shown"
            editor = client.get("/policy/files/own.yaml")
            assert "requir_tls" in editor.text
            assert save(client, STRICTER, opened(client)).status_code == 303
            assert 'class="banner"' not in client.get("/letters").text
        with browser(base, "audit.all") as client:
            assert 'class="banner"' not in client.get("/letters").text


def test_a_second_person_approves(tmp_path: Path) -> None:
    from tests.wire.dashboard_house import PEOPLE, password_hash
    from tracker import accounts

    with fresh(tmp_path, two_persons=True) as (house, base):
        assert PEOPLE["root"][0].value == "admin"
        house.record.write(
            lambda conn: accounts.make(
                conn,
                house.record.ids.next(),
                name="rana",
                password="a long sentence for tests",
                hashed=password_hash(),
                role=PEOPLE["root"][0],
                must_change=False,
            )
        )
        before = house.watch.current.version
        with browser(base, "root") as client:
            answer = save(client, STRICTER, opened(client))
            assert answer.status_code == 303
            page = client.get(answer.headers["location"]).text
            assert "بانتظار موافقة مدير ثانٍ" in page
            proposed = answer.headers["location"].rpartition("=")[2]
            assert house.watch.current.version == before
            own = client.get(f"/policy/versions/{proposed}").text
            assert "/approve" not in own and "لا بد من موافقة مدير آخر" in own
            refused = client.post(f"/policy/versions/{proposed}/approve")
            assert refused.status_code == 409
            assert house.watch.current.version == before
        with browser(base, "rana") as client:
            page = client.get(f"/policy/versions/{proposed}").text
            assert "/approve" in page and "recipients_over: 2" in page
            assert client.post(f"/policy/versions/{proposed}/approve").status_code == 303
            assert house.watch.current.version == proposed
            versions = client.get("/policy/versions").text
            assert "rana" in versions and "root" in versions
        assert ("policy-approved", proposed) in actions(house, "rana")
        with browser(base, "rana") as client:
            save(client, OWN_RULES.replace("100", "50"), opened(client))
            waiting = house.watch.waiting
            assert waiting
            assert client.post(f"/policy/versions/{waiting}/withdraw").status_code == 303
            assert not house.watch.waiting
            assert (house.folder / "own.yaml").read_text("utf-8") == STRICTER


# Trials


def wait_for(client: httpx.Client, address: str) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        part = client.get(f"{address}/part").text
        if "data-done" in part:
            return part
        time.sleep(0.05)
    raise AssertionError("the trial did not end")


def test_a_text_is_tried_before_it_is_saved(url: str, house: PolicyHouse) -> None:
    with browser(url, "root") as client:
        fields = {"name": "own.yaml", "text": STRICTER, "since": "30"}
        answer = client.post("/policy/replay", files={key: (None, value) for key, value in fields.items()})
        assert answer.status_code == 303, answer.text
        assert client.get(answer.headers["location"]).status_code == 200
        part = wait_for(client, answer.headers["location"])
        assert id_text(house.house.ids["circular"]) in part, "the circular to ten would be held"
        assert "many-recipients" in part and "يُحجز للموافقة" in part
        same = client.post(
            "/policy/replay", files={"version": (None, house.watch.current.version), "since": (None, "30")}
        )
        assert "لا كتاب كان قراره سيتغيّر" in wait_for(client, same.headers["location"])
        broken = client.post("/policy/replay", files={"name": (None, "own.yaml"), "text": (None, BROKEN)})
        assert broken.status_code == 422 and "requir_tls" in broken.text
        assert client.post("/policy/replay", files={"agency": (None, "NONE")}).status_code == 400
    assert (house.folder / "own.yaml").read_text("utf-8") == OWN_RULES
    assert any(action == "policy-tried" for action, _ in actions(house, "root"))


def test_reading_changes_nothing(url: str, house: PolicyHouse) -> None:
    def rows() -> list[tuple[object, ...]]:
        with house.house.store.reader.connect() as conn:
            return [
                tuple(row)
                for table in (schema.hold, schema.approval, schema.policy_version, schema.policy_activation)
                for row in conn.execute(select(table))
            ]

    before, folder = rows(), {p.name: p.read_bytes() for p in house.folder.iterdir()}
    with browser(url, "root") as client:
        for path in (
            *EVERYTHING,
            *EDITORS,
            "/holds",
            f"/holds/confirm?act=release&id={id_text(house.holds['program'])}",
            f"/holds/confirm?act=refuse&id={id_text(house.holds['program'])}",
            f"/holds/{id_text(house.holds['program'])}",
            "/policy/new?name=x",
        ):
            assert client.get(path).status_code in (200, 303), path
        for path in ("/holds/decide", "/policy/check", "/policy/versions/x/approve"):
            assert client.get(path).status_code in (404, 405), path
    assert rows() == before
    assert {p.name: p.read_bytes() for p in house.folder.iterdir()} == folder
