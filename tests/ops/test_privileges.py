"""A port below 1024 without root: one capability is enough, and the error says which."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..faults.network import enclosed

# In a network of its own the kernel's limit is 1024 again, whatever this machine's is, and nobody else has port 80.
INSIDE = "ip link set lo up && exec setpriv --inh-caps=-all --bounding-set={caps} -- {command}"


def run(directory: Path, capabilities: str) -> subprocess.Popen[str]:
    for name in ("unshare", "setpriv", "ip"):
        if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            pytest.skip(f"{name} is not installed")
    config = {
        "listeners": [{"bind": "127.0.0.1:80"}],
        "pools": {"web": {"backends": ["http://127.0.0.1:9"], "health": {"type": "none"}}},
    }
    path = directory / "headgate.json"
    path.write_text(json.dumps(config))
    command = f"{sys.executable} -m headgate run -c {path}"
    script = INSIDE.format(caps=capabilities, command=command)
    return subprocess.Popen(
        enclosed(["sh", "-c", script]), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def test_without_any_it_says_what_is_missing(tmp_path: Path) -> None:
    _, said = run(tmp_path, "-all").communicate(timeout=60)
    assert "CAP_NET_BIND_SERVICE" in said, said


def test_with_one_it_listens(tmp_path: Path) -> None:
    process = run(tmp_path, "-all,+net_bind_service")
    assert process.stderr is not None
    said = ""
    try:
        deadline = time.monotonic() + 60
        while "listening on http://127.0.0.1:80" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
            assert time.monotonic() < deadline, said
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
