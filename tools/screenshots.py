"""Make the pictures of docs/images: the dashboard on a stage, as the tests of the page set it up.

`make screenshots`; needs Chromium and, of the development tools, Playwright.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.browser.chromium import chromium  # noqa: E402
from tests.browser.stage import Stage, pools_of, stage  # noqa: E402
from tests.unit.admin.world import TOKEN  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = ROOT / "docs" / "images"
LARGEST = 150 * 1024
WIDE = {"width": 1280, "height": 720}
PHONE = {"width": 390, "height": 800}


def opened(browser: Browser, made: Stage, **options: Any) -> Page:
    """A page that shows the stage."""
    page = browser.new_page(**options)
    page.goto(made.url)
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector(".backend")
    page.wait_for_timeout(3000)
    return page


def take(page: Page, name: str, **options: Any) -> None:
    """Write one picture and close the page. Raises SystemExit when it is too large for a repository."""
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, **options)
    page.close()
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} is larger than {LARGEST // 1024} KiB")


def main() -> None:
    """All of them."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        pools, sockets = pools_of({"web": 3, "api": 3})
        routes = [{"pool": "web"}, {"pool": "api", "path_prefix": "/api"}, {"pool": "api", "host": "*.api.example"}]
        with stage(pools, sockets, routes=routes, rate=150, past_s=900) as made:
            take(opened(browser, made, viewport=WIDE), "dashboard-light")
            made.kill("web-2")
            made.traffic.failing["api-1"] = 0.004
            made.within(lambda: made.world.controller.drain_backend("api", "api-3"))
            time.sleep(5)
            take(opened(browser, made, viewport=WIDE, color_scheme="dark"), "dashboard-dark")
            take(opened(browser, made, viewport=PHONE), "dashboard-phone")
            page = opened(browser, made, viewport={"width": 1000, "height": 760})
            page.click(".backend[data-tone=bad] button")
            page.wait_for_selector("#manage-facts >> text=Leads to")
            take(page, "dashboard-manage")
        pools, sockets = pools_of({"web": 60})
        with stage(pools, sockets, rate=150, past_s=300) as made:
            made.kill("web-17")
            made.kill("web-40")
            time.sleep(5)
            page = opened(browser, made, viewport={"width": 1280, "height": 600})
            page.evaluate("document.getElementById('pools').scrollIntoView()")
            page.wait_for_timeout(500)
            take(page, "dashboard-many")


if __name__ == "__main__":
    main()
