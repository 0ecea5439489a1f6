"""Builds and runs the bare relays: `python -m bench.floor_main relay|splice|uring PORT HOST:PORT...`

`relay` and `splice` are in floor.pyx, on epoll; `uring` is in floor_uring.pyx.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

_HERE = Path(__file__).parent
_RESULTS = _HERE / "results"


def _built(name: str) -> Path:
    return _RESULTS / (name + str(sysconfig.get_config_var("EXT_SUFFIX")))


def build(name: str = "floor") -> None:
    """Compile the relay unless that was done since it was last changed. CalledProcessError when it cannot be."""
    source, target = _HERE / f"{name}.pyx", _built(name)
    changed = max(file.stat().st_mtime for file in (source, _HERE / "sockets.pxd"))
    if target.exists() and target.stat().st_mtime > changed:
        return
    _RESULTS.mkdir(exist_ok=True)
    between = _RESULTS / f"{name}.c"
    subprocess.run([sys.executable, "-m", "cython", "-3", str(source), "-o", str(between)], check=True)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    include = sysconfig.get_path("include")
    subprocess.run([*compiler, "-O2", "-shared", "-fPIC", f"-I{include}", str(between), "-o", str(target)], check=True)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _built(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def uring_refusal() -> str:
    """Builds the relay on io_uring. Why it cannot run here (kernel or headers too old, forbidden), "" where it can."""
    try:
        build("floor_uring")
    except subprocess.CalledProcessError:
        return "it does not compile with the kernel headers of this machine"
    return str(_load("floor_uring").refusal())


def main(how: str, port: int, addresses: list[str]) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4096)
    parts = [address.rpartition(":") for address in addresses]
    backends = [(host, int(number)) for host, _, number in parts]
    if how == "uring":
        _load("floor_uring").relay(listener.fileno(), backends)
    else:
        _load("floor").relay(listener.fileno(), backends, how == "splice")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
