"""Load from many connections: no error, and the spread that the strategy promises."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import Balance
from .harness.client import Client
from .harness.headgate import Headgate
from .harness.nginx import Nginx
from .harness.processes import Processes
from .harness.tools import require, require_open_files
from .harness.waiting import eventually

# hey gives every connection the same number of requests: 64 x 313 is the first total above 20,000.
CONNECTIONS = 64
REQUESTS = CONNECTIONS * 313


@pytest.fixture
def nginx(processes: Processes, tmp_path: Path) -> Iterator[Nginx]:
    directory = tmp_path / "nginx"
    directory.mkdir()
    backends = Nginx(processes, directory, ["a", "b", "c"])
    yield backends
    processes.close()
    backends.close()


def hey(processes: Processes, headgate: Headgate, requests: int = REQUESTS) -> None:
    """Send the load; every request must be answered 200."""
    load = processes.run([require("hey"), "-n", str(requests), "-c", str(CONNECTIONS), headgate.url])
    assert "Error distribution" not in load.stdout.text, load.output
    answered = {int(code): int(count) for code, count in re.findall(r"\[(\d+)\]\s+(\d+) responses", load.stdout.text)}
    assert answered == {200: requests}, load.output


def within_a_percent(served: Counter[str], expected: dict[str, float]) -> bool:
    return all(abs(served[name] - wanted) <= wanted * 0.01 for name, wanted in expected.items())


@pytest.mark.parametrize("workers", [1, 2])
def test_round_robin_spreads_evenly(
    nginx: Nginx, balance: Balance, processes: Processes, tmp_path: Path, workers: int
) -> None:
    log = tmp_path / "access.log"
    top: dict[str, object] = {"workers": workers, "access_log": {"path": str(log)}}
    headgate = balance(*nginx.urls, strategy="round_robin", top=top)
    hey(processes, headgate)
    served = nginx.served()
    assert served.total() == REQUESTS
    assert within_a_percent(served, dict.fromkeys("abc", REQUESTS / 3)), served
    status = {backend["url"]: backend["totalRequests"] for backend in headgate.status()}
    assert list(status.values()) == [served[name] for name in nginx.names]
    assert headgate.stop() == 0
    # One line for each, and one for the status page asked above.
    assert len(log.read_text().splitlines()) == REQUESTS + 1


def test_weighted_round_robin_spreads_by_weight(nginx: Nginx, balance: Balance, processes: Processes) -> None:
    weights = {"a": 5, "b": 3, "c": 1}
    backends: list[dict[str, object]] = [
        {"url": url, "weight": weights[name]} for name, url in zip(nginx.names, nginx.urls, strict=True)
    ]
    headgate = balance(*backends, strategy="weighted_round_robin", top={"access_log": {"format": "off"}})
    hey(processes, headgate)
    served = nginx.served()
    assert served.total() == REQUESTS
    assert within_a_percent(served, {name: REQUESTS * weight / 9 for name, weight in weights.items()}), served


def test_thousands_of_idle_clients_and_load_beside_them(nginx: Nginx, balance: Balance, processes: Processes) -> None:
    idle = 5000
    require_open_files(idle + 500)
    # Idle for as long as the rest takes, however busy the machine is.
    listener: dict[str, object] = {"timeouts": {"client_idle": "10m"}}
    headgate = balance(*nginx.urls, listener=listener, top={"access_log": {"format": "off"}})
    with ExitStack() as stack:
        clients = [stack.enter_context(headgate.client()) for _ in range(idle)]
        for client in clients:
            assert client.get().status == 200
        hey(processes, headgate)
        for client in clients:
            assert client.get().status == 200
    assert nginx.served().total() == 2 * idle + REQUESTS
    eventually(lambda: not any(backend["activeConnections"] for backend in headgate.status()), "everything to end")


def test_every_answer_goes_to_its_own_client(nginx: Nginx, balance: Balance) -> None:
    """Pipelined requests on many connections, each with its own backend order: none is mixed up."""
    headgate = balance(*nginx.urls)
    with ExitStack() as stack:
        clients: list[Client] = [stack.enter_context(headgate.client()) for _ in range(50)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 20)
        for client in clients:
            answers = [client.response() for _ in range(20)]
            assert {answer.status for answer in answers} == {200}
            assert len({answer.body for answer in answers}) == 3
            assert client.reader.pending == b""
