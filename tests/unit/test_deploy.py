"""The files in deploy/ agree with the program."""

from __future__ import annotations

import configparser
import tomllib
from pathlib import Path

import yaml

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
