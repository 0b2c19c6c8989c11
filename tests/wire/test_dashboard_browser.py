"""The dashboard in Chromium: what a person does in it, and that nothing hostile runs."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser
from sqlalchemy import select

from tests.wire.chromium import CONTRAST, all_legible, enter, none_wider, sign_in, window
from tests.wire.dashboard_house import House
from tests.wire.seed_letters import DAY, Seeder, Step, To, agency_rows
from tracker import schema
from tracker.model import id_text
from tracker.states import Event, Grade, Outcome, Standing, State

pytestmark = pytest.mark.browser


def test_a_person_finds_a_letter_and_sees_it_change(chromium: Browser, url: str, house: House) -> None:
    with window(chromium, url) as (page, seen):
        sign_in(page, "mof.follow")
        assert page.locator("html").get_attribute("dir") == "rtl"
        page.keyboard.press("/")
        page.keyboard.type("موازنة الصحية to:MOH")
        page.keyboard.press("Enter")
        page.wait_for_url("**/letters?q=*")
        assert page.locator("#letters > li").count() == 1
        page.locator("#letters a").first.click()
        page.wait_for_url("**/letters/*")
        assert page.locator(".ladder").count() == 4
        assert page.locator("#integrity .ok").is_visible()

        page.goto(f"/letters/{id_text(house.ids['queued'])}")
        page.locator("[data-live-state].on").wait_for()
        ladder = page.locator(".ladder li")
        assert ladder.nth(1).get_attribute("class") == "none"
        first = page.locator(".timeline details").first
        first.locator("summary").click()
        with house.store.writer.begin() as conn:
            seeder = Seeder(conn, house.archive)
            delivery = conn.scalar(
                select(schema.delivery.c.id).where(schema.delivery.c.letter_id == house.ids["queued"])
            )
            assert delivery is not None
            seeder.advance(
                house.ids["queued"],
                delivery,
                Standing(State.QUEUED, Grade.ACCEPTED, Outcome.OPEN),
                Step(Event.RELAYED, 0, "smtp", "mail.mof.gov.example", {"reply": "250 2.0.0 queued as 77AA"}),
            )
        house.board.tell(house.ids["queued"])
        page.get_by_text("250 2.0.0 queued as 77AA").first.wait_for()
        assert ladder.nth(1).get_attribute("class") == "done"
        assert page.locator(".timeline details[open]").count() == 1, "what was open stays open"
        assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
    assert seen.complaints == []
    assert seen.foreign == []


def test_the_list_grows_by_itself(chromium: Browser, url: str, house: House) -> None:
    with window(chromium, url) as (page, seen):
        sign_in(page, "moe.view")
        page.locator("[data-live-state].on").wait_for()
        with house.store.writer.begin() as conn:
            seeder = Seeder(conn, house.archive, _seq={"MOE": 900})
            fresh = seeder.letter("MOE", "كتاب ورد للتو", [To("CSB", "queued")], ago_us=1_000_000)
        house.board.tell(fresh)
        page.locator(f"#l-{id_text(fresh)}").wait_for()
        assert page.locator("#letters > li").first.inner_text().find("كتاب ورد للتو") >= 0
    assert seen.complaints == []


LISTENERS = """
const Real = window.EventSource;
window.listeners = [];
window.EventSource = class extends Real {
  constructor(address) {
    super(address);
    this.addEventListener("open", () => { document.body.dataset.listens = window.listeners.indexOf(this) });
    window.listeners.push(this);
  }
};
"""
LOOKED_AT = """(looked) => {
  Object.defineProperty(document, "hidden", { value: !looked, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
  return window.listeners.map((one) => one.readyState === EventSource.CLOSED);
}"""


def test_only_a_page_that_is_looked_at_listens(chromium: Browser, url: str) -> None:
    """Six tabs of letters would take all connections that a browser makes to one server."""
    with window(chromium, url) as (page, seen):
        page.add_init_script(LISTENERS)
        sign_in(page, "moe.view")
        page.locator("[data-live-state].on").wait_for()
        assert page.evaluate(LOOKED_AT, False) == [True]
        assert page.evaluate(LOOKED_AT, True) == [True, False]
        page.locator("[data-listens='1']").wait_for(state="attached")
    assert seen.complaints == []


def test_the_other_language(chromium: Browser, url: str) -> None:
    with window(chromium, url) as (page, seen):
        page.goto("/sign-in")
        page.get_by_role("button", name="English").click()
        page.get_by_role("heading", name="Sign in to Wasl").wait_for()
        assert page.locator("html").get_attribute("dir") == "ltr"
        page.get_by_role("button", name="العربية").click()
        page.get_by_role("heading", name="الدخول إلى وصل").wait_for()
    assert seen.complaints == []


def test_of_many_recipients_the_worst_come_first_and_the_rest_is_folded(
    chromium: Browser, url: str, house: House
) -> None:
    codes = [row["code"] for row in agency_rows() if row["code"] != "MOF"][:40]
    stories = ["processed", "read", "delivered", "nobody", "late", "held", "doubt", "returned"] * 5
    with house.store.writer.begin() as conn:
        seeder = Seeder(conn, house.archive, _seq={"MOF": 800})
        to = [To(code, story) for code, story in zip(codes, stories, strict=True)]
        letter = seeder.letter("MOF", "تعميم إلى أربعين جهة", to, ago_us=9 * DAY)
    with window(chromium, url, 390) as (page, seen):
        sign_in(page, "mof.follow")
        page.goto(f"/letters/{id_text(letter)}")
        told = page.locator(".tally .tag")
        assert [one.split()[-1] for one in told.all_inner_texts()] == ["5"] * 8
        assert told.first.inner_text().startswith("تعذّر")
        assert page.locator("#where .row:visible").count() == 10
        assert page.locator("#where .row:visible .when.stop").count() == 10
        assert page.locator("#recipients-more > summary").inner_text() == "30 مستلماً آخر"
        assert page.locator("#events .timeline li:visible:not(.day)").count() == 25
        assert page.locator(".parties b").count() == 4, "the sender and three of forty"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#where .row:visible").count() == 40
        assert page.locator(".printed").count() == 1 and not page.locator(".printed").is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("#where .row:visible").count() == 10
    assert seen.complaints == []


def test_on_a_phone_all_sections_are_in_sight(chromium: Browser, url: str) -> None:
    with window(chromium, url, 390) as (page, _):
        sign_in(page, "root")
        page.goto("/worklist")
        for link in page.locator(".bar nav a").all():
            box = link.bounding_box()
            assert box is not None
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390, link.inner_text()


def test_another_agencys_letter_is_not_there(chromium: Browser, url: str, house: House) -> None:
    with window(chromium, url) as (page, _):
        sign_in(page, "moe.view")
        answer = page.goto(f"/letters/{id_text(house.ids['main'])}")
        assert answer is not None
        assert answer.status == 404
        assert page.locator("h1").inner_text() == "لا شيء هنا لكم"
        assert "موازنة" not in page.content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_words_stay_words(chromium: Browser, url: str, house: House, scheme: str) -> None:
    with window(chromium, url, scheme=scheme) as (page, seen):
        sign_in(page, "mof.follow")
        for path in (
            "/letters",
            f"/letters/{id_text(house.ids['hostile'])}",
            f"/letters/{id_text(house.ids['hostile'])}/header",
            "/letters?q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E+is:%3Cscript%3E",
            "/letters/%3Cscript%3Ealert(1)%3C/script%3E",
        ):
            page.goto(path)
            page.wait_for_timeout(150)
            assert page.locator("img, svg[onload], main script").count() == 0
        page.goto(f"/letters/{id_text(house.ids['hostile'])}")
        assert page.locator(".ext").first.inner_text() == "exe"
        assert page.locator("h1 .control").count() == 2
    assert seen.complaints == []
    assert seen.foreign == []


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_screen(chromium: Browser, url: str, house: House, width: int) -> None:
    with window(chromium, url, width) as (page, _):
        page.goto("/sign-in")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sign_in(page, "mof.follow")
        letters = [f"/letters/{id_text(house.ids[n])}" for n in ("main", "circular", "hostile", "late")]
        none_wider(page, ["/letters", *letters], width)


TOUCHING = """() => [...document.querySelectorAll(".ladder")].flatMap((ladder) => {
  const words = [...ladder.children].filter((step) => step.className !== "closed").map((step) => {
    const range = document.createRange();
    range.selectNodeContents([...step.childNodes].find((node) => node.nodeType === 3));
    return [step.textContent, [...range.getClientRects()]];
  });
  return words.slice(1).flatMap(([word, lines], n) => lines.flatMap((one) => words[n][1]
    .filter((other) => Math.abs(one.top - other.top) < 4 && one.left - other.right < 3)
    .map(() => `${words[n][0]} ${word}`)));
})"""


def test_the_words_of_a_ladder_do_not_touch(chromium: Browser, url: str, house: House) -> None:
    with window(chromium, url) as (page, _):
        enter(page, "mof.follow", "en")
        page.goto(f"/letters/{id_text(house.ids['main'])}")
        for width in (360, 390, 740, 768, 1030, 1140, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(TOUCHING) == [], width
        page.locator(".language button").click()
        page.locator("html[lang=ar]").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(chromium: Browser, url: str, house: House, scheme: str) -> None:
    """WCAG 2.2 §1.4.3 (AA): 4.5 to 1, large text 3 to 1."""
    with window(chromium, url, scheme=scheme) as (page, _):
        page.goto("/sign-in")
        assert page.evaluate(CONTRAST) == []
        sign_in(page, "mof.follow")
        main = f"/letters/{id_text(house.ids['main'])}"
        all_legible(page, ["/letters?is=late", main, "/worklist", "/letters?q=is:x+zz"])


def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    chromium: Browser, url: str, house: House
) -> None:
    with window(chromium, url) as (page, _):
        sign_in(page, "mof.follow")
        page.goto(f"/letters/{id_text(house.ids['main'])}")
        reached = set()
        for _step in range(60):
            page.keyboard.press("Tab")
            told = page.evaluate(
                "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
                " return [e.className || e.name || e.tagName, s.outlineStyle] })()"
            )
            if told[0] != "BODY":
                assert told[1] != "none", told
                reached.add(told[0])
        assert {"skip", "brand", "q", "SUMMARY"} <= reached


def test_on_paper_the_evidence_is_there_and_the_controls_are_not(
    chromium: Browser, url: str, house: House
) -> None:
    with window(chromium, url) as (page, _):
        sign_in(page, "mof.follow")
        page.goto(f"/letters/{id_text(house.ids['main'])}")
        page.emulate_media(media="print")
        assert page.locator(".timeline").is_visible()
        assert page.locator(".ladder").first.is_visible()
        for control in (".search", ".language", ".buttons", "nav"):
            assert not page.locator(control).first.is_visible(), control
