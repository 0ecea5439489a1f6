"""What the fuzzers have found, each by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import Kind

from .rig import Rig


@pytest.mark.parametrize(
    "request_",
    [b"GET / HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n"],
    ids=["refused", "answered here"],
)
def test_a_client_that_resets_before_it_is_answered_by_ourselves(tmp_path: Path, request_: bytes) -> None:
    """The answer could not be sent, and the connection waited for ever for an event to send the rest of it."""
    rig = Rig(tmp_path)
    client = rig.connect()
    rig.settle()
    client.send(request_)
    client.reset()
    rig.leave()
    rig.assert_empty()
    rig.close()


UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_a_tunnel_whose_backend_resets_while_the_client_speaks(tmp_path: Path) -> None:
    """The failed send took the error away, so the backend's end looked clean, and the client's bytes went nowhere for
    as long as a tunnel may be idle."""
    rig = Rig(tmp_path)
    client = rig.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + UPGRADE)
    rig.until(lambda: bool(rig.backends[0].peers) and rig.backends[0].peers[0].received != b"", "the request")
    backend = rig.backends[0].peers.pop()
    backend.send(b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE)
    rig.until(lambda: b" 101 " in client.received, "the answer")
    client.send(b"x")
    backend.reset()
    rig.until(lambda: client.ended and rig.engine.in_flight == 0, "the tunnel's end")
    rig.leave()
    rig.assert_empty()
    rig.close()


def test_many_exchanges_that_end_inside_their_own_calls(tmp_path: Path) -> None:
    """Those that the list of spare ones had no place for were freed under the method that led to their end. Only seen
    under AddressSanitizer, and there with the first: uploads cut off at their limit while the backend is connected."""
    rig = Rig(tmp_path, listener={"limits": {"body": 10}})
    clients = [rig.connect() for _ in range(8)]
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    for client in clients:
        client.send(head + b"20\r\n" + b"x" * 32 + b"\r\n0\r\n\r\n")
    rig.until(lambda: all(client.received.startswith(b"HTTP/1.1 413 ") for client in clients), "the refusals")
    rig.leave()
    rig.assert_empty()
    rig.close()


@pytest.mark.parametrize("keep", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
def test_over_the_cap_on_buffers_the_client_is_told_so(tmp_path: Path, keep: bytes) -> None:
    """There was no buffer for the request to the backend, and then none for the 503 either: the client saw an end
    without an answer (row 27 of the fault matrix)."""
    rig = Rig(tmp_path)
    rig.engine.buffer_limit = 2**20
    # Heads that have begun hold a buffer each: all but one, which the next request is read into.
    holding = [rig.connect() for _ in range(2**20 // 2**14 - 1)]
    for each in holding:
        each.send(b"GET /")
    rig.until(lambda: rig.engine.buffers_in_use == len(holding) * 2**14, "the buffers to be taken")
    client = rig.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + keep + b"\r\n")
    rig.until(lambda: client.received.endswith(b"}\n") or client.ended, "the answer")
    assert client.received.startswith(b"HTTP/1.1 503 "), bytes(client.received)
    rig.engine.buffer_limit = 1 << 32
    rig.backends_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    if not keep:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        rig.until(lambda: client.received.endswith(b"ok") or client.ended, "the next answer")
        assert client.received.endswith(b"ok")
    rig.leave()
    rig.assert_empty()
    rig.close()


def test_over_the_cap_on_buffers_an_answer_is_not_dropped_in_silence(tmp_path: Path) -> None:
    """There was no buffer for the head of the backend's answer: that was taken for a client that had left."""
    rig = Rig(tmp_path)
    client = rig.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    rig.until(lambda: bool(rig.backends[0].peers) and rig.backends[0].peers[0].received != b"", "the request")
    rig.engine.buffer_limit = 2**20
    # One is the client's; one is left, which the answer is read into.
    holding = [rig.connect() for _ in range(2**20 // 2**14 - 2)]
    for each in holding:
        each.send(b"GET /")
    rig.until(lambda: rig.engine.buffers_in_use == 2**20 - 2**14, "the buffers to be taken")
    rig.backends[0].peers[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    rig.until(lambda: client.received.endswith(b"}\n") or client.ended, "the answer")
    assert client.received.startswith(b"HTTP/1.1 503 "), bytes(client.received)
    assert rig.stage.segment.totals()["kind"][Kind.OVERLOADED] == 1
    rig.leave()
    rig.assert_empty()
    rig.close()
