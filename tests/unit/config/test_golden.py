"""Configurations with mistakes, and exactly what is said about each.

`tests/golden/config/NAME` is the file, `NAME.expected` the report. After a deliberate change of a message, write the
reports anew with HEADGATE_UPDATE_GOLDEN=1 and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headgate.config.load import load
from headgate.config.problems import ConfigError

DIRECTORY = Path(__file__).parents[2] / "golden" / "config"
CASES = sorted(path.name for path in DIRECTORY.iterdir() if path.suffix != ".expected")
ENVIRON = {"PORT": "8080", "EMPTY": ""}


@pytest.mark.parametrize("name", CASES)
def test_every_mistake_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DIRECTORY)
    with pytest.raises(ConfigError) as caught:
        load(name, ENVIRON)
    report = f"{caught.value}\n"
    expected = DIRECTORY / f"{name}.expected"
    if os.environ.get("HEADGATE_UPDATE_GOLDEN"):
        expected.write_text(report, encoding="utf-8")
    assert report == expected.read_text(encoding="utf-8")


def test_every_report_has_its_configuration() -> None:
    reports = {path.name.removesuffix(".expected") for path in DIRECTORY.glob("*.expected")}
    assert reports == set(CASES)
