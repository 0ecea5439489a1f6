"""The page before a real balancer with real backends, which die, come back and are restarted."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..e2e.conftest import MakeBackend
from ..e2e.harness.backends import Backend
from ..e2e.harness.client import fetch
from ..e2e.harness.headgate import Headgate, configuration
from ..e2e.harness.ports import HeldPort
from ..e2e.harness.processes import Processes
from ..e2e.harness.waiting import eventually
from ..unit.admin.client import ask
from .conftest import Open
from .test_page import backend

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = "a-token-of-24-characters"
HEALTH = {"type": "tcp", "interval": "1s", "timeout": "1s", "fall": 2, "rise": 1}


@pytest.fixture
def admin() -> Iterator[HeldPort]:
    with HeldPort() as held:
        yield held


class Site:
    """A balancer over three backends, a to c, in the pool web."""

    def __init__(
        self,
        processes: Processes,
        directory: Path,
        port: HeldPort,
        admin: HeldPort,
        backends: list[Backend],
        workers: int,
    ) -> None:
        self.processes, self.directory, self.port, self.admin = processes, directory, port, admin
        self.backends = backends
        members = [{"url": one.url, "name": one.name} for one in backends]
        self.config: dict[str, Any] = configuration(
            port,
            {"web": {"backends": members, "health": HEALTH, "slow_start": "off"}},
            admin={"bind": admin.bind, "token": TOKEN},
            workers=workers,
        )
        self.headgate = self.start()

    def start(self) -> Headgate:
        return Headgate.run(self.processes, self.directory, self.config, self.port)

    @property
    def url(self) -> str:
        return f"{self.admin.url}/"

    def load(self, count: int) -> None:
        for _ in range(count):
            assert fetch(self.port.address).status == 200


@pytest.fixture
def site(
    processes: Processes, tmp_path: Path, port: HeldPort, admin: HeldPort, make_backend: MakeBackend, request: Any
) -> Site:
    backends = [make_backend(name=name) for name in "abc"]
    return Site(processes, tmp_path, port, admin, backends, getattr(request, "param", 1))


# Notes, in the page, when a backend's card becomes what it is.
WATCH = """(name) => {
    const cards = [...document.querySelectorAll(".backend")];
    const card = cards.find((one) => one.querySelector(".name").textContent === name);
    window.seen = {};
    new MutationObserver(() => {
        const tone = getComputedStyle(card).getPropertyValue("--tone");
        window.seen[card.dataset.state] ??= [Date.now(), tone, card.querySelector(".reason").textContent];
    }).observe(card, { attributes: true, subtree: true, childList: true, characterData: true });
}"""


def events(site: Site, what: str) -> list[dict[str, Any]]:
    found = ask(site.admin.bind, "GET", "/events", token=TOKEN).json["events"]
    return [one for one in found if one["what"] == what]


def moment(page: Page, text: str) -> float:
    """An RFC 3339 time in milliseconds."""
    return float(page.evaluate("(text) => Date.parse(text)", text))


def test_a_backend_is_killed_and_comes_back(site: Site, open_page: Open) -> None:
    """Red with its cause within two seconds of the balancer's own event; then green again."""
    page = open_page(site.url, token=TOKEN)
    page.wait_for_selector(f"{backend('b')}[data-state=up]")
    page.evaluate(WATCH, "b")
    killed = site.backends[1]
    killed.stop()
    at, tone, reason = eventually(lambda: page.evaluate("window.seen.down ?? window.seen.ejected"), "red")
    (event,) = [one for one in events(site, "down") if one["backend"] == "b"][:1]
    assert 0 <= at - moment(page, event["time"]) + 20 < 2000
    assert tone.strip() in ("#b42318", "var(--bad)")
    assert "refused" in reason
    assert event["reason"] == reason
    page.wait_for_selector("#events li[data-what=down]:has-text('web/b')")
    page.wait_for_selector("#notices:has-text('web/b down for')")
    killed.start()
    page.wait_for_selector(f"{backend('b')}[data-state=up]")
    page.wait_for_selector("#events li[data-what=up]:has-text('web/b') >> nth=0")
    page.wait_for_selector("#verdict[data-tone=ok]")


def test_the_balancer_is_reloaded_and_restarted(site: Site, open_page: Open) -> None:
    """The page goes on: same card after a reload, other process after a restart, the past kept, the gap seen."""
    page = open_page(site.url, token=TOKEN, expect="ERR_|Failed to load")
    page.wait_for_selector(f"{backend('a')}[data-state=up]")
    site.load(5)
    page.wait_for_selector("#totals div:first-child dd:text-is('5')")
    # A reload that brings one more backend and another strategy.
    path = site.directory / "headgate.json"
    config = json.loads(path.read_text())
    config["pools"]["web"]["strategy"] = "p2c"
    config["pools"]["web"]["backends"].pop()
    path.write_text(json.dumps(config))
    site.headgate.process.signal(signal.SIGHUP)
    page.wait_for_selector(".pool .chip:text-is('p2c')")
    page.wait_for_selector("#events li[data-what=reloaded]")
    assert page.locator(".backend").count() == 2
    # A restart.
    assert site.headgate.stop() == 0
    page.wait_for_selector("#link[data-state=waiting]")
    page.wait_for_selector("#stale:not([hidden])")
    assert page.locator(".backend").count() == 2  # what was last known is still to be read
    site.headgate = Headgate.run(site.processes, site.directory, config, site.port)
    page.wait_for_selector("#link[data-state=live]")
    page.wait_for_selector("#stale", state="hidden")
    page.wait_for_selector("#events li[data-what=restarted]")
    assert page.locator("#events li[data-what=reloaded]").count() == 1  # of the run before
    site.load(3)
    page.wait_for_selector("#totals div:first-child dd:text-is('3')")
    # The page is reloaded: the token is still there.
    page.reload()
    page.wait_for_selector(f"{backend('a')}[data-state=up]")


