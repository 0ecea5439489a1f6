"""Certificates that change while it runs: under load, by reload and by themselves; broken ones; upgrades."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from tests import pki

from .conftest import MakeBackend
from .harness.headgate import Headgate, pool
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.tls import Https, TlsBackend, trusting
from .harness.waiting import eventually

ROOT = pki.Authority()


class Load:
    """Clients that never stop asking: `kept` on one connection each, `fresh` on a new one each time."""

    def __init__(self, address: tuple[str, int], kept: int, fresh: int) -> None:
        self._address = address
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.answers = 0
        self.reconnected = 0
        """Kept connections that were asked to come again by another."""
        self.shown: set[bytes] = set()
        self._lock = threading.Lock()
        self._context = trusting(ROOT)
        self._threads = [threading.Thread(target=self._kept) for _ in range(kept)]
        self._threads += [threading.Thread(target=self._fresh) for _ in range(fresh)]
        for thread in self._threads:
            thread.start()

    def _ask(self, client: Https) -> bool:
        """False when the connection ends here."""
        answer = client.get()
        with self._lock:
            self.answers += 1
            self.shown.add(client.server)
            if answer.status != 200:
                self.failures.append(f"{answer.status} {answer.body[:200]!r}")
        return bool(answer.headers.get("Connection") != "close")

    def _kept(self) -> None:
        try:
            while not self._stop.is_set():
                with Https(self._address, self._context, "a.example") as client:
                    while not self._stop.is_set() and self._ask(client):
                        time.sleep(0.01)
                self.reconnected += 1
        except Exception as error:
            self.failures.append(f"kept: {error!r}")

    def _fresh(self) -> None:
        while not self._stop.is_set():
            try:
                with Https(self._address, self._context, "a.example") as client:
                    self._ask(client)
            except Exception as error:
                self.failures.append(f"fresh: {error!r}")

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def shown(address: tuple[str, int]) -> bytes:
    with Https(address, trusting(ROOT), "a.example") as client:
        return client.server


def test_swapped_twenty_times_under_load(
    processes: Processes, tmp_path: Path, port: HeldPort, make_backend: MakeBackend
) -> None:
    """Most times by reload, three by watching; then two broken ones, which change nothing; then an upgrade."""
    backend = make_backend()
    issued = [ROOT.issue("a.example", days=30 + number) for number in range(21)]
    cert, key = issued[0].write(tmp_path, "a")
    tls: dict[str, Any] = {"certificates": [{"cert": cert, "key": key}]}
    socket_path = tmp_path / "admin.sock"

    def config() -> dict[str, Any]:
        return {
            "workers": 2,
            "listeners": [{"bind": port.bind, "tls": tls, "status_path": "/lb/status"}],
            "pools": {"web": pool(backend.url)},
            "access_log": {"format": "off"},
            "admin": {"bind": f"unix:{socket_path}"},
        }

    headgate = Headgate.run(processes, tmp_path, config(), port)
    load = Load(port.address, kept=3, fresh=2)
    try:
        for number in range(1, 18):
            issued[number].write(tmp_path, "a")
            headgate.process.signal(signal.SIGHUP)
            eventually(lambda n=number: shown(port.address) == issued[n].der, f"certificate {number}")  # type: ignore[misc]
        assert headgate.process.stderr.matching(r"reload: .*a\.pem: is another one, for a\.example, until")
        tls["watch"] = True
        (tmp_path / "headgate.json").write_text(json.dumps(config()))
        headgate.process.signal(signal.SIGHUP)
        headgate.process.stderr.wait_for(r"new configuration in force", count=18)
        for number in range(18, 21):
            issued[number].write(tmp_path, "a")
            eventually(lambda n=number: shown(port.address) == issued[n].der, f"certificate {number}")  # type: ignore[misc]

        # Broken ones: a certificate without its key, and half a file.
        other = ROOT.issue("a.example")
        Path(cert).write_bytes(other.cert_pem)
        headgate.process.stderr.wait_for(r"changed files are refused.*does not belong to the certificate")
        headgate.process.signal(signal.SIGHUP)
        headgate.process.stderr.wait_for(r"reload: .*does not belong to the certificate")
        Path(cert).write_bytes(other.cert_pem[:300])
        headgate.process.stderr.wait_for(r"changed files are refused.*no PEM block")
        assert shown(port.address) == issued[20].der
        # Its key comes: then it is a pair.
        Path(cert).write_bytes(other.cert_pem)
        Path(key).write_bytes(other.key_pem)
        eventually(lambda: shown(port.address) == other.der, "the whole pair")

        assert load.reconnected == 0
        headgate.process.signal(signal.SIGUSR2)
        headgate.process.stderr.wait_for(r"upgraded from", timeout_s=60)
        assert shown(port.address) == other.der
    finally:
        load.end()
    assert load.failures == []
    assert load.answers > 100
    assert len(load.shown) > 3, "the load went on while certificates changed"
    output = headgate.process.output
    for one in (*issued, other):
        assert one.key_pem.splitlines()[1].decode() not in output
    assert "PRIVATE" not in output


def scrape(path: Path, what: str) -> str:
    """GET from the admin API on its unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", what)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_expiry_is_seen_everywhere(
    processes: Processes, tmp_path: Path, port: HeldPort, make_backend: MakeBackend
) -> None:
    backend = make_backend()
    soon = ROOT.issue("soon.example", days=5.5)
    cert, key = soon.write(tmp_path, "soon")
    admin = tmp_path / "admin.sock"
    config = {
        "listeners": [
            {"bind": port.bind, "status_path": "/lb/status", "tls": {"certificates": [{"cert": cert, "key": key}]}}
        ],
        "pools": {"web": pool(backend.url)},
        "admin": {"bind": f"unix:{admin}"},
    }
    headgate = Headgate.run(processes, tmp_path, config, port)
    headgate.process.stderr.wait_for(r"certificate .*soon\.pem \(soon\.example; listener .*\) expires in 5 days")
    where = f"listener {port.bind}"
    with Https(port.address, trusting(ROOT), "soon.example") as client:
        documents = [json.loads(client.get("/lb/status").body), json.loads(scrape(admin, "/status"))]
    for document in documents:
        (found,) = document["certificates"]
        assert (found["where"], found["file"], found["names"]) == (where, cert, ["soon.example"])
        assert (found["daysLeft"], found["fingerprint"]) == (5, soon.fingerprint)
        assert "key" not in {name.lower() for name in found}
    (line,) = [line for line in scrape(admin, "/metrics").splitlines() if line.startswith("headgate_certificate_")]
    name, _, seconds = line.rpartition(" ")
    assert name == f'headgate_certificate_expiry_seconds{{where="{where}",file="{cert}"}}'
    assert 5 * 86400 < float(seconds) < 6 * 86400
    events = json.loads(scrape(admin, "/events"))["events"]
    assert any(event["what"] == "certificate expires" and "soon.example" in event["reason"] for event in events)
    shown_config = scrape(admin, "/config")
    assert key in shown_config
    assert "PRIVATE" not in shown_config


