"""The machine's secret: kept, shared, private, and not the end of the world when it cannot be kept."""

from __future__ import annotations

import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headgate.runtime.secrets import machine_secret, pool_secret, state_directory


def test_it_survives_a_restart_and_is_nobody_elses(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "headgate"
    secret = machine_secret(directory)
    assert len(secret) == 32
    assert machine_secret(directory) == secret
    (kept,) = directory.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert machine_secret(tmp_path / "other") != secret


def test_two_that_start_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: machine_secret(tmp_path), range(16)))
    assert len(machine_secret(tmp_path)) == 32
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_was_cut_off_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "sticky-secret").write_bytes(b"short")
    secret = machine_secret(tmp_path)
    assert len(secret) == 32
    assert machine_secret(tmp_path) == secret


def test_one_that_cannot_be_kept_serves_this_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "headgate.control"):
        assert len(machine_secret(tmp_path / "file" / "x")) == 32
    assert "cannot be kept" in caplog.text


def test_pools_do_not_share_keys() -> None:
    machine = b"m" * 32
    assert pool_secret("", machine, "a") == pool_secret("", machine, "a") != pool_secret("", machine, "b")
    assert pool_secret("configured-by-hand", machine, "a") == b"configured-by-hand"


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_directory({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y"}) == Path("/var/lib/x")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_directory({"XDG_STATE_HOME": "/home/me/state"}) == Path("/home/me/state/headgate")
    assert state_directory({}) == Path.home() / ".local/state/headgate"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_directory({"XDG_STATE_HOME": "/home/me/state"}) == Path("/var/lib/headgate")
