"""Names that move (fault matrix, row 22), with a DNS server of the test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .harness.backends import Backend
from .harness.client import Client
from .harness.dns import DnsServer, asking, impossible
from .harness.headgate import Headgate, configuration
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.waiting import eventually

# Re-resolution every 10 s is the promise; the rest is for a machine that is busy.
PROMISED_S = 10.0
SLACK_S = 5.0
NAMES = ("moves", "nxdomain", "servfail", "silent", "many", "late", "dies")


@pytest.fixture
def dns(tmp_path: Path) -> Iterator[DnsServer]:
    why_not = impossible(tmp_path)
    if why_not is not None:
        pytest.skip(why_not)
    with DnsServer() as server:
        yield server


def two_on_one_port(stack: ExitStack) -> tuple[Backend, Backend]:
    """A and B: the same port of 127.0.0.1 and 127.0.0.2, since a name carries no port."""
    for _ in range(20):
        first = HeldPort()
        try:
            second = HeldPort("127.0.0.2", first.number)
        except OSError:
            first.close()
            continue
        backends = Backend(name="A", port=first), Backend(name="B", port=second)
        for backend in backends:
            stack.callback(backend.close)
        return backends
    raise AssertionError("no port is free on two addresses")


class Asker:
    """Asks every pool again and again, in a thread, and keeps what it got."""

    def __init__(self, headgate: Headgate) -> None:
        self.answers: dict[str, list[str]] = {name: [] for name in NAMES}
        self.failed: list[str] = []
        self._headgate = headgate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with Client(self._headgate.address) as client:
            while not self._over.is_set():
                for name in NAMES:
                    answer = client.get(f"/{name}")
                    body = answer.body.decode()
                    self.answers[name].append(body)
                    if answer.status != 200 and name != "late":
                        self.failed.append(f"{name}: {answer.status} {body}")
                time.sleep(0.005)

    def __enter__(self) -> Asker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_addresses_change_and_lookups_fail_beside_the_traffic(
    dns: DnsServer, processes: Processes, stack: ExitStack, tmp_path: Path, port: HeldPort
) -> None:
    a, _ = two_on_one_port(stack)
    number = a.port.number
    dns.answers = {f"{name}.test": ["127.0.0.1"] for name in NAMES if name != "late"}
    config = configuration(
        port,
        {name: {"backends": [f"http://{name}.test:{number}"], "health": False, "breaker": False} for name in NAMES},
        routes=[{"path_prefix": f"/{name}", "pool": name} for name in NAMES],
        access_log={"format": "off"},
    )
    headgate = Headgate.run(processes, tmp_path, config, port, prefix=asking(dns, tmp_path))
    with Asker(headgate) as asker:
        eventually(
            lambda: all(answers[-1:] == ["A"] for name, answers in asker.answers.items() if name != "late"),
            "all to be served whose name resolves",
        )
        assert "no_backend" in asker.answers["late"][-1]
        reason = next(backend["reason"] for backend in headgate.status() if backend["pool"] == "late")
        assert reason.startswith("no address for late.test: ")
        before = dict(dns.asked)
        changed = time.monotonic()
        dns.answers |= {
            "moves.test": ["127.0.0.2"],
            "nxdomain.test": "nxdomain",
            "servfail.test": "servfail",
            "late.test": ["127.0.0.2"],
            "silent.test": "silent",
            # More than a datagram holds, so the question comes again over TCP. Only one has a server.
            "many.test": ["127.0.0.2", *(f"127.0.3.{n}" for n in range(49))],
        }

        eventually(lambda: asker.answers["moves"][-1] == "B", "the new address", PROMISED_S + SLACK_S)
        assert time.monotonic() - changed <= PROMISED_S + SLACK_S
        eventually(lambda: asker.answers["many"][-1] == "B", "one of many addresses", PROMISED_S + SLACK_S)
        eventually(lambda: asker.answers["late"][-1] == "B", "a name that did not resolve before", PROMISED_S + SLACK_S)

        # The failures have been seen by now or are soon, and the last good address still serves.
        for name in ("nxdomain", "servfail", "silent"):
            dns.wait_asked(f"{name}.test", before[f"{name}.test"] + 1)
        during = {name: len(answers) for name, answers in asker.answers.items()}
        eventually(
            lambda: all(len(asker.answers[name]) >= count + 50 for name, count in during.items()),
            "traffic to go on while a lookup is not answered",
        )
        for name in ("nxdomain", "servfail", "silent"):
            assert set(asker.answers[name]) == {"A"}
        eventually(lambda: "name nxdomain.test does not resolve" in headgate.process.output, "the log to say so")
        assert "the last good addresses stay in use" in headgate.process.output

        assert asker.failed == []

        # Where connections fail nobody waits for the interval.
        dns.answers["dies.test"] = ["127.0.0.2"]
        a.stop()
        eventually(lambda: asker.answers["dies"][-1] == "B", "a dead address to be looked up anew", SLACK_S)
