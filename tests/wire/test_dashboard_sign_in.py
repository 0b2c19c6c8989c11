"""Signing in and out of the dashboard: sessions, passwords, guessing, foreign pages."""

from __future__ import annotations

import re
import time
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from sqlalchemy import func, select, update

from dashboard.throttle import Throttle
from tests.wire.dashboard_house import PASSWORD, House, browser, serve
from tracker import accounts, schema
from tracker.access import Role


def test_without_a_session_nothing_is_shown(url: str, house: House) -> None:
    with browser(url) as client:
        for path in ("/letters", house.path("main"), "/worklist", "/password"):
            answer = client.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")
        for path in (
            "/api/letters",
            f"/api{house.path('main')}",
            f"{house.path('main')}/live",
            "/letters/live",
        ):
            assert client.get(path).status_code == 401
        assert client.get(f"{house.path('main')}/original.eml").status_code == 303


def test_signing_in_leads_on_to_where_one_wanted(url: str, house: House) -> None:
    with browser(url) as client:
        wanted = client.get(house.path("main")).headers["location"]
        answer = client.get(wanted)
        hidden = re.search(r'name="next" value="(/letters/[^"]+)"', answer.text)
        assert hidden is not None
        answer = client.post(
            "/sign-in", data={"name": "MOF.follow ", "password": PASSWORD, "next": hidden[1]}
        )
        assert answer.headers["location"] == house.path("main")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert client.get(house.path("main")).status_code == 200


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_signing_in_never_leads_to_another_host(url: str, target: str) -> None:
    with browser(url) as client:
        answer = client.post("/sign-in", data={"name": "root", "password": PASSWORD, "next": target})
        assert answer.headers["location"] == "/letters"


def test_a_wrong_name_and_a_wrong_password_look_the_same(url: str) -> None:
    with browser(url) as client:
        told = [
            client.post("/sign-in", data={"name": name, "password": "not the right one"})
            for name in ("iec.view", "nobody.here")
        ]
    assert [answer.status_code for answer in told] == [401, 401]
    assert told[0].text.replace("iec.view", "") == told[1].text.replace("nobody.here", "")


def test_guessing_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttle.__init__, "__defaults__", (lambda: 1000.0,))  # no time passes between
    built = House.build(tmp_path, letters=False)
    with serve(built) as base, browser(base) as client:
        codes = [
            client.post("/sign-in", data={"name": "root", "password": f"guess {n}"}).status_code
            for n in range(7)
        ]
        right = client.post("/sign-in", data={"name": "root", "password": PASSWORD})
        assert client.post("/sign-in", data={"name": "iec.view", "password": PASSWORD}).status_code == 303
        given = {"current": "guess", "new": "another long sentence", "again": "another long sentence"}
        changes = [client.post("/password", data=given) for _ in range(6)]
    assert [answer.status_code for answer in changes] == [422] * 5 + [429]
    assert int(changes[5].headers["retry-after"]) > 0
    assert codes == [401] * 5 + [429] * 2
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) > 0
    built.close()


def test_a_language_chosen_before_signing_in_stays(url: str) -> None:
    given = {"name": "iec.view", "password": PASSWORD}
    with browser(url) as client:
        client.post("/language", data={"to": "en", "next": "/sign-in"})
        client.post("/sign-in", data=given)
        assert 'lang="en"' in client.get("/letters").text
    with browser(url, language="ar") as client:  # another's cookie in the browser is nobody's choice
        client.post("/sign-in", data=given)
        assert 'lang="en"' in client.get("/letters").text
        client.post("/language", data={"to": "ar", "next": "/letters"})
        client.post("/sign-out")
        client.cookies.set("wasl_language", "en")
        client.post("/sign-in", data=given)
        assert 'lang="ar"' in client.get("/letters").text


def test_behind_https_the_cookie_is_bound_to_the_host(house: House) -> None:
    outside = "https://wasl.gov.example"
    with serve(house, outside) as base, browser(base) as client:
        given = {"name": "root", "password": PASSWORD}
        answer = client.post("/sign-in", data=given, headers={"Origin": outside})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-wasl=")
        for word in ("Secure", "Path=/", "HttpOnly"):
            assert word in cookie
        assert "Domain" not in cookie
        assert "max-age" in answer.headers["strict-transport-security"]
        assert client.get("/letters", headers={"Cookie": cookie.split(";")[0]}).status_code == 200


def test_what_was_sent_after_the_session_ended_is_said_to_be_undone(url: str) -> None:
    page = "/register/confirm?act=close&id=0"
    with browser(url) as client:
        answer = client.post("/register/act", data={"act": "close"}, headers={"Referer": f"{url}{page}"})
        assert answer.status_code == 303
        asked = answer.headers["location"]
        assert asked == f"/sign-in?{urlencode({'next': page, 'unsent': '1'})}"
        told = client.get(asked).text
        assert "لم يُنفَّذ ما أرسلتموه" in told and f'value="{page.replace("&", "&amp;")}"' in told
        for foreign in ("https://evil.example/register", "nothing", ""):
            answer = client.post("/register/act", data={}, headers={"Referer": foreign})
            assert answer.headers["location"] == "/sign-in?unsent=1"
        assert "لم يُنفَّذ" not in client.get("/sign-in").text


