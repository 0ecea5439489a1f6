"""How many cores a process may use: affinity and quotas, of both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.runtime.cores import available_cores


def tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/a/b\n", {}, 8),
        ("0::/a/b\n", {f"{V2}/a/b/cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {f"{V2}/a/b/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {f"{V2}/a/b/cpu.max": "150000 100000\n"}, 2),
        ("0::/a/b\n", {f"{V2}/a/b/cpu.max": "10000 100000\n"}, 1),
        ("0::/a/b\n", {f"{V2}/a/cpu.max": "300000 100000\n", f"{V2}/a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", {f"{V2}/a/b/cpu.max": "3200000 100000\n"}, 8),
        ("0::/\n", {f"{V2}/cpu.max": "400000 100000\n"}, 4),
        ("0::/../host\n", {f"{V2}/cpu.max": "400000 100000\n"}, 4),
        ("0::/a\n", {f"{V2}/unified/a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a\n", {f"{V2}/a/cpu.max": "nonsense\n"}, 8),
        (
            "4:cpu,cpuacct:/d/x\n3:memory:/\n0::/\n",
            {f"{V1}/d/x/cpu.cfs_quota_us": "500000\n", f"{V1}/d/x/cpu.cfs_period_us": "100000\n"},
            5,
        ),
        # In a container: the path is the host's, the mount is the group itself.
        (
            "4:cpu,cpuacct:/docker/0123\n",
            {f"{V1}/cpu.cfs_quota_us": "200000\n", f"{V1}/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            "4:cpu:/\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
    ],
)
def test_the_smaller_of_affinity_and_quota(tmp_path: Path, groups: str, files: dict[str, str], cores: int) -> None:
    assert available_cores(tree(tmp_path, groups, files), affinity=8) == cores


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert available_cores(tmp_path, affinity=3) == 3


def test_this_machine() -> None:
    assert available_cores() >= 1
