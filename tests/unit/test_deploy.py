"""The files in deploy/ agree with the program."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.cli import make_parser
from headgate.config.schema import Config
from headgate.config.values import parse_duration

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_kubernetes_configuration_is_one() -> None:
    parts = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert [part["kind"] for part in parts] == ["ConfigMap", "Deployment", "Service"]
    config = Config.from_dict(tomllib.loads(parts[0]["data"]["headgate.toml"]))
    (listener,) = config.listeners
    pod = parts[1]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["ports"][0]["containerPort"] == listener.bind.port
    assert container["readinessProbe"]["httpGet"]["path"] == listener.ready_path
    assert pod["terminationGracePeriodSeconds"] > config.supervisor.drain
    # A probe must have seen the 503 before the listener closes.
    assert config.supervisor.notice > container["readinessProbe"]["periodSeconds"]


def test_the_unit_gives_time_to_drain() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read(DEPLOY / "headgate.service")
    service = unit["Service"]
    assert parse_duration(service["TimeoutStopSec"] + "s") > Config().supervisor.drain
    assert service["Type"] == "notify"
    assert service["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    units = []
    for name in ("headgate.service", "headgate.socket"):
        # It wants the program to be there; where it is installed is the administrator's.
        text = (DEPLOY / name).read_text().replace("/opt/headgate/bin/headgate", "/bin/true")
        units.append(tmp_path / name)
        units[-1].write_text(text)
    done = subprocess.run([tool, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "headgate" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_the_commands_in_the_unit_are_ours() -> None:
    text = (DEPLOY / "headgate.service").read_text()
    commands = re.findall(r"(?m)^ExecStart(?:Pre)?=/opt/headgate/bin/headgate (.*)$", text)
    assert len(commands) == 2
    for command in commands:
        make_parser().parse_args(command.split())


def test_the_kubernetes_objects_fit_together() -> None:
    config_map, deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    assert [one["apiVersion"] for one in (config_map, deployment, service)] == ["v1", "apps/v1", "v1"]
    assert all(one["metadata"]["name"] for one in (config_map, deployment, service))
    spec = deployment["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    # A Deployment whose selector does not choose its own pods is refused.
    assert spec["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels
    pod: dict[str, Any] = spec["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"] for port in container["ports"]}
    asked = [container["readinessProbe"]["httpGet"]["port"], container["livenessProbe"]["tcpSocket"]["port"]]
    assert {*asked, service["spec"]["ports"][0]["targetPort"]} <= ports
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    assert volumes["config"]["configMap"]["name"] == config_map["metadata"]["name"]
    # The arguments are ours, and the file is where they say.
    run = make_parser().parse_args(container["args"])
    assert str(run.config) == f"{mounts['config']}/{next(iter(config_map['data']))}"
    # A process that is told to become nobody in particular cannot listen below 1024.
    config = Config.from_dict(tomllib.loads(config_map["data"]["headgate.toml"]))
    assert container["securityContext"]["runAsNonRoot"] is True
    assert all(listener.bind.port >= 1024 for listener in config.listeners)


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_takes_what_there_is_and_runs_what_is_ours() -> None:
    found = instructions((DEPLOY / "Dockerfile").read_text())
    root = DEPLOY.parent
    installed = ""
    for word, rest in found:
        if word == "COPY" and not rest.startswith("--from"):
            source, target = rest.split()
            # What pip needs to build it, compiled parts included.
            assert all((root / source / name).exists() for name in ("pyproject.toml", "setup.py", "src/headgate"))
            installed = target
        elif word == "COPY":
            stage, source, target = rest.split()
            assert stage == "--from=build"
            assert any(word == "RUN" and f"venv {source}" in rest for word, rest in found)
            # A virtual environment does not bear being moved.
            assert source == target
        elif word == "RUN" and "pip install" in rest:
            package = rest.rpartition("'")[0].rpartition("'")[2]
            assert package.startswith(installed)
            extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert package.partition("[")[2].rstrip("]") in extras
    made = dict(found)
    # The same Python in both stages, or the environment's is not there.
    versions = [rest.split()[0] for word, rest in found if word == "FROM"]
    assert len(set(versions)) == 1
    assert json.loads(made["ENTRYPOINT"]) == ["headgate"]
    run = make_parser().parse_args(json.loads(made["CMD"]))
    assert str(run.config) == "/etc/headgate/headgate.toml"
    assert made["USER"] == "headgate"
    assert f"--no-create-home --home-dir /var/lib/headgate {made['USER']}" in made["RUN"]
