"""Policy and held letters in Chromium, in both languages: the editor, the desk, widths, contrast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from sqlalchemy import select

from tests.wire.chromium import all_legible, enter, none_wider, sign_in, window
from tests.wire.dashboard_house import serve
from tests.wire.policy_house import OWN_RULES, PolicyHouse
from tracker import schema
from tracker.model import id_text

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyHouse]:
    built = PolicyHouse.build(tmp_path_factory.mktemp("policy"))
    yield built
    built.close()


WORDS = {
    "ar": {"good": "لا أخطاء", "tried": "تمت التجربة", "held": "يُحجز للموافقة", "left": "ثمة تعديلات"},
    "en": {"good": "No fault", "tried": "Tried", "held": "hold for approval", "left": "not saved"},
}


@pytest.mark.parametrize("language", ["ar", "en"])
def test_the_editor_checks_tries_and_saves(chromium: Browser, tmp_path: Path, language: str) -> None:
    house = PolicyHouse.build(tmp_path)
    words = WORDS[language]
    try:
        with serve(house) as url, window(chromium, url) as (page, seen):
            enter(page, "root", language)
            page.goto("/policy/rules/many-recipients")
            page.locator("#source a").click()
            page.wait_for_url("**/policy/files/own.yaml?line=16")
            text = page.locator("#text")
            assert page.locator(".gutter span").count() == OWN_RULES.count("\n") + 1
            assert (
                text.evaluate("(area) => area.value.slice(0, area.selectionStart).split('\\n').length") == 16
            )
            text.fill(
                OWN_RULES.replace("recipients_over: 100", "recipients_over: 2").replace(
                    "require_tls", "requir_tls"
                )
            )
            page.locator(".faults .jump").first.wait_for()
            assert page.locator(".gutter .fault-line").first.inner_text() == "13"
            page.locator(".faults .jump").first.click()
            assert (
                text.evaluate("(area) => area.value.slice(0, area.selectionStart).split('\\n').length") == 13
            )
            assert page.evaluate("document.activeElement.id") == "text"
            text.fill(OWN_RULES.replace("recipients_over: 100", "recipients_over: 2"))
            page.get_by_role("heading", name=words["good"]).wait_for()
            assert page.locator(".gutter .fault-line").count() == 0
            text.press("Control+Enter")
            page.locator("[data-trial] [data-done]").wait_for()
            assert words["tried"] in page.locator("[data-trial] h2").inner_text()
            row = page.locator(".differences tbody tr").first
            assert words["held"] in row.inner_text()
            assert row.locator(f"a[href='/letters/{id_text(house.house.ids['circular'])}']").count() == 1
            assert "recipients_over: 2" in text.input_value(), "nothing typed is lost"
            assert (house.folder / "own.yaml").read_text("utf-8") == OWN_RULES
            page.fill("[name=note]", "أقل عدداً")
            text.press("Control+s")
            page.wait_for_url("**/policy/files/own.yaml?saved=*")
            assert page.locator(".notice.good").is_visible()
            assert "recipients_over: 2" in (house.folder / "own.yaml").read_text("utf-8")
        assert seen.complaints == []
        assert seen.foreign == []
    finally:
        house.close()


def test_keys_of_the_editor(chromium: Browser, url: str) -> None:
    with window(chromium, url) as (page, seen):
        enter(page, "root", "ar")
        page.goto("/policy/files/20-new.yaml")
        text = page.locator("#text")
        text.fill("rules:\n  - id: x")
        text.press("End")
        text.press("Enter")
        page.keyboard.type("y")
        assert text.input_value() == "rules:\n  - id: x\n  y"
        text.press("Control+a")
        text.press("Control+]")
        assert text.input_value() == "  rules:\n    - id: x\n    y"
        text.press("Control+[")
        assert text.input_value() == "rules:\n  - id: x\n  y"
        text.press("Tab")
        assert page.evaluate("document.activeElement.id") != "text", "Tab is no trap"
        with page.expect_event("dialog"):
            page.evaluate("setTimeout(() => { location.href = '/letters' })")
        page.wait_for_timeout(100)
        assert page.url.endswith("/policy/files/20-new.yaml"), "leaving asks first; the answer here was no"
    assert len(seen.complaints) == 1 and seen.complaints[0].startswith("dialog")


@pytest.mark.parametrize("language", ["ar", "en"])
def test_the_desk_of_held_letters_by_keyboard(chromium: Browser, tmp_path: Path, language: str) -> None:
    house = PolicyHouse.build(tmp_path)
    try:
        with serve(house) as url, window(chromium, url) as (page, seen):
            enter(page, "audit.all", language)
            page.locator("nav a[href='/holds']").click()
            page.wait_for_url("**/holds")
            assert page.locator("#holds > li").count() == 4
            assert page.locator("button[name=act]").first.is_disabled()
            page.keyboard.press("j")  # the oldest is another's to decide: its link takes the focus
            assert page.evaluate("document.activeElement.tagName") == "A"
            page.keyboard.press("j")
            page.keyboard.press("x")
            page.keyboard.press("ArrowDown")
            page.keyboard.press(" ")
            assert page.locator("#holds .chosen").count() == 2
            page.keyboard.press("r")
            page.wait_for_url("**/holds/confirm?*")
            assert page.locator("input[name=id]").count() == 2
            assert page.evaluate("document.activeElement.name") == "note"
            page.keyboard.type("لا مانع")
            page.locator("form.card button.main").click()
            page.locator(".outcome").wait_for()
            with house.house.store.reader.connect() as conn:
                h = schema.hold.c
                found = {row.id: row.state for row in conn.execute(select(h.id, h.state))}
            assert found[house.holds["many"]] == "released"
            assert found[house.holds["pair"]] == "open"
            page.goto(f"/holds/{id_text(house.holds['pair'])}")
            assert page.locator(".pair .given").count() == 1
            assert "لا مانع" in page.locator(".approvals").inner_text()
            page.locator("button.stop").click()
            page.locator("form.card button.stop").click()
            assert "/holds/confirm" in page.url, "a refusal needs a reason"
            page.fill("[name=note]", "كتاب غير مكتمل")
            page.locator("form.card button.stop").click()
            page.wait_for_url("**/holds?done=refused*")
            assert page.locator(".notice.good").is_visible()
        assert seen.complaints == []
        assert seen.foreign == []
    finally:
        house.close()


def paths(house: PolicyHouse) -> list[str]:
    held = id_text(house.holds["pair"])
    return [
        "/policy",
        "/policy?q=zzz",
        "/policy/rules/inter-agency-letter",
        "/policy/files",
        "/policy/files/own.yaml",
        "/policy/files/default/safety.yaml",
        "/policy/versions",
        f"/policy/versions/{house.watch.current.version}",
        "/policy/replay",
        "/holds",
        f"/holds/{held}",
        f"/holds/confirm?act=release&id={held}&id={id_text(house.holds['many'])}",
        f"/letters/{id_text(house.letters['pair'])}",
    ]


@pytest.mark.parametrize("language", ["ar", "en"])
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_nothing_is_wider_than_the_screen(
    chromium: Browser, url: str, house: PolicyHouse, width: int, language: str
) -> None:
    with window(chromium, url, width) as (page, seen):
        enter(page, "root", language)
        none_wider(page, paths(house), width)
    assert seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    chromium: Browser, url: str, house: PolicyHouse, scheme: str
) -> None:
    """WCAG 2.2 §1.4.3 (AA)."""
    with window(chromium, url, scheme=scheme) as (page, _):
        enter(page, "root", "ar")
        all_legible(page, paths(house))


def test_seven_steps_do_not_touch_on_a_phone_in_english(
    chromium: Browser, url: str, house: PolicyHouse
) -> None:
    with window(chromium, url, 390) as (page, _):
        enter(page, "mof.follow", "en")
        page.goto(f"/letters/{id_text(house.house.ids['main'])}")
        gaps = page.evaluate(
            """() => [...document.querySelectorAll('.ladder')].flatMap((ladder) => {
              const boxes = [...ladder.children].map((step) => {
                const range = document.createRange(); range.selectNodeContents(step.firstChild);
                return range.getBoundingClientRect();
              });
              return boxes.slice(1).map((box, n) => box.left - boxes[n].right);
            })"""
        )
        assert gaps and min(gaps) >= 1.5


def test_without_script_everything_can_still_be_done(chromium: Browser, tmp_path: Path) -> None:
    house = PolicyHouse.build(tmp_path)
    try:
        with serve(house) as url:
            context = chromium.new_context(base_url=url, java_script_enabled=False)
            page = context.new_page()
            sign_in(page, "root")
            page.goto("/policy/files/own.yaml")
            page.locator("#text").fill(OWN_RULES.replace("recipients_over: 100", "recipients_over: 3"))
            page.locator("button[data-tries]").click()
            page.wait_for_url("**/policy/replay/*")
            page.go_back()
            page.goto("/policy/files/own.yaml")
            page.locator("#text").fill(OWN_RULES.replace("recipients_over: 100", "recipients_over: 3"))
            page.locator("button[value=save]").click()
            page.wait_for_url("**?saved=*")
            page.goto("/holds")
            page.locator("input[name=id]").first.check()
            page.locator("button[value=release]").click()
            page.locator("form.card button.main").click()
            page.wait_for_url("**/holds?done=*")
            context.close()
            assert "recipients_over: 3" in (house.folder / "own.yaml").read_text("utf-8")
    finally:
        house.close()
