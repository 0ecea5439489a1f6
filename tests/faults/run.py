"""One row in this process: `python -m tests.faults.run 03-killed_under_load`. The last line printed is the outcome.

With --inside the network namespace is there already: that is how this program calls itself.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from . import network
from .matrix import all_rows
from .world import World


def command(key: str) -> list[str]:
    """Runs a row in namespaces of its own."""
    return network.enclosed([sys.executable, "-m", "tests.faults.run", key, "--inside"])


def run(key: str, directory: Path) -> dict[str, object]:
    """The outcome: error (None when the row held), figures, seconds."""
    network.loopback_up()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    began = time.monotonic()
    world = World(directory, long=os.environ.get("HEADGATE_FAULTS") == "long")
    error = None
    try:
        all_rows()[key].run(world)
        world.finish()
    except BaseException:
        error = traceback.format_exc()
    finally:
        world.close()
    return {"error": error, "figures": world.figures, "seconds": round(time.monotonic() - began, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run")
    parser.add_argument("row", nargs="*", help="such as 03-killed_under_load, or a part of it; none: list them")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        with tempfile.TemporaryDirectory(prefix="headgate-fault-") as directory:
            outcome = run(arguments.row[0], Path(directory))
        print(json.dumps(outcome))
        return 0
    known = all_rows()
    chosen = [key for key in known if any(part in key for part in arguments.row)]
    failed = 0
    for key in chosen:
        done = subprocess.run(command(key), stdout=subprocess.PIPE, text=True)
        outcome = json.loads(done.stdout.splitlines()[-1])
        print(f"{key}: {'FAILED' if outcome['error'] else 'held'} in {outcome['seconds']} s {outcome['figures']}")
        if outcome["error"]:
            print(outcome["error"])
            failed += 1
    if not arguments.row:
        print("\n".join(f"{key}: {row.claim.splitlines()[0]}" for key, row in known.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