# Backends


def test_backends_that_cannot_be_trusted(processes: Processes, tmp_path: Path, port: HeldPort, stack: Any) -> None:
    """Expired, of another name, of an unknown authority: 502 with the reason, and never a byte of a request."""
    bad = {
        "expired": (ROOT.issue("localhost", days=-0.1), "certificate has expired"),
        "name": (ROOT.issue("other.test"), "not valid for 'localhost'"),
        "unknown": (pki.Authority("Nobody").issue("localhost"), "unable to get local issuer certificate"),
    }
    backends = {}
    for name, (issued, _) in bad.items():
        backends[name] = TlsBackend(issued, name=name)
        stack.callback(backends[name].close)
    good = TlsBackend(ROOT.issue("localhost"), name="good")
    stack.callback(good.close)
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    tls = {"ca": str(tmp_path / "root.pem")}
    pools = {name: pool(one.url, tls=tls) for name, one in backends.items()}
    pools["good"] = pool(good.url, tls=tls)
    pools["renamed"] = pool({"url": backends["name"].url}, tls={**tls, "server_name": "other.test"})
    pools["unverified"] = pool({"url": backends["unknown"].url}, tls={"verify": False})
    # The first check decides, and a busy machine takes its time for so many handshakes.
    checked = {"type": "tcp", "interval": "30s", "timeout": "15s", "fall": 1, "rise": 1}
    pools |= {f"checked-{name}": pool(one.url, tls=tls, health=checked) for name, one in backends.items()}
    pools["checked-good"] = pool(good.url, tls=tls, health={**checked, "type": "http"})
    config = {
        "listeners": [{"bind": port.bind, "status_path": "/lb/status"}],
        "routes": [{"pool": name, "path_prefix": f"/{name}"} for name in pools],
        "pools": pools,
    }
    headgate = Headgate.run(processes, tmp_path, config, port)
    for name, (_, reason) in bad.items():
        answer = headgate.get(f"/{name}")
        assert answer.status == 502
        assert reason in answer.json()["reason"], answer.json()
    assert headgate.get("/good").body == b"good"
    assert headgate.get("/renamed").body == b"name"
    assert headgate.get("/unverified").body == b"unknown"
    for name, one in backends.items():
        assert [request.target for request in one.requests] == {
            "name": ["/renamed"],
            "unknown": ["/unverified"],
            "expired": [],
        }[name]
    eventually(lambda: all(row["state"] != "unchecked" for row in headgate.status()), "all checks to have ended")
    rows = {row["pool"]: row for row in headgate.status()}
    for name, (_, reason) in bad.items():
        row = rows[f"checked-{name}"]
        assert row["state"] == "down"
        assert f"certificate not accepted: {reason}" in row["reason"].replace("Hostname mismatch, certificate is ", "")
    assert rows["checked-good"]["state"] == "up"
    warned = headgate.process.stderr.matching("not verified")
    assert len(warned) == 1
    assert "pool unverified: certificates of its backends are not verified" in warned[0]


