"""Chromium for tests of pages: windows that notice what they should not do, signing in, width, contrast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from tests.servers.place import PATIENCE
from tests.wire.dashboard_house import PASSWORD

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
    "--disable-component-update",
]


@contextmanager
def running() -> Iterator[Browser]:
    """A browser; no event loop may run in this thread meanwhile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page did that it should not have."""

    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


@contextmanager
def window(
    browser: Browser, url: str, width: int = 1280, scheme: str = "light"
) -> Iterator[tuple[Page, Seen]]:
    """A window on a dashboard, nobody signed in, ``width`` CSS pixels wide."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        base_url=url,
    )
    context.set_default_timeout(1000 * PATIENCE)
    page, seen = context.new_page(), Seen()

    def dialog(shown: Dialog) -> None:
        seen.complaints.append(f"dialog {shown.message}")
        shown.dismiss()

    page.on("pageerror", lambda error: seen.complaints.append(f"error {error}"))

    def console(message: object) -> None:
        text = getattr(message, "text", "")
        if "Content Security Policy" in text or "Refused to" in text:
            seen.complaints.append(text)

    page.on("dialog", dialog)
    page.on("console", console)
    page.on(
        "request", lambda request: None if request.url.startswith(url) else seen.foreign.append(request.url)
    )
    try:
        yield page, seen
    finally:
        context.close()


def sign_in(page: Page, who: str) -> None:
    """As a person does, with the password that all people of the tests have."""
    page.goto("/")
    page.fill("[name=name]", who)
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/letters")


def enter(page: Page, who: str, language: str) -> None:
    """Sign in and read in that language."""
    sign_in(page, who)
    if page.locator("html").get_attribute("lang") != language:
        page.locator(".language button").click()
        page.locator(f"html[lang={language}]").wait_for()


def none_wider(page: Page, paths: Sequence[str], width: int) -> None:
    """No page of these is wider than a screen of so many CSS pixels."""
    for path in paths:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def all_legible(page: Page, paths: Sequence[str]) -> None:
    """All text of these pages stands out from its ground, folded or disabled too (WCAG 2.2 §1.4.3, AA)."""
    for path in paths:
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
        page.evaluate("document.querySelectorAll('button:disabled').forEach((b) => { b.disabled = false })")
        assert page.evaluate(CONTRAST) == [], path


# Text that stands out too little: 4.5 to 1, large text 3 to 1.
CONTRAST = """() => {
  const channel = (v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 };
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return { rgb: n.slice(0, 3), a: n[3] ?? 1 } };
  const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
  const behind = (node) => { for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor); if (c.a === 1) return c.rgb } return [255, 255, 255] };
  const poor = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    const box = node.getBoundingClientRect();
    if (!own || node.closest('.unseen, .skip, .closed, option, noscript') || box.width < 2) continue;
    const style = getComputedStyle(node);
    const [one, two] = [light(parse(style.color).rgb), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + .05) / (two + .05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${node.tagName} ${node.className} ${node.textContent.trim().slice(0, 30)}`);
  }
  return poor;
}"""  # noqa: E501
