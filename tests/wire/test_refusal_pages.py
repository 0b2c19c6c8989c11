"""The page that a refusal names, and the counts of refusals for those who look after an agency."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from gateway.refusals import with_page
from tests.wire.dashboard_house import browser
from tests.wire.policy_house import PolicyHouse
from tracker import refusals
from tracker.model import now_us
from tracker.refusals import DAY_US, Count
from tracker.reply import Reply


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyHouse]:
    built = PolicyHouse.build(tmp_path_factory.mktemp("refused"))
    today = now_us() // DAY_US
    counts = {
        ("MOF", today, "outside-to-agency"): Count(count=2, last_us=now_us(), reply="550 5.7.1 <b>No</b>"),
        ("MOF", today - 3, "outside-to-agency"): Count(count=5, last_us=1, reply="550 older words"),
        ("MOH", today, "unknown-recipient-domain"): Count(count=9, last_us=now_us(), reply="550 5.1.2 None"),
    }
    built.record.write(lambda conn: refusals.add(conn, counts))
    yield built
    built.close()


def test_a_refusal_for_good_names_its_page() -> None:
    gone = with_page(Reply.of(550, "5.7.1", "Not so"), "refuse-executables", "https://wasl.example/")
    assert str(gone) == "550 5.7.1 Not so https://wasl.example/refused/refuse-executables"
    later = Reply.of(452, "4.5.3", "Too many")
    assert with_page(later, "too-many-recipients", "https://wasl.example") == later
    assert with_page(gone, "", "https://wasl.example") == with_page(gone, "x", "") == gone


def test_strangers_read_why_in_arabic_and_english(url: str, house: PolicyHouse) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        page = client.get("/refused/outside-to-agency")
        assert page.status_code == 200
        assert "لا تستقبل هذه البوابة بريداً" in page.text
        assert "connected agencies only" in page.text
        assert "{domain}" not in page.text and "(نطاق المستلم)" in page.text
        client.cookies.set("wasl_language", "en")
        for nothing in ("inter-agency-letter", "nothing", "%3Cscript%3E", "..%2f..%2fetc"):
            assert client.get(f"/refused/{nothing}").status_code == 404
        assert client.get("/refusals", follow_redirects=False).status_code == 303


@pytest.mark.parametrize("who", ["moh.diwan", "mop.view"])
def test_counts_are_not_for_everybody(url: str, house: PolicyHouse, who: str) -> None:
    with browser(url, who) as client:
        assert client.get("/refusals").status_code == 403
        assert "/refusals" not in client.get("/letters").text


def test_the_counts_of_all_for_those_who_see_all(url: str, house: PolicyHouse) -> None:
    with browser(url, "root") as client:
        page = client.get("/refusals").text
        assert "unknown-recipient-domain" in page and "outside-to-agency" in page
        assert ">7<" in page and "older words" not in page
        assert "&lt;b&gt;No" in page and "<b>No" not in page
        assert 'href="/refusals"' in client.get("/policy").text


def test_an_agency_sees_its_own(url: str, house: PolicyHouse) -> None:
    with browser(url, "mof.follow") as client:
        page = client.get("/refusals").text
        assert "outside-to-agency" in page and ">7<" in page
        assert "unknown-recipient-domain" not in page
        assert 'href="/policy' not in page
        assert 'href="/refusals"' in client.get("/letters").text
