"""Where the default socket is, who gets it, and what was left behind."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from headgate.admin import place
from headgate.config.addresses import Bind
from headgate.runtime.sockets import CannotBind


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({"RUNTIME_DIRECTORY": "/run/lb:/run/other"}, 1000, "/run/lb"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/headgate"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, "/run/user/1000/headgate"),
        ({}, 1000, "/tmp/headgate-1000"),
    ],
)
def test_the_directory(environ: dict[str, str], uid: int, expected: str) -> None:
    assert place.directory(environ, uid) == Path(expected)


def test_the_first_one_has_the_plain_name_and_only_its_user_may_open_it(tmp_path: Path) -> None:
    where = tmp_path / "run"
    first = place.bind_default(where, 1)
    second = place.bind_default(where, 2)
    try:
        assert [bound.bind.path for bound in (first, second)] == [f"{where}/admin.sock", f"{where}/admin-2.sock"]
        assert stat.S_IMODE(os.lstat(first.bind.path).st_mode) == 0o600
        assert stat.S_IMODE(os.lstat(where).st_mode) == 0o700
        assert place.running(where) == [where / "admin.sock", where / "admin-2.sock"]
    finally:
        first.close()
        second.close()
    assert list(where.iterdir()) == []
    assert place.running(where) == []


def test_what_a_killed_one_left_behind_is_removed(tmp_path: Path) -> None:
    for name in ("admin.sock", "admin-7.sock"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / name))
    (tmp_path / "other.sock").touch()
    bound = place.bind_default(tmp_path, 9)
    try:
        assert bound.bind.path == f"{tmp_path}/admin.sock"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["admin.sock", "other.sock"]
    finally:
        bound.close()


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(CannotBind, match="others may write there"):
        place.bind_default(tmp_path, 1)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(CannotBind, match="run: not a directory"):
        place.bind_default(tmp_path / "run", 1)


def test_a_configured_address_belongs_to_one(tmp_path: Path) -> None:
    bind = Bind.parse(f"unix:{tmp_path}/s")
    bound = place.bind_configured(bind)
    try:
        assert stat.S_IMODE(os.lstat(bind.path).st_mode) == 0o600
        with pytest.raises(CannotBind, match="already in use"):
            place.bind_configured(bind)
    finally:
        bound.close()
