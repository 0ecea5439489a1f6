"""Strategies as a user sees them: chosen by name, or written in a module of one's own, well or badly."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Backend, Connection
from .harness.client import Client, head
from .harness.headgate import Headgate
from .harness.waiting import PATIENCE_S, eventually

MODULE = '''
"""Strategies that a user might write."""


class Last:
    """Always the last backend that was not tried."""

    def update(self, backends):
        self.backends = list(backends)

    def pick(self, request, tried):
        return next((one for one in reversed(self.backends) if one not in tried), None)


class ByHeader(Last):
    """The backend that a header names by its position."""

    def __init__(self, header):
        self.header = header

    def pick(self, request, tried):
        value = request.header(self.header)
        return self.backends[int(value)] if value else self.backends[0]


class Raises(Last):
    def pick(self, request, tried):
        raise RuntimeError("a mistake in pick")


class Nonsense(Last):
    def pick(self, request, tried):
        return "the second one"


class Nothing(Last):
    def pick(self, request, tried):
        return None


class RaisesInDone(Last):
    def done(self, backend, outcome):
        raise RuntimeError("a mistake in done")


class Hoards(Last):
    """Keeps the request, which is valid only during the call."""

    kept = None

    def pick(self, request, tried):
        if Hoards.kept is not None:
            Hoards.kept.header("x-secret")
        Hoards.kept = request
        return self.backends[0]
'''

# The line that says a strategy failed; a traceback may follow it.
FAILURE = r"^\d{4}-.*(warning|error).*strategy"


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "my_strategies.py").write_text(MODULE)
    return directory


def names(headgate: Headgate, count: int, headers: list[tuple[str, str]] | None = None) -> list[str]:
    with headgate.client() as client:
        return [client.get(headers=headers or []).body.decode() for _ in range(count)]


def test_a_strategy_of_ones_own(three: list[Backend], balance: Balance, app_dir: Path) -> None:
    headgate = balance(*three, strategy="my_strategies:Last", arguments=["--app-dir", app_dir])
    assert names(headgate, 6) == ["c"] * 6
    three[2].stop()
    # It is told what was tried, and of the change.
    assert names(headgate, 6) == ["b"] * 6


def test_a_strategy_with_options_that_reads_the_request(three: list[Backend], balance: Balance, app_dir: Path) -> None:
    strategy = {"name": "my_strategies:ByHeader", "header": "x-choice"}
    headgate = balance(*three, strategy=strategy, arguments=["--app-dir", app_dir])
    assert [names(headgate, 1, [("X-Choice", str(n))])[0] for n in (2, 0, 1)] == ["c", "a", "b"]


@pytest.mark.parametrize("name", ["Raises", "Nonsense"])
def test_a_strategy_that_fails_is_replaced_and_reported_once(
    three: list[Backend], balance: Balance, app_dir: Path, name: str
) -> None:
    headgate = balance(*three, strategy=f"my_strategies:{name}", arguments=["--app-dir", app_dir])
    (worker,) = headgate.workers()
    assert Counter(names(headgate, 30)) == {"a": 10, "b": 10, "c": 10}
    headgate.process.stderr.wait_for(FAILURE)
    assert headgate.workers() == [worker]
    assert headgate.stop() == 0
    (line,) = headgate.process.stderr.matching(FAILURE)
    assert ("a mistake in pick" if name == "Raises" else "the second one") in line


def test_a_strategy_that_fails_afterwards_does_no_harm(three: list[Backend], balance: Balance, app_dir: Path) -> None:
    headgate = balance(*three, strategy="my_strategies:RaisesInDone", arguments=["--app-dir", app_dir])
    assert names(headgate, 10) == ["c"] * 10
    headgate.process.stderr.wait_for(FAILURE)
    assert headgate.stop() == 0
    (line,) = headgate.process.stderr.matching(FAILURE)
    assert "a mistake in done" in line


def test_a_strategy_that_wants_none_of_them(three: list[Backend], balance: Balance, app_dir: Path) -> None:
    headgate = balance(*three, strategy="my_strategies:Nothing", arguments=["--app-dir", app_dir])
    answer = headgate.get()
    assert answer.status in (200, 503)
    assert headgate.process.running


def test_a_request_that_was_kept_shows_nobody_elses_bytes(
    three: list[Backend], balance: Balance, app_dir: Path
) -> None:
    headgate = balance(*three, strategy="my_strategies:Hoards", arguments=["--app-dir", app_dir])
    assert len(names(headgate, 5, [("X-Secret", "s3cret")])) == 5
    assert headgate.process.running
    assert "s3cret" not in headgate.process.output


def test_least_connections_goes_where_least_is_going_on(make_backend: MakeBackend, balance: Balance) -> None:
    release = threading.Event()

    def hold(connection: Connection) -> None:
        for _ in connection.each():
            if not release.wait(PATIENCE_S):
                return
            connection.respond(connection.backend.name.encode())

    slow, quick = make_backend(hold, "slow"), make_backend(name="quick")
    headgate = balance(slow, quick, strategy="least_connections")
    with headgate.client() as first, headgate.client() as second:
        # One of the two hangs at the slow backend, the other is answered by the quick one.
        first.send(head("GET", "/"))
        second.send(head("GET", "/"))
        slow.wait_requests(1)
        eventually(lambda: headgate.backend(quick.url)["activeConnections"] == 0, "the quick answer to be given")
        assert names(headgate, 20) == ["quick"] * 20
        assert len(slow.requests) == 1
        release.set()


def test_ip_hash_keeps_a_client_on_its_backend(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, strategy="ip_hash", listener={"trusted_proxies": ["127.0.0.0/8"]})
    clients = [f"10.1.{n // 250}.{n % 250 + 1}" for n in range(90)]
    homes = {client: names(headgate, 1, [("X-Forwarded-For", client)])[0] for client in clients}
    assert set(homes.values()) == {"a", "b", "c"}
    assert all(names(headgate, 2, [("X-Forwarded-For", client)]) == [home] * 2 for client, home in homes.items())
    # One is lost: only its own clients move.
    three[1].stop()
    for client, home in homes.items():
        now = names(headgate, 1, [("X-Forwarded-For", client)])[0]
        assert now == home if home != "b" else now in ("a", "c")


@pytest.mark.parametrize("strategy", ["random", "weighted_random", "p2c", "least_connections", "ip_hash"])
def test_each_by_name(three: list[Backend], balance: Balance, strategy: str) -> None:
    headgate = balance(*three, strategy=strategy)
    counted = Counter(names(headgate, 120))
    if strategy == "ip_hash":
        assert len(counted) == 1
    else:
        # Chance misses a third of 120 by so much once in ten thousand million runs.
        assert all(counted[name] >= 10 for name in "abc"), counted


@pytest.mark.parametrize(
    ("strategy", "part"),
    [
        ({"name": "ring_hash", "key": "query:user"}, "?user={}"),
        ({"name": "ring_hash", "key": "query:user", "compatible": "nginx"}, "?user={}"),
        ({"name": "maglev", "key": "path"}, "{}?page=2"),
        ({"name": "bounded_hash", "header": "X-Tenant", "bound": 2}, ""),
        ({"name": "maglev", "cookie": "tenant", "table_size": 1009}, ""),
    ],
    ids=["query", "like nginx", "path", "header", "cookie"],
)
def test_a_hash_keeps_a_key_on_its_backend(
    three: list[Backend], balance: Balance, strategy: dict[str, object], part: str
) -> None:
    """One client, many keys: they spread over all, each stays, and only those of a lost backend move."""
    headgate = balance(*three, strategy=strategy)

    def home(client: Client, number: int) -> str:
        headers = []
        if "header" in strategy:
            headers.append(("x-tenant", f"key-{number}"))
        if "cookie" in strategy:
            headers.append(("Cookie", f"other=1; tenant=key-{number}"))
        return client.get("/" + part.format(f"key-{number}"), headers=headers).body.decode()

    with headgate.client() as client:
        homes = [home(client, number) for number in range(40)]
        assert set(homes) == {"a", "b", "c"}
        assert [home(client, number) for number in range(40)] == homes
        three[1].stop()
        after = [home(client, number) for number in range(40)]
    moved = sum(old != new for old, new in zip(homes, after, strict=True) if old != "b")
    assert moved <= (8 if strategy["name"] == "maglev" else 0)
    assert "b" not in after


@pytest.mark.parametrize("strategy", ["peak_ewma", "least_time", "prequal"])
def test_a_strategy_that_learns_leaves_a_slow_backend_aside(
    make_backend: MakeBackend, balance: Balance, strategy: str
) -> None:
    # Slow beyond what a busy machine adds to the others.
    def think(connection: Connection) -> None:
        for _ in connection.each():
            time.sleep(0.3)
            connection.respond(connection.backend.name.encode())

    slow = make_backend(think, "slow")
    quick = [make_backend(name=name) for name in ("quick", "also")]
    headgate = balance(slow, *quick, strategy={"name": strategy, "decay": "60s"})
    counted = Counter(names(headgate, 100))
    assert 1 <= counted["slow"] <= 20
    assert counted["quick"] + counted["also"] >= 80


def test_of_many_balancers_each_uses_its_own_subset(make_backend: MakeBackend, balance: Balance) -> None:
    backends = [make_backend(name=name) for name in "abcdef"]
    used = []
    for number in range(2):
        strategy = {"name": "random_subset", "balancer": number, "balancers": 2, "size": 3}
        headgate = balance(*backends, strategy=strategy)
        used.append(set(names(headgate, 60)))
        assert headgate.stop() == 0  # both listen on one port
    assert used[0] | used[1] == set("abcdef")
    assert not used[0] & used[1]


@pytest.mark.parametrize("strategy", ["round_robin", "weighted_round_robin"])
def test_round_robin_keeps_weights_smoothly(three: list[Backend], balance: Balance, strategy: str) -> None:
    weights = zip(three, (5, 1, 1), strict=True)
    headgate = balance(*({"url": backend.url, "weight": weight} for backend, weight in weights), strategy=strategy)
    assert names(headgate, 14) == list("aabacaa") * 2
