"""Active checks: what passes, what does not, when a backend leaves and returns, and what is said about it."""

from __future__ import annotations

import threading

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Backend, Connection
from .harness.ports import HeldPort
from .harness.waiting import eventually

# A check has as long as the interval: where all stands still for so long that each of five fails, nobody is up.
FAST: dict[str, object] = {"interval": "100ms", "fall": 5, "rise": 2}


class Patient:
    """A backend's script whose health page can be made to fail."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.checks = 0
        self.changed = threading.Condition()

    def __call__(self, connection: Connection) -> None:
        for request in connection.each():
            if request.target.startswith("/health"):
                with self.changed:
                    self.checks += 1
                    self.changed.notify_all()
                connection.respond(b"", self.status)
            else:
                connection.respond(connection.backend.name.encode())


def test_an_http_check_takes_a_backend_out_and_lets_it_back(make_backend: MakeBackend, balance: Balance) -> None:
    patient = Patient()
    backend, other = make_backend(patient, "patient"), make_backend(Patient(), "other")
    headgate = balance(backend, other, health={"path": "/health", **FAST}, slow_start="off")
    assert set(headgate.names(4)) == {"patient", "other"}

    patient.status = "500 Internal Server Error"
    headgate.wait_health(backend.url, False)
    assert set(headgate.names(4)) == {"other"}
    (line,) = headgate.process.stderr.wait_for(rf"{backend.port.number}.*\bdown\b")
    assert "500" in line

    patient.status = "200 OK"
    headgate.wait_health(backend.url, True)
    assert set(headgate.names(4)) == {"patient", "other"}
    headgate.process.stderr.wait_for(rf"{backend.port.number}.*\bup\b")


@pytest.mark.parametrize(("status", "passes"), [("204 No Content", False), ("301 Moved", False), ("200 OK", True)])
def test_only_200_passes_by_default(make_backend: MakeBackend, balance: Balance, status: str, passes: bool) -> None:
    patient = Patient()
    patient.status = status
    backend = make_backend(patient)
    headgate = balance(backend, make_backend(Patient()), health={"path": "/health", **FAST})
    headgate.wait_health(backend.url, passes)


def test_expected_statuses_can_be_named(make_backend: MakeBackend, balance: Balance) -> None:
    patient = Patient()
    patient.status = "301 Moved"
    backend = make_backend(patient)
    headgate = balance(backend, health={"path": "/health", "statuses": ["200-299", 301], **FAST})
    headgate.wait_health(backend.url, True)


def test_a_check_sends_its_path_host_and_headers(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(Patient())
    health = {
        "path": "/health?deep=1",
        "host": "inner.example",
        "headers": {"X-Token": "abc"},
        "method": "HEAD",
        **FAST,
    }
    balance(backend, health=health)
    request = backend.wait_requests(1)[0]
    assert (request.method, request.target) == ("HEAD", "/health?deep=1")
    assert (request.header("host"), request.header("x-token")) == ("inner.example", "abc")


def test_a_check_may_ask_another_port(make_backend: MakeBackend, balance: Balance) -> None:
    patient = Patient()
    backend, side_door = make_backend(), make_backend(patient, "side door")
    headgate = balance(backend, health={"path": "/health", "port": side_door.port.number, **FAST})
    side_door.wait_requests(2)
    assert headgate.get().status == 200
    patient.status = "503 Service Unavailable"
    headgate.wait_health(backend.url, False)


def test_a_tcp_check(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, health={"type": "tcp", **FAST}, slow_start="off")
    assert set(headgate.names(6)) == {"a", "b", "c"}
    three[0].stop()
    headgate.wait_health(three[0].url, False)
    (line,) = headgate.process.stderr.wait_for(rf"{three[0].port.number}.*\bdown\b")
    assert "refused" in line.lower()
    three[0].start()
    headgate.wait_health(three[0].url, True)
    assert set(headgate.names(6)) == {"a", "b", "c"}


def test_a_check_that_hangs_has_failed(make_backend: MakeBackend, balance: Balance) -> None:
    def hang(connection: Connection) -> None:
        connection.read()
        connection.wait_ended()

    backend = make_backend(hang)
    headgate = balance(backend, make_backend(Patient()), health={"path": "/health", "timeout": "100ms", **FAST})
    headgate.wait_health(backend.url, False)
    headgate.process.stderr.wait_for(rf"{backend.port.number}.*(time|answer)")


def test_one_failed_check_is_not_enough(make_backend: MakeBackend, balance: Balance) -> None:
    """The page fails every other time; with fall = 2 the backend stays."""

    class Alternating(Patient):
        def __call__(self, connection: Connection) -> None:
            for _ in connection.each():
                with self.changed:
                    self.checks += 1
                    self.changed.notify_all()
                    odd = self.checks % 2
                connection.respond(b"", "500 Internal Server Error" if odd == 0 else "200 OK")

    patient = Alternating()
    backend = make_backend(patient)
    # A check has as long as the interval: a machine that stands still for a moment must not be a second failure.
    headgate = balance(backend, health={"path": "/health", "interval": "2s", "timeout": "2s", "fall": 2})
    with patient.changed:
        assert patient.changed.wait_for(lambda: patient.checks >= 6, 30)
    assert headgate.backend(backend.url)["healthy"] is True
    assert headgate.process.stderr.matching(r"\bdown\b") == []


def test_a_backend_that_is_down_at_the_start_is_not_asked(make_backend: MakeBackend, balance: Balance) -> None:
    alive = make_backend(name="alive")
    with HeldPort() as dead:
        headgate = balance(dead.url, alive, health={"type": "tcp", "interval": "1s"})
        assert headgate.names(6) == ["alive"] * 6
        assert headgate.backend(alive.url)["healthy"] is True


def test_checks_do_not_disturb_the_traffic(make_backend: MakeBackend, balance: Balance) -> None:
    """Many checks, a hanging one among them: requests are answered all the while."""

    def hang(connection: Connection) -> None:
        connection.read()
        connection.wait_ended()

    hanging = make_backend(hang)
    backends = [make_backend(Patient(), f"b{n}") for n in range(5)]
    headgate = balance(hanging, *backends, health={"path": "/health", "interval": "50ms", "timeout": "50ms"})
    headgate.wait_health(hanging.url, False)
    before = sum(len(backend.requests) for backend in backends)
    assert len(headgate.names(300)) == 300
    eventually(lambda: sum(len(backend.requests) for backend in backends) > before + 310, "checks beside the traffic")


def test_a_name_that_does_not_resolve_does_not_stop_the_start(make_backend: MakeBackend, balance: Balance) -> None:
    alive = make_backend(name="alive")
    headgate = balance("http://no-such-host.invalid:9000", alive)
    assert headgate.names(4) == ["alive"] * 4
    headgate.process.stderr.wait_for("no-such-host.invalid")
