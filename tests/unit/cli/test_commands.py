"""Command lines: what they ask the supervisor for, what they say, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli import main
from headgate.config.schema import Config, Health, Sticky

from .conftest import Served

GOOD = '[[listeners]]\nbind = "127.0.0.1:0"\n[pools.web]\nbackends = ["http://127.0.0.1:9001"]\n'
Said = pytest.CaptureFixture[str]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "headgate.toml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["proxy", "-h"], ["check", "-h"], ["demo", "-h"]])
def test_help(argv: list[str], capsys: Said) -> None:
    assert main(argv) == 0
    assert "usage: headgate" in capsys.readouterr().out


def test_version(capsys: Said) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("headgate 0.")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["run"],
        ["proxy"],
        ["proxy", "--to", "http://a", "--workers", "0"],
        ["proxy", "--to", "http://a", "--workers", "many"],
        ["proxy", "--to", "http://a", "--retries", "x"],
        ["proxy", "--to", "http://a", "--sticky", "header"],
        ["proxy", "--to", "http://a", "--health-type", "grpc"],
        ["proxy", "--to", "http://a", "--log-level", "loud"],
        ["proxy", "--to", "http://a", "--app-dir", "/nonexistent"],
    ],
)
def test_wrong_usage(argv: list[str], served: Served, capsys: Said) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err
    assert served.calls == []


def test_run(good: Path, served: Served) -> None:
    assert main(["run", "-c", str(good), "--app-dir", str(good.parent)]) == 0
    (call,) = served.calls
    assert call[1:] == (str(good.parent), str(good))
    assert call[0].workers == 1


def test_run_with_flags(good: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(good.parent)
    assert main(["run", "-c", "headgate.toml", "--workers", "auto"]) == 0
    assert served.config.workers == "auto"
    assert served.calls[0][1] == str(good.parent)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_supervisor_has_the_last_word(good: Path, served: Served, code: int) -> None:
    served.exit_code = code
    assert main(["run", "-c", str(good)]) == code


@pytest.mark.parametrize("command", ["run", "check"])
def test_mistakes_are_shown_all_at_once(command: str, tmp_path: Path, served: Served, capsys: Said) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(GOOD.replace("bind", "bnd").replace("http:", "htp:"))
    assert main([command, "-c", str(path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f'{path}:1: listeners[0].bind: is missing (such as "127.0.0.1:8080")',
        f'{path}:2: listeners[0].bnd: unknown key (did you mean "bind"?)',
        f'{path}:4: pools.web.backends[0].url: unknown scheme "htp"'
        ' (a backend is "http://host:port", "https://host:port" or "unix:/path")',
        "3 mistakes in all.",
    ]
    assert served.calls == []


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_file(command: str, served: Served, capsys: Said) -> None:
    assert main([command, "-c", "/nonexistent.toml"]) == 2
    assert capsys.readouterr().err == "/nonexistent.toml: cannot be read: No such file or directory\n"


def test_proxy_with_nothing_but_backends(served: Served) -> None:
    assert main(["proxy", "--to", "http://a:9001", "--to", "unix:/run/app.sock"]) == 0
    assert served.config == Config.from_simple(["http://a:9001", "unix:/run/app.sock"])
    (listener,) = served.config.listeners
    assert (listener.bind.text, listener.status_path) == ("127.0.0.1:8080", "/lb/status")
    assert served.calls[0][2] is None


def test_proxy_with_everything(served: Served) -> None:
    argv = "proxy --listen :8080 --listen unix:/run/hg.sock --to http://a:9001 --to http://b:9002,weight=2,name=big"
    argv += " --strategy weighted_round_robin --health-path /health --health-interval 10s --health-timeout 1s"
    argv += " --sticky cookie --timeout 30s --retries 1 --no-access-log --status-path /s --workers 2 --log-level error"
    assert main(argv.split()) == 0
    config = served.config
    pool = config.pools["web"]
    assert [listener.bind.text for listener in config.listeners] == [":8080", "unix:/run/hg.sock"]
    assert {listener.status_path for listener in config.listeners} == {"/s"}
    assert [(backend.weight, backend.name) for backend in pool.backends] == [(1, "http://a:9001"), (2, "big")]
    assert pool.strategy.name == "weighted_round_robin"
    assert pool.health == Health(type="http", path="/health", interval=10.0, timeout=1.0)
    assert pool.sticky == Sticky(name="headgate_web")
    assert (pool.timeouts.first_byte, pool.timeouts.connect, pool.retry.retries) == (30.0, 3.0, 1)
    assert (config.access_log.format, config.workers) == ("off", 2)


def test_proxy_health_type_alone(served: Served) -> None:
    assert main(["proxy", "--to", "http://a", "--health-type", "none", "--status-path", "off", "--access-log"]) == 0
    assert served.config.pools["web"].health.type == "none"
    assert served.config.listeners[0].status_path is None
    assert served.config.access_log.format == "text"


def test_proxy_speaks_of_flags(served: Served, capsys: Said) -> None:
    argv = "proxy --listen 8080 --to a:9001 --to http://b,weight=x --to http://c,wait=1 --strategy rond_robin"
    argv += " --health-path health --health-interval soon --health-timeout 0 --timeout 5x --retries 99 --status-path s"
    assert main(argv.split()) == 2
    assert capsys.readouterr().err.splitlines() == [
        '--listen: "8080" is not an address (did you mean ":8080"?)',
        '--status-path: "s" does not begin with a slash (did you mean "/s"?)',
        '--to: "a:9001" is not a URL (did you mean "http://a:9001"?)',
        '--to weight: expected a whole number from 0 to 256, got "x"',
        '--to wait: unknown key (did you mean "weight"?)',
        '--health-path: "health" does not begin with a slash (did you mean "/health"?)',
        '--health-interval: "soon" is not a duration (write it as "5s", "500ms", "2m" or "1h")',
        "--health-timeout: must be longer than nothing",
        '--timeout: "5x" is not a duration (write it as "5s", "500ms", "2m" or "1h")',
        "--retries: expected a whole number from 0 to 10, got 99",
        '--strategy: unknown strategy "rond_robin" (did you mean "round_robin"?)',
        "11 mistakes in all.",
    ]
    assert served.calls == []


MODULES = {
    "good": "class Mine:\n def update(self, backends): ...\n def pick(self, request, tried): ...\n",
    "options": "class Mine:\n def __init__(self, size): ...\n def update(self, b): ...\n def pick(self, r, t): ...\n",
    "raises": "raise RuntimeError('broken')\n",
    "exits": "import sys\nsys.exit(0)\n",
    "empty": "",
    "lacks": "class Mine:\n def update(self, backends): ...\n",
}


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ("good", None),
        ("options", "size"),
        ("raises", "RuntimeError: broken"),
        ("exits", "SystemExit"),
        ("empty", "Mine"),
        ("lacks", "pick"),
        ("missing", "there is no module"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check", "proxy"])
def test_own_strategies(
    command: str, module: str, complaint: str | None, tmp_path: Path, served: Served, capsys: Said
) -> None:
    name = f"hg_{command}_{module}"  # modules stay imported, so each test has its own
    if module in MODULES:
        (tmp_path / f"{name}.py").write_text(MODULES[module])
    path = tmp_path / "headgate.toml"
    path.write_text(f'{GOOD}strategy = "{name}:Mine"\n')
    source = (
        ["--to", "http://127.0.0.1:9001", "--strategy", f"{name}:Mine"] if command == "proxy" else ["-c", str(path)]
    )
    code = main([command, *source, "--app-dir", str(tmp_path)])
    said = capsys.readouterr().err
    if complaint is None:
        assert (code, said) == (0, "")
        return
    assert code == 2
    assert complaint in said
    assert said.startswith("--strategy: " if command == "proxy" else f"{path}:5: pools.web.strategy: ")
    assert served.calls == []
