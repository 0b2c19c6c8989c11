"""The follow-up pages over HTTP: numbers that lead to their lists, access, export, what silence means."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import httpx
import pytest
from sqlalchemy import select, update

from dashboard.desk import DashboardDesk
from dashboard.follow_up_pages import defused
from tests.wire.dashboard_house import PEOPLE, House, browser, serve
from tests.wire.follow_up_house import LATE, follow_up_house
from tracker import schema
from tracker.model import id_text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    built = follow_up_house(tmp_path_factory.mktemp("follow"))
    yield built
    built.close()


def numbers(page: str) -> dict[str, tuple[int, str]]:
    """The tiles: number and address, by their column."""
    found = re.findall(r'id="t-([a-z]+)" href="([^"]+)"[^>]*><b>(\d+)\+?</b>', page)
    assert len(found) == 8, page[:2000]
    return {what: (int(number), link.replace("&amp;", "&")) for what, link, number in found}


def listed(page: str) -> list[str]:
    return re.findall(r'<li id="w-([0-9a-z]{13})"', page)


@pytest.mark.parametrize(
    ("who", "side"),
    [("audit.all", "in"), ("root", "in"), ("mof.follow", "in"), ("mof.follow", "out"), ("moh.diwan", "in"),
     ("moh.diwan", "out"), ("mop.view", "in")],
)  # fmt: skip
def test_each_number_leads_to_its_list(url: str, who: str, side: str) -> None:
    with browser(url, who) as client:
        page = client.get(f"/follow-up?side={side}").text
        for what, (number, link) in numbers(page).items():
            shown = client.get(link)
            assert shown.status_code == 200
            assert min(number, 50) == len(listed(shown.text)), (who, side, what)
        for link, number in re.findall(r'<td class="[a-z]+"[^>]*><a href="([^"]+)">(\d+)', page):
            shown = client.get(link.replace("&amp;", "&"))
            assert len(listed(shown.text)) == min(int(number), 50), link


def test_an_agency_sees_its_own_two_ends(url: str, house: House) -> None:
    with browser(url, "moh.diwan") as client:
        late = client.get("/follow-up/list?what=late&side=in").text
        assert all(subject in late for subject in LATE)
        assert "كتاب لا يخص المالية" not in late
        ours = client.get("/follow-up/list?what=late&side=out").text
        assert "كتاب لا يخص المالية" in ours and LATE[0] not in ours
        # Asking for another's list gives nothing of it.
        for query in ("what=late&side=in&agency=AB", "what=late&side=in&from=PM&agency=MOI"):
            assert listed(client.get(f"/follow-up/list?{query}").text) == []
    with browser(url, "mof.follow") as client:
        text = "".join(
            client.get(f"/follow-up/list?what={what}&side={side}").text
            + client.get(f"/follow-up/list.csv?what={what}&side={side}").text
            for what in ("late", "answer", "read", "registration", "undelivered", "doubt")
            for side in ("in", "out")
        )
        assert "كتاب لا يخص المالية" not in text and LATE[0] in text
        # Of the letter that MOH sent to MOF and to MOI, MOF sees its own row only.
        (row,) = listed(client.get("/follow-up/list?what=late&side=in").text)
        with house.store.reader.connect() as conn:
            d = schema.delivery.c
            agencies = {
                id_text(r.id): r.agency
                for r in conn.execute(select(d.id, d.agency).where(d.letter_id == house.ids["owed"]))
            }
        assert agencies[row] == "MOF"


def test_those_without_an_agency_who_see_nothing_are_refused(url: str, house: House) -> None:
    a = schema.account.c
    with house.store.writer.begin() as conn:
        conn.execute(update(schema.account).where(a.name == "iec.view").values(agency=None))
    try:
        with browser(url, "iec.view") as client:
            assert client.get("/follow-up").status_code == 403
            assert client.get("/follow-up/silence").status_code == 403
            assert listed(client.get("/follow-up/list?what=late").text) == []
            assert 'href="/follow-up"' not in client.get("/letters").text
    finally:
        with house.store.writer.begin() as conn:
            conn.execute(update(schema.account).where(a.name == "iec.view").values(agency="IEC"))
    assert httpx.get(f"{url}/follow-up", follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "query",
    ["what=everything", "what=late&cursor=x", "what=late&cursor=fffffffffffffffff.0", "what=late&cursor=1.",
     "what=late&cursor=-1.0000000000000"],
)  # fmt: skip
def test_a_list_that_there_is_not(url: str, query: str) -> None:
    with browser(url, "audit.all") as client:
        assert client.get(f"/follow-up/list?{query}").status_code == 400


def test_pages_follow_each_other(url: str) -> None:
    with browser(url, "audit.all") as client:
        seen: list[str] = []
        link = "/follow-up/list?what=registration"
        pages = 0
        while link:
            page = client.get(link).text
            seen += listed(page)
            pages += 1
            found = re.search(r'rel="next" href="([^"]+)"', page)
            link = found[1].replace("&amp;", "&") if found else ""
        assert pages == 2 and len(seen) == len(set(seen))
        assert len(seen) == numbers(client.get("/follow-up").text)["registration"][0]


def test_the_export_is_the_list_and_runs_nothing(url: str, house: House) -> None:
    with browser(url, "mof.follow") as client:
        answer = client.get("/follow-up/list.csv?what=late&side=in")
        assert answer.headers["content-type"].startswith("text/csv")
        assert "attachment" in answer.headers["content-disposition"]
        assert answer.content.startswith(b"\xef\xbb\xbf")
        rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert rows[0][0] == "الرقم" and rows[0][4] == "الموضوع"
        (row,) = rows[1:]
        assert row[4] == "'=cmd|' /C calc'!A1"
        assert not any(cell[:1] in tuple("=+-@\t\r") for line in rows for cell in line)
    with house.store.reader.connect() as conn:
        c = schema.audit.c
        asked = select(c.object, c.detail).where(c.account == "mof.follow", c.action == "export")
        *_, export = conn.execute(asked.order_by(c.id))
    assert export.object == "follow-up late" and export.detail["fields"]["side"] == "in"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+962", "'+962"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\t=1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("a=b", "a=b"),
        ("a\r\nb", "a  b"),
        ("\u202egpj.exe", "⟨U+202E⟩gpj.exe"),
        ("كتاب", "كتاب"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text: str, cell: str) -> None:
    assert defused(text) == cell


def test_what_silence_means(url: str) -> None:
    with browser(url, "audit.all") as client:
        page = client.get("/follow-up/silence").text
        row = re.search(r'<tr id="k-CSB">(.*?)</tr>', page, re.S)
        assert row is not None and "44%" in row[1] and "25%" in row[1]
        assert "برامج بريدها ترسل إشعارات قراءة أحياناً" in page
        assert "<script" not in page.split("<main", 1)[1] and "style=" not in page
    with browser(url, "moh.follow") as client:
        own = client.get("/follow-up/silence").text
        assert 'id="k-CSB"' not in own, "measured by our own letters only"
        assert 'id="k-MOI"' not in own or 'id="k-AB"' in own
    for who in ("moh.diwan", "mop.view"):
        with browser(url, who) as client:
            assert client.get("/follow-up/silence").status_code == 403
            assert "/follow-up/silence" not in client.get("/follow-up").text


def test_a_letter_says_what_was_asked(url: str, house: House) -> None:
    today = id_text(house.ids["today"])
    with house.store.writer.begin() as conn:
        d, a, e = schema.delivery.c, schema.attempt.c, schema.evidence.c
        (row,) = conn.scalars(select(d.id).where(d.letter_id == house.ids["today"]))
        edit = {
            "v": 1,
            "prefix": "Wasl-Letter: x\r\nDisposition-Notification-To: wasl-x@wasl.example\r\n",
            "cuts": [],
        }
        conn.execute(update(schema.attempt).where(a.delivery_id == row).values(edit=edit))
        (detail,) = conn.scalars(select(e.detail).where(e.delivery_id == row))
        conn.execute(
            update(schema.evidence).where(e.delivery_id == row).values(detail=detail | {"hop_dsn": True})
        )
    with browser(url, "audit.all") as client:
        page = client.get(f"/letters/{today}").text
        (told,) = re.findall(r'<details class="silence".*?</details>', page, re.S)
        assert "لا يوجد تأكيد" in told and "للإيداع في الصندوق" in told and "للقيد في الديوان" in told
        assert "طُلب إشعار تسليم (DSN) في" in told and "طُلب إشعار قراءة (MDN) في" in told
        assert "خوادمها تؤكد الإيداع" in told
        # Where everything is proven nothing is missing.
        answered = client.get(f"/letters/{id_text(house.ids['answered'])}").text
        assert 'class="silence"' not in answered
        late = client.get(f"/letters/{id_text(house.ids['late2'])}").text  # read, not registered
        (told,) = re.findall(r'<details class="silence".*?</details>', late, re.S)
        assert "للقيد في الديوان" in told and "للقراءة" not in told and "ورد إشعار قراءة" in told
    with browser(url, "moh.diwan") as client:
        page = client.get(f"/letters/{today}").text
        assert "لا يوجد تأكيد" in page and "خوادمها" not in page, "habits are for compliance"


def test_the_navigation_tells_how_much_is_late(url: str) -> None:
    with browser(url, "moh.diwan") as client:
        page = client.get("/letters").text
        assert re.search(r'href="/follow-up"[^>]*>المتابعة <span class="count-mark">3</span>', page)


@pytest.mark.parametrize("who", PEOPLE)
def test_every_page_is_there_in_both_languages(url: str, who: str) -> None:
    with browser(url, who) as client:
        for to in ("en", "ar"):
            client.post("/language", data={"to": to, "next": "/letters"})
            for path in (
                "/follow-up",
                "/follow-up?side=out",
                "/follow-up/list?what=late",
                "/follow-up/list?what=doubt",
            ):
                page = client.get(path)
                assert page.status_code == 200, (who, path)
                main = page.text.split("<main", 1)[1]
                if to == "ar":
                    left = re.findall(r">\s*([A-Z][a-z]+ [a-z]+ [a-z]+[^<]*)<", main)
                    assert left == [], left


@dataclass
class Reminding:
    """The house with somebody who reminds."""

    house: House
    asked: list[tuple[int, str]] = field(default_factory=list)

    def desk(self, base_url: str) -> DashboardDesk:
        def remind(letter_id: int, person: str, /) -> list[str]:
            self.asked.append((letter_id, person))
            return ["diwan@moh.gov.example"]

        return replace(self.house.desk(base_url), remind=remind)


def test_the_sending_agency_reminds(house: House) -> None:
    reminding = Reminding(house)
    letter = id_text(house.ids["late0"])
    with serve(reminding) as url:
        with browser(url, "mof.follow") as client:
            page = client.get(f"/letters/{letter}").text
            assert f'href="/follow-up/remind?letter={letter}"' in page
            confirm = client.get(f"/follow-up/remind?letter={letter}").text
            assert "وزارة الصحة" in confirm and "إرسال التذكير" in confirm
            assert reminding.asked == [], "looking changes nothing"
            answer = client.post("/follow-up/remind", data={"letter": letter})
            assert (answer.status_code, answer.headers["location"]) == (303, f"/letters/{letter}")
            assert reminding.asked == [(house.ids["late0"], "ليلى الخطيب")]
            answered = client.get(f"/letters/{id_text(house.ids['answered'])}")
            assert answered.status_code == 404  # not at this agency's ends
            client.headers.pop("Origin")
            assert client.post("/follow-up/remind", data={"letter": letter}).status_code == 403
        for who in (
            "moh.diwan",
            "moh.follow",
            "root",
        ):  # the receiving end, and who reads no letters' matters
            with browser(url, who) as client:
                assert "/follow-up/remind" not in client.get(f"/letters/{letter}").text
                assert client.get(f"/follow-up/remind?letter={letter}").status_code == 403
                assert client.post("/follow-up/remind", data={"letter": letter}).status_code == 403
        with browser(url, "moe.view") as client:
            assert client.get(f"/follow-up/remind?letter={letter}").status_code == 404
        with browser(url, "audit.all") as client:
            assert "إرسال التذكير" in client.get(f"/follow-up/remind?letter={letter}").text
            done = client.get(f"/letters/{id_text(house.ids['answered'])}").text
            assert "/follow-up/remind" not in done
    assert len(reminding.asked) == 1
