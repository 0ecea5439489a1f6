"""Real clients through the balancer: curl, Python's http.client, aiohttp, Node."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .conftest import Balance, MakeBackend
from .harness.backends import Connection, echo
from .harness.headgate import Headgate
from .harness.processes import Process, Processes
from .harness.servers import SITES, Server
from .harness.tools import require

MIB = 1 << 20
LARGE = 16 * MIB
PIECE = bytes(range(256)) * 256


def digest(body: bytes) -> bytes:
    """What the site answers to an upload."""
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()


@pytest.fixture
def headgate(processes: Processes, stack: ExitStack, balance: Balance) -> Headgate:
    """A balancer over two uvicorns, both called "site"."""
    servers = []
    for _ in range(2):
        server = Server(processes, "uvicorn", "site")
        stack.callback(server.close)
        stack.callback(processes.close)
        servers.append(server)
    return balance(*(server.url for server in servers))


# -- curl ------------------------------------------------------------------------------------------------------------


class Curl:
    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._program = require("curl")

    def __call__(self, *arguments: str | Path) -> Process:
        """Run curl without its configuration file, proxies or progress; it must succeed."""
        always = ["-q", "--noproxy", "*", "-sS", "--fail", "--max-time", "30"]
        return self._processes.run([self._program, *always, *arguments])


@pytest.fixture
def curl(processes: Processes) -> Curl:
    return Curl(processes)


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(PIECE * (LARGE // len(PIECE)))
    return path


def test_curl(headgate: Headgate, curl: Curl, large_file: Path, tmp_path: Path) -> None:
    url = headgate.url
    for version in ["--http1.0", "--http1.1"]:
        assert curl(version, url).stdout.text == "site"
        shown = curl(version, "-I", f"{url}/bytes/100").stdout.text
        assert "200 OK" in shown
        assert "content-length: 100" in shown.lower()
        assert curl(version, "-d", "hello", url).stdout.text.encode() + b"\n" == digest(b"hello")
        assert curl(version, "-X", "PUT", "-d", "hello", url).stdout.text.encode() + b"\n" == digest(b"hello")
        expected = digest(large_file.read_bytes()).decode().strip()
        assert curl(version, "-T", large_file, f"{url}/").stdout.text == expected
        for target in [f"/bytes/{LARGE}", f"/chunked/{LARGE}"]:
            out = tmp_path / "out"
            curl(version, "-o", out, url + target)
            assert out.read_bytes() == b"x" * LARGE


def test_curl_uploads_chunks_and_waits_to_be_invited(headgate: Headgate, curl: Curl, large_file: Path) -> None:
    expected = digest(large_file.read_bytes()).decode().strip()
    chunks = ["-H", "Transfer-Encoding: chunked"]
    assert curl(*chunks, "-T", large_file, f"{headgate.url}/").stdout.text == expected
    # Long enough to fail the test if the invitation did not arrive.
    for framing in [[], chunks]:
        run = curl(
            *framing,
            "-v",
            "-H",
            "Expect: 100-continue",
            "--expect100-timeout",
            "25",
            "-T",
            large_file,
            headgate.url + "/",
        )
        assert run.stdout.text == expected
        assert run.stderr.matching("< HTTP/1.1 100 Continue")


def test_curl_is_not_invited(make_backend: MakeBackend, balance: Balance, curl: Curl, large_file: Path) -> None:
    """The backend never says 100: curl sends the body when it has waited long enough."""
    backend = make_backend(echo)
    headgate = balance(backend)
    run = curl("-v", "-H", "Expect: 100-continue", "--expect100-timeout", "0.3", "-d", "hello", headgate.url)
    assert json.loads(run.stdout.text)["body"] == "hello"
    assert not run.stderr.matching("100 Continue")


def test_curl_is_refused_its_upload(make_backend: MakeBackend, balance: Balance, processes: Processes) -> None:
    """An answer that comes before the body ends the upload, and curl gets to see it."""

    def refuse(connection: Connection) -> None:
        if connection.read_head() is not None:
            connection.respond(b"no", "413 Content Too Large", [("Connection", "close")])

    headgate = balance(make_backend(refuse), listener={"limits": {"body": "1MiB"}})
    for size in [1000, 2 * MIB]:  # by the backend, by the balancer
        data = ["-H", "Expect: 100-continue", "--expect100-timeout", "25", "--data-binary", "x" * 1000]
        if size > MIB:
            data += ["-H", f"Content-Length: {size}"]
        run = processes.run(
            [require("curl"), "-q", "--noproxy", "*", "-s", "-w", "%{http_code}\n", *data, headgate.url]
        )
        assert run.stdout.all[-1].endswith("413")


def test_curl_with_many_urls(headgate: Headgate, curl: Curl, tmp_path: Path) -> None:
    curl("--parallel", "--parallel-max", "20", "-o", tmp_path / "out-#1", f"{headgate.url}/bytes/[1000-1059]")
    for size in range(1000, 1060):
        assert (tmp_path / f"out-{size}").read_bytes() == b"x" * size
    assert [backend["totalRequests"] for backend in headgate.status()] == [30, 30]
    # One after the other they go over one connection.
    run = curl("-w", "connects=%{num_connects}\n", "-o", "/dev/null", f"{headgate.url}/bytes/[1-5]")
    assert run.stdout.matching("connects") == ["connects=1"] + ["connects=0"] * 4


# -- http.client -----------------------------------------------------------------------------------------------------


def test_http_client(headgate: Headgate) -> None:
    connection = http.client.HTTPConnection(*headgate.address, timeout=30)

    def ask(method: str, target: str, body: Any = None, **options: Any) -> tuple[int, bytes]:
        connection.request(method, target, body, **options)
        with connection.getresponse() as answer:
            return answer.status, answer.read()

    try:
        assert ask("GET", "/") == (200, b"site\n")
        own = connection.sock
        assert ask("HEAD", "/bytes/100") == (200, b"")
        for method in ["POST", "PUT"]:
            assert ask(method, "/", b"hello") == (200, digest(b"hello"))

        def parts() -> Iterator[bytes]:
            for _ in range(64):
                yield PIECE

        assert ask("POST", "/", parts(), encode_chunked=True) == (200, digest(PIECE * 64))
        assert ask("POST", "/", PIECE * 64) == (200, digest(PIECE * 64))
        for target in [f"/bytes/{LARGE}", f"/chunked/{LARGE}"]:
            status, body = ask("GET", target)
            assert (status, len(body), body.count(b"x")) == (200, LARGE, LARGE)
        assert connection.sock is own  # all of it over one connection
    finally:
        connection.close()


def test_http_client_is_told_of_a_truncated_answer(make_backend: MakeBackend, balance: Balance) -> None:
    def truncate(connection: Connection) -> None:
        if (request := connection.read()) is not None:
            framing = {"/length": "Content-Length: 9", "/chunked": "Transfer-Encoding: chunked"}[request.target]
            body = "4\r\nhell\r\n" if "chunked" in framing else "hell"
            connection.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}".encode())

    headgate = balance(make_backend(truncate))
    for target in ["/length", "/chunked"]:
        connection = http.client.HTTPConnection(*headgate.address, timeout=30)
        try:
            connection.request("GET", target)
            with connection.getresponse() as answer, pytest.raises((http.client.IncompleteRead, ConnectionError)):
                answer.read()
        finally:
            connection.close()


# -- aiohttp ---------------------------------------------------------------------------------------------------------


def test_aiohttp(headgate: Headgate) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield PIECE

    async def talk() -> None:
        connector = aiohttp.TCPConnector(limit=10)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(headgate.url, connector=connector, timeout=timeout) as session:

            async def ask(method: str, target: str, **options: Any) -> tuple[int, bytes]:
                async with session.request(method, target, **options) as answer:
                    return answer.status, await answer.read()

            assert await ask("GET", "/") == (200, b"site\n")
            assert await ask("HEAD", "/bytes/100") == (200, b"")
            for method in ["POST", "PUT"]:
                assert await ask(method, "/", data=b"hello") == (200, digest(b"hello"))
                assert await ask(method, "/", data=parts()) == (200, digest(PIECE * 64))
            assert await ask("POST", "/", data=b"hello", expect100=True) == (200, digest(b"hello"))
            for target in [f"/bytes/{LARGE}", f"/chunked/{LARGE}"]:
                assert await ask("GET", target) == (200, b"x" * LARGE)
            sizes = range(1000, 1200)
            answers = await asyncio.gather(*(ask("GET", f"/bytes/{size}") for size in sizes))
            assert answers == [(200, b"x" * size) for size in sizes]

    asyncio.run(talk())
    totals = headgate.get("/lb/status").json()["totals"]
    # 10 connections for the lot (and a few of this test's own).
    assert totals["accepted"] < 20
    assert totals["outcomes"].keys() == {"ok"}


# -- Node ------------------------------------------------------------------------------------------------------------


def test_node(headgate: Headgate, processes: Processes) -> None:
    run = processes.run([require("node"), SITES / "client.js", str(headgate.port.number)])
    answers = [json.loads(line) for line in run.stdout.all]
    assert all((answer["status"], answer["complete"]) == (200, True) for answer in answers)
    hello, large = digest(b"hello").decode(), digest(b"x" * 8 * MIB).decode()
    seen = [(answer["method"], answer["path"], answer["count"], answer["text"]) for answer in answers[:7]]
    assert seen == [
        ("GET", "/", 5, "site\n"),
        ("HEAD", "/bytes/100", 0, ""),
        ("POST", "/", len(hello), hello),
        ("PUT", "/", len(hello), hello),
        ("POST", "/", len(hello), hello),
        ("POST", "/", len(hello), hello),
        ("POST", "/", len(large), large),
    ]
    assert answers[1]["length"] == "100"
    assert [answer["count"] for answer in answers[7:9]] == [10_000_000] * 2
    # One after the other over one connection.
    assert [answer["reused"] for answer in answers[:9]] == [False] + [True] * 8
    assert [answer["text"] for answer in answers[9:]] == ["site\n"] * 20
