"""Stickiness, strategies that misbehave, and draining, as a client sees them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest

from headgate.balancing.base import Backend, Request
from headgate.engine.stats import CHECKED, DRAINING, ENABLED, PRESENT
from headgate.errors import Kind

from .conftest import Converse
from .conversation import Conversation, Head, Peer, get, message, ok
from .stage import ROUTABLE

DOWN = PRESENT | ENABLED | CHECKED


def serves(talk: Conversation, name: str, client: Peer, *fields: str) -> str | None:
    """One request of `client` that backend `name` answers, on a fresh connection; the cookie it brings back."""
    client >> get("/", *fields)
    up = talk[name].accepts()
    up << "GET / HTTP/1.1"
    up >> ok(name.encode(), "Connection: close")
    client << f"HTTP/1.1 200 OK\n\n{name}"
    assert client.last is not None
    cookies = client.last.headers("set-cookie")
    return cookies[0].partition(";")[0] if cookies else None


# Stickiness


def test_a_cookie_binds(conversation: Converse) -> None:
    talk = conversation("ab", sticky="cookie")
    talk.stage.set_state("a", DOWN)
    client = talk.client()
    cookie = serves(talk, "b", client)
    assert cookie is not None
    assert cookie.startswith("headgate_web=")
    talk.stage.set_state("a", ROUTABLE)
    # The strategy would say a; the cookie says b, and is not set again.
    assert serves(talk, "b", client, f"Cookie: x=y; {cookie}") is None
    assert serves(talk, "a", client) not in (None, cookie)


def test_a_bound_client_is_bound_anew_when_its_backend_is_gone(conversation: Converse) -> None:
    talk = conversation("ab", sticky="cookie")
    client = talk.client()
    bound_to_a = serves(talk, "a", client)
    talk.stage.set_state("a", DOWN)
    bound_to_b = serves(talk, "b", client, f"Cookie: {bound_to_a}")
    assert bound_to_b not in (None, bound_to_a)
    talk.stage.set_state("a", ROUTABLE)
    assert serves(talk, "b", client, f"Cookie: {bound_to_b}") is None


def test_a_bound_client_is_bound_anew_when_its_backend_fails(conversation: Converse) -> None:
    """The retry's backend takes the session over, or the next request would fail first again."""
    talk = conversation("ab", sticky="cookie")
    client = talk.client()
    bound_to_a = serves(talk, "a", client)
    client >> get("/", f"Cookie: {bound_to_a}")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up.resets()
    other = talk["b"].accepts()
    other << "GET / HTTP/1.1"
    other >> ok(b"b", "Connection: close")
    client << "HTTP/1.1 200 OK\n\nb"
    assert client.last is not None
    (line,) = client.last.headers("set-cookie")
    bound_to_b = line.partition(";")[0]
    assert bound_to_b != bound_to_a
    assert serves(talk, "b", client, f"Cookie: {bound_to_b}") is None


def test_a_draining_backend_serves_those_who_are_bound(conversation: Converse) -> None:
    talk = conversation("ab", sticky="cookie")
    client = talk.client()
    bound_to_a = serves(talk, "a", client)
    talk.stage.set_state("a", ROUTABLE | DRAINING)
    assert serves(talk, "a", client, f"Cookie: {bound_to_a}") is None
    assert serves(talk, "b", client) is not None


def test_a_made_up_cookie_means_nothing(conversation: Converse) -> None:
    talk = conversation("ab", sticky="cookie")
    client = talk.client()
    assert serves(talk, "a", client, "Cookie: headgate_web=00000000000000000000000000000000") is not None


# Strategies


class Misbehaving:
    """Answers what it is told to, whatever that is."""

    def __init__(self, answers: Callable[[Sequence[Backend]], object]) -> None:
        self._answers = answers
        self._backends: Sequence[Backend] = ()

    def update(self, backends: Sequence[Backend]) -> None:
        self._backends = backends

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        return self._answers(self._backends)  # type: ignore[return-value]


def raises(backends: Sequence[Backend]) -> object:
    raise RuntimeError("a bug in somebody's strategy")


def exits(backends: Sequence[Backend]) -> object:
    raise SystemExit(3)


@pytest.mark.parametrize(
    "answers",
    [raises, exits, lambda backends: "a", lambda backends: 7, lambda backends: list(backends), lambda backends: object],
    ids=["raises", "exits", "a name", "a number", "a list", "a class"],
)
def test_a_strategy_that_fails_is_replaced_for_this_request(
    conversation: Converse, answers: Callable[[Sequence[Backend]], object]
) -> None:
    talk = conversation("ab", strategy=Misbehaving(answers))
    client = talk.client()
    served = []
    for number in range(4):
        client >> get(f"/{number}")
        name = "ab"[number % 2]  # round robin
        up = talk[name].accepts()
        up << f"GET /{number} HTTP/1.1"
        up >> ok(b"ok", "Connection: close")
        client << "HTTP/1.1 200 OK\n\nok"
        served.append(name)
    assert served == ["a", "b", "a", "b"]
    assert talk.stage.worker["strategy_errors"] == 4
    # Said once, not four times.
    assert [type(report).__name__ for report in talk.stage.reports] == ["StrategyError"]


