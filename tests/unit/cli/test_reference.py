"""docs/cli.md is what the command line says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli import COMMANDS, main
from headgate.cli.reference import render

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "make it anew: python -m headgate.cli.reference > docs/cli.md"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        assert name in text
        assert main([name, "--help"]) == 0
        assert "exit code" in capsys.readouterr().out or name in ("run", "proxy", "demo", "simulate")
