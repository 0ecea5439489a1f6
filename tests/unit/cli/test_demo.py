"""The demo and its servers, as real processes; only the balancer is left out."""

from __future__ import annotations

import http.client
import io
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headgate.cli import demo, demo_backend, main
from headgate.config.addresses import Bind
from headgate.config.schema import Config

from .conftest import Served

Said = pytest.CaptureFixture[str]


@contextmanager
def server(event_interval_s: float = 0.001) -> Iterator[demo_backend.Server]:
    with demo_backend.Server("red", 0, event_interval_s) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            made.stopping.set()
            made.shutdown()
            thread.join()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_server_names_itself() -> None:
    with server() as red:
        port = red.server_address[1]
        assert ask(port, "GET", "/a?b=c") == (200, f"Hello from red, process {os.getpid()}: /a?b=c\n")
        assert ask(port, "GET", "/health") == (200, "ok\n")
        assert ask(port, "GET", "/slow?seconds=0")[0] == 200
        assert ask(port, "POST", "/", b"x" * 100_000) == (200, "red got 100000 bytes\n")


@pytest.mark.parametrize(
    ("query", "seconds"), [("", 2.0), ("seconds=0.5", 0.5), ("seconds=-1", 0.0), ("seconds=x", 2.0)]
)
def test_how_slow_is_slow(query: str, seconds: float) -> None:
    assert demo_backend.seconds_of(query) == seconds


def test_nobody_waits_forever() -> None:
    assert demo_backend.seconds_of("seconds=1e9") == 60.0
    assert demo_backend.seconds_of("seconds=nan") == 2.0


def test_events_arrive_one_by_one() -> None:
    with server() as red:
        connection = http.client.HTTPConnection("127.0.0.1", red.server_address[1], timeout=10)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "text/event-stream"
        for number in (1, 2, 3):
            event = json.loads(answer.readline().decode().removeprefix("data: "))
            assert (event["backend"], event["event"]) == ("red", number)
            assert answer.readline() == b"\n"
        connection.close()


def test_a_server_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert demo_backend.main(["--name", "red", "--port", "0", "--with-parent"]) == 0
    assert capsys.readouterr().out.startswith("red listens on http://127.0.0.1:")


def test_a_server_whose_port_is_taken(capsys: Said) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert demo_backend.main(["--name", "red", "--port", str(taken.getsockname()[1])]) == 3
    assert "cannot listen" in capsys.readouterr().err


def test_the_demo_balances_over_three_servers_and_stops_them(served: Served, capsys: Said) -> None:
    answers: list[str] = []

    def use(config: Config) -> None:
        for backend in config.pools["web"].backends:
            answers.append(ask(backend.url.port, "GET", "/")[1])
            assert ask(backend.url.port, "GET", "/health") == (200, "ok\n")

    served.during = use
    assert main(["demo", "--listen", "127.0.0.1:0", "--strategy", "random"]) == 0
    assert [answer.split(",")[0] for answer in answers] == ["Hello from red", "Hello from green", "Hello from blue"]
    pool = served.config.pools["web"]
    assert (pool.strategy.name, pool.health.type, pool.health.interval) == ("random", "http", 1.0)
    for backend in pool.backends:
        with pytest.raises(ConnectionRefusedError):
            ask(backend.url.port, "GET", "/")
    assert "curl -N http://127.0.0.1:0/events" in capsys.readouterr().err


def test_a_killed_server_can_be_started_again(served: Served) -> None:
    """Its port stays held, and the command that the demo prints works while it is."""

    def use(config: Config) -> None:
        port = config.pools["web"].backends[1].url.port
        pid = int(ask(port, "GET", "/")[1].split("process ")[1].split(":")[0])
        descriptor = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        with pytest.MonkeyPatch.context() as patch, open(descriptor) as ended:
            assert select.select([ended], [], [], 10)[0]
            with pytest.raises(ConnectionRefusedError):
                ask(port, "GET", "/")
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
            assert demo_backend.main(["--name", "green", "--port", str(port), "--with-parent"]) == 0

    served.during = use
    assert main(["demo", "--listen", "127.0.0.1:0"]) == 0


def test_mistakes_in_the_flags_of_the_demo(served: Served, capsys: Said) -> None:
    assert main(["demo", "--strategy", "rond_robin"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_another_port_where_the_usual_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(demo, "_LISTEN", usual)
        chosen = Bind.parse(demo._free_listen())
    assert chosen.host == "127.0.0.1"
    assert chosen.port not in (0, Bind.parse(usual).port)
    monkeypatch.setattr(demo, "_LISTEN", chosen.text)
    assert demo._free_listen() == chosen.text


@pytest.mark.parametrize(
    ("bind", "line"),
    [
        (":8080", "curl http://127.0.0.1:8080/slow"),
        ("[::1]:8080", "curl http://[::1]:8080/slow"),
        ("unix:/run/hg.sock", "curl --unix-socket /run/hg.sock http://localhost/slow"),
    ],
)
def test_the_lines_can_be_pasted(bind: str, line: str) -> None:
    backends = [demo.DemoBackend(name, 9000 + number, 100 + number) for number, name in enumerate(("a", "b", "c"))]
    text = demo.instructions(Bind.parse(bind), backends)
    assert line in text
    assert "kill 101" in text
    assert "--name b --port 9001" in text
