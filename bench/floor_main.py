"""Builds and runs the bare relay of floor.pyx: `python -m bench.floor_main relay|splice PORT HOST:PORT...`"""

from __future__ import annotations

import importlib.util
import os
import shlex
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("floor.pyx")
BUILT = SOURCE.parent / "results" / ("floor" + sysconfig.get_config_var("EXT_SUFFIX"))


def build() -> None:
    """Compile the relay unless that was done since it was last changed."""
    if BUILT.exists() and BUILT.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    BUILT.parent.mkdir(exist_ok=True)
    source = BUILT.parent / "floor.c"
    subprocess.run([sys.executable, "-m", "cython", "-3", str(SOURCE), "-o", str(source)], check=True)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    include = sysconfig.get_path("include")
    subprocess.run([*compiler, "-O2", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(BUILT)], check=True)


def main(how: str, port: int, addresses: list[str]) -> None:
    spec = importlib.util.spec_from_file_location("floor", BUILT)
    assert spec is not None
    assert spec.loader is not None
    floor = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(floor)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4096)
    parts = [address.rpartition(":") for address in addresses]
    floor.relay(listener.fileno(), [(host, int(number)) for host, _, number in parts], how == "splice")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
