"""`python run_supervisor.py CONFIG`: the real supervisor in a process of its own, with fake workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from headgate.config.load import load
from headgate.runtime import controller, processes, supervisor

FAKE = Path(__file__).with_name("fake_worker.py")


def main() -> int:
    real = processes.worker_command

    def command(
        worker: int,
        control: int,
        segment: int,
        app_dir: str | None,
        wakes: Sequence[int] = (),
        decisions: int = -1,
    ) -> list[str]:
        words = real(worker, control, segment, app_dir, wakes, decisions)
        return [words[0], str(FAKE), *words[3:]]

    processes.worker_command = command
    if patience := os.environ.get("FIRST_ROUND_S"):
        controller.FIRST_ROUND_S = float(patience)
    return supervisor.serve(
        load(sys.argv[1]),
        config_path=sys.argv[1],
        app_dir="/",
        watch="--watch" in sys.argv,
        on_ready=lambda: print("ready", flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
