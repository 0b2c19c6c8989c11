"""Follow-up in Chromium: from a number to its list to a letter, wide and narrow, in both languages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.wire.chromium import sign_in, window
from tests.wire.dashboard_house import House
from tests.wire.follow_up_house import LATE, follow_up_house
from tracker.model import id_text

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    built = follow_up_house(tmp_path_factory.mktemp("follow"))
    yield built
    built.close()


def test_from_a_number_to_a_letter(chromium: Browser, url: str, house: House) -> None:
    with window(chromium, url) as (page, seen):
        sign_in(page, "moh.diwan")
        page.get_by_role("link", name="المتابعة").click()
        page.wait_for_url("**/follow-up")
        assert page.locator("html").get_attribute("dir") == "rtl"
        late = page.locator("#t-late")
        assert late.locator("b").inner_text() == "3"
        # The tiles stand from right to left, the first at the right.
        first, second = late.bounding_box(), page.locator("#t-today").bounding_box()
        assert first is not None and second is not None and first["x"] > second["x"]
        late.click()
        page.wait_for_url("**/follow-up/list?what=late*")
        assert page.locator("#letters > li").count() == 3
        assert page.locator(".due .word").first.inner_text() == "متأخر 5 أيام"
        page.get_by_text(LATE[0]).click()
        page.wait_for_url("**/letters/*")
        assert "لا يوجد تأكيد" in page.locator("details.silence summary").inner_text()
        # In English, from the list.
        page.locator(".language button").click()
        page.locator("html[lang=en]").wait_for()
        page.goto("/follow-up/list?what=late&side=in")
        assert page.locator("html").get_attribute("dir") == "ltr"
        assert page.locator(".due .word").first.inner_text() == "5 days overdue"
        page.evaluate("window.print = () => { document.title = 'printed' }")
        page.get_by_role("button", name="Print").click()
        assert page.title() == "printed"
        with page.expect_download() as download:
            page.locator("#csv").click()
        assert download.value.suggested_filename.startswith("follow-up-late-")
        page.locator(".language button").click()
        page.locator("html[lang=ar]").wait_for()
    assert seen.complaints == []
    assert seen.foreign == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (820, "dark"), (390, "light"), (320, "dark")])
def test_nothing_is_cut_off(chromium: Browser, url: str, house: House, width: int, scheme: str) -> None:
    with window(chromium, url, width, scheme) as (page, seen):
        sign_in(page, "audit.all")
        for language in ("ar", "en"):
            if page.locator("html").get_attribute("lang") != language:
                page.locator(".language button").click()
                page.locator(f"html[lang={language}]").wait_for()
            for path in (
                "/follow-up",
                "/follow-up/list?what=late",
                "/follow-up/list?what=registration&agency=CSB",
                "/follow-up/silence",
                f"/letters/{id_text(house.ids['today'])}",
            ):
                page.goto(path)
                over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert over <= 0, (path, width, language, over)
    assert seen.complaints == [], "no inline style or script was refused"


def test_the_board_is_read_by_a_screen_reader(chromium: Browser, url: str) -> None:
    with window(chromium, url) as (page, _):
        sign_in(page, "root")
        page.goto("/follow-up")
        row = page.locator("#b-MOH")
        assert row.locator("th").get_attribute("scope") == "row"
        assert page.get_by_role("link", name="3 متأخر، وزارة الصحة").count() == 1
        contrast = page.evaluate(
            """() => { const a = document.querySelector('#b-MOH td.stop a'), s = getComputedStyle(a);
            return [s.color, s.backgroundColor] }"""
        )
        assert _ratio(*contrast) >= 4.5


def _ratio(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.1)."""

    def light(colour: str) -> float:
        parts = [int(float(p)) / 255 for p in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
