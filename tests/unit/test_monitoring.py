"""Alert rules and the Grafana dashboard: valid, and about metrics that exist."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from headgate.observe.metric import PREFIX
from headgate.observe.metrics import METRICS

from ..e2e.harness.tools import require

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus-alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
# What stands for what Grafana puts in.
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$pool": ".*"}


def promtool(*arguments: str) -> str:
    done = subprocess.run([require("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def known_series() -> dict[str, set[str]]:
    """Every name that samples have, with its labels."""
    found = {}
    for metric in METRICS:
        names = [metric.full_name]
        if metric.kind == "histogram":
            names = [f"{metric.full_name}_{suffix}" for suffix in ("bucket", "sum", "count")]
        for name in names:
            found[name] = {*metric.labels, *(["le"] if name.endswith("_bucket") else []), "instance", "job"}
    return found


def assert_known(expression: str) -> None:
    """It names metrics that exist, and filters by labels that they have."""
    known = known_series()
    names = re.findall(rf"\b{PREFIX}\w+", expression)
    assert names or expression.startswith("up"), expression
    for name in names:
        assert name in known, f"{name} in {expression}"
    for name, selector in re.findall(rf"\b({PREFIX}\w+)\{{([^}}]*)\}}", expression):
        filtered = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert filtered <= known[name], f"{filtered - known[name]} of {name}"
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        wanted = {label.strip() for label in grouped.split(",")}
        assert any(wanted <= known[name] for name in names), f"{grouped} in {expression}"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_alert_rules_are_valid_and_say_when() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(ALERTS.with_suffix(".test.yml")))


def test_every_alert_is_tested_and_about_metrics_that_exist() -> None:
    tested = ALERTS.with_suffix(".test.yml").read_text()
    for rule in alerts():
        assert_known(rule["expr"])
        assert rule["labels"]["severity"] in ("page", "ticket")
        # That it fires, beside that it does not when all is well.
        fires = rf'alertname: {rule["alert"]}\n\s+exp_alerts|alertname="{rule["alert"]}"'
        assert re.search(fires, tested), rule["alert"]


def test_documents_name_metrics_that_exist() -> None:
    known = {*known_series(), *(metric.full_name for metric in METRICS)}
    for page in (ROOT / "docs").glob("*.md"):
        for name in re.findall(rf"`({PREFIX}\w+)[`{{]", page.read_text()):
            assert name in known, f"{name} in {page.name}"


def panels() -> Iterator[dict[str, Any]]:
    yield from json.loads(DASHBOARD.read_text())["panels"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def test_the_dashboard_is_the_one_of_its_script() -> None:
    spec = importlib.util.spec_from_file_location("grafana_dashboard", ROOT / "tools" / "grafana_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = json.dumps(script.dashboard(), indent=1) + "\n"
    assert DASHBOARD.read_text() == made, "python tools/grafana_dashboard.py > deploy/grafana-dashboard.json"


def test_every_query_parses_and_names_metrics_that_exist(tmp_path: Path) -> None:
    rules = []
    for number, query in enumerate(queries()):
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        assert "$" not in query, query
        assert_known(query)
        rules.append({"record": f"panel:query:{number}", "expr": query})
    assert len(rules) > 40
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(path))


def test_the_dashboard_is_laid_out() -> None:
    document = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in document["panels"]]
    assert len(set(ids)) == len(ids)
    covered: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = set(itertools.product(columns, lines))
        assert not covered & cells, panel["title"]
        covered |= cells
        if panel["type"] != "row":
            assert panel["targets"]
            assert panel["datasource"]["uid"] == "${source}"
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    names = {variable["name"] for variable in document["templating"]["list"]}
    assert {"source", "instance", "pool"} <= names
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            assert_known(variable["definition"].removeprefix("label_values(").rpartition(",")[0])
