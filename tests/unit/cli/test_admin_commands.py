"""The commands that ask a running balancer: what they do to it, what they say, and how they end."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from headgate.admin import place
from headgate.cli import main
from headgate.cli.admin_client import Connection
from headgate.cli.common import CommandError
from headgate.config.schema import Admin
from headgate.config.validate import validate
from headgate.runtime.reload import ReloadResult

from ..admin.world import TOKEN, TREE, World, serving

Said = pytest.CaptureFixture[str]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with serving(path=tmp_path / "s") as (world, address, _):
        monkeypatch.setenv("HEADGATE_ADMIN", address)
        yield world


def run(said: Said, *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    out = said.readouterr()
    return code, out.out, out.err


def test_status(running: World, capsys: Said) -> None:
    code, out, _ = run(capsys, "status")
    assert code == 0
    assert "pool web: round_robin, 2 of 2 up" in out
    assert "listener 127.0.0.1:18080: open" in out
    code, out, _ = run(capsys, "status", "--json")
    assert json.loads(out)["pools"][0]["name"] == "web"


@pytest.mark.parametrize("word", ["a", "web/a", "http://127.0.0.1:1", "http://127.0.0.1:1/", "web/http://127.0.0.1:1"])
def test_a_backend_may_be_named_in_many_ways(running: World, capsys: Said, word: str) -> None:
    assert run(capsys, "drain", word) == (0, "web/a: draining, weight 1 (draining)\n", "")
    assert running.controller.backend("web", "a").draining


def test_a_backend_is_taken_out_and_given_back(running: World, capsys: Said) -> None:
    assert run(capsys, "drain", "a", "b", "--wait", "5s")[0] == 0
    assert [record.draining for record in running.controller.backends("web")] == [True, True]
    assert run(capsys, "drain", "a", "--deadline", "1h")[0] == 0
    assert run(capsys, "disable", "--pool", "web", "a")[0] == 0
    assert not running.controller.backend("web", "a").enabled
    assert run(capsys, "enable", "a", "b") == (0, "web/a: up, weight 1\nweb/b: up, weight 1\n", "")


def test_status_says_who_serves_instead_and_who_gets_less(tmp_path: Path, capsys: Said) -> None:
    with serving(path=tmp_path / "s") as (world, address, within):
        assert "serves instead" not in run(capsys, "status", "--admin", address)[1]
        one, other = (world.controller.backend("web", name) for name in "ab")
        now_ms = int(time.monotonic() * 1000)
        within(lambda: world.segment.set_backend(one.slot, ramp=(now_ms + 500_000, 10_000), penalty=429))
        within(lambda: world.segment.set_backend(other.slot, ramp=(now_ms, 10_000_000)))
        out = run(capsys, "status", "--admin", address)[1]
        assert re.search(r"\n  a .* gets 10% of its weight: it answered 429 with Retry-After, all of it from 20", out)
        assert re.search(r"\n  b .* gets 10% of its weight: it starts slowly, all of it from 20", out)
        for serves, said in (("pool spare", "; pool spare serves instead\n"), ("", "; requests are answered 503\n")):
            now = {"web": serves}
            within(lambda now=now: world.controller._fleet._outlook._stand_ins.update(now))  # type: ignore[misc]
            assert f" of 2 up{said}" in run(capsys, "status", "--admin", address)[1]


def test_waiting_for_what_does_not_end(tmp_path: Path, capsys: Said) -> None:
    with serving(path=tmp_path / "s") as (world, address, within):
        slot = world.controller.backend("web", "a").slot
        within(lambda: world.segment.add_backend(0, slot, "active", 2))
        code, _, err = run(capsys, "drain", "a", "--wait", "1ms", "--admin", address)
        assert (code, err) == (1, "web/a: 2 requests are still in flight\n")


def test_weight_add_and_remove(running: World, capsys: Said) -> None:
    assert run(capsys, "weight", "a", "9") == (0, "web/a: up, weight 9\n", "")
    code, out, _ = run(capsys, "add", "http://127.0.0.1:7", "--pool", "web", "--name", "c", "--weight", "2")
    assert (code, out) == (0, "web/c: up, weight 2\n")
    assert run(capsys, "remove", "web/c") == (0, "web/c: removed\n", "")
    assert len(running.controller.backends("web")) == 2


def test_a_strategy_with_options(running: World, capsys: Said) -> None:
    assert run(capsys, "strategy", "p2c", "--pool", "web") == (0, "web: p2c\n", "")
    code, _, err = run(capsys, "strategy", "p2c", "--pool", "web", "--option", "depth=3")
    assert code == 2
    assert "no such option" in err
    assert run(capsys, "strategy", "package:Class", "--pool", "web", "--option", "n=3", "--option", "s=x")[0] == 0
    assert running.controller.config.pools["web"].strategy.options == {"n": 3, "s": "x"}


def test_listeners(running: World, capsys: Said) -> None:
    assert run(capsys, "drain", "--listener", "127.0.0.1:18080")[0] == 0
    assert running.listeners[0].state == "draining"
    assert run(capsys, "enable", "--listener", "127.0.0.1:18080")[0] == 0
    code, _, err = run(capsys, "drain", "--listener", "nowhere:1")
    assert code == 2
    assert "127.0.0.1:18080" in err


def test_log_level(running: World, capsys: Said) -> None:
    code, before, _ = run(capsys, "log-level")
    assert code == 0
    assert run(capsys, "log-level", "debug") == (0, "debug\n", "")
    run(capsys, "log-level", before.strip())


def test_events(running: World, capsys: Said) -> None:
    run(capsys, "drain", "a")
    code, out, _ = run(capsys, "events", "-n", "1")
    assert (code, out.split(" ", 1)[1]) == (0, "web/a draining\n")
    assert json.loads(run(capsys, "events", "-n", "1", "--json")[1])["what"] == "draining"


def _heavier() -> Any:
    tree = json.loads(json.dumps(TREE))
    tree["pools"]["web"]["backends"][0]["weight"] = 5
    return tree


def test_plan_and_reload(running: World, capsys: Said, tmp_path: Path) -> None:
    run(capsys, "drain", "b")
    running.read_again = validate(_heavier())
    code, out, _ = run(capsys, "plan")
    assert code == 0
    assert out.splitlines() == [
        "~ pool web, backend a: weight 1 becomes 5",
        "= pool web, backend b: stays draining (at run time)",
    ]
    code, out, _ = run(capsys, "reload")
    assert (code, out.splitlines()[-1]) == (0, "reloaded")
    assert run(capsys, "reload")[1].splitlines()[-1] == "reloaded; the file has nothing new"


def test_plan_of_a_file_against_what_runs(running: World, capsys: Said, tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    path.write_text(json.dumps(_heavier()))
    assert run(capsys, "plan", str(path)) == (0, "~ pool web, backend a: weight 1 becomes 5\n", "")


def test_plan_of_two_files_needs_no_balancer(capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_ADMIN", f"unix:{tmp_path}/nobody")
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(TREE))
    new.write_text(json.dumps(_heavier()))
    assert run(capsys, "plan", str(old), str(new)) == (0, "~ pool web, backend a: weight 1 becomes 5\n", "")
    assert run(capsys, "plan", str(old), str(old)) == (0, "no difference\n", "")
    new.write_text("{")
    assert run(capsys, "plan", str(old), str(new))[0] == 2


def test_a_refused_reload_shows_every_mistake(running: World, capsys: Said) -> None:
    running.read_again = ReloadResult(False, problems=("headgate.toml:1: x", "headgate.toml:2: y"))
    assert run(capsys, "reload") == (2, "", "headgate reload: headgate.toml:1: x\nheadgate.toml:2: y\n")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["drain"], "name backends, or a listener"),
        (["drain", "a", "--listener", "x"], "name backends, or a listener"),
        (["drain", "nonsense"], "there is no backend nonsense (there is: web/a, web/b, api/http://127.0.0.1:3)"),
        (["drain", "a", "--pool", "nowhere"], "there is no pool 'nowhere'"),
        (["add", "http://127.0.0.1:9"], "there are several pools, say which with --pool: web, api"),
        (["add", "127.0.0.1:9", "--pool", "web"], 'did you mean "http://127.0.0.1:9"?'),
        (["weight", "a", "257"], "<= 256"),
        (["strategy", "p2c", "--option", "x"], "is not KEY=VALUE"),
        (["events", "-n", "0"], "1 to 1000"),
        (["plan", "a", "b", "c"], "at most two files"),
        (["top"], "needs a terminal"),
        (["status", "--admin", "ftp://x"], "is neither unix:PATH nor"),
        (["status", "--admin", "http://x/path"], "is not an address"),
        (["status", "--token-file", "/nonexistent"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_told(running: World, capsys: Said, argv: list[str], says: str) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert says in err


def test_two_backends_of_one_name_must_be_told_apart(running: World, capsys: Said) -> None:
    run(capsys, "add", "http://127.0.0.1:9", "--pool", "api", "--name", "a")
    code, _, err = run(capsys, "drain", "a")
    assert (code, err) == (2, "headgate drain: a may be web/a, api/a: say which\n")
    assert run(capsys, "drain", "a", "--pool", "api")[0] == 0


def test_warnings_are_told_and_end_with_1(tmp_path: Path, capsys: Said) -> None:
    state = tmp_path / "missing" / "state.json"
    with serving(path=tmp_path / "s", state_file=state) as (_, address, _):
        code, out, err = run(capsys, "weight", "a", "2", "--admin", address)
        assert (code, out) == (1, "web/a: up, weight 2\n")
        assert "not in the state file" in err


def test_tokens(capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with serving(admin=Admin(token=TOKEN)) as (_, address, _):
        asked = ("log-level", "--admin", address)
        code, _, err = run(capsys, *asked)
        assert code == 4
        assert "HEADGATE_TOKEN" in err
        code, _, err = run(capsys, *asked, "--token", "wrong")
        assert code == 4
        assert "wrong" not in err
        assert run(capsys, *asked, "--token", TOKEN)[0] == 0
        assert run(capsys, *asked, "--token-file", str(file))[0] == 0
        assert run(capsys, "log-level", "--admin", f"http://{address}/", "--token-file", str(file))[0] == 0
        monkeypatch.setenv("HEADGATE_TOKEN", TOKEN)
        assert run(capsys, *asked)[0] == 0


def test_nobody_there(capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("HEADGATE_ADMIN", raising=False)
    code, _, err = run(capsys, "status")
    assert code == 4
    assert f"no socket in {tmp_path}" in err
    code, _, err = run(capsys, "status", "--admin", f"{tmp_path}/s")
    assert code == 4
    assert "no balancer answers" in err


def test_the_only_one_is_found_and_of_several_none(
    capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with serving(path=tmp_path / "admin.sock"):
        assert run(capsys, "log-level")[0] == 0
        with serving(path=tmp_path / "admin-7.sock"):
            code, _, err = run(capsys, "log-level")
            assert code == 4
            assert f"--admin unix:{tmp_path}/admin.sock  (process" in err
            assert f"--admin unix:{tmp_path}/admin-7.sock" in err
    assert place.running() == []


def test_what_is_no_balancer_is_told(capsys: Said) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhmm\n")

        thread = Thread(target=answer)
        thread.start()
        code, _, err = run(capsys, "status", "--admin", f"127.0.0.1:{other.getsockname()[1]}")
        thread.join()
    assert code == 4
    assert "is not a balancer's admin API" in err


def test_paths_are_encoded(tmp_path: Path) -> None:
    with (
        serving(path=tmp_path / "s") as (_, address, _),
        pytest.raises(CommandError, match=re.escape("no backend 'a/../b?x#y'")),
    ):
        Connection(address).get("pools", "web", "backends", "a/../b?x#y")
