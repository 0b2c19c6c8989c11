"""The register desk over HTTP: who sees what waits, who may act, singly and in bulk, what both sides read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from tests.wire.dashboard_house import browser, serve
from tests.wire.register_house import RegisterHouse, year
from tracker import schema
from tracker.model import id_text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegisterHouse]:
    built = RegisterHouse.build(tmp_path_factory.mktemp("register"))
    yield built
    built.close()


ARABIC_DIGITS = {ord("0") + n: 0x660 + n for n in range(10)}


@contextmanager
def fresh(root: Path) -> Iterator[tuple[RegisterHouse, str]]:
    built = RegisterHouse.build(root)
    try:
        with serve(built) as base:
            yield built, base
    finally:
        built.close()


def shown(page: str, house: RegisterHouse) -> set[str]:
    return {name for name, number in house.letters.items() if f'id="i-{id_text(number)}"' in page}


def ref(house: RegisterHouse, *names: str) -> list[str]:
    return [id_text(house.letters[name]) for name in names]


def act(client: httpx.Client, what: str, ids: list[str], **more: object) -> httpx.Response:
    return client.post("/register/act", data={"act": what, "id": ids, **more})


def events(house: RegisterHouse, name: str) -> list[tuple[str, str, str]]:
    e = schema.evidence.c
    with house.record.read() as conn:
        asked = select(e.event, e.source, e.reporter).where(
            e.letter_id == house.letters[name], e.source.in_(("person", "answer"))
        )
        return [(row.event, row.source, row.reporter) for row in conn.execute(asked.order_by(e.id))]


MOH = {"budget", "staff", "supply", "both", "asked", "again"}


def test_what_waits_is_shown_to_the_agency_that_has_it(url: str, house: RegisterHouse) -> None:
    for who, wanted in (
        ("moh.diwan", MOH),
        ("moh.follow", MOH),
        ("moh.view", MOH),
        ("moj.diwan", {"both", "court"}),
        ("mof.follow", {"names", "answer"}),
        ("moe.view", set()),
    ):
        with browser(url, who) as client:
            page = client.get("/register").text
            assert shown(page, house) == wanted, who
            offered = 'name="act" value="register"' in page
            assert offered == (who in ("moh.diwan", "moh.follow", "moj.diwan", "mof.follow")), who
            count = re.search(r'/register"[^<]*>[^<]*<span class="count-mark">(\d+)<', page)
            assert (count is not None) == offered and "<b>2026</b>" not in page


def test_who_sees_everything_looks_at_any_register_and_acts_in_none(url: str, house: RegisterHouse) -> None:
    with browser(url, "audit.all") as client:
        page = client.get("/register", params={"agency": "MOJ"}).text
        assert shown(page, house) == {"both", "court"} and 'value="register"' not in page
        assert (
            client.get("/register/confirm", params={"act": "close", "id": ref(house, "both")}).status_code
            == 403
        )
        assert act(client, "close", ref(house, "both")).status_code == 403
    with browser(url, "moh.diwan") as client:
        page = client.get("/register", params={"agency": "MOJ"}).text
        assert shown(page, house) == MOH, "another agency's register is not asked for by its address"


def test_a_person_of_another_agency_or_one_who_looks_cannot_act(url: str, house: RegisterHouse) -> None:
    for who in ("mof.follow", "moj.diwan", "moh.view", "moe.view"):
        with browser(url, who) as client:
            answer = act(client, "close", ref(house, "budget"), text="x")
            assert answer.status_code == 200 and 'class="tag warn"' in answer.text, who
            assert "مخصصات الربع" not in answer.text or who == "moh.view", who
            confirm = client.get("/register/confirm", params={"act": "close", "id": ref(house, "budget")})
            assert 'name="id"' not in confirm.text
    assert events(house, "budget") == []
    with httpx.Client(base_url=url) as stranger:
        assert stranger.post("/register/act", data={"act": "close"}).status_code == 403
        assert stranger.get("/register").status_code == 303


def test_an_act_from_a_foreign_page_is_refused(url: str, house: RegisterHouse) -> None:
    with browser(url, "moh.diwan") as client:
        answer = client.post(
            "/register/act",
            data={"act": "close", "id": ref(house, "budget")},
            headers={"Origin": "https://evil.example"},
        )
        assert answer.status_code == 403
    assert events(house, "budget") == []


@pytest.mark.parametrize(
    "data",
    [
        {"act": "destroy", "id": ["x"]},
        {"act": "close", "id": ["not-an-id"]},
        {"act": "refer", "id": ["0000000000001"], "purpose": "fun"},
    ],
)
def test_requests_that_make_no_sense_are_turned_down(url: str, data: dict[str, object]) -> None:
    with browser(url, "moh.diwan") as client:
        assert client.post("/register/act", data=data).status_code == 400


def test_looking_changes_nothing(url: str, house: RegisterHouse) -> None:
    with browser(url, "moh.diwan") as client:
        for act_ in ("register", "refer", "progress", "return", "close"):
            page = client.get("/register/confirm", params={"act": act_, "id": ref(house, "budget", "staff")})
            assert page.status_code == 200 and "/register/act" in page.text
    assert house.entries() == []


def test_a_day_at_the_desk(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, url), browser(url, "moh.diwan") as client:
        first, second, _ = numbers = [f"{n}/{year()}" for n in (1, 2, 3)]
        answer = act(client, "register", ref(house, "budget", "staff", "supply"))
        assert answer.status_code == 200
        assert [e.number for e in house.entries()] == numbers
        for number in numbers:
            assert number in answer.text
        again = act(client, "register", ref(house, "budget"))
        assert "هو مقيّد من قبل" in again.text and first in again.text
        moved = act(client, "refer", ref(house, "budget"), to="مديرية المالية", remark="سري بيننا")
        assert moved.headers["location"].endswith("done=refer&n=1")
        act(client, "progress", ref(house, "staff"), text="قيد الدراسة")
        assert "لا إعادة بلا سبب" in act(client, "return", ref(house, "supply")).text
        act(client, "return", ref(house, "supply"), text="ليس لنا")
        act(client, "close", ref(house, "staff"), text="حُفظ")
        assert events(house, "budget") == [
            ("registered", "person", "moh.diwan"),
            ("referred", "person", "moh.diwan"),
        ]
        assert shown(client.get("/register").text, house) == {"both", "asked", "again"}
        assert shown(client.get("/register?view=open").text, house) == {"budget"}
        assert shown(client.get("/register?view=ended").text, house) == {"staff", "supply"}
        typed = {"q": second.translate(ARABIC_DIGITS)}
        assert shown(client.get("/register", params=typed).text, house) == {"staff"}
        assert shown(client.get("/register", params={"q": "mof/2026/000301"}).text, house) == {"budget"}
        own = client.get(f"/letters/{ref(house, 'budget')[0]}").text
        assert "سري بيننا" in own and "mailto:wasl-" in own and first in own
        with browser(url, "mof.follow") as other:
            theirs = other.get(f"/letters/{ref(house, 'budget')[0]}").text
            assert first in theirs and "مديرية المالية" in theirs and "MOF/2026/000301" in theirs
            assert "سري بيننا" not in theirs and "mailto:wasl-" not in theirs
            assert "/register/confirm" not in theirs
        with browser(url, "moj.diwan") as third:
            assert third.get(f"/letters/{ref(house, 'budget')[0]}").status_code == 404
        with house.record.read() as conn:
            a = schema.audit.c
            acts = conn.scalars(select(a.action).where(a.account == "moh.diwan"))
            assert "registry-act" in set(acts)


def test_numbers_of_the_registrys_own_are_typed_one_by_one(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, url), browser(url, "moj.diwan") as client:
        page = client.get(
            "/register/confirm", params={"act": "register", "id": ref(house, "both", "court")}
        ).text
        assert page.count('name="number"') == 2
        answer = act(client, "register", ref(house, "both", "court"), number=["77", f"77/{year()}"])
        assert "رقم الوارد هذا لكتاب آخر" in answer.text
        assert [e.number for e in house.entries("MOJ")] == ["77"]
        act(client, "register", ref(house, "court"), number=["80"])
        gaps = client.get("/register/gaps").text
        assert "78 – 79" in gaps and "1 – 76" in gaps
        assert "لا رقم ناقصاً" in client.get(f"/register/gaps?year={year() - 1}").text


def test_a_matter_is_a_chain_for_those_who_may_see_its_letters(url: str, house: RegisterHouse) -> None:
    def chain(who: str, name: str) -> list[str]:
        with browser(url, who) as client:
            page = client.get(f"/letters/{ref(house, name)[0]}").text
        part = page.partition('class="chain"')[2].partition("</ol>")[0]
        named = {number: key for key, number in house.letters.items()}
        return [
            key
            for number, key in named.items()
            if f"/letters/{id_text(number)}" in part or (key == name and part)
        ]

    assert sorted(chain("mof.follow", "answer")) == ["again", "answer", "asked"]
    assert sorted(chain("moh.diwan", "asked")) == ["again", "answer", "asked"]
    assert chain("ab.follow", "again") == [], "who has one letter of a matter learns nothing of the others"


def test_a_proposed_link_is_judged_by_whose_letter_was_named(tmp_path: Path) -> None:
    with fresh(tmp_path) as (house, url):
        names, budget = ref(house, "names", "budget")
        word = {"letter": names, "to": budget, "accept": "yes", "back": names}
        with browser(url, "moj.diwan") as client:
            page = client.get(f"/letters/{names}").text
            assert "/register/link" not in page and "MOF/2026/000301" not in page
            assert client.post("/register/link", data=word).status_code == 404
        with browser(url, "moh.diwan") as client:
            assert 'id="proposals"' not in client.get(f"/letters/{budget}").text
            assert client.post("/register/link", data=word).status_code == 404
        with browser(url, "mof.follow") as client:
            assert "/register/links" in client.get("/register").text
            assert names in client.get("/register/links").text
            assert 'id="proposals"' in client.get(f"/letters/{budget}").text
            answer = client.post("/register/link", data=word)
            assert answer.headers["location"] == f"/letters/{names}"
            assert 'class="chain"' in client.get(f"/letters/{names}").text
            assert names not in client.get("/register/links").text
        with browser(url, "root") as client:
            assert client.get("/register/links").status_code == 200


def test_without_a_way_to_act_the_register_is_only_shown(tmp_path: Path) -> None:
    built = RegisterHouse.build(tmp_path)
    try:
        with serve(built.house) as base, browser(base, "moh.diwan") as client:
            page = client.get("/register").text
            assert shown(page, built) == MOH and 'value="register"' not in page
            assert act(client, "close", ref(built, "budget")).status_code == 403
    finally:
        built.close()
