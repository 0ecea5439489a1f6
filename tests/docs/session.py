"""The commands of a page, run in order by one shell on a machine of its own: a network with nothing in it but loopback,
so that :8080 is free, an empty /run, and process ids that end with it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .page import Block

LONGEST_S = 120.0
_MARK, _END = "@@ block", "@@ end"
_START = "ip link set lo up && mount -t tmpfs none /run && mkdir -p /run/app && exec bash page.sh"
# For ports that something in the background opens: no command goes on before, as a reader would not.
_WAIT = """\
await() { for port; do for _ in $(seq 500); do
  if (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; then continue 2; fi; sleep 0.05
done; echo "nothing listens on $port" >&2; return 1; done; }
"""


def missing() -> str:
    """Why pages cannot be run here, or nothing."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "needs unshare and ip (util-linux, iproute2)"
    tried = subprocess.run([*_own_machine(), "true"], capture_output=True, text=True, check=False)
    return f"may not make a network namespace: {tried.stderr.strip()}" if tried.returncode else ""


def _own_machine() -> list[str]:
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *root, "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _tools(directory: Path) -> None:
    """The commands that a reader has after installing: headgate, and the Python it was installed for."""
    directory.mkdir()
    python = shlex.quote(sys.executable)
    tools = dict.fromkeys(("python", "python3"), f'#!/bin/sh\nexec {python} "$@"\n')
    tools["gunicorn"] = f'#!/bin/sh\nexec {python} -m gunicorn "$@"\n'
    # As pip makes it: its process is called headgate, too.
    tools["headgate"] = f"#!{sys.executable} -P\nimport sys\nfrom headgate.cli import main\nsys.exit(main())\n"
    for name, text in tools.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)


def script(page: Sequence[Block]) -> str:
    """The page as a program for bash. Each block of `sh` says its line before it begins."""
    parts = ["set -euo pipefail", _WAIT]
    for block in page:
        if ports := block.notes.get("wait"):
            parts.append(f"await {ports}")
        if name := block.notes.get("file"):
            folder = str(Path(name).parent)
            parts.append(f"mkdir -p {shlex.quote(folder)}\ncat > {shlex.quote(name)} <<'@@'\n{block.text}@@")
        elif block.language == "sh" and "not run" not in block.notes:
            # What goes on in the background writes on the same terminal, whenever it likes: that goes elsewhere.
            text = re.sub(r"^(.*\S) &$", r"\1 >> background 2>&1 &", block.text.rstrip("\n"), flags=re.MULTILINE)
            parts.append(f'echo "{_MARK} {block.line}"')
            if "fails" in block.notes:
                *before, last = text.split("\n")
                parts += [*before, f"if {last}\nthen echo 'it did not fail'; exit 1; fi"]
            elif "until" in block.notes:
                *before, last = re.sub(r"\\\n\s*", "", text).split("\n")
                parts += [*before, f"{last.partition(' #')[0]} >> background 2>&1 &", "LAST=$!"]
                parts.append(f"await {block.notes['until']}")
            else:
                parts.append(text)
    parts.append(f'echo "{_END}"')
    return "\n".join(parts) + "\n"


def run(page: Sequence[Block], directory: Path, root: Path) -> dict[int, str]:
    """What each block of `sh` printed (standard output and error), by its line. AssertionError when a command fails."""
    work = directory / "work"
    work.mkdir()
    _tools(directory / "bin")
    (work / "page.sh").write_text(script(page))
    (work / "examples").symlink_to(root / "examples")
    environment = {
        "PATH": f"{directory / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "PYTHONPATH": str(root / "src"),
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
    }
    output = directory / "output"
    with output.open("w") as stream:
        done = subprocess.run(
            [*_own_machine(), "sh", "-c", _START],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            timeout=LONGEST_S,
            check=False,
        )
    text = output.read_text(errors="replace")
    assert done.returncode == 0, f"exit status {done.returncode}:\n{text[-4000:]}"
    text, end, _ = text.partition(_END)
    assert end, text[-4000:]
    printed: dict[int, str] = {}
    for part in re.split(rf"^{_MARK} ", text, flags=re.MULTILINE)[1:]:
        line, _, rest = part.partition("\n")
        printed[int(line)] = printed.get(int(line), "") + rest
    return printed
