"""Takes the README's picture of a letter's page: ``python -m tests.wire.picture_letter [FILE]``.

The letters are those of the tests, the browser is Debian's Chromium; nothing leaves loopback.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.wire.chromium import running, sign_in
from tests.wire.dashboard_house import House, serve
from tracker.model import id_text

DEFAULT = Path(__file__).resolve().parents[2] / "docs" / "images" / "letter.png"


def take(file: Path) -> None:
    """Write the picture, 1280 by 1000 CSS pixels, Arabic and light."""
    with tempfile.TemporaryDirectory() as root:
        house = House.build(Path(root))
        with serve(house) as url, running() as browser:
            page = browser.new_page(base_url=url, viewport={"width": 1280, "height": 1000})
            sign_in(page, "mof.follow")
            page.goto(f"/letters/{id_text(house.ids['main'])}")
            page.locator("[data-live-state].on").wait_for()
            page.wait_for_function("document.fonts.status === 'loaded'")
            file.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=file)
        house.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
