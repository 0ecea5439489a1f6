"""The command line as a newcomer meets it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from .conftest import MakeBackend
from .harness.backends import Backend, echo
from .harness.client import fetch
from .harness.headgate import COMMAND, Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.processes import Processes
from .harness.tools import require
from .harness.waiting import eventually


def test_the_version(processes: Processes) -> None:
    process = processes.run([*COMMAND, "--version"])
    assert re.fullmatch(r"headgate \d+\.\d+\.\d+.*", process.stdout.text.strip())


@pytest.mark.parametrize("subcommand", [[], ["run"], ["proxy"], ["check"], ["demo"]])
def test_help_says_what_there_is(processes: Processes, subcommand: list[str]) -> None:
    said = processes.run([*COMMAND, *subcommand, "--help"]).stdout.text
    wanted = {
        "": ["run", "proxy", "check", "demo"],
        "run": ["-c", "--app-dir"],
        "proxy": ["--listen", "--to", "--strategy", "--health-path", "--sticky", "--timeout", "--no-access-log"],
        "check": ["-c"],
        "demo": [],
    }
    for word in wanted["".join(subcommand)]:
        assert word in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["run"],
        ["run", "--no-such-option"],
        ["proxy", "--listen", ":0"],
        ["proxy", "--listen", "127.0.0.1:0", "--to", "ftp://a"],
        ["proxy", "--listen", "127.0.0.1:0", "--to", "http://a,weight=-1"],
        ["proxy", "--listen", "127.0.0.1:0", "--to", "http://a", "--strategy", "round_robbin"],
        ["proxy", "--listen", "127.0.0.1:0", "--to", "http://a", "--health-interval", "soon"],
    ],
)
def test_wrong_usage_ends_with_2(processes: Processes, arguments: list[str]) -> None:
    process = processes.start([*COMMAND, *arguments])
    assert process.wait_exit() == 2, process.output
    assert process.stderr.text
    assert "Traceback" not in process.stderr.text


def test_proxy_from_flags_alone(processes: Processes, port: HeldPort, make_backend: MakeBackend) -> None:
    light, heavy = make_backend(name="light"), make_backend(name="heavy")
    headgate = Headgate.proxy(
        processes,
        port,
        [light.url, f"{heavy.url},weight=2"],
        *("--strategy", "weighted_round_robin", "--health-interval", "1s", "--health-type", "tcp"),
    )
    names = headgate.names(9)
    assert (names.count("light"), names.count("heavy")) == (3, 6)
    assert [backend["url"].rstrip("/") for backend in headgate.status()] == [light.url, heavy.url]
    headgate.process.stdout.wait_for("GET", count=9)
    assert headgate.stop() == 0


def test_proxy_with_sticky_sessions_and_no_log(processes: Processes, port: HeldPort, three: list[Backend]) -> None:
    urls = [backend.url for backend in three]
    headgate = Headgate.proxy(processes, port, urls, "--sticky", "cookie", "--no-access-log")
    first = headgate.get()
    (line,) = first.headers("set-cookie")
    cookie = [("Cookie", line.split(";")[0])]
    assert {headgate.get("/", cookie).body for _ in range(6)} == {first.body}
    assert headgate.stop() == 0
    assert headgate.process.stdout.matching("GET") == []


@pytest.mark.parametrize("extension", ["toml", "json", "yaml"])
def test_one_schema_in_three_formats(
    processes: Processes, tmp_path: Path, port: HeldPort, make_backend: MakeBackend, extension: str
) -> None:
    backend = make_backend(echo)
    url = backend.url
    text = {
        "toml": f'[[listeners]]\nbind = "{port.bind}"\n[pools.web]\nbackends = ["{url}"]\n',
        "json": json.dumps({"listeners": [{"bind": port.bind}], "pools": {"web": {"backends": [url]}}}),
        "yaml": f"listeners:\n- bind: '{port.bind}'\npools:\n  web:\n    backends: ['{url}']\n",
    }[extension]
    path = tmp_path / f"headgate.{extension}"
    path.write_text(text)
    process = processes.start([*COMMAND, "run", "-c", path])
    eventually(lambda: port.accepts() or not process.running, "the listener to open")
    assert process.running, process.output
    assert fetch(port.address).status == 200


def test_check_accepts_a_port_that_headgate_holds_itself(
    processes: Processes, tmp_path: Path, port: HeldPort, make_backend: MakeBackend
) -> None:
    headgate = Headgate.run(processes, tmp_path, configuration(port, {"web": pool(make_backend().url)}), port)
    process = processes.start([*COMMAND, "check", "-c", tmp_path / "headgate.json"])
    assert process.wait_exit() == 0, process.output
    assert headgate.get().status == 200


def test_the_demo_shows_itself(processes: Processes) -> None:
    """Its own `curl` line works, its backends name themselves, and one that is killed leaves without an error."""
    demo = processes.start([*COMMAND, "demo"])
    (line,) = demo.stderr.wait_for(r"curl .*http://", count=1)[:1]
    match = re.search(r"http://([0-9.]+|localhost):(\d+)", line)
    assert match is not None
    address = ("127.0.0.1", int(match[2]))
    # The command ends where its explanation begins.
    curl = re.search(r"curl \S+(?: \S+)*", line)
    assert curl is not None
    said = processes.run([require("bash"), "-c", curl[0]], timeout_s=20)
    assert said.stdout.text

    bodies = {fetch(address).body for _ in range(9)}
    assert len(bodies) == 3

    (kill,) = demo.stderr.wait_for(r"kill \d+", count=1)[:1]
    victim = re.search(r"kill (\d+)", kill)
    assert victim is not None
    processes.run([require("bash"), "-c", f"kill {victim[1]}"])
    answers = [fetch(address) for _ in range(12)]
    assert {answer.status for answer in answers} == {200}
    eventually(lambda: len({fetch(address).body for _ in range(4)}) == 2, "one of three to be out")
    demo.signal(signal.SIGINT)
    assert demo.wait_exit() == 0