def test_signing_out_ends_the_session_in_the_store(url: str) -> None:
    with browser(url, "moe.view") as client:
        kept = dict(client.cookies)
        assert client.get("/letters").status_code == 200
        assert client.post("/sign-out").status_code == 303
        again = httpx.get(f"{url}/letters", cookies=kept)
        assert again.status_code == 303


def test_reading_changes_nothing(url: str) -> None:
    with browser(url, "moe.view") as client:
        for path in ("/sign-out", "/language", "/sign-out?x=1"):
            assert client.get(path).status_code == 405
        assert client.get("/letters").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ],
)
def test_nothing_is_changed_from_a_foreign_page(url: str, headers: dict[str, str]) -> None:
    with browser(url, "moe.view") as client:
        kept = dict(client.cookies)
        for path in ("/sign-out", "/language", "/password", "/sign-in"):
            answer = httpx.post(f"{url}{path}", headers=headers, cookies=kept, data={"to": "en"})
            assert answer.status_code == 403, path
        assert client.get("/letters").status_code == 200


def test_a_given_password_must_be_changed_first(tmp_path: Path) -> None:
    built = House.build(tmp_path, letters=False, must_change=True)
    new = "another sentence, my own"
    with serve(built) as base, browser(base, "moe.view") as client, browser(base, "moe.view") as other:
        assert client.get("/letters").headers["location"] == "/password"
        assert client.get("/api/letters").status_code == 403
        page = client.get("/password")
        assert page.status_code == 200
        assert "/worklist" not in page.text

        def change(**fields: str) -> int:
            return client.post("/password", data=fields).status_code

        assert change(current="wrong", new=new, again=new) == 422
        assert change(current=PASSWORD, new=new, again="other") == 422
        assert change(current=PASSWORD, new="short", again="short") == 422
        assert change(current=PASSWORD, new=PASSWORD, again=PASSWORD) == 422
        assert change(current=PASSWORD, new=new, again=new) == 303
        assert client.get("/letters").status_code == 200
        assert other.get("/letters").headers["location"].startswith("/sign-in")
        with browser(base) as late:
            assert late.post("/sign-in", data={"name": "moe.view", "password": PASSWORD}).status_code == 401
        with browser(base, "moe.view", password=new):
            pass
    built.close()


def test_a_session_ends_when_the_role_changes_or_the_account_is_disabled(url: str, house: House) -> None:
    with browser(url, "iec.view") as client:
        assert client.get("/letters").status_code == 200
        house.write(lambda conn: accounts.change(conn, "iec.view", role=Role.REGISTRY, agency="IEC"))
        assert client.get("/letters").status_code == 303
    with browser(url, "iec.view") as client:
        house.write(lambda conn: accounts.change(conn, "iec.view", disabled=True))
        assert client.get("/letters").status_code == 303
        assert client.post("/sign-in", data={"name": "iec.view", "password": PASSWORD}).status_code == 401
    house.write(lambda conn: accounts.change(conn, "iec.view", disabled=False))


def test_an_idle_session_ends(url: str, house: House) -> None:
    with browser(url, "moe.view") as client:
        long_ago = int(time.time() * 1e6) - 3 * 3600 * 1_000_000
        house.write(
            lambda conn: conn.execute(
                update(schema.web_session)
                .where(
                    schema.web_session.c.account_id
                    == select(schema.account.c.id)
                    .where(schema.account.c.name == "moe.view")
                    .scalar_subquery()
                )
                .values(seen_us=long_ago)
            )
        )
        assert client.get("/letters").status_code == 303


def test_sessions_are_kept_as_digests(url: str, house: House) -> None:
    with browser(url, "moe.view") as client:
        token = client.cookies["wasl"]
        with house.store.reader.connect() as conn:
            hashes = list(conn.scalars(select(schema.web_session.c.token_hash)))
            passwords = list(conn.scalars(select(schema.account.c.password)))
        assert token.encode() not in hashes
        assert all(len(digest) == 32 for digest in hashes)
        assert all(password.startswith("$argon2id$") for password in passwords)


def test_signing_in_again_ends_the_earlier_session_of_the_browser(url: str, house: House) -> None:
    with browser(url, "moe.view") as client:
        first = dict(client.cookies)
        client.post("/sign-in", data={"name": "moe.view", "password": PASSWORD})
        assert httpx.get(f"{url}/letters", cookies=first).status_code == 303
        with house.store.reader.connect() as conn:
            assert conn.scalar(select(func.count()).select_from(schema.web_session))
