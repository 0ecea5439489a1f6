"""What the kernel says of processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from headgate.observe.processes import Processes


def test_this_process() -> None:
    looked = Processes().look([("me", os.getpid()), ("nobody", 2**22 + 1)])
    (me,) = looked
    assert me.name == "me"
    used = os.times()
    assert me.cpu_s == pytest.approx(used.user + used.system, abs=0.5)
    assert me.resident_bytes > 2**20
    assert me.open_fds is not None
    assert me.open_fds >= 3
    assert me.max_fds is None or me.max_fds >= me.open_fds
    assert 0 <= time.time() - me.started_s < 86400


def stat(directory: Path, pid: int, ticks: int) -> None:
    place = directory / str(pid)
    place.mkdir(exist_ok=True)
    fields = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 6, "100", "0", "3", *["0"] * 20]
    (place / "stat").write_text(f"{pid} (a (nasty) name) {' '.join(fields)}\n")


def test_processor_time_never_goes_back(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu 1\nbtime 1000\n")
    processes = Processes(tmp_path)
    tick_s = 1 / os.sysconf("SC_CLK_TCK")

    def cpu(pid: int) -> float:
        return processes.look([("worker-0", pid)])[0].cpu_s

    stat(tmp_path, 10, 500)
    assert cpu(10) == pytest.approx(500 * tick_s)
    stat(tmp_path, 10, 600)
    assert cpu(10) == pytest.approx(600 * tick_s)
    stat(tmp_path, 11, 5)  # worker 0 died and was replaced
    assert cpu(11) == pytest.approx(605 * tick_s)
    stat(tmp_path, 11, 7)
    assert cpu(11) == pytest.approx(607 * tick_s)


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("btime 1000\n")
    stat(tmp_path, 10, 1)
    (shown,) = Processes(tmp_path).look([("gone", 9), ("here", 10)])
    assert (shown.name, shown.open_fds, shown.max_fds) == ("here", None, None)
    assert shown.started_s == pytest.approx(1000 + 100 / os.sysconf("SC_CLK_TCK"))
    assert shown.resident_bytes == 3 * os.sysconf("SC_PAGE_SIZE")