def test_a_strategy_that_picks_what_was_tried(conversation: Converse) -> None:
    talk = conversation("ab", strategy=Misbehaving(lambda backends: backends[0]))
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up.resets()
    other = talk["b"].accepts()
    other << "GET / HTTP/1.1"
    other >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"


def test_a_strategy_that_picks_who_is_not_eligible(conversation: Converse) -> None:
    everybody: list[Backend] = []

    def stubborn(backends: Sequence[Backend]) -> object:
        everybody.extend(backends)
        return everybody[0]

    talk = conversation("ab", strategy=Misbehaving(stubborn))
    client = talk.client()
    serves(talk, "a", client)
    talk.stage.set_state("a", DOWN)
    serves(talk, "b", client)


def test_a_strategy_that_picks_nobody(conversation: Converse) -> None:
    """None is an answer it may give when there is nobody left; while somebody is, the request is served."""
    talk = conversation("ab", strategy=Misbehaving(lambda backends: None))
    client = talk.client()
    assert serves(talk, "a", client) is None


def test_nobody_left(conversation: Converse) -> None:
    talk = conversation("ab")
    talk.stage.set_state("a", DOWN)
    talk.stage.set_state("b", DOWN)
    client = talk.client()
    client >> get()
    client << Head("HTTP/1.1 503 Service Unavailable\nretry-after: 1\n!connection")
    assert talk.stage.ended(Kind.NO_BACKEND) == 1


# Draining


def test_draining_tells_clients_and_ends(conversation: Converse) -> None:
    talk = conversation()
    busy, idle, fresh = talk.client(), talk.client(), talk.client()
    idle >> get("/0")
    up = talk["a"].accepts()
    up << "GET /0 HTTP/1.1"
    up >> ok(b"0", "Connection: close")
    idle << "HTTP/1.1 200 OK\n\n0"
    done: list[bool] = []
    busy >> get("/1") + get("/2")
    up = talk["a"].accepts()
    up << "GET /1 HTTP/1.1"
    talk.stage.engine.drain(30.0, lambda: done.append(True))
    idle.is_closed()
    # Its connection was accepted, and its first request may be on the way.
    fresh >> get("/3")
    up3 = talk["a"].accepts()
    up3 << "GET /3 HTTP/1.1"
    up3 >> ok(b"3")
    fresh << "HTTP/1.1 200 OK\nconnection: close\n\n3"
    fresh.is_closed()
    fresh.leaves()
    assert not done
    up >> ok(b"1")
    busy << "HTTP/1.1 200 OK\nconnection: close\n\n1"
    busy.is_closed()
    busy.leaves()
    assert talk.stage.until(lambda: bool(done))
    assert done == [True]
    assert talk.stage.engine.connections == 0


def test_draining_accepts_nobody(conversation: Converse) -> None:
    talk = conversation()
    busy = talk.client()
    busy >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    talk.stage.engine.drain(30.0, lambda: None)
    talk.stage.settle()
    with pytest.raises(ConnectionRefusedError):
        talk.client()
    up >> ok(b"still served")
    busy << "HTTP/1.1 200 OK\nconnection: close\n\nstill served"


def test_a_request_that_is_half_here_is_still_served(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> b"GET /half HTTP/1.1\r\nHo"
    talk.stage.settle()
    talk.stage.engine.drain(30.0, lambda: None)
    client >> b"st: h\r\n\r\n"
    up = talk["a"].accepts()
    up << "GET /half HTTP/1.1"
    up >> ok(b"whole")
    client << "HTTP/1.1 200 OK\nconnection: close\n\nwhole"


def test_kept_connections_are_not_kept_while_draining(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    talk.stage.engine.drain(30.0, lambda: None)
    up >> ok()
    client << "HTTP/1.1 200 OK\nconnection: close"
    up.is_closed()


def test_the_deadline_cuts_off(conversation: Converse) -> None:
    talk = conversation()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nContent-Length: 10") + b"hello"
    client << Head("HTTP/1.1 200 OK") << b"hello"
    done: list[bool] = []
    talk.stage.engine.drain(0.05, lambda: done.append(True))
    client.is_closed()
    up.is_closed()
    assert done == [True]
    assert talk.stage.totals("a").failed == 0
