"""When nothing is routable: another pool, or a static answer (engine/fallback.pyx)."""

from __future__ import annotations

import pytest

from headgate.engine import StaticAnswer
from headgate.engine.stats import CHECKED, ENABLED, PRESENT
from headgate.errors import Kind

from .conftest import Converse
from .conversation import Conversation, Head, answer, get, ok, post, request

DOWN = PRESENT | ENABLED | CHECKED
SORRY = StaticAnswer(503, b"text/html", b"Cache-Control: no-store\r\nRetry-After: 30\r\n", b"<h1>Back soon</h1>")


def the_log(talk: Conversation) -> list[tuple[object, ...]]:
    return [(line["pool"], line["status"], line["error"]) for line in talk.stage.log()]


# Another pool


def test_another_pool_serves_when_all_are_down(conversation: Converse) -> None:
    talk = conversation("ab", spare="z")
    for name in "ab":
        talk.stage.set_state(name, DOWN)
    client = talk.client()
    client >> post("/", b"hello")
    up = talk["z"].accepts()
    up << "POST / HTTP/1.1\n\nhello"
    up >> ok(b"from z")
    client << "HTTP/1.1 200 OK\n!connection\n\nfrom z"
    assert talk.stage.worker["fallbacks"] == 1
    assert talk.stage.totals("z").retried == 0
    assert the_log(talk) == [("spare", 200, "fallback")]


@pytest.mark.parametrize("size", [0, 5, 10_000, 3_000_000])
def test_another_pool_serves_when_all_refuse(conversation: Converse, size: int) -> None:
    talk = conversation("ab", spare="z")
    talk["a"].refuses()
    talk["b"].refuses()
    client = talk.client()
    body = b"x" * size
    poured = client.pours(request("POST", "/", body=body))
    head_size = len(request("POST", "/", body=body)) - size
    up = talk["z"].accepts()
    up << Head(f"POST / HTTP/1.1\ncontent-length: {size}")
    heard = 0
    while heard < size:
        heard += len(up.reader.exactly(min(100_000, size - heard)))
        poured += client.pours(body[poured - head_size :]) if poured < size + head_size else 0
    up >> ok(b"from z")
    client << "HTTP/1.1 200 OK\n\nfrom z"
    assert talk.stage.totals("a").failed == talk.stage.totals("b").failed == 1
    (line,) = talk.stage.log()
    assert (line["pool"], line["attempts"], line["bytes_received"]) == ("spare", 3, size)


def test_backends_that_answer_are_not_papered_over(conversation: Converse) -> None:
    talk = conversation("ab", spare="z")
    client = talk.client()
    client >> get()
    for name in "ab":
        up = talk[name].accepts()
        up << "GET / HTTP/1.1"
        up >> answer("503 Service Unavailable", name.encode())
    client << "HTTP/1.1 503 Service Unavailable\n\nb"
    talk["z"].is_left_alone()


def test_backends_that_break_off_are_not_papered_over(conversation: Converse) -> None:
    talk = conversation("ab", spare="z")
    client = talk.client()
    client >> get()
    for name in "ab":
        up = talk[name].accepts()
        up << "GET / HTTP/1.1"
        up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    talk["z"].is_left_alone()


def test_a_reset_and_then_only_refusals_is_a_failure(conversation: Converse) -> None:
    """Somebody may have begun to process it."""
    talk = conversation("ab", spare="z")
    talk["b"].refuses()
    client = talk.client()
    client >> get()
    up = talk["a"].accepts()
    up << "GET / HTTP/1.1"
    up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    talk["z"].is_left_alone()


def test_the_other_pool_fails_by_its_own_rules(conversation: Converse) -> None:
    talk = conversation("a", spare="yz", spare_pool={"retry": {"retries": 1}})
    talk["a"].refuses()
    client = talk.client()
    client >> get()
    for name in "yz":
        up = talk[name].accepts()
        up << "GET / HTTP/1.1"
        up.resets()
    client << Head("HTTP/1.1 502 Bad Gateway")
    assert the_log(talk) == [("spare", 502, "reset,fallback")]


def test_nobody_anywhere(conversation: Converse) -> None:
    talk = conversation("a", spare="z")
    for name in "az":
        talk.stage.set_state(name, DOWN)
    client = talk.client()
    client >> get()
    client << Head("HTTP/1.1 503 Service Unavailable\nretry-after: 1")
    assert talk.stage.ended(Kind.NO_BACKEND) == 1
    assert the_log(talk) == [("spare", 503, "no_backend,fallback")]


