"""TLS on listeners, from outside: real clients, certificates by SNI, clients' certificates, checks before a start."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from headgate import LoadBalancer
from tests import pki

from .conftest import MakeBackend
from .harness.backends import Backend, echo
from .harness.headgate import Headgate, pool
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.tls import Https, trusting
from .harness.tools import require

ROOT = pki.Authority()
MIDDLE = pki.Authority("Middle", ROOT)
CLIENTS = pki.Authority("Clients")
A, B, A_RSA = MIDDLE.issue("a.example"), ROOT.issue("*.b.example"), MIDDLE.issue("a.example", key="rsa")
ALICE, BOB = CLIENTS.issue(common_name="alice", organisation="Org"), CLIENTS.issue(common_name="bob")
MALLORY = CLIENTS.issue(common_name="mallory")


def pair(directory: Path, name: str, issued: pki.Issued) -> dict[str, str]:
    cert, key = issued.write(directory, name)
    return {"cert": cert, "key": key}


def written(directory: Path, name: str, data: bytes) -> str:
    path = directory / name
    path.write_bytes(data)
    return str(path)


Start = Callable[..., Headgate]


@pytest.fixture
def start(processes: Processes, tmp_path: Path, port: HeldPort) -> Start:
    """Start the balancer with TLS on `port`: tls of the listener, pools, and what else the configuration has."""

    def started(tls: Mapping[str, Any], pools: Mapping[str, Any], **top: Any) -> Headgate:
        listeners = [{"bind": port.bind, "status_path": "/lb/status", "tls": tls}, *top.pop("more_listeners", ())]
        return Headgate.run(processes, tmp_path, {"listeners": listeners, "pools": dict(pools), **top}, port)

    return started


def shown_to(address: tuple[str, int], *arguments: str) -> str:
    """The fingerprint of the certificate that `openssl s_client` was shown."""
    target = f"{address[0]}:{address[1]}"
    done = subprocess.run(
        [require("openssl"), "s_client", "-connect", target, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    found = re.search(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", done.stdout, re.DOTALL)
    if found is None:
        return ""
    data = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(found[0].decode()))
    return pki.fingerprint(data.encode())


def test_certificates_by_name(start: Start, tmp_path: Path, make_backend: MakeBackend) -> None:
    backend = make_backend(name="one")
    pairs = [pair(tmp_path, name, issued) for name, issued in (("a", A), ("b", B), ("rsa", A_RSA))]
    plain = HeldPort()
    with plain:
        headgate = start(
            {"certificates": pairs, "hsts": "30d"},
            {"web": pool(backend.url)},
            workers=2,
            more_listeners=[{"bind": plain.bind, "redirect_https": 8443}],
        )
        address = headgate.address
        asked = {
            ("-tls1_2", "-servername", "a.example", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"): A,
            ("-tls1_2", "-servername", "a.example", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"): A_RSA,
            ("-tls1_3", "-servername", "x.b.example"): B,
            ("-tls1_3", "-servername", "other.test"): A,
            ("-tls1_3", "-noservername"): A,
        }
        for arguments, issued in asked.items():
            assert shown_to(address, *arguments) == issued.fingerprint, arguments
        assert shown_to(address, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") == ""

        root = written(tmp_path, "root.pem", ROOT.pem)
        curl = [require("curl"), "-sS", "--cacert", root, "--connect-to", f"::{headgate.port.bind}"]
        for name in ("a.example", "x.b.example"):
            done = subprocess.run([*curl, f"https://{name}/"], capture_output=True, text=True, timeout=20, check=False)
            assert (done.stdout, done.stderr) == ("one", ""), name
        done = subprocess.run([*curl, "https://c.example/"], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 60  # the certificate is for another name

        with Https(address, trusting(ROOT), "a.example") as client:
            assert client.get().headers["Strict-Transport-Security"] == "max-age=2592000"
        with socket.create_connection(plain.address) as sock:
            sock.sendall(b"GET /p?q=1 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
        assert b"Location: https://a.example:8443/p?q=1\r\n" in answer


def seen(answer: Any) -> dict[str, str]:
    """The X-Client-Cert-* fields that a backend saw."""
    fields = json.loads(answer.body)["fields"]
    found = {name: value for name, value in fields if name.lower().startswith("x-client-cert")}
    assert len(found) == sum(name.lower().startswith("x-client-cert") for name, _ in fields), "twice the same"
    return found


FORGED = {
    "X_Client_Cert_Verify": "SUCCESS",
    "x_client_cert_subject": "CN=root",
    "X_Client_Cert_Fingerprint": "00",
    "X_Client_Cert_Chain": "mine",
}


def test_required_with_a_revocation_list(start: Start, tmp_path: Path, make_backend: MakeBackend) -> None:
    backend = make_backend(echo, name="one")
    headgate = start(
        {
            "certificates": [pair(tmp_path, "a", A)],
            "client_ca": written(tmp_path, "clients.pem", CLIENTS.pem),
            "client_crl": written(tmp_path, "crl.pem", CLIENTS.revoke(MALLORY)),
        },
        {"web": pool(backend.url)},
    )
    with Https(headgate.address, trusting(ROOT, shows=ALICE), "a.example") as client:
        for _ in range(2):
            assert seen(client.get(**FORGED)) == {
                "X-Client-Cert-Verify": "SUCCESS",
                "X-Client-Cert-Subject": "CN=alice,O=Org",
                "X-Client-Cert-Fingerprint": ALICE.fingerprint,
            }
    stranger = pki.Authority("Clients").issue(common_name="alice", organisation="Org")
    before = len(backend.requests)
    for context in (trusting(ROOT), trusting(ROOT, shows=MALLORY), trusting(ROOT, shows=stranger)):
        # TLS 1.3: the client has finished its handshake before it hears that it is refused.
        with pytest.raises((ssl.SSLError, ConnectionError)), Https(headgate.address, context, "a.example") as client:
            client.get()
    assert len(backend.requests) == before


def test_optional_and_routes_by_certificate(start: Start, tmp_path: Path, make_backend: MakeBackend) -> None:
    everybody, known, alices = (make_backend(echo, name=name) for name in ("everybody", "known", "alices"))
    plain = HeldPort()
    with plain:
        headgate = start(
            {
                "certificates": [pair(tmp_path, "a", A)],
                "client_ca": written(tmp_path, "clients.pem", CLIENTS.pem),
                "client_auth": "optional",
            },
            {name: pool(one.url) for name, one in (("all", everybody), ("known", known), ("alices", alices))},
            more_listeners=[{"bind": plain.bind}],
            routes=[
                {"pool": "all"},
                {"pool": "known", "client_cert": True},
                {"pool": "alices", "path_prefix": "/a", "client_cert": {"subjects": ["CN=alice,O=Org"]}},
                {"pool": "alices", "path_prefix": "/b", "client_cert": {"fingerprints": [BOB.fingerprint.upper()]}},
            ],
        )

        def went(client: Https, path: str) -> str:
            found: str = json.loads(client.get(path).body)["backend"]
            return found

        with Https(headgate.address, trusting(ROOT), "a.example") as client:
            assert seen(client.get(**FORGED)) == {"X-Client-Cert-Verify": "NONE"}
            assert [went(client, path) for path in ("/", "/a", "/b")] == ["everybody"] * 3
        with Https(headgate.address, trusting(ROOT, shows=ALICE), "a.example") as client:
            assert [went(client, path) for path in ("/", "/a", "/b")] == ["known", "alices", "known"]
        with Https(headgate.address, trusting(ROOT, shows=BOB), "a.example") as client:
            assert [went(client, path) for path in ("/", "/a", "/b")] == ["known", "known", "alices"]
        # The listener without TLS passes no word of a certificate on, either.
        with socket.create_connection(plain.address) as sock:
            sock.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\nX-Client-Cert-Verify: SUCCESS\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
        assert b'"backend": "everybody"' in answer
        assert b"SUCCESS" not in answer


def test_embedded(tmp_path: Path) -> None:
    import asyncio
    import functools

    async def run(backend: Backend) -> None:
        listener = {"bind": "127.0.0.1:0", "tls": {"certificates": [pair(tmp_path, "a", A)]}}
        config = {"listeners": [listener], "pools": {"web": pool(backend.url)}, "access_log": {"format": "off"}}
        async with LoadBalancer(config) as balancer:
            host, _, number = balancer.addresses[0].rpartition(":")
            connect = functools.partial(Https, (host, int(number)), trusting(ROOT), "a.example")
            client = await asyncio.to_thread(connect)
            try:
                answer = await asyncio.to_thread(client.get)
                assert answer.body == b"embedded"
            finally:
                client.close()
            (found,) = balancer.status()["certificates"]
            assert found["names"] == ["a.example"]
            assert found["daysLeft"] == 29

    with Backend(name="embedded") as backend:
        asyncio.run(run(backend))
