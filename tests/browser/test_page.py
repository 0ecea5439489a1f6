"""The page on a stage: traffic that was made up, everything else real."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ..e2e.harness.waiting import eventually
from ..unit.admin.world import TOKEN
from .conftest import Open
from .stage import Stage, pools_of, stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOOKS: list[dict[str, Any]] = [
    {"color_scheme": "light"},
    {"color_scheme": "dark"},
    {"color_scheme": "light", "viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
]
NAMES = ["light", "dark", "phone"]


@pytest.fixture(scope="module")
def six() -> Iterator[Stage]:
    """Two pools of three, with a quarter of an hour of traffic behind them, and some trouble."""
    pools, sockets = pools_of({"web": 3, "api": 3})
    routes = [{"pool": "web"}, {"pool": "api", "path_prefix": "/api"}, {"pool": "api", "host": "*.api.example"}]
    with stage(pools, sockets, routes=routes, rate=8, past_s=300) as made:
        made.kill("web-2")
        made.within(lambda: made.world.controller.drain_backend("api", "api-3"))
        yield made


@pytest.fixture(scope="module")
def looked_at(six: Stage, browser: Browser) -> Iterator[Page]:
    """A page for tests that only look."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(six.url)
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector(".backend")
    yield page
    page.close()


def backend(name: str) -> str:
    """The selector of a backend's card or row."""
    return f".backend:has(.name:text-is('{name}'))"


def number(page: Page, selector: str) -> float:
    return float(page.inner_text(selector).replace(",", ""))


@pytest.mark.parametrize("look", LOOKS, ids=NAMES)
def test_accessible_and_within_the_window(six: Stage, open_page: Open, axe: str, look: dict[str, Any]) -> None:
    """The door, the page and the dialog (axe-core, WCAG 2.2 A and AA and its best practices)."""
    page = open_page(six.url, **look)
    page.wait_for_selector("#token:focus")
    if look is LOOKS[0]:
        _accessible(page, axe)
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector(f"{backend('web-2')}[data-state=down]")
    _accessible(page, axe)
    _fits(page)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 22)"
    assert dark == (look["color_scheme"] == "dark")
    if look is not LOOKS[0]:
        page.click(f"{backend('web-2')} button")
        page.wait_for_selector("#manage-facts >> text=Leads to")
        _accessible(page, axe, "#manage")


def _accessible(page: Page, axe: str, part: str = "html") -> None:
    page.evaluate(axe)
    found = page.evaluate(
        """async (part) => (await axe.run(part, {
            runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
        })).violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3)
            .map((node) => node.html.slice(0, 160) +
            " " + node.failureSummary).join(" | ")}`)""",
        part,
    )
    assert found == []


