"""The register desk in Chromium, in both languages: by keyboard, by mouse, on a phone, without script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.wire.chromium import CONTRAST, all_legible, enter, none_wider, sign_in, window
from tests.wire.dashboard_house import serve
from tests.wire.register_house import RegisterHouse, year
from tracker.model import id_text

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegisterHouse]:
    built = RegisterHouse.build(tmp_path_factory.mktemp("register"))
    yield built
    built.close()


WORDS = {
    "ar": {"done": "أُحيل كتاب واحد", "kept": "لدى", "under": "قيد العمل", "number": "رقم الوارد"},
    "en": {"done": "1 letter referred", "kept": "with", "under": "Under way", "number": "Incoming number"},
}


@pytest.mark.parametrize("language", ["ar", "en"])
def test_a_clerk_works_by_keyboard(chromium: Browser, tmp_path: Path, language: str) -> None:
    house = RegisterHouse.build(tmp_path)
    words = WORDS[language]
    try:
        with serve(house) as url, window(chromium, url) as (page, seen):
            enter(page, "moh.diwan", language)
            waiting = int(page.locator("nav a[href='/register'] .count-mark").inner_text())
            page.locator("nav a[href='/register']").click()
            page.wait_for_url("**/register")
            rows = page.locator("#register > li").count()
            assert rows == waiting
            assert page.locator("button[name=act]").first.is_disabled()
            for key in ("j", "x", "j", "j", " "):
                page.keyboard.press(key)
            assert page.locator("#register .chosen").count() == 2
            page.keyboard.press("r")
            page.wait_for_url("**/register/confirm?*")
            assert page.locator("input[name=id]").count() == 2
            page.keyboard.press("Enter")  # the button has the focus
            page.locator(".outcome").wait_for()
            assert [e.number for e in house.entries()] == [f"1/{year()}", f"2/{year()}"]
            assert f"1/{year()}" in page.locator(".outcome").inner_text()

            page.goto("/register?view=open")
            assert page.locator(".pick [aria-current]").inner_text() == words["under"]
            page.keyboard.press("j")
            page.keyboard.press("x")
            page.keyboard.press("f")
            page.wait_for_url("**/register/confirm?*")
            assert page.evaluate("document.activeElement.name") == "to"
            page.keyboard.type("مديرية المالية")
            page.locator("[name=purpose][value=action]").check()
            page.fill("[name=remark]", "عاجل")
            page.locator("form button.main").click()
            page.wait_for_url("**/register?view=open&done=refer*")
            assert words["done"] in page.locator(".notice.good").inner_text()
            assert "مديرية المالية" in page.locator("#register .state").first.inner_text()

            page.locator("#register a.subject").first.click()
            page.wait_for_url("**/letters/*")
            entry = page.locator("#register")
            assert words["number"] in entry.inner_text() and f"2/{year()}" in entry.inner_text()
            entry.locator("button[value=return]").click()
            page.locator("form button.stop").click()
            assert "/register/confirm" in page.url, "a return needs a reason"
            page.fill("[name=text]", "ليس لنا")
            page.locator("form button.stop").click()
            page.wait_for_url("**/letters/*")
            assert "ليس لنا" in page.locator("#register").inner_text()
            assert page.locator("#register button[value=close]").count() == 0
        assert seen.complaints == []
        assert seen.foreign == []
    finally:
        house.close()


def test_a_letters_page_shows_a_registration_as_it_happens(
    chromium: Browser, url: str, house: RegisterHouse
) -> None:
    with window(chromium, url) as (author, seen), window(chromium, url) as (clerk, _):
        enter(author, "mof.follow", "ar")
        author.goto(f"/letters/{id_text(house.letters['supply'])}")
        author.locator("[data-live-state].on").wait_for()
        assert author.locator("#register").count() == 0
        enter(clerk, "moh.diwan", "ar")
        clerk.goto(f"/letters/{id_text(house.letters['supply'])}")
        clerk.locator("#register button[value=register]").click()
        clerk.locator("form button.main").click()
        clerk.wait_for_url("**/letters/*")
        author.locator("#register .number").first.wait_for()
        assert f"/{year()}" in author.locator("#register dl").inner_text()
    assert seen.complaints == []


def paths(house: RegisterHouse) -> list[str]:
    ids = "&".join(f"id={id_text(house.letters[name])}" for name in ("budget", "staff", "both"))
    return [
        "/register",
        "/register?view=open",
        "/register?view=ended",
        "/register?q=zzz",
        "/register/gaps",
        "/register/links",
        f"/register/confirm?act=register&{ids}",
        f"/register/confirm?act=refer&{ids}",
        f"/register/confirm?act=return&{ids}",
        f"/letters/{id_text(house.letters['budget'])}",
        f"/letters/{id_text(house.letters['asked'])}",
    ]


@pytest.mark.parametrize("language", ["ar", "en"])
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_nothing_is_wider_than_the_screen(
    chromium: Browser, url: str, house: RegisterHouse, width: int, language: str
) -> None:
    with window(chromium, url, width) as (page, seen):
        enter(page, "moh.diwan", language)
        none_wider(page, paths(house), width)
    assert seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    chromium: Browser, url: str, house: RegisterHouse, scheme: str
) -> None:
    """WCAG 2.2 §1.4.3 (AA)."""
    with window(chromium, url, scheme=scheme) as (page, _):
        for who in ("moh.diwan", "mof.follow"):
            enter(page, who, "ar")
            all_legible(page, paths(house))
            page.context.clear_cookies()


def test_a_printed_register_can_be_read(chromium: Browser, url: str) -> None:
    """On A4, also from a screen that is dark: no column of the choices, and black on white."""
    with window(chromium, url, 718, "dark") as (page, _):
        enter(page, "moh.diwan", "ar")
        for path in ("/register", "/register?view=open"):
            page.goto(path)
            page.emulate_media(media="print")
            assert page.evaluate("document.documentElement.scrollWidth") <= 718
            assert page.evaluate(CONTRAST) == [], path
            for body in page.locator("#register .body").all():
                box = body.bounding_box()
                assert box is not None and box["width"] > 300
            assert not page.locator(".register-find").is_visible()
            page.emulate_media(media="screen")


def test_without_script_everything_can_still_be_done(chromium: Browser, tmp_path: Path) -> None:
    house = RegisterHouse.build(tmp_path)
    try:
        with serve(house) as url:
            context = chromium.new_context(base_url=url, java_script_enabled=False)
            page = context.new_page()
            sign_in(page, "moj.diwan")
            page.goto("/register")
            page.locator("input[name=id]").first.check()
            page.locator("button[value=register]").click()
            page.locator("[name=number]").fill("٥١٢")
            page.locator("form button.main").click()
            page.wait_for_url("**/register?view=waiting&done=register*")
            context.close()
        assert [e.number for e in house.entries("MOJ")] == ["٥١٢"]
    finally:
        house.close()
