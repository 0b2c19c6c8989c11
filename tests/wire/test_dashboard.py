"""The dashboard over HTTP: who sees what, searches, the audit, and what goes wrong."""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import delete, select, update

from dashboard.language import tongue
from dashboard.show import Dates
from tests.wire.dashboard_house import PASSWORD, PEOPLE, House, audited, browser, serve
from tracker import accounts, schema
from tracker.access import Role
from tracker.model import id_text

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
        foreign = client.get(house.path("main"))
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
    ref = house.path("main")
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
    ref = house.path("main")
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
        told = client.get(f"/api{house.path('main')}").json()
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
        assert client.get(house.path("held")).status_code == 404
        assert id_text(house.ids["held"]) not in all_numbers(client)
    with browser(url, "moe.view") as client:
        assert client.get(house.path("refused")).status_code == 404
    with browser(url, "root") as client:
        assert client.get(house.path("held")).status_code == 200


def test_the_original_is_for_compliance_and_recorded(url: str, house: House) -> None:
    ref = f"{house.path('main')}/original.eml"
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
        assert "Bcc: diwan@ab.gov.example" in client.get(f"{house.path('main')}/header").text
    with browser(url, "moh.follow") as client:
        assert client.get(ref).content == octets.replace(b"Bcc: diwan@ab.gov.example\r\n", b"")
        assert "ab.gov.example" not in client.get(f"{house.path('main')}/header").text
    for who in ("moh.diwan", "mop.view", "root"):
        with browser(url, who) as client:
            assert client.get(ref).status_code == 403
            assert "original.eml" not in client.get(house.path("main")).text
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
            assert client.post("/worklist/done", data={"id": "1"}).status_code == 403
            assert "/worklist" not in client.get("/letters").text


def test_what_was_looked_at_is_taken_off_the_worklist(url: str, house: House) -> None:
    with browser(url, "root") as client:
        page = client.get("/worklist").text
        item = re.search(r'id="w-(\w+)"', page)
        assert item is not None and page.count('action="/worklist/done"') == 2
        for _ in range(2):
            answer = client.post("/worklist/done", data={"id": item[1]})
            assert (answer.status_code, answer.headers["location"]) == (303, "/worklist")
        assert item[0] not in client.get("/worklist").text
        gone = client.get("/worklist?done=1").text
        assert item[0] in gone and "/worklist/done" not in gone
        assert client.post("/worklist/done", data={"id": "nothing at all"}).status_code == 400
        assert audited(house, "root").count(("worklist-done", item[1])) == 1
        house.write(lambda conn: conn.execute(update(schema.worklist).values(state="open")))


def test_every_look_is_recorded(url: str, house: House) -> None:
    with browser(url, "audit.all") as client:
        client.get("/letters")
        client.get("/letters", params={"q": "موازنة is:late"})
        client.get("/letters", params={"to": "MOH"})
        client.get(house.path("main"))
        client.get("/api/letters?q=salary")
        client.get(f"/api{house.path('main')}")
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
        answer = client.get(built.path("main"))
        assert answer.status_code == 503
        assert "موازنة المشاريع" not in answer.text
        assert "تعذّر" in answer.text
        built.fail_writes = False
        assert client.get(built.path("main")).status_code == 200
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
    assert [int(count) for count in counts][:3] == [4, 2, 3]


# The letter's page


def test_the_page_of_a_letter_says_what_is_proven(url: str, house: House) -> None:
    with browser(url, "mof.follow") as client:
        page = client.get(house.path("main")).text
    for text in (
        "MOF/2026/000120", "سليم ومطابق للسجل", "صندوق غير موجود", "لا يوجد تأكيد", "نسخة خفية", "512/2026",
        "due-by-urgency", "v37", "مصنف Excel", "3 مرفقات", "متأخر", "E7", "354 End data",
    ):  # fmt: skip
        assert text in page, text
    with house.store.reader.connect() as conn:
        of_main = schema.letter.c.id == house.ids["main"]
        accepted_us = conn.scalar(select(schema.letter.c.accepted_us).where(of_main))
    assert accepted_us is not None
    assert Dates(tongue("ar"), ZoneInfo("Asia/Amman")).hijri(accepted_us) in page, "the day of both calendars"
    ladders = re.findall(r'<ol class="ladder">(.*?)</ol>', page, re.S)
    marks = [re.findall(r'<li class="(\w+)"', ladder) for ladder in ladders]
    assert marks[0] == ["done"] * 7
    assert marks[1] == ["done", "done", "done", "hint", "none", "late", "none"]
    assert marks[2] == ["done", "failed"] + ["closed"] * 5


def test_what_others_wrote_stays_text(url: str, house: House) -> None:
    with browser(url, "mof.follow") as client:
        for path in ("/letters", house.path("hostile"), "/letters?q=<script>alert(1)</script>"):
            page = client.get(path).text
            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert "<svg onload" not in page
            assert "\u202e" not in page
        assert "U+202E" in client.get(house.path("hostile")).text


def test_a_row_that_was_changed_shows(tmp_path: Path) -> None:
    built = House.build(tmp_path)
    with serve(built) as base, browser(base, "mof.follow") as client:
        page = built.path("main")
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
        assert "تغيّر الأصل المحفوظ" in client.get(built.path("hostile")).text
        file.unlink()
        assert "الأصل المحفوظ مفقود" in client.get(built.path("hostile")).text
        built.write(lambda conn: conn.execute(delete(schema.ledger_entry)))
        assert (
            "بانتظار مكانه في السجل" in client.get(built.path("queued")).text.replace("x", "x")
            or client.get(built.path("queued")).status_code == 404
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
        assert "لا شيء هنا لكم" in client.get("/nowhere").text
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
            house.path("main"),
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
