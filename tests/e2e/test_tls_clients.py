"""Real clients speak TLS with the balancer, and it with backends: whole bodies, WebSocket, what nobody gets."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests import pki

from .harness.backends import Connection
from .harness.headgate import Headgate, pool
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.tls import Https, TlsBackend, load, trusting
from .harness.tools import require
from .harness.waiting import PATIENCE_S, eventually

ROOT = pki.Authority()
PAIR = ROOT.issue("localhost", "127.0.0.1")
MIB = 1 << 20


def digests(connection: Connection) -> None:
    """Answer an upload with its digest, and a GET with a mebibyte that is its own digest's input."""
    for request in connection.each():
        if request.method == "GET":
            connection.respond(BODY)
        else:
            connection.respond(hashlib.sha256(request.body).hexdigest().encode())


BODY = os.urandom(MIB)


@pytest.fixture
def headgate(processes: Processes, tmp_path: Path, port: HeldPort, stack: ExitStack) -> Headgate:
    backend = TlsBackend(PAIR, digests)
    stack.callback(backend.close)
    return started(processes, tmp_path, port, backend.url)


def started(processes: Processes, directory: Path, port: HeldPort, *urls: str) -> Headgate:
    """TLS on both sides."""
    cert, key = PAIR.write(directory, "pair")
    (directory / "ca.pem").write_bytes(ROOT.pem)
    listener = {"bind": port.bind, "status_path": "/lb/status", "tls": {"certificates": [{"cert": cert, "key": key}]}}
    web = pool(*urls, tls={"ca": str(directory / "ca.pem")})
    return Headgate.run(processes, directory, {"listeners": [listener], "pools": {"web": web}}, port)


@pytest.mark.parametrize("version", ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"])
def test_curl(headgate: Headgate, tmp_path: Path, version: str) -> None:
    (tmp_path / "up").write_bytes(BODY)
    url = f"https://localhost:{headgate.port.number}"
    common = [
        require("curl"),
        "-sS",
        "--fail",
        "--max-time",
        "20",
        "--cacert",
        str(tmp_path / "ca.pem"),
        *version.split(),
    ]
    done = subprocess.run([*common, url + "/down", "-w", "%{ssl_verify_result}"], capture_output=True, check=True)
    assert done.stdout == BODY + b"0"
    done = subprocess.run([*common, url, "--data-binary", f"@{tmp_path / 'up'}"], capture_output=True, check=True)
    assert done.stdout.decode() == hashlib.sha256(BODY).hexdigest()


def test_a_slow_reader_and_a_slow_writer(headgate: Headgate) -> None:
    """Small socket buffers on the client's side: everything waits, and arrives whole."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    plain.settimeout(PATIENCE_S)
    plain.connect(headgate.address)
    with trusting(ROOT).wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, MIB, 65536):
            client.sendall(b"10000\r\n" + BODY[at : at + 65536] + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        heard = b""
        while hashlib.sha256(BODY).hexdigest().encode() not in heard:
            more = client.recv(65536)
            assert more
            heard += more
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        heard = b""
        while more := client.recv(3000):
            heard += more
        assert heard.partition(b"\r\n\r\n")[2] == BODY


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_sessions_are_resumed(headgate: Headgate, tmp_path: Path, version: str) -> None:
    """By ticket, with the worker that gave it."""
    session = tmp_path / "session"
    command = [require("openssl"), "s_client", "-connect", f"127.0.0.1:{headgate.port.number}", version, "-ign_eof"]
    ask = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

    def said(*arguments: str) -> bytes:
        return subprocess.run([*command, *arguments], input=ask, capture_output=True, timeout=20, check=False).stdout

    assert b"\nNew, TLSv1." in said("-sess_out", str(session))
    assert b"\nReused, TLSv1." in said("-sess_in", str(session))


def test_renegotiation_is_refused(headgate: Headgate) -> None:
    """It costs a handshake, and nobody needs it (CVE-2011-1473); the connection goes on without."""
    command = [require("openssl"), "s_client", "-connect", f"127.0.0.1:{headgate.port.number}", "-tls1_2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        heard = b""
        while b"---\n" not in heard.rpartition(b"Verify return code")[2]:
            heard += os.read(client.stdout.fileno(), 65536)
        client.stdin.write(b"R\n")
        client.stdin.flush()
        while b"no renegotiation" not in heard:
            more = os.read(client.stdout.fileno(), 65536)
            assert more, heard
            heard += more
        client.stdin.close()
        client.wait(PATIENCE_S)
    assert len(re.findall(b"New, TLSv1.2", heard)) == 1
    with Https(headgate.address, trusting(ROOT), "localhost") as other:
        assert other.get("/").body == BODY


@pytest.fixture
def chat(stack: ExitStack, processes: Processes) -> Iterator[HeldPort]:
    """A WebSocket server that echoes, by TLS."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    port = HeldPort()
    context = load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), PAIR)
    server = serve(echo, sock=port.listen(), ssl=context, max_size=4 * MIB, ping_interval=None)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield port
    processes.close()
    server.shutdown()
    thread.join()
    port.close()


def test_websocket(processes: Processes, tmp_path: Path, port: HeldPort, chat: HeldPort) -> None:
    headgate = started(processes, tmp_path, port, f"https://localhost:{chat.number}")
    context = trusting(ROOT)
    url = f"wss://localhost:{headgate.port.number}/"
    with connect(url, ssl=context, max_size=4 * MIB, ping_interval=None, proxy=None) as client:
        for message in ("hello", BODY, b""):
            client.send(message)
            assert client.recv(PATIENCE_S) == message
        client.close(1001, "bye")
    with Https(headgate.address, context, "localhost") as other:
        eventually(lambda: json.loads(other.get("/lb/status").body)["totals"]["tunnels"] == 0, "the tunnel to end")
