"""The short form of `make soak`; SOAK=seconds makes it longer."""

from __future__ import annotations

import os
import subprocess

import pytest

from . import network, soak
from .conftest import ROOT


def test_mixed_load_with_random_faults() -> None:
    """0 wrong bytes, no growth since the warm-up, counters that add up."""
    if (reason := network.missing()) is not None:
        pytest.skip(reason)
    seconds = float(os.environ.get("SOAK", "8"))
    done = subprocess.run(
        soak.command(seconds, seed=1), cwd=ROOT, capture_output=True, text=True, timeout=seconds + 120
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
