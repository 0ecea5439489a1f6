"""Certificates in the controller: read once, watched, refused pair by pair, reminded of."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.config.schema import Config
from headgate.engine.stats import Segment
from headgate.runtime.controller import Controller
from headgate.tls import check
from tests import pki

from .control_world import Worker

ROOT = pki.Authority()
Log = pytest.LogCaptureFixture


def config(files: Path, *names: str, **tls: Any) -> Config:
    certificates = [{"cert": str(files / f"{name}.pem"), "key": str(files / f"{name}.key")} for name in names]
    listener = {"bind": "127.0.0.1:8443", "tls": {"certificates": certificates, **tls}}
    pool = {"backends": ["https://127.0.0.1:9"], "health": False, "tls": {"verify": False}}
    return Config.from_dict({"listeners": [listener], "pools": {"web": pool}})


class World:
    def __init__(self, wanted: Config, wall: Callable[[], float] = time.time) -> None:
        self.segment = Segment.create(1)
        self.controller = Controller(wanted, self.segment, loop=asyncio.get_running_loop(), wall=wall)
        self.worker = Worker(self.controller)

    def sent(self, path: Path) -> bytes:
        return self.worker.snapshot.tls.content[str(path)]

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(event.what, event.reason) for event in self.controller.events]


def run(wanted: Config, act: Callable[[World], Awaitable[None]], wall: Callable[[], float] = time.time) -> None:
    async def all_of_it() -> None:
        world = World(wanted, wall)
        try:
            await world.controller.applied(5)
            await act(world)
        finally:
            world.controller.close()
            world.segment.close()

    asyncio.run(all_of_it())


def test_workers_get_what_was_read_and_nothing_is_read_again_by_chance(tmp_path: Path) -> None:
    first, second = ROOT.issue("a.example"), ROOT.issue("a.example")
    first.write(tmp_path, "a")

    async def act(world: World) -> None:
        second.write(tmp_path, "a")
        world.controller.set_weight("web", "https://127.0.0.1:9", 3)
        await world.controller.applied(5)
        assert world.sent(tmp_path / "a.pem") == first.cert_pem
        world.controller.reload(wanted)
        await world.controller.applied(5)
        assert world.sent(tmp_path / "a.pem") == second.cert_pem
        assert world.sent(tmp_path / "a.key") == second.key_pem
        (tmp_path / "a.key").write_bytes(first.key_pem)
        with pytest.raises(check.Problems, match="does not belong to the certificate"):
            world.controller.reload(wanted)
        assert world.sent(tmp_path / "a.key") == second.key_pem

    wanted = config(tmp_path, "a")
    run(wanted, act)


def test_each_pair_is_taken_or_refused_by_itself(tmp_path: Path, caplog: Log) -> None:
    old = {name: ROOT.issue(f"{name}.example") for name in "abc"}
    for name, issued in old.items():
        issued.write(tmp_path, name)
    good, half = ROOT.issue("a.example"), ROOT.issue("b.example")

    async def act(world: World) -> None:
        changed: list[Any] = []
        certificates = world.controller._certificates
        certificates._changed = lambda tls: (changed.append(tls), world.controller._renew(tls))  # type: ignore[assignment, func-returns-value]
        good.write(tmp_path, "a")
        (tmp_path / "b.pem").write_bytes(half.cert_pem)
        (tmp_path / "c.key").unlink()
        certificates.look_again()
        await world.controller.applied(5)
        assert world.sent(tmp_path / "a.pem") == good.cert_pem
        assert world.sent(tmp_path / "a.key") == good.key_pem
        assert world.sent(tmp_path / "b.pem") == old["b"].cert_pem
        assert world.sent(tmp_path / "c.key") == old["c"].key_pem
        whats = [what for what, _ in world.events]
        assert whats.count("certificate refused") == 2
        assert whats.count("certificate changed") == 2
        half.write(tmp_path, "b")
        certificates.look_again()
        await world.controller.applied(5)
        assert world.sent(tmp_path / "b.pem") == half.cert_pem
        assert len(changed) == 2

    with caplog.at_level(logging.INFO):
        run(config(tmp_path, "a", "b", "c", watch=True), act)
    assert "b.key does not belong to the certificate" in caplog.text
    assert "c.key cannot be read: No such file or directory" in caplog.text
    assert "PRIVATE" not in caplog.text


def test_a_change_is_seen(tmp_path: Path) -> None:
    ROOT.issue("a.example").write(tmp_path, "a")
    new = ROOT.issue("a.example")

    async def act(world: World) -> None:
        new.write(tmp_path, "a")
        await world.worker.wait(lambda: world.sent(tmp_path / "a.pem") == new.cert_pem)

    run(config(tmp_path, "a", watch=True), act)


def test_what_nobody_watches_is_not_read(tmp_path: Path) -> None:
    ROOT.issue("a.example").write(tmp_path, "a")

    async def act(world: World) -> None:
        assert world.controller._certificates._watched == {}

    run(config(tmp_path, "a"), act)


def test_reminders(tmp_path: Path, caplog: Log) -> None:
    ROOT.issue("a.example", days=20).write(tmp_path, "a")
    now = time.time()

    async def act(world: World) -> None:
        nonlocal now
        certificates = world.controller._certificates
        assert not [what for what, _ in world.events if what == "certificate expires"]
        for days in (7, 7.5, 8.5):
            now = start + timedelta(days=days).total_seconds()
            certificates._remind()
        (first, second) = [reason for what, reason in world.events if what == "certificate expires"]
        where = f"certificate {tmp_path}/a.pem (a.example; listener 127.0.0.1:8443) expires in"
        assert first.startswith(f"{where} 12 days, on ")
        assert second.startswith(f"{where} 11 days, on ")
        assert [used.where for used in world.controller.certificates] == ["listener 127.0.0.1:8443"]

    start = now
    run(config(tmp_path, "a"), act, wall=lambda: now)


def test_everything_that_ends_is_remembered(tmp_path: Path) -> None:
    middle = pki.Authority("Middle", ROOT, days=5)
    middle.issue("a.example").write(tmp_path, "a")
    (tmp_path / "ca.pem").write_bytes(pki.Authority("Clients", days=6).pem)
    (tmp_path / "crl.pem").write_bytes(ROOT.revoke(next_update_days=0.5) + middle.revoke(next_update_days=3))
    wanted = config(tmp_path, "a", client_ca=str(tmp_path / "ca.pem"), client_crl=str(tmp_path / "crl.pem"))

    async def act(world: World) -> None:
        said = [reason.partition(" expires")[0] for what, reason in world.events if what == "certificate expires"]
        assert said == [
            f"certificate 2 in {tmp_path}/a.pem (CN=Middle; listener 127.0.0.1:8443)",
            f"authority CN=Clients in {tmp_path}/ca.pem",
            f"revocation list of CN=Test Root in {tmp_path}/crl.pem",
        ]

    run(wanted, act)


def test_a_backend_by_https_may_be_added(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        record = world.controller.add_backend("web", "https://127.0.0.1:9")
        await world.controller.applied(5)
        plan = world.controller._fleet._monitor._backends[record.slot].plan
        assert plan.tls is not None
        assert plan.tls.server_name == "127.0.0.1"
        world.controller.remove_backend("web", "https://127.0.0.1:9")

    run(Config.from_simple(["http://127.0.0.1:8"]), act)


def test_unverified_pools_are_said_at_every_start_and_once(tmp_path: Path, caplog: Log) -> None:
    ROOT.issue("a.example").write(tmp_path, "a")

    async def act(world: World) -> None:
        world.controller.set_weight("web", "https://127.0.0.1:9", 3)
        world.controller.reload(wanted)

    wanted = config(tmp_path, "a")
    for starts in (1, 2):
        run(wanted, act)
        assert caplog.text.count("pool web: certificates of its backends are not verified") == starts