def _fits(page: Page) -> None:
    """No sideways scrolling, and nothing is cut off."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    beyond = page.evaluate(
        """() => [...document.querySelectorAll("#board *")].filter((node) => !node.closest(".scroll, .hidden, svg"))
            .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
            .map((node) => node.outerHTML.slice(0, 120))"""
    )
    assert beyond == []


def test_a_fresh_page_shows_the_past(looked_at: Page) -> None:
    page = looked_at
    line = page.locator("#chart-rate .line.one").last
    page.wait_for_selector("#chart-rate path.line.one[d*=L]", state="attached")
    # One step of five seconds is one L: three hundred seconds of traffic were there before the page was.
    assert (line.get_attribute("d") or "").count("L") >= 58
    assert "Over the last 15 minutes. requests: now" in (
        page.get_attribute("#chart-rate svg.chart", "aria-label") or ""
    )
    page.check("input[value=minutes]")
    page.wait_for_selector("#chart-rate svg.chart[aria-label^='Over the last 24 hours']")
    assert (line.get_attribute("d") or "").count("L") >= 250
    spark = page.locator(f"{backend('web-1')} .spark")
    assert "Latency, last minutes:" in (spark.get_attribute("aria-label") or "")


def test_it_is_live(looked_at: Page) -> None:
    page = looked_at
    assert page.inner_text("#link-word") == "Live"
    before = number(page, "#totals dd >> nth=0")
    eventually(lambda: number(page, "#totals dd >> nth=0") > before, "more requests")
    assert number(page, "#t-rate") > 0


def test_the_one_look(looked_at: Page) -> None:
    page = looked_at
    page.wait_for_selector("#verdict[data-tone=bad]")
    assert page.inner_text("#verdict-text") == "2 of 6 backends do not serve as usual."
    assert "web/web-2 down for" in page.inner_text("#notices")
    assert "connection refused" in page.inner_text("#notices")
    assert page.inner_text(f"{backend('api-3')} .is").strip() == "Draining"
    assert "connection refused" in page.inner_text("#events li[data-what=down] >> nth=0")
    assert page.locator("#route-rows tr").count() == 3


def test_a_wrong_token_is_refused(six: Stage, open_page: Open) -> None:
    page = open_page(six.url, expect="401")
    page.fill("#token", "not-the-token-at-all")
    page.click("#gate button")
    page.wait_for_selector("#gate-error:text('That is not the token.')")
    assert page.inner_text("#link-word") == "Not connected"
    assert page.is_hidden("#board")
    assert page.evaluate("sessionStorage.length") == 0
    page.fill("#token", TOKEN)
    page.click("#gate button")
    page.wait_for_selector("#board:not([hidden])")
    # Typed once: it is there after a reload, and gone when it is told to be.
    page.reload()
    page.wait_for_selector(".backend")
    page.click("#forget")
    page.wait_for_selector("#token:focus")
    assert page.is_hidden("#board")
    assert page.evaluate("sessionStorage.length + localStorage.length + document.cookie.length") == 0


def test_with_the_keyboard_alone(six: Stage, open_page: Open) -> None:
    page = open_page(six.url)
    page.wait_for_selector("#token:focus")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{backend('web-1')}")
    # Around the page by Tab: everything that can be done can be reached, and where one is can be seen.
    page.reload()
    page.wait_for_selector(f"{backend('web-1')}")
    seen: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => { const node = document.activeElement; const style = getComputedStyle(node);
            const beside = getComputedStyle(node.nextElementSibling ?? node);
            const shown = style.outlineStyle !== "none" || beside.outlineStyle !== "none";
            return [node.id || node.textContent.trim().slice(0, 40), shown, node === document.body]; }"""
        )
        if found[2]:
            break
        assert found[1], f"nobody sees that {found[0]} has the focus"
        seen.append(found[0])
    assert seen[0] == "Skip to content"
    for wanted in ("forget", "filter", "kinds", "x-url", "Manage web-1", "Manage api-3", "Explain"):
        assert wanted in seen, seen
    # A weight, from the card to the dialog and back.
    page.focus(f"{backend('api-1')} button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#manage[open]")
    assert page.evaluate("document.activeElement.id") == "manage-title"
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "weight":
            break
    page.keyboard.press("Control+a")
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    page.wait_for_selector("#manage-done:text('Its weight is 5.')")
    assert six.within(lambda: six.world.controller.backend("api", "api-1").weight) == 5
    page.keyboard.press("Escape")
    page.wait_for_selector("#manage:not([open])", state="attached")
    assert page.evaluate("document.activeElement.textContent") == "Manage api-1"
    assert page.inner_text(f"{backend('api-1')} .metrics div:last-child b") == "5"
    six.within(lambda: six.world.controller.set_weight("api", "api-1", 1))


def test_drain_disable_enable_and_what_is_refused(six: Stage, open_page: Open) -> None:
    page = open_page(six.url, token=TOKEN)
    page.click(f"{backend('api-1')} button")
    page.click("#drain")
    page.wait_for_selector("#manage-done:text('It is being drained. Every worker runs it.')")
    page.wait_for_selector("#manage-state:has-text('Draining since')")
    page.click("#enable")
    page.wait_for_selector("#manage-done:text('It is enabled.')")
    page.wait_for_selector("#manage-state:has-text('Up since')")
    # api-3 drains: with api-1 disabled, api-2 is the last one.
    page.click("#disable")
    page.wait_for_selector("#manage-state:has-text('Disabled since')")
    page.click("#manage-close")
    page.click(f"{backend('api-2')} button")
    page.click("#disable")
    page.wait_for_selector("#sure:has-text('clients get 503')")
    assert six.within(lambda: six.world.controller.backend("api", "api-2").enabled)
    page.click("#sure-no")
    assert page.is_hidden("#sure")
    page.click("#disable")
    page.click("#sure-yes")
    page.wait_for_selector("#manage-done:text('It is disabled.')")
    page.wait_for_selector("#notices:has-text('Pool api has nobody left')")
    # Somebody else removes it meanwhile: what is refused is shown.
    six.within(lambda: six.world.controller.remove_backend("api", "api-2"))
    page.wait_for_selector("#manage-error:text('This backend is gone.')")
    page.click("#manage-close")
    for name in ("api-1", "api-3"):
        six.within(lambda name=name: six.world.controller.enable_backend("api", name))
    page.wait_for_selector(f"{backend('api-3')}[data-state=up]")
    six.within(lambda: six.world.controller.drain_backend("api", "api-3"))


