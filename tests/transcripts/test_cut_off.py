"""The deadline of a drain: what it ends has a word of its own, and counts against nobody (`Kind.DRAIN_DEADLINE`)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from headgate.balancing.base import Backend as BackendView
from headgate.engine.outcome import Outcome
from headgate.engine.stats import DRAINED, DRAINING
from headgate.errors import Kind, Verdict

from .conftest import Converse
from .conversation import Conversation, Head, Peer, get, message, ok, post
from .stage import ROUTABLE, InOrder
from .test_upgrade import tunnel

PART = message("HTTP/1.1 200 OK\nContent-Length: 10") + b"hello"


class Told(InOrder):
    """Keeps what it is told of attempts."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Outcome] = []

    def done(self, backend: BackendView, outcome: Outcome) -> None:
        self.told.append(outcome)


def begin(conversation: Converse, names: str = "a", asked: bytes = b"", **options: Any) -> tuple[Conversation, Peer]:
    """A client that has asked."""
    talk = conversation(names, **options)
    client = talk.client()
    client >> (asked or get())
    return talk, client


def half_answered(conversation: Converse, names: str = "a", **options: Any) -> tuple[Conversation, Peer, Peer]:
    """A client that has the first half of its answer."""
    talk, client = begin(conversation, names, **options)
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> PART
    client << Head("HTTP/1.1 200 OK") << b"hello"
    return talk, client, up


def the_worker_goes(talk: Conversation) -> None:
    """Its drain's deadline has come (a stop, or a worker that a reload or an upgrade replaced)."""
    talk.stage.engine.drain(0, lambda: None)


def the_backend_goes(talk: Conversation, name: str = "a") -> None:
    """The same, of one backend's drain."""
    talk.stage.set_state(name, ROUTABLE | DRAINING | DRAINED)


def assert_cut_off(talk: Conversation, status: int, word: str = "drain_deadline") -> None:
    """One exchange, which ended so; nobody is to blame, and nothing is left over."""
    talk.stage.settle()
    assert talk.stage.ended(Kind.DRAIN_DEADLINE) == 1
    assert talk.stage.engine.in_flight == 0
    for name in talk.names:
        assert (talk.stage.totals(name).active, talk.stage.totals(name).failed) == (0, 0)
    assert talk.stage.reports == []
    assert [(line["status"], line["error"]) for line in talk.stage.log()] == [(status, word)]


# Of the worker


def test_a_download_under_way(conversation: Converse) -> None:
    talk, client, up = half_answered(conversation)
    the_worker_goes(talk)
    client.is_closed()
    up.is_gone()
    assert talk.stage.engine.connections == 0
    assert_cut_off(talk, 200)


