"""The dashboard over HTTP: sign-in, who sees what, the audit, live pages, and what goes wrong."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete, func, select, update

from tests.wire.dashboard_house import PASSWORD, PEOPLE, House, serve
from tests.wire.seed_letters import Seeder, Step
from tracker import accounts, schema
from tracker.access import Role
from tracker.model import id_text
from tracker.states import Event, Grade, Outcome, Standing, State


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    built = House.build(tmp_path_factory.mktemp("house"))
    yield built
    built.close()


@pytest.fixture(scope="module")
def url(house: House) -> Iterator[str]:
    with serve(house) as base:
        yield base


@contextmanager
def browser(
    url: str, who: str | None = None, language: str = "ar", password: str = PASSWORD
) -> Iterator[httpx.Client]:
    """A client that behaves as a browser does: cookies, Origin on what changes something."""
    with httpx.Client(base_url=url, headers={"Origin": url}, timeout=30) as client:
        client.cookies.set("wasl_language", language)
        if who is not None:
            answer = client.post("/sign-in", data={"name": who, "password": password})
            assert answer.status_code == 303, answer.text
        yield client


def path_of(house: House, name: str) -> str:
    return f"/letters/{id_text(house.ids[name])}"


def audited(house: House, account: str) -> list[tuple[str, str]]:
    with house.store.reader.connect() as conn:
        rows = conn.execute(
            select(schema.audit.c.action, schema.audit.c.object)
            .where(schema.audit.c.account == account)
            .order_by(schema.audit.c.id)
        )
        return [(row.action, row.object) for row in rows]


# Signing in and out


def test_without_a_session_nothing_is_shown(url: str, house: House) -> None:
    with browser(url) as client:
        for path in ("/letters", path_of(house, "main"), "/worklist", "/password"):
            answer = client.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")
        for path in (
            "/api/letters",
            f"/api{path_of(house, 'main')}",
            f"{path_of(house, 'main')}/live",
            "/letters/live",
        ):
            assert client.get(path).status_code == 401
        assert client.get(f"{path_of(house, 'main')}/original.eml").status_code == 303


def test_signing_in_leads_on_to_where_one_wanted(url: str, house: House) -> None:
    with browser(url) as client:
        wanted = client.get(path_of(house, "main")).headers["location"]
        answer = client.get(wanted)
        hidden = re.search(r'name="next" value="(/letters/[^"]+)"', answer.text)
        assert hidden is not None
        answer = client.post(
            "/sign-in", data={"name": "MOF.follow ", "password": PASSWORD, "next": hidden[1]}
        )
        assert answer.headers["location"] == path_of(house, "main")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert client.get(path_of(house, "main")).status_code == 200


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


def test_guessing_is_stopped(tmp_path: Path) -> None:
    built = House.build(tmp_path, letters=False)
    with serve(built) as base, browser(base) as client:
        codes = [
            client.post("/sign-in", data={"name": "root", "password": f"guess {n}"}).status_code
            for n in range(7)
        ]
        right = client.post("/sign-in", data={"name": "root", "password": PASSWORD})
    assert codes == [401] * 5 + [429] * 2
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) > 0
    built.close()


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


# Who sees what


def all_numbers(client: httpx.Client, query: str = "") -> list[str]:
    """The ids of every page of a list."""
    ids: list[str] = []
    cursor = ""
    for _ in range(50):
        answer = client.get(f"/api/letters?{query}&cursor={cursor}").json()
        ids += [letter["id"] for letter in answer["letters"]]
        if not answer["next"]:
            return ids
        cursor = answer["next"]
    raise AssertionError("a list without end")


def expected_ids(house: House, agency: str | None) -> set[str]:
    """Whom a letter concerns, told from the rows without the code under test."""
    with house.store.reader.connect() as conn:
        letters = conn.execute(select(schema.letter)).all()
        rows = conn.execute(select(schema.delivery)).all()
    reached = {
        (row.letter_id, row.agency)
        for row in rows
        if row.state in ("queued", "sending", "sent") or (row.state == "failed" and row.attempts)
    }
    return {
        id_text(letter.id)
        for letter in letters
        if agency is None or letter.agency == agency or (letter.id, agency) in reached
    }


@pytest.mark.parametrize("who", sorted(PEOPLE))
def test_each_sees_the_letters_at_his_own_two_ends_and_no_other(url: str, house: House, who: str) -> None:
    mine = expected_ids(house, PEOPLE[who][1])
    every = expected_ids(house, None)
    with browser(url, who) as client:
        assert set(all_numbers(client)) == mine
        listed = all_numbers(client)
        assert listed == sorted(listed, reverse=True)
        foreign = sorted(every - mine)
        for ref in foreign[:12]:
            for path in (
                f"/letters/{ref}",
                f"/api/letters/{ref}",
                f"/letters/{ref}/live",
                f"/letters/{ref}/header",
                f"/letters/{ref}/original.eml",
            ):
                assert client.get(path).status_code == 404, path
        for ref in sorted(mine)[:5]:
            assert client.get(f"/letters/{ref}").status_code == 200


def test_a_foreign_letter_looks_like_none(url: str, house: House) -> None:
    with browser(url, "moe.view") as client:
        foreign = client.get(path_of(house, "main"))
        none = client.get("/letters/0000000000000")
        assert foreign.status_code == none.status_code == 404
        clean = foreign.text.replace(id_text(house.ids["main"]), "0000000000000")
        assert clean == none.text
        assert client.get("/letters/MOF/2026/000120").status_code == 404
    assert ("denied", f"letter {id_text(house.ids['main'])}") in audited(house, "moe.view")


def test_a_letter_is_found_by_its_number_too(url: str) -> None:
    with browser(url, "mof.follow") as client:
        assert "بشأن موازنة المشاريع الصحية" in client.get("/letters/MOF/2026/000120").text
        assert client.get("/api/letters/mof/2026/000120").json()["number"] == "MOF/2026/000120"


@pytest.mark.parametrize("who", ["moh.follow", "mop.view"])
def test_a_blind_copy_is_not_there_for_the_other_receivers(url: str, house: House, who: str) -> None:
    ref = path_of(house, "main")
    with browser(url, who) as client:
        page, api = client.get(ref), client.get(f"/api{ref}")
        for text in (page.text, api.text):
            assert "ab.gov.example" not in text
            assert "ديوان المحاسبة" not in text
            assert '"AB"' not in text
        assert id_text(house.ids["main"]) not in all_numbers(client, "q=to:AB")
        assert id_text(house.ids["main"]) not in all_numbers(client, "q=diwan@ab.gov.example")
        assert id_text(house.ids["main"]) in all_numbers(client, "q=diwan@moh.gov.example")


def test_the_others_are_names_without_evidence(url: str, house: House) -> None:
    ref = path_of(house, "main")
    with browser(url, "mop.view") as client:
        told = client.get(f"/api{ref}").json()
        by_agency = {row["agency"]: row for row in told["recipients"]}
        assert set(by_agency) == {"MOPIC", "MOH", "GBD"}
        assert by_agency["MOPIC"]["grade"] == "E3"
        assert set(by_agency["MOH"]) == {"agency", "address"}
        own = by_agency["MOPIC"]["id"]
        assert {line["delivery"] for line in told["evidence"]} == {None, own}
        assert all("recipients" not in line["detail"] for line in told["evidence"])
        assert all("transcript" not in line["detail"] for line in told["evidence"])
        page = client.get(ref).text
        for secret in (
            "رنا العبادي",
            "512/2026",
            "User unknown",
            "192.0.2.17",
            "tls-for-restricted",
            "354 End data",
        ):
            assert secret not in page, secret
        # neither may their standing be found out by searching
        assert id_text(house.ids["main"]) not in all_numbers(client, "q=is:failed")
        assert id_text(house.ids["main"]) not in all_numbers(client, "q=to:MOH+is:processed")
        assert id_text(house.ids["main"]) in all_numbers(client, "q=to:MOH")


def test_the_blind_copy_itself_sees_its_row(url: str, house: House) -> None:
    with browser(url, "ab.follow") as client:
        told = client.get(f"/api{path_of(house, 'main')}").json()
        rows = {row["agency"]: row for row in told["recipients"]}
        assert rows["AB"]["bcc"] is True
        assert rows["AB"]["grade"] == "E5"


def test_what_is_held_back_has_not_reached_anybody(url: str, house: House) -> None:
    house.write(
        lambda conn: accounts.make(
            conn,
            house.source.next(),
            name="mfa.view",
            password=PASSWORD,
            role=Role.VIEWER,
            agency="MFA",
            must_change=False,
        )
    )
    with browser(url, "mfa.view") as client:
        assert client.get(path_of(house, "held")).status_code == 404
        assert id_text(house.ids["held"]) not in all_numbers(client)
    with browser(url, "moe.view") as client:
        assert client.get(path_of(house, "refused")).status_code == 404
    with browser(url, "root") as client:
        assert client.get(path_of(house, "held")).status_code == 200


def test_the_original_is_for_compliance_and_recorded(url: str, house: House) -> None:
    ref = f"{path_of(house, 'main')}/original.eml"
    with house.store.reader.connect() as conn:
        key = conn.scalar(
            select(schema.submission.c.archive_key).where(schema.submission.c.letter_id == house.ids["main"])
        )
    octets = bytes(house.archive.open(str(key)).view())
    with browser(url, "mof.follow") as client:
        answer = client.get(ref)
        assert answer.content == octets
        assert b"Bcc: diwan@ab.gov.example" in answer.content
        assert answer.headers["content-disposition"] == 'attachment; filename="MOF-2026-000120.eml"'
        assert answer.headers["content-type"].startswith("message/rfc822")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "Bcc: diwan@ab.gov.example" in client.get(f"{path_of(house, 'main')}/header").text
    with browser(url, "moh.follow") as client:
        assert client.get(ref).content == octets.replace(b"Bcc: diwan@ab.gov.example\r\n", b"")
        assert "ab.gov.example" not in client.get(f"{path_of(house, 'main')}/header").text
    for who in ("moh.diwan", "mop.view", "root"):
        with browser(url, who) as client:
            assert client.get(ref).status_code == 403
            assert "original.eml" not in client.get(path_of(house, "main")).text
    assert ("download-original", id_text(house.ids["main"])) in audited(house, "moh.follow")
    assert ("denied", f"content of {id_text(house.ids['main'])}") in audited(house, "mop.view")


def test_the_worklist_is_for_administrators(url: str) -> None:
    with browser(url, "root") as client:
        page = client.get("/worklist").text
        assert "the address carries no valid MAC" in page
        assert "Undelivered Mail Returned to Sender" in page
    for who in ("mof.follow", "audit.all", "moh.diwan"):
        with browser(url, who) as client:
            assert client.get("/worklist").status_code == 403
            assert "/worklist" not in client.get("/letters").text


def test_every_look_is_recorded(url: str, house: House) -> None:
    with browser(url, "audit.all") as client:
        client.get("/letters")
        client.get("/letters", params={"q": "موازنة is:late"})
        client.get("/letters", params={"to": "MOH"})
        client.get(path_of(house, "main"))
        client.get("/api/letters?q=salary")
        client.get(f"/api{path_of(house, 'main')}")
    main = id_text(house.ids["main"])
    assert audited(house, "audit.all")[-7:] == [
        ("sign-in", ""),
        ("list", ""),
        ("search", "موازنة is:late"),
        ("search", ""),
        ("view-letter", main),
        ("search", "salary"),
        ("view-letter", main),
    ]


def test_what_cannot_be_recorded_is_not_shown(tmp_path: Path) -> None:
    built = House.build(tmp_path)
    with serve(built) as base, browser(base, "mof.follow") as client:
        built.fail_writes = True
        answer = client.get(path_of(built, "main"))
        assert answer.status_code == 503
        assert "موازنة المشاريع" not in answer.text
        assert "تعذّر" in answer.text
        built.fail_writes = False
        assert client.get(path_of(built, "main")).status_code == 200
    built.close()


# The list and the search


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=MOF/2026/000120", {"main"}),
        ("q=mof/2026/120", {"main"}),
        ("q=موازنه المشاريع الصحيه", {"main"}),
        ("q=is:late from:MOF", {"main"}),
        ("q=is:late+from:MIT", {"late"}),
        ("q=is:failed to:GBD", {"main"}),
        ("q=is:held", {"held"}),
        ("is=returned", {"returned"}),
        ("q=is:waiting", {"late", "doubt", "retry", "queued"}),
        ("q=state:queued from:MIT", {"late"}),
        ("q=is:waiting to:MPWH", {"retry"}),
        ("q=to:CCD grade:E1", {"doubt"}),
        ("from=PM&q=رمضان", {"circular"}),
        ("q=is:read to:MOE", {"circular"}),
        ("q=دعوة is:failed", {"bounced"}),
        ("q=فاتورة", {"hostile"}),
        ("q=is:failed to:MOE", {"refused"}),
        ("q=100%25_nothing", set()),
    ],
)
def test_searching(url: str, house: House, query: str, names: set[str]) -> None:
    with browser(url, "audit.all") as client:
        assert set(all_numbers(client, query)) == {id_text(house.ids[name]) for name in names}


def test_searching_by_day(url: str, house: House) -> None:
    with browser(url, "audit.all") as client:
        every = {letter["id"]: letter for letter in client.get("/api/letters").json()["letters"]}
        total = set(all_numbers(client))
        day = sorted(letter["accepted"] for letter in every.values())[20][:10]
        before = set(all_numbers(client, f"before={day}"))
        after = set(all_numbers(client, f"q=after:{day}"))
        assert before | after == total
        assert not before & after
        assert before and after


def test_an_agency_can_be_named_in_words(url: str, house: House) -> None:
    with browser(url, "audit.all") as client:
        found = all_numbers(client, 'q=to:"المشتريات" موازنة')
        assert found == []
        assert id_text(house.ids["main"]) in all_numbers(client, 'q=to:"وزارة الصحة" from:المالية')


def test_pages_follow_one_another_without_gap_or_repeat(url: str, house: House) -> None:
    with browser(url, "audit.all") as client:
        seen: list[str] = []
        path: str | None = "/letters"
        while path:
            page = client.get(path)
            seen += re.findall(r'<li id="l-([0-9a-z]{13})"', page.text)
            onward = re.search(r'rel="next" href="([^"]+)"', page.text)
            path = onward[1].replace("&amp;", "&") if onward else None
            assert "data-live" in page.text
        assert len(seen) == len(set(seen))
        assert set(seen) == expected_ids(house, None)


@pytest.mark.parametrize(
    "query",
    [
        "q=%00", "q=" + "x" * 5000, "cursor=zzz", "cursor=%00", "after=soon", "q=%22", "q=to:%22", "is=';--",
        "q=%ff%fe", "q=grade:E99999999999", "q=before:9999-12-31", "q=after:0001-01-01", "q=id:zzzzzzzzzzzzz",
        "to=%3Cscript%3E", "q=" + "%D9%85%20" * 200,
    ],
)  # fmt: skip
def test_odd_questions_get_a_page(url: str, query: str) -> None:
    with browser(url, "mof.follow") as client:
        for path in ("/letters", "/api/letters"):
            assert client.get(f"{path}?{query}").status_code == 200


def test_what_was_not_understood_is_said(url: str) -> None:
    with browser(url, "mof.follow") as client:
        assert (
            "is:blah" in re.findall(r'id="unclear">(.*?)</p>', client.get("/letters?q=is:blah").text, re.S)[0]
        )


def test_the_counts_above_the_list(url: str) -> None:
    with browser(url, "root") as client:
        page = client.get("/letters").text
    counts = re.findall(r'class="count [^"]*"[^>]*><b>(\d+)', page)
    assert [int(count) for count in counts][:3] == [4, 2, 4]


# The letter's page


def test_the_page_of_a_letter_says_what_is_proven(url: str, house: House) -> None:
    with browser(url, "mof.follow") as client:
        page = client.get(path_of(house, "main")).text
    for text in (
        "MOF/2026/000120", "سليم ومطابق للسجل", "صندوق غير موجود", "لا يوجد تأكيد", "نسخة خفية", "512/2026",
        "due-by-urgency", "v37", "مصنف Excel", "3 مرفقات", "متأخر", "E7", "354 End data", "جمادى",
    ):  # fmt: skip
        assert text in page, text
    ladders = re.findall(r'<ol class="ladder">(.*?)</ol>', page, re.S)
    marks = [re.findall(r'<li class="(\w+)"', ladder) for ladder in ladders]
    assert marks[0] == ["done"] * 7
    assert marks[1] == ["done", "done", "done", "hint", "none", "late", "none"]
    assert marks[2] == ["done", "failed"] + ["closed"] * 5


def test_what_others_wrote_stays_text(url: str, house: House) -> None:
    with browser(url, "mof.follow") as client:
        for path in ("/letters", path_of(house, "hostile"), "/letters?q=<script>alert(1)</script>"):
            page = client.get(path).text
            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert "<svg onload" not in page
            assert "\u202e" not in page
        assert "U+202E" in client.get(path_of(house, "hostile")).text


def test_a_row_that_was_changed_shows(tmp_path: Path) -> None:
    built = House.build(tmp_path)
    with serve(built) as base, browser(base, "mof.follow") as client:
        page = path_of(built, "main")
        assert "سليم ومطابق للسجل" in client.get(page).text
        built.write(
            lambda conn: conn.execute(
                update(schema.evidence)
                .where(schema.evidence.c.letter_id == built.ids["main"], schema.evidence.c.event == "read")
                .values(reporter="forged")
            )
        )
        assert "لا يطابق السجل" in client.get(page).text
        with built.store.reader.connect() as conn:
            key = conn.scalar(
                select(schema.submission.c.archive_key).where(
                    schema.submission.c.letter_id == built.ids["hostile"]
                )
            )
        file = built.archive.root / str(key)
        file.chmod(0o600)
        file.write_bytes(file.read_bytes().replace(b"Message-ID", b"message-id"))
        assert "تغيّر الأصل المحفوظ" in client.get(path_of(built, "hostile")).text
        file.unlink()
        assert "الأصل المحفوظ مفقود" in client.get(path_of(built, "hostile")).text
        built.write(lambda conn: conn.execute(delete(schema.ledger_entry)))
        assert (
            "بانتظار مكانه في السجل" in client.get(path_of(built, "queued")).text.replace("x", "x")
            or client.get(path_of(built, "queued")).status_code == 404
        )
    built.close()


# Languages, errors, headers


def test_both_languages(url: str) -> None:
    with browser(url) as client:
        page = client.get("/sign-in").text
        assert 'lang="ar" dir="rtl"' in page
        answer = client.post("/language", data={"to": "en", "next": "/sign-in"})
        assert answer.headers["location"] == "/sign-in"
        client.cookies.delete("wasl_language", domain="")
        assert 'lang="en" dir="ltr"' in client.get("/sign-in").text
    with browser(url, "ab.follow") as client:
        assert 'lang="ar"' in client.get("/letters").text
        client.post("/language", data={"to": "en", "next": "/letters?q=a"})
        assert 'lang="en"' in client.get("/letters").text
    with browser(url, "ab.follow") as client:
        assert 'lang="en"' in client.get("/letters").text
        client.post("/language", data={"to": "ar", "next": "//evil.example"})


def test_errors_are_pages_in_the_readers_language(url: str) -> None:
    with browser(url, "mof.follow") as client:
        assert "لا شيء هنا لك" in client.get("/nowhere").text
        assert client.get("/nowhere").status_code == 404
        assert "غير مسموح" in client.get("/worklist").text
        assert client.put("/letters").status_code in (403, 405)
        assert client.get("/api/nowhere").json()["error"] == 404
        assert client.get("/static/../../etc/passwd").status_code == 404
        assert client.get("/static/%2e%2e/app.py").status_code == 404
    with browser(url, language="en") as client:
        assert "Nothing here for you" in client.get("/nowhere").text


def test_too_large_a_form_is_refused(url: str) -> None:
    with browser(url) as client:
        answer = client.post("/sign-in", data={"name": "x" * 100_000, "password": "y"})
        assert answer.status_code == 413
        assert client.post(
            "/sign-in", content=b"%%%\xff", headers={"Content-Type": "text/plain"}
        ).status_code in (
            400,
            401,
            422,
        )


def test_a_fault_shows_a_name_and_nothing_of_itself(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise RuntimeError("secret words")

    with serve(house, add=lambda app: app.add_api_route("/broken", broken)) as base, browser(base) as client:
        answer = client.get("/broken")
    assert answer.status_code == 500
    assert "secret words" not in answer.text
    assert "رمز الحادثة" in answer.text
    assert answer.headers["content-security-policy"]
    incident = re.search(r'class="mono">([0-9a-f]{8})<', answer.text)
    assert incident is not None
    assert incident[1] in caplog.text
    assert "secret words" in caplog.text


def test_every_answer_is_guarded(url: str, house: House) -> None:
    with browser(url, "mof.follow") as client:
        for path in (
            "/letters",
            path_of(house, "main"),
            "/nowhere",
            "/sign-in",
            "/static/wasl.css",
            "/api/letters",
        ):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
        assert client.get("/letters").headers["cache-control"] == "no-store"
        page = client.get("/letters").text
        assert not re.search(r"<[^>]+\s(style|on\w+)\s*=", page)
        for script in re.findall(r"<script[^>]*>(.*?)</script>", page, re.S):
            assert script == ""
        assert "http://" not in re.sub(re.escape(url), "", page)
        assert "https://" not in page


def test_static_files_may_be_kept(url: str) -> None:
    with browser(url) as client:
        page = client.get("/sign-in").text
        styles = re.search(r'href="(/static/wasl\.css\?v=\w+)"', page)
        assert styles is not None
        assert "immutable" in client.get(styles[1]).headers["cache-control"]
        assert client.get("/static/fonts/LICENSE-ibm-plex-sans-arabic.txt").status_code == 200


# Live


class Listener(threading.Thread):
    """Reads one stream of events in the background."""

    def __init__(self, url: str, path: str, cookies: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.address, self.cookies_ = f"{url}{path}", cookies
        self.events: list[tuple[str, dict[str, str]]] = []
        self.opened = threading.Event()
        self.news = threading.Condition()
        self.start()
        assert self.opened.wait(10)

    def run(self) -> None:
        with httpx.stream("GET", self.address, cookies=self.cookies_, timeout=40) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            for line in answer.iter_lines():
                self.opened.set()
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    with self.news:
                        self.events.append((kind, json.loads(line[6:])))
                        self.news.notify_all()

    def wait_for(self, kind: str, text: str = "", seconds: float = 15) -> bool:
        def there() -> bool:
            return any(event == kind and text in data.get("html", "") for event, data in self.events)

        with self.news:
            return self.news.wait_for(there, seconds)


def _version(client: httpx.Client, path: str) -> str:
    found = re.search(r'data-version="(\w+)"', client.get(path).text)
    assert found is not None
    return found[1]


def _act(house: House, name: str, before: Standing, step: Step, *, tell: bool) -> None:
    letter_id = house.ids[name]
    with house.store.writer.begin() as conn:
        seeder = Seeder(conn, house.archive)
        delivery = (
            conn.execute(select(schema.delivery.c.id).where(schema.delivery.c.letter_id == letter_id))
            .scalars()
            .first()
        )
        assert delivery is not None
        seeder.advance(letter_id, delivery, before, step)
    if tell:
        house.board.tell(letter_id)


@pytest.mark.parametrize("tell", [True, False], ids=["told", "found out by looking"])
def test_a_change_arrives_by_itself(tmp_path: Path, tell: bool) -> None:
    built = House.build(tmp_path)
    path = path_of(built, "queued")
    with serve(built) as base, browser(base, "mof.follow") as client, browser(base, "moe.view") as stranger:
        letter = Listener(base, f"{path}/live?version={_version(client, path)}", dict(client.cookies))
        listed = Listener(base, f"/letters/live?version={_version(client, '/letters')}", dict(client.cookies))
        other = Listener(
            base, f"/letters/live?version={_version(stranger, '/letters')}", dict(stranger.cookies)
        )
        assert stranger.get(f"{path}/live").status_code == 404
        time.sleep(1.5)
        assert [kind for kind, _ in letter.events + listed.events + other.events] == []
        step = Step(
            Event.RELAYED, 0, "smtp", "mail.mof.gov.example", {"reply": "250 2.0.0 Ok: queued as LIVE77"}
        )
        _act(built, "queued", Standing(State.QUEUED, Grade.ACCEPTED, Outcome.OPEN), step, tell=tell)
        assert letter.wait_for("part", "LIVE77")
        assert listed.wait_for("part")
        assert not other.wait_for("part", seconds=1)
        # the session ends, and with it the stream
        built.write(lambda conn: accounts.change(conn, "mof.follow", disabled=True))
        built.board.tell(built.ids["queued"])
        assert letter.wait_for("over")
        assert ("watch-letter", id_text(built.ids["queued"])) in audited(built, "mof.follow")
        assert ("watch-list", "") in audited(built, "mof.follow")
    built.close()


def test_streams_are_counted(url: str, house: House) -> None:
    with browser(url, "moh.diwan") as client:
        open_ones = [Listener(url, "/letters/live", dict(client.cookies)) for _ in range(12)]
        assert client.get("/letters/live").status_code == 503
        assert len(open_ones) == 12


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