def test_an_error_of_the_api_is_shown(six: Stage, open_page: Open) -> None:
    page = open_page(six.url, token=TOKEN, expect="422")
    page.route("**/weight", lambda route: route.continue_(post_data='{"weight": 999}'))
    page.click(f"{backend('web-1')} button")
    page.fill("#weight", "7")
    page.click("#set-weight")
    page.wait_for_selector("#manage-error:has-text('256')")
    assert page.inner_text("#manage-done") == ""


def test_10_000_events_and_a_day_do_not_grow_the_page(six: Stage, open_page: Open) -> None:
    page = open_page(six.url, token=TOKEN)
    page.wait_for_selector("#events li")

    def flood() -> None:
        for count in range(2000):
            six.world.controller.note("reloaded", f"{count} differences", quiet=True)

    sizes = []
    for _ in range(5):
        six.within(flood)
        page.wait_for_selector("#events li >> nth=0 >> text=1999 differences")
        sizes.append(page.evaluate("document.querySelectorAll('*').length"))
    assert max(sizes) - min(sizes) < 60
    # What the page keeps, fed with more than a day and 12,000 events.
    kept = page.evaluate(
        """async () => {
        const { Model, LIMITS } = await import("/dashboard/model.js");
        const model = new Model();
        const now = Date.now();
        const state = { id: 1, pool: "web", name: "a", state: "up", reason: "", more: [], weight: 1, part: 1 };
        model.apply("state", {
            run: "1", now, seconds: [], minutes: [], events: [], routes: [], workers: [], listeners: [], totals: {},
            recent: [null, null, null], pools: [{ name: "web", changed: [] }], poolNumbers: [],
            backends: [{ state, numbers: [0, 0, 0, null, 0, 0], points: [] }],
        });
        for (let at = 0; at < 2000; at += 1) {
            const events = [1, 2, 3, 4, 5, 6].map((one) => ({ number: at * 6 + one, time: now, what: "reloaded" }));
            const row = [at * 60, 1, 0, 1, 1, 1, 1, 1];
            model.apply("tick", { now, row, minute: row, points: [[1, 1, 1]], events });
        }
        const points = model.backends.get(1).points.length;
        return [model.seconds.length, model.minutes.length, model.events.length, points, LIMITS];
    }"""
    )
    seconds, minutes, events, points, limits = kept
    assert [seconds, minutes, events, points] == [limits[name] for name in ("seconds", "minutes", "events", "points")]


def test_what_is_old_looks_old(open_page: Open) -> None:
    pools, sockets = pools_of({"web": 1})
    with stage(pools, sockets, rate=5) as made:
        page = open_page(made.url, token=TOKEN, expect="ERR_|Failed to load")
        page.wait_for_selector(".backend")
        made.within(lambda: setattr(made.feed, "look", lambda: time.sleep(0)))
        page.wait_for_selector("#stale:not([hidden]):has-text('What you see is')")
        assert page.get_attribute("body", "data-stale") == "true"
        assert page.inner_text("#link-word") == "Not connected"
        made.within(lambda: delattr(made.feed, "look"))
        page.wait_for_selector("#stale", state="hidden")
        page.wait_for_selector("#link[data-state=live]")


def test_a_thousand_backends(open_page: Open) -> None:
    tree = {"web": {"backends": [f"http://127.0.0.1:{1024 + n}" for n in range(1000)], "health": {"type": "none"}}}
    with stage(tree, {}, rate=40) as made:
        page = open_page(made.url, token=TOKEN)
        page.wait_for_selector(".rows .backend")
        assert page.locator(".backend").count() == 48
        assert page.inner_text(".pool .up") == "1000 of 1000 up"
        for width in (1440, 1280, 900, 360):
            page.set_viewport_size({"width": width, "height": 800})
            cut = """() => [...document.querySelectorAll(".backend *")].filter((node) =>
                node.getBoundingClientRect().right > node.closest(".backend").getBoundingClientRect().right).length"""
            assert page.evaluate(cut) == 0, f"a row is cut off at {width} pixels"
        assert page.evaluate("document.querySelectorAll('*').length") < 4000
        page.click("button:has-text('Show 48 more, of 952')")
        assert page.locator(".backend").count() == 96
        page.fill("#filter", "127.0.0.1:2023")
        eventually(lambda: page.locator(".backend").count() == 1, "the one")
        # The last one of all goes, and is the first to be seen.
        page.fill("#filter", "")
        made.within(lambda: made.world.controller.disable_backend("web", "http://127.0.0.1:2023"))
        page.wait_for_selector(".backend >> nth=0 >> text=http://127.0.0.1:2023")


def test_less_motion(six: Stage, open_page: Open) -> None:
    page = open_page(six.url, token=TOKEN, reduced_motion="reduce")
    page.wait_for_selector("#link[data-state=live]")
    assert page.evaluate("document.getAnimations().length") == 0