def test_a_download_that_only_its_end_delimits_does_not_look_whole(conversation: Converse) -> None:
    talk, client = begin(conversation, asked=b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up >> message("HTTP/1.1 200 OK\nTransfer-Encoding: chunked") + b"5\r\nhello\r\n"
    client << Head("HTTP/1.1 200 OK\n!content-length\n!transfer-encoding") << b"hello"
    the_worker_goes(talk)
    client.is_reset()
    up.is_gone()
    assert_cut_off(talk, 200)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_waits_for_an_answer_is_told(conversation: Converse, method: str) -> None:
    talk, client = begin(conversation, asked=get() if method == "GET" else post("/", b"order"))
    up = talk["a"].accepts()
    up << (f"{method} / HTTP/1.1" + ("\n\norder" if method == "POST" else ""))
    the_worker_goes(talk)
    # Whether to ask again is for the client to know: the backend may have done what it was asked for.
    client << Head("HTTP/1.1 503 Service Unavailable\nconnection: close\n!retry-after")
    assert b'"reason": "drain_deadline"' in client.reader.rest()
    client.is_closed()
    up.is_gone()
    assert_cut_off(talk, 503)


def test_who_stands_in_line_is_told(conversation: Converse) -> None:
    talk, client, up = half_answered(conversation, limits={"a": {"max_requests": 1}})
    waiting = talk.client()
    waiting >> get("/waits")
    talk.stage.settle()
    assert talk.stage.queue["waiting"] == 1
    the_worker_goes(talk)
    waiting << Head("HTTP/1.1 503 Service Unavailable")
    up.is_gone()
    client.is_closed()
    assert (talk.stage.queue["waiting"], talk.stage.queue["left"]) == (0, 0), "it did not leave"
    assert talk.stage.ended(Kind.DRAIN_DEADLINE) == 2
    assert talk.stage.ended(Kind.CLIENT_GONE) == 0


def test_a_fallback_is_not_asked_any_more(conversation: Converse) -> None:
    talk, client = begin(conversation, spare="s")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    the_worker_goes(talk)
    client << Head("HTTP/1.1 503 Service Unavailable")
    talk["s"].is_left_alone()
    assert_cut_off(talk, 503)


def test_an_upload_under_way(conversation: Converse) -> None:
    talk, _ = begin(conversation, asked=message("POST / HTTP/1.1\nHost: h\nContent-Length: 10") + b"hello")
    up = talk["a"].accepts()
    up << Head("POST / HTTP/1.1") << b"hello"
    the_worker_goes(talk)
    up.is_gone()
    assert talk.stage.engine.connections == 0
    assert_cut_off(talk, 503)


def test_a_tunnel(conversation: Converse) -> None:
    talk = conversation()
    client, up = tunnel(talk)
    the_worker_goes(talk)
    client.is_reset()
    up.is_gone()
    assert talk.stage.worker["tunnels"] == 0
    assert_cut_off(talk, 101)


# Of a backend


def test_a_download_from_a_backend_that_goes(conversation: Converse) -> None:
    strategy = Told()
    talk, client, up = half_answered(conversation, "ab", strategy=strategy)
    the_backend_goes(talk)
    client.is_closed()
    up.is_gone()
    talk["b"].is_left_alone()
    assert [(one.kind, one.verdict) for one in strategy.told] == [(Kind.DRAIN_DEADLINE, Verdict.NONE)]
    assert_cut_off(talk, 200)


def test_who_waits_for_it_is_served_by_another(conversation: Converse) -> None:
    talk, client = begin(conversation, "ab")
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    the_backend_goes(talk)
    up.is_gone()
    other = talk["b"].accepts()
    other << "GET / HTTP/1.1"
    other >> ok(b"b")
    client << "HTTP/1.1 200 OK\n\nb"
    talk.stage.settle()
    assert talk.stage.ended(Kind.OK) == 1
    assert talk.stage.totals("a").failed == 0
    retried = talk.stage.queue["retried"]
    assert (retried[Kind.DRAIN_DEADLINE], sum(retried)) == (1, 1)


@pytest.mark.parametrize(
    ("asked", "retry"), [(post("/", b"order"), {}), (get(), {"on": [503]}), (get(), {"retries": 0})]
)
def test_what_may_not_be_sent_twice_is_answered(conversation: Converse, asked: bytes, retry: dict[str, object]) -> None:
    talk, client = begin(conversation, "ab", asked, retry=retry)
    up = talk["a"].accepts()
    up << ("POST / HTTP/1.1\n\norder" if asked.startswith(b"POST") else "GET / HTTP/1.1")
    the_backend_goes(talk)
    client << Head("HTTP/1.1 503 Service Unavailable\n!retry-after\n!connection")
    talk["b"].is_left_alone()
    assert_cut_off(talk, 503)


@contextmanager
def connecting(talk: Conversation, asked: bytes) -> Iterator[Peer]:
    """A client whose request waits for a connection to `a` that does not come about."""
    full = talk["a"].listens(backlog=0)  # a queue that is full: SYNs are dropped
    with ExitStack() as stack:
        for _ in range(2):
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full)
        client = talk.client()
        client >> asked
        talk.stage.settle()
        yield client


def test_a_connection_that_was_not_there_yet(conversation: Converse) -> None:
    """Nothing was sent, so any method goes elsewhere; that is no failure of the backend's, either."""
    talk = conversation("ab")
    with connecting(talk, post("/", b"order")) as client:
        the_backend_goes(talk)
        up = talk["b"].accepts()
        up << "POST / HTTP/1.1\n\norder"
        up >> ok(b"b")
        client << "HTTP/1.1 200 OK\n\nb"
    assert talk.stage.totals("a").failed == 0
    assert talk.stage.reports == []


def test_a_connection_that_was_not_there_yet_is_no_attempt_that_counts(conversation: Converse) -> None:
    talk = conversation("abc", retry={"retries": 1})
    with connecting(talk, get()) as client:
        the_backend_goes(talk)
        talk["b"].accepts().resets()
        up = talk["c"].accepts()
        up << "GET / HTTP/1.1"
        up >> ok(b"c")
        client << "HTTP/1.1 200 OK\n\nc"


def test_where_no_connection_was_there_yet_the_fallback_serves(conversation: Converse) -> None:
    talk = conversation("a", spare="z")
    with connecting(talk, post("/", b"order")) as client:
        the_backend_goes(talk)
        up = talk["z"].accepts()
        up << "POST / HTTP/1.1\n\norder"
        up >> ok(b"z")
        client << "HTTP/1.1 200 OK\n\nz"
    assert talk.stage.totals("a").failed == 0


@pytest.mark.parametrize("goes", ["a", "b"])
def test_one_of_two_attempts(conversation: Converse, goes: str) -> None:
    """The other goes on alone."""
    talk, client = begin(conversation, "ab", retry={"hedge_after": "20ms"})
    ups = {}
    for name in "ab":
        ups[name] = talk[name].accepts()
        ups[name] << "GET / HTTP/1.1"
    the_backend_goes(talk, goes)
    ups[goes].is_gone()
    stays = "b" if goes == "a" else "a"
    ups[stays] >> ok(b"stays")
    client << "HTTP/1.1 200 OK\n\nstays"
    talk.stage.settle()
    assert talk.stage.ended(Kind.OK) == 1
    assert (talk.stage.totals(goes).failed, talk.stage.totals(stays).succeeded) == (0, 1)


def test_a_tunnel_to_it(conversation: Converse) -> None:
    talk = conversation("ab")
    client, up = tunnel(talk)
    the_backend_goes(talk)
    client.is_reset()
    up.is_gone()
    assert_cut_off(talk, 101)
