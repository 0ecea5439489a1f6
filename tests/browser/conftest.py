"""One browser for all tests; each has a page of its own, which may say nothing on the console and ask nobody else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from ..e2e.conftest import balance, make_backend, port, processes, run, stack  # noqa: F401
from .chromium import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("playwright", reason="Playwright is not installed")

# A busy machine: only a failure waits as long.
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium. For one file only: while Playwright runs, no other test of the process can have a loop."""
    with chromium() as running:
        yield running


class Open(Protocol):
    def __call__(self, url: str, *, token: str | None = ..., expect: str | None = ..., **options: Any) -> Page: ...


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens pages. expect: a pattern of what may stand on the console (a refused token does)."""
    contexts = []
    wrong: list[str] = []
    origins: list[str] = []

    def open_one(url: str, *, token: str | None = None, expect: str | None = None, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        origins.append(url.rstrip("/"))

        def said(kind: str, text: str) -> None:
            if kind in ("error", "warning", "pageerror") and not (expect and re.search(expect, text)):
                wrong.append(f"{kind}: {text}")

        page.on("console", lambda message: said(message.type, message.text))
        page.on("pageerror", lambda error: said("pageerror", str(error)))
        context.on("request", lambda request: _asked(request.url))
        page.goto(url)
        if token is not None:
            page.fill("#token", token)
            page.press("#token", "Enter")
            page.wait_for_selector("#board:not([hidden])")
        return page

    def _asked(url: str) -> None:
        if not any(url.startswith(f"{origin}/") for origin in origins):
            wrong.append(f"fetched {url}")

    yield open_one
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core (npm), from HEADGATE_AXE or where `npm install` in this directory puts it."""
    places = [Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"]
    if given := os.environ.get("HEADGATE_AXE"):
        places.insert(0, Path(given))
    for place in places:
        if place.exists():
            return place.read_text()
    pytest.skip("axe-core is not installed: npm install in tests/browser, or HEADGATE_AXE=.../axe.min.js")