def test_sessions_of_the_other_pool_are_its_own(conversation: Converse) -> None:
    talk = conversation("a", spare="yz", sticky="cookie", spare_pool={"sticky": "cookie"})
    talk.stage.set_state("a", DOWN)
    client = talk.client()
    client >> get()
    up = talk["y"].accepts()
    up << "GET / HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK"
    assert client.last is not None
    (line,) = client.last.headers("set-cookie")
    assert line.startswith("headgate_spare=")
    client >> get("/", f"Cookie: {line.partition(';')[0]}")
    up << "GET / HTTP/1.1"
    up >> ok()
    client << "HTTP/1.1 200 OK\n!set-cookie"


def test_a_pool_that_is_back_serves_again(conversation: Converse) -> None:
    talk = conversation("a", spare="z")
    state = talk.stage.segment.backend_flags(0)
    talk.stage.set_state("a", DOWN)
    client = talk.client()
    client >> get("/1")
    up = talk["z"].accepts()
    up << "GET /1 HTTP/1.1"
    up >> ok(b"z")
    client << "HTTP/1.1 200 OK\n\nz"
    talk.stage.set_state("a", state)
    client >> get("/2")
    up = talk["a"].accepts()
    up << "GET /2 HTTP/1.1"
    up >> ok(b"a")
    client << "HTTP/1.1 200 OK\n\na"


# A static answer


def test_a_static_answer(conversation: Converse) -> None:
    talk = conversation("a")
    talk.stage.pool.pool.fallback_answer = SORRY
    talk["a"].refuses()
    client = talk.client()
    client >> get("/1")
    said = (
        "HTTP/1.1 503 Service Unavailable\ncontent-type: text/html\nretry-after: 30\n!connection\n\n<h1>Back soon</h1>"
    )
    client << said
    talk.stage.set_state("a", DOWN)
    client >> get("/2")
    client << said
    assert talk.stage.worker["fallbacks"] == 2
    assert the_log(talk) == [("web", 503, "connect_refused,fallback"), ("web", 503, "no_backend,fallback")]


def test_a_static_answer_to_head_has_no_body(conversation: Converse) -> None:
    talk = conversation("a")
    talk.stage.pool.pool.fallback_answer = SORRY
    talk.stage.set_state("a", DOWN)
    client = talk.client()
    client >> request("HEAD", "/")
    client << Head("HTTP/1.1 503 Service Unavailable\ncontent-length: 18\n!connection")
    client.hears_nothing()


def test_a_large_static_answer(conversation: Converse) -> None:
    body = bytes(97 + n % 26 for n in range(48 * 1024))
    fields = b"".join(b"X-Field-%d: %s\r\n" % (n, b"v" * 100) for n in range(40))
    talk = conversation("a")
    talk.stage.pool.pool.fallback_answer = StaticAnswer(200, b"text/plain", fields, body)
    talk.stage.set_state("a", DOWN)
    client = talk.client()
    client >> get()
    client << f"HTTP/1.1 200 OK\nx-field-39: {'v' * 100}\ncontent-type: text/plain\n\n{body.decode()}"
    client >> get()
    client << Head("HTTP/1.1 200 OK")


def test_a_static_answer_to_an_upload_ends_the_connection_in_order(conversation: Converse) -> None:
    talk = conversation("a")
    talk.stage.pool.pool.fallback_answer = SORRY
    talk.stage.set_state("a", DOWN)
    client = talk.client()
    client >> post("/", b"hello")
    client << "HTTP/1.1 503 Service Unavailable\nconnection: close\n\n<h1>Back soon</h1>"
    client.is_closed()


def test_the_other_pools_static_answer_comes_last(conversation: Converse) -> None:
    talk = conversation("a", spare="z")
    assert talk.stage.spare is not None
    talk.stage.spare.pool.fallback_answer = SORRY
    talk["a"].refuses()
    talk["z"].refuses()
    client = talk.client()
    client >> get()
    client << "HTTP/1.1 503 Service Unavailable\ncontent-type: text/html\n\n<h1>Back soon</h1>"
    assert talk.stage.worker["fallbacks"] == 1
    assert the_log(talk) == [("spare", 503, "connect_refused,fallback")]