def test_a_certificate_for_backends_and_its_renewal(
    processes: Processes, tmp_path: Path, port: HeldPort, stack: Any
) -> None:
    clients = pki.Authority("Clients")
    backend = TlsBackend(ROOT.issue("localhost"), name="asks")
    stack.callback(backend.close)
    backend.context.load_verify_locations(cadata=clients.pem.decode())
    backend.context.verify_mode = ssl.CERT_REQUIRED
    first = clients.issue(common_name="balancer")
    cert, key = first.write(tmp_path, "client")
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    tls = {"ca": str(tmp_path / "root.pem"), "cert": cert, "key": key}
    health = {"type": "http", "path": "/health", "interval": "15s", "timeout": "15s", "fall": 1, "rise": 1}
    config = {
        "listeners": [{"bind": port.bind, "status_path": "/lb/status"}],
        "pools": {"web": pool(backend.url, tls=tls, health=health)},
    }
    headgate = Headgate.run(processes, tmp_path, config, port)
    headgate.wait_health(backend.url, healthy=True)
    assert headgate.names(3) == ["asks"] * 3
    renewed = clients.issue(common_name="renewed")
    renewed.write(tmp_path, "client")
    headgate.process.signal(signal.SIGHUP)
    headgate.process.stderr.wait_for(r"new configuration in force")
    assert headgate.names(1) == ["asks"]
    used = [one for one in backend.used_connections() if one.requests[0].target == "/"]
    assert [(backend.shown[one.number], len(one.requests)) for one in used] == [(first.der, 3), (renewed.der, 1)]
