"""The desk of held letters over HTTP: who knows of a hold, who decides it, singly and in bulk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.wire.dashboard_house import browser, serve
from tests.wire.policy_house import PolicyHouse
from tracker import schema
from tracker.model import id_text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyHouse]:
    built = PolicyHouse.build(tmp_path_factory.mktemp("holds"))
    yield built
    built.close()


@contextmanager
def fresh(root: Path) -> Iterator[tuple[PolicyHouse, str]]:
    built = PolicyHouse.build(root)
    try:
        with serve(built) as base:
            yield built, base
    finally:
        built.close()


def states(house: PolicyHouse) -> dict[str, str]:
    h = schema.hold.c
    with house.house.store.reader.connect() as conn:
        found = {row.id: row.state for row in conn.execute(select(h.id, h.state))}
    return {name: found[number] for name, number in house.holds.items()}


def events(house: PolicyHouse, name: str) -> list[str]:
    e = schema.evidence.c
    with house.house.store.reader.connect() as conn:
        asked = select(e.event).where(e.letter_id == house.letters[name]).order_by(e.id)
        return list(conn.scalars(asked))


def ids(house: PolicyHouse, *names: str) -> list[str]:
    return [id_text(house.holds[name]) for name in names]


# Who knows of what: the sender's end, those who see all, and whom the rule names.
KNOWN = {
    "root": {"program", "pair", "many", "named"},
    "audit.all": {"program", "pair", "many", "named"},
    "mof.follow": {"program", "pair"},
    "moh.diwan": {"named"},
    "moh.follow": {"named"},
    "ab.follow": {"named"},
    "mop.view": set(),
    "moe.view": set(),
}
MAY = {
    "root": {"program", "pair"},
    "audit.all": {"program", "pair", "many"},
    "mof.follow": {"program", "pair"},
    "ab.follow": {"named"},
}


@pytest.mark.parametrize("who", KNOWN)
def test_each_finds_the_holds_that_are_his_to_know(url: str, house: PolicyHouse, who: str) -> None:
    with browser(url, who) as client:
        page = client.get("/holds").text
        shown = {name for name, number in house.holds.items() if f'id="h-{id_text(number)}"' in page}
        offered = {
            name for name, number in house.holds.items() if f'name="id" value="{id_text(number)}"' in page
        }
        assert shown == KNOWN[who]
        assert offered == MAY.get(who, set())
        for name, number in house.holds.items():
            answer = client.get(f"/holds/{id_text(number)}")
            assert answer.status_code == (200 if name in KNOWN[who] else 404), name
            can = '/holds/confirm"' in answer.text
            assert can == (name in MAY.get(who, set())), name
        count = re.search(r'href="/holds"[^>]*>[^<]*<span class="count-mark">(\d+)<', page)
        assert (int(count[1]) if count else 0) == len(KNOWN[who])


def test_one_named_by_a_rule_sees_the_hold_but_not_the_letter(url: str, house: PolicyHouse) -> None:
    with browser(url, "ab.follow") as client:
        page = client.get(f"/holds/{id_text(house.holds['named'])}").text
        assert "Audit of hospital purchases &lt;b&gt;2026&lt;/b&gt;" in page
        assert f"/letters/{id_text(house.letters['named'])}" not in page
        assert client.get(f"/letters/{id_text(house.letters['named'])}").status_code == 404
        assert "/policy/rules/" not in page


def test_the_receiver_knows_nothing_of_what_is_held(url: str, house: PolicyHouse) -> None:
    with browser(url, "moh.follow") as client:
        assert client.get(f"/holds/{id_text(house.holds['program'])}").status_code == 404
        assert client.get(f"/letters/{id_text(house.letters['program'])}").status_code == 404
        confirm = client.get(
            "/holds/confirm", params={"act": "release", "id": ids(house, "program", "named")}
        )
        assert f'value="{id_text(house.holds["program"])}"' not in confirm.text
        assert "setup" not in confirm.text


def test_the_page_of_a_held_letter_shows_the_hold(url: str, house: PolicyHouse) -> None:
    with browser(url, "mof.follow") as client:
        page = client.get(f"/letters/{id_text(house.letters['pair'])}").text
        assert 'id="held"' in page and "كتاب سري يحتاج موافقة شخصين" in page
        assert f'/holds/{id_text(house.holds["pair"])}"' in page
        assert "0 من 2" in page
        other = client.get(f"/letters/{id_text(house.house.ids['main'])}").text
        assert 'id="held"' not in other


def test_what_it_carries_is_shown(url: str, house: PolicyHouse) -> None:
    with browser(url, "root") as client:
        page = client.get("/holds").text
        assert "setup" in page and "برنامج" in page
        assert "يُفرج عنه تلقائياً" in page and "يُرفض تلقائياً" in page
        assert "<b>2026</b>" not in page


@pytest.mark.parametrize(
    ("act", "names", "wanted"),
    [
        ("release", ["program", "many"], {"program"}),
        ("refuse", ["named"], set()),
    ],
)
def test_confirming_leaves_out_what_may_not_be_decided(
    url: str, house: PolicyHouse, act: str, names: list[str], wanted: set[str]
) -> None:
    with browser(url, "root") as client:
        page = client.get("/holds/confirm", params={"act": act, "id": ids(house, *names)}).text
        asked = {name for name in names if f'name="id" value="{id_text(house.holds[name])}"' in page}
        assert asked == wanted
        assert "ما لن يشمله القرار" in page
    assert set(states(house).values()) == {"open"}


@pytest.mark.parametrize(
    "params", [{"act": "delete"}, {}, {"act": "release", "id": "%%%"}, {"act": "release", "id": "'"}]
)
def test_odd_acts_are_no_acts(url: str, house: PolicyHouse, params: dict[str, str]) -> None:
    with browser(url, "root") as client:
        assert client.get("/holds/confirm", params=params).status_code == 400
        assert client.post("/holds/decide", data=params).status_code == 400
        assert client.get("/holds/confirm?act=release").status_code == 303
        assert client.get("/holds/none-such").status_code == 404
        assert client.get("/holds?cursor=%00").status_code == 400


def test_an_act_on_what_is_not_his_changes_nothing(url: str, house: PolicyHouse) -> None:
    with browser(url, "moh.diwan") as client:
        for name in ("program", "pair", "many", "named"):
            answer = client.post("/holds/decide", data={"act": "release", "id": ids(house, name)})
            assert answer.status_code == 200
            assert "نظام الموارد" not in answer.text
    with browser(url, "mop.view") as client:
        client.post("/holds/decide", data={"act": "refuse", "id": ids(house, "program"), "note": "x"})
    assert set(states(house).values()) == {"open"}


def test_many_are_decided_at_once_and_each_is_told(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, base):
        with browser(base, "audit.all") as client:
            answer = client.post(
                "/holds/decide",
                data={
                    "act": "release",
                    "note": "لا مانع",
                    "id": ids(house, "program", "many", "pair", "named"),
                },
            )
            assert answer.status_code == 200, "not all went the same way"
            assert "وافق 1 من 2" in answer.text and "تسمّي القاعدة غيرك" in answer.text
            assert states(house) == {
                "program": "released",
                "many": "released",
                "pair": "open",
                "named": "open",
            }
            assert events(house, "program")[-1] == "released"
            page = client.get("/holds").text
            assert id_text(house.holds["program"]) not in page
            assert "1 من 2" in page and "audit.all" in page
            again = client.post("/holds/decide", data={"act": "release", "id": ids(house, "pair")})
            assert "بقيت موافقة شخص آخر" in again.text, "the same person does not count twice"
            assert states(house)["pair"] == "open"
        with browser(base, "mof.follow") as client:
            answer = client.post("/holds/decide", data={"act": "release", "id": ids(house, "pair")})
            assert answer.status_code == 303
            told = client.get(answer.headers["location"]).text
            assert "أُفرج عن كتاب واحد" in told
            page = client.get(f"/letters/{id_text(house.letters['pair'])}").text
            assert "audit.all" in page and "mof.follow" in page
        assert states(house)["pair"] == "released"
        with browser(base, "ab.follow") as client:
            silent = client.post(
                "/holds/decide", data={"act": "refuse", "id": ids(house, "named"), "note": " "}
            )
            assert "للرفض سبب يُذكر" in silent.text and states(house)["named"] == "open"
            note = '<img src=x onerror="alert(1)">'
            answer = client.post(
                "/holds/decide", data={"act": "refuse", "id": ids(house, "named"), "note": note}
            )
            assert answer.headers["location"] == "/holds?done=refused&n=1"
            page = client.get(f"/holds/{id_text(house.holds['named'])}").text
            assert "&lt;img src=x" in page and "<img" not in page
        assert states(house)["named"] == "refused"
        assert events(house, "named")[-1] == "refused"
        with house.house.store.reader.connect() as conn:
            a = schema.audit.c
            acts = conn.execute(select(a.account, a.object).where(a.action == "hold-decided")).all()
        assert {row.account for row in acts} == {"audit.all", "mof.follow", "ab.follow"}
        with browser(base, "root") as client:
            assert "لا شيء بانتظار الموافقة" in client.get("/holds").text