@pytest.mark.parametrize("site", [4], indirect=True)
def test_the_figures_are_those_of_the_client(site: Site, open_page: Open) -> None:
    """With four workers, one of which is killed in between."""
    page = open_page(site.url, token=TOKEN)
    site.load(40)
    _agree(page, 40)
    os.kill(site.headgate.workers()[0], signal.SIGKILL)
    page.wait_for_selector("#events li[data-what='worker died']:has-text('SIGKILL')")
    eventually(lambda: len(site.headgate.workers()) == 4, "the replacement")
    site.load(20)
    _agree(page, 60)
    assert page.inner_text("#t-flight") == "0"
    assert page.locator("#worker-rows tr").count() == 4
    rows = """() => [...document.querySelectorAll("#worker-rows tr")]
        .reduce((sum, row) => sum + Number(row.children[4].textContent), 0)"""
    eventually(lambda: page.evaluate(rows) == 60, "the workers' sum")


def _agree(page: Page, count: int) -> None:
    page.wait_for_selector(f"#totals div:first-child dd:text-is('{count}')")
    page.wait_for_selector(f"#totals div:has(dt:text-is('Answers 2xx')) dd:text-is('{count}')")
    page.wait_for_selector(f"#outcomes div:has(dt:text-is('ok')) dd:text-is('{count}')")
    total = 0
    for name in "abc":
        page.click(f"{backend(name)} button")
        page.wait_for_selector("#manage-facts >> text=Leads to")
        text = page.inner_text("#manage-facts div:has(dt:text-is('Requests')) dd")
        total += int(text.split(",")[0])
        page.click("#manage-close")
    assert total == count


def test_a_request_is_explained(site: Site, open_page: Open) -> None:
    page = open_page(site.url, token=TOKEN, expect="40[0-9]|422")
    page.wait_for_selector(f"{backend('a')}[data-state=up]")
    page.fill("#x-url", f"http://127.0.0.1:{site.port.number}/cart?x=1")
    page.fill("#x-headers", "Accept: text/html\nX-Test: 1")
    page.press("#x-url", "Enter")
    page.wait_for_selector("#explain-outcome:not(:empty)")
    facts = dict(
        page.evaluate(
            """[...document.querySelectorAll('#explained .pairs div')]
            .map((one) => [...one.children].map((part) => part.textContent))"""
        )
    )
    assert facts["Pool"] == "web"
    assert facts["Would be picked"] in "abc"
    assert page.locator("#explained tbody tr").count() == 3
    picked = page.inner_text("#explained tr:has(.chip) th")
    assert picked.split()[0] == facts["Would be picked"]
    # What was explained is what happens: with one worker, the next request goes there.
    assert fetch(site.port.address).body.decode().strip() == facts["Would be picked"]
    page.fill("#x-headers", "no field at all")
    page.click("#explain-form button")
    page.wait_for_selector("#explain-error:has-text('is no header field')")
    page.fill("#x-headers", "")
    page.fill("#x-url", "nonsense")
    page.click("#explain-form button")
    page.wait_for_selector("#explain-error:not(:empty)")
    assert page.locator("#explained > *").count() == 0


def test_through_a_tunnel_to_the_unix_socket_no_token_is_asked_for(
    processes: Processes, tmp_path: Path, port: HeldPort, stack: ExitStack, make_backend: MakeBackend, open_page: Open
) -> None:
    """As `ssh -L 9900:/run/headgate/admin.sock` makes one."""
    path = tmp_path / "a.sock"
    config = configuration(
        port, {"web": {"backends": [make_backend().url], "health": HEALTH}}, admin={"bind": f"unix:{path}"}
    )
    Headgate.run(processes, tmp_path, config, port)
    page = open_page(f"http://127.0.0.1:{tunnel(stack, str(path))}/")
    page.wait_for_selector(".backend[data-state=up]")
    assert page.is_hidden("#gate")
    assert page.is_hidden("#forget")


def tunnel(stack: ExitStack, path: str) -> int:
    """Passes connections on to a unix socket; returns its port."""
    import socket

    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()

    def serve() -> None:
        while True:
            try:
                ours, _ = listening.accept()
            except OSError:
                return
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(path)
            stack.callback(ours.close)
            stack.callback(theirs.close)
            for pair in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listening.getsockname()[1])
