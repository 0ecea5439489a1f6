"""`headgate simulate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate.cli import main
from tests.unit.simulate.test_replay import line, traffic

Said = pytest.CaptureFixture[str]
SHORT = ["simulate", "--processes", "1", "--seconds", "0.5", "--seeds", "1", "--load", "50", "--service", "constant"]


def test_help(capsys: Said) -> None:
    assert main(["simulate", "--help"]) == 0
    assert "--log FILE" in capsys.readouterr().out


def test_the_scenario_with_some_strategies(tmp_path: Path, capsys: Said) -> None:
    argv = [*SHORT, "--strategy", "oracle", "--strategy", "peak_ewma,decay=2.5", "--out", str(tmp_path / "new")]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "## Constant service times, load 50 %" in text
    assert "| `peak_ewma (decay 2.5)` |" in text
    assert (tmp_path / "new" / "results.md").read_text() == text
    assert len(json.loads((tmp_path / "new" / "results.json").read_text())["results"]) == 2
    assert (tmp_path / "new" / "constant.svg").read_text().startswith("<svg")


def test_a_strategy_of_ones_own(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "own_for_simulate.py").write_text(
        "class First:\n"
        "    def update(self, backends):\n        self.backends = backends\n"
        "    def pick(self, request, tried):\n        return self.backends[0]\n"
    )
    assert main([*SHORT, "--strategy", "own_for_simulate:First", "--app-dir", str(tmp_path)]) == 0
    assert "| `own_for_simulate:First` |" in capsys.readouterr().out


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.json"
    path.write_bytes(b"".join(traffic(seconds=20)) + b"broken\n" + line(1.0, 0.1, attempts=2))
    return path


def test_a_log(log: Path, tmp_path: Path, capsys: Said) -> None:
    config = tmp_path / "headgate.toml"
    backends = ", ".join(f'{{url = "http://127.0.0.1:{n}", name = "{name}"}}' for n, name in enumerate("abc", 9001))
    config.write_text(
        f'[[listeners]]\nbind = "127.0.0.1:0"\n[pools.web]\nbackends = [{backends}]\nstrategy = "peak_ewma"\n'
    )
    assert main(["simulate", "--log", str(log), "-c", str(config), "--strategy", "least_time"]) == 0
    said = capsys.readouterr()
    rows = [row.split("|")[1].strip() for row in said.out.splitlines() if row.startswith("| `")]
    assert rows == ["`as logged`", "`least_time`", "`peak_ewma`"]
    assert "1 lines could not be read" in said.err
    assert "1 requests failed or took several attempts" in said.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--strategy", "nonsense"], "no strategy 'nonsense'"),
        (["--strategy", "p2c,decay"], "is not key=value"),
        (["--strategy", "p2c,decay=1"], "p2c"),
        (["--load", "0"], "--load"),
        (["--seconds", "-1"], "--seconds"),
        (["--seeds", "0"], "--seeds"),
        (["--pool", "web"], "belong to --log"),
        (["--log", "/nonexistent/log"], "No such file"),
        (["--log", "LOG", "--pool", "api"], "no request of the pool api"),
        (["--log", "LOG", "--load", "50"], "belong to the scenario"),
    ],
)
def test_wrong_usage(argv: list[str], said: str, log: Path, capsys: Said) -> None:
    assert main(["simulate", *(str(log) if word == "LOG" else word for word in argv)]) == 2
    assert said in capsys.readouterr().err
