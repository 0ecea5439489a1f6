"""A cookie keeps a client on its backend, whatever the strategy, until that backend is gone."""

from __future__ import annotations

import pytest

from .conftest import Balance, MakeBackend, Run
from .harness.backends import Backend, echo
from .harness.client import Client
from .harness.headgate import Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.waiting import eventually
from .harness.wire import Response

STRATEGIES = [
    "round_robin",
    "weighted_round_robin",
    "least_connections",
    "random",
    "weighted_random",
    "ip_hash",
    "p2c",
]
STICKY = {"secret": "only for these tests"}


def cookie(answer: Response) -> str:
    """The name=value of the one Set-Cookie field."""
    (line,) = answer.headers("set-cookie")
    assert "httponly" in line.lower()
    assert "path=/" in line.lower()
    return line.split(";")[0]


def ask(headgate: Headgate, pair: str) -> Response:
    return headgate.get(headers=[("Cookie", f"theme=dark; {pair}; lang=en")])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_session_stays(three: list[Backend], balance: Balance, strategy: str) -> None:
    headgate = balance(*three, strategy=strategy, sticky=STICKY)
    first = headgate.get()
    pair = cookie(first)
    answers = [ask(headgate, pair) for _ in range(12)]
    assert {answer.body for answer in answers} == {first.body}
    # Nothing to set: the client has it.
    assert all(answer.headers("set-cookie") == [] for answer in answers)


def test_new_sessions_spread(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, sticky="cookie")
    answers = [headgate.get() for _ in range(9)]
    assert len({answer.body for answer in answers}) == 3
    assert len({cookie(answer) for answer in answers}) == 3


@pytest.mark.parametrize("secret", [True, False])
def test_a_session_moves_when_its_backend_is_gone(three: list[Backend], balance: Balance, secret: bool) -> None:
    sticky: object = STICKY if secret else "cookie"
    headgate = balance(*three, sticky=sticky, health={"type": "tcp", "interval": "100ms", "fall": 1, "rise": 1})
    first = headgate.get()
    pair = cookie(first)
    home = next(backend for backend in three if backend.name == first.body.decode())

    home.stop()
    moved = ask(headgate, pair)
    assert moved.status == 200
    assert moved.body != first.body
    new_pair = cookie(moved)
    assert new_pair != pair
    assert {ask(headgate, new_pair).body for _ in range(6)} == {moved.body}

    # It stays at its new home also when the old one is back.
    home.start()
    headgate.wait_health(home.url, True)
    assert {ask(headgate, new_pair).body for _ in range(6)} == {moved.body}


@pytest.mark.parametrize("forged", ["x", "", "a.b", "0" * 500, '"', "%00"])
def test_a_forged_cookie_binds_nothing(three: list[Backend], balance: Balance, forged: str) -> None:
    headgate = balance(*three, sticky=STICKY)
    name = cookie(headgate.get()).partition("=")[0]
    answers = [ask(headgate, f"{name}={forged}") for _ in range(3)]
    assert len({answer.body for answer in answers}) == 3
    assert all(cookie(answer) for answer in answers)


def test_the_cookie_survives_a_restart(
    three: list[Backend], run: Run, port: HeldPort, make_backend: MakeBackend
) -> None:
    config = configuration(port, {"web": pool(*(backend.url for backend in three), sticky=STICKY)})
    first_run = run(config)
    first = first_run.get()
    pair = cookie(first)
    assert first_run.stop() == 0
    second_run = run(config)
    assert {ask(second_run, pair).body for _ in range(6)} == {first.body}


def test_workers_agree(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, sticky=STICKY, top={"workers": 2})
    first = headgate.get()
    pair = cookie(first)
    assert {ask(headgate, pair).body for _ in range(40)} == {first.body}


def test_weight_zero_serves_its_sessions_only(three: list[Backend], run: Run, port: HeldPort) -> None:
    def config(weight: int) -> dict[str, object]:
        backends = [three[0].url, {"url": three[1].url, "weight": weight}]
        return configuration(port, {"web": pool(*backends, sticky=STICKY, strategy="weighted_round_robin")})  # type: ignore[arg-type]

    before = run(config(1))
    answers = [before.get() for _ in range(2)]
    bound = next(cookie(answer) for answer in answers if answer.body == b"b")
    assert before.stop() == 0

    after = run(config(0))
    assert {after.get().body for _ in range(6)} == {b"a"}
    assert {ask(after, bound).body for _ in range(6)} == {b"b"}


def test_the_backends_own_cookies_pass(make_backend: MakeBackend, balance: Balance) -> None:
    backend = make_backend(echo)
    headgate = balance(backend, sticky=STICKY)
    pair = cookie(headgate.get())
    with Client(headgate.address) as client:
        client.get(headers=[("Cookie", f"mine=1; {pair}")])
    assert "mine=1" in (backend.requests[-1].header("cookie") or "")


def test_a_session_goes_back_only_when_its_backend_is_up(three: list[Backend], balance: Balance) -> None:
    headgate = balance(*three, sticky=STICKY, health={"type": "tcp", "interval": "100ms", "fall": 1, "rise": 1})
    first = headgate.get()
    pair = cookie(first)
    home = next(backend for backend in three if backend.name == first.body.decode())
    home.stop()
    headgate.wait_health(home.url, False)
    # A client that ignores the new cookie is served all the same, and returns when its backend does.
    assert all(ask(headgate, pair).status == 200 for _ in range(6))
    home.start()
    eventually(lambda: ask(headgate, pair).body == first.body, "the session to return to its backend")
