"""A configuration with mistakes: all are named at once, with file, line and key; the exit status is 2."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .harness.headgate import COMMAND
from .harness.ports import HeldPort
from .harness.processes import Process, Processes

GOOD = """\
[[listeners]]
bind = "127.0.0.1:{port}"

[pools.web]
backends = ["http://127.0.0.1:9001"]
"""


def attempt(processes: Processes, path: Path, subcommand: str = "run", *arguments: str | Path) -> Process:
    """Run `headgate run` or `check` with a file that is expected to be refused."""
    return processes.start([*COMMAND, subcommand, "-c", path, *arguments])


def refused(process: Process) -> str:
    """The complaint; the exit status must be 2."""
    assert process.wait_exit() == 2, process.output
    said = process.stderr.text
    assert "Traceback" not in said
    return said


# What is changed in GOOD, and what must be said about it.
MISTAKES: dict[str, tuple[str, str, list[str]]] = {
    "unknown key": ("backends =", "backend =", ["backend", "did you mean", "backends"]),
    "unknown table": ("[pools.web]", "[pool.web]", ["pool", "did you mean", "pools"]),
    "wrong type": ('bind = "127.0.0.1:{port}"', "bind = 8080.5", ["bind"]),
    "wrong type of a list": ('["http://127.0.0.1:9001"]', "5", ["backends"]),
    "no pool": ('[pools.web]\nbackends = ["http://127.0.0.1:9001"]\n', "", ["pool"]),
    "no listener": ('[[listeners]]\nbind = "127.0.0.1:{port}"\n', "", ["listener"]),
    "duplicate listener": ("[pools.web]", '[[listeners]]\nbind = "127.0.0.1:{port}"\n\n[pools.web]', ["bind"]),
    "duplicate backend": ('["http://127.0.0.1:9001"]', '["http://127.0.0.1:9001", "http://127.0.0.1:9001"]', ["9001"]),
    "negative weight": ('"http://127.0.0.1:9001"', '{{ url = "http://127.0.0.1:9001", weight = -1 }}', ["weight"]),
    "weight above 256": (
        '"http://127.0.0.1:9001"',
        '{{ url = "http://127.0.0.1:9001", weight = 257 }}',
        ["weight", "256"],
    ),
    "weight not a number": ('"http://127.0.0.1:9001"', '{{ url = "http://127.0.0.1:9001", weight = "x" }}', ["weight"]),
    "weight nan": ('"http://127.0.0.1:9001"', '{{ url = "http://127.0.0.1:9001", weight = nan }}', ["weight"]),
    "unknown strategy": (
        "[pools.web]",
        '[pools.web]\nstrategy = "round_robbin"',
        ["round_robbin", "did you mean", "round_robin"],
    ),
    "strategy without module": ("[pools.web]", '[pools.web]\nstrategy = "no_such_module:Class"', ["no_such_module"]),
    "bad url": ("http://127.0.0.1:9001", "ftp://127.0.0.1:9001", ["ftp"]),
    "bad port": ("127.0.0.1:9001", "127.0.0.1:99999", ["99999"]),
    "bad duration": ("[pools.web]", '[pools.web]\ntimeouts = {{ connect = "3 parsecs" }}', ["connect", "parsecs"]),
    "bad network": ("[[listeners]]", '[[listeners]]\ntrusted_proxies = ["10.0.0.0/99"]', ["trusted_proxies"]),
    "route to nowhere": ("[pools.web]", '[[routes]]\npool = "wbe"\n\n[pools.web]', ["wbe", "did you mean", "web"]),
    "not TOML": ("[pools.web]", "[pools.web", [":4:", "not TOML"]),
    "unset variable": ("127.0.0.1:9001", "${{HEADGATE_TEST_UNSET}}", ["HEADGATE_TEST_UNSET"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("subcommand", ["run", "check"])
def test_a_mistake_is_named(
    processes: Processes, tmp_path: Path, port: HeldPort, mistake: str, subcommand: str
) -> None:
    before, after, words = MISTAKES[mistake]
    assert before in GOOD, "the test itself is wrong"
    path = tmp_path / "headgate.toml"
    path.write_text(GOOD.replace(before, after).format(port=port.number))
    said = refused(attempt(processes, path, subcommand))
    assert path.name in said
    for word in words:
        assert word.lower() in said.lower(), f"{word!r} is not in:\n{said}"


def test_all_mistakes_are_named_at_once_with_their_lines(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text(
        """\
workers = "many"

[[listeners]]
bind = "nowhere"
colour = "blue"

[pools.web]
backends = [{ url = "http://127.0.0.1:9001", weight = -5 }]
strategy = "round_robbin"
"""
    )
    said = refused(attempt(processes, path, "check"))
    for line, key in [(1, "workers"), (4, "bind"), (5, "colour"), (8, "weight"), (9, "strategy")]:
        assert any(f":{line}" in text and key in text for text in said.splitlines()), (
            f"{key} of line {line} in:\n{said}"
        )


def test_json_and_yaml_are_judged_alike(processes: Processes, tmp_path: Path) -> None:
    tree = {"listeners": [{"bind": "127.0.0.1:8080", "colour": "blue"}], "pools": {"web": {"backends": 5}}}
    as_json, as_yaml = tmp_path / "headgate.json", tmp_path / "headgate.yaml"
    as_json.write_text(json.dumps(tree))
    as_yaml.write_text("listeners:\n- {bind: '127.0.0.1:8080', colour: blue}\npools:\n  web: {backends: 5}\n")
    for path in (as_json, as_yaml):
        said = refused(attempt(processes, path, "check"))
        assert "colour" in said
        assert "backends" in said


def test_a_file_that_is_not_there(processes: Processes, tmp_path: Path) -> None:
    assert "missing.toml" in refused(attempt(processes, tmp_path / "missing.toml"))


def test_a_file_that_cannot_be_read(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text(GOOD.format(port=8080))
    path.chmod(0)
    if os.access(path, os.R_OK):
        # Root may read everything; a directory in its place cannot be read by anybody.
        path.unlink()
        path.mkdir()
    assert path.name in refused(attempt(processes, path))


def test_a_strategy_module_that_raises(processes: Processes, tmp_path: Path, port: HeldPort) -> None:
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('a mistake in the module')\n")
    path = tmp_path / "headgate.toml"
    text = GOOD.replace("[pools.web]", '[pools.web]\nstrategy = "broken_module:Class"')
    path.write_text(text.format(port=port.number))
    said = refused(attempt(processes, path, "check", "--app-dir", tmp_path))
    assert "a mistake in the module" in said
    assert "broken_module" in said


def test_a_good_file_passes_the_check(processes: Processes, tmp_path: Path, port: HeldPort) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text(GOOD.format(port=port.number))
    process = attempt(processes, path, "check")
    assert process.wait_exit() == 0, process.output


def test_variables_are_filled_in(processes: Processes, tmp_path: Path, port: HeldPort) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text(GOOD.replace("{port}", "${{HEADGATE_TEST_PORT:-1}}").format())
    process = processes.start([*COMMAND, "check", "-c", path], env={"HEADGATE_TEST_PORT": str(port.number)})
    assert process.wait_exit() == 0, process.output
