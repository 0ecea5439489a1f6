"""What each endpoint answers, and what it does to the balancer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from headgate.admin.table import TABLE
from headgate.config.schema import Config
from headgate.config.validate import validate
from headgate.engine import stats
from headgate.runtime.reload import ReloadResult

from .client import Reply, ask
from .world import TREE, World, serving


class Admin:
    def __init__(self, world: World, address: str, within: Any) -> None:
        self.world = world
        self.address = address
        self.within = within

    def get(self, target: str, **more: Any) -> Any:
        reply = ask(self.address, "GET", target, **more)
        assert reply.status == 200, reply.body
        return reply.json

    def do(self, method: str, target: str, body: object = None) -> Reply:
        return ask(self.address, method, target, body)


@pytest.fixture
def admin() -> Iterator[Admin]:
    with serving() as (world, address, within):
        yield Admin(world, address, within)


def test_only_what_says_nothing_is_open() -> None:
    assert [one.path for one in TABLE.endpoints if one.open_to_all] == [
        "/",
        "/dashboard/access",
        "/dashboard/{file}",
        "/livez",
        "/readyz",
    ]


def test_without_the_token_nothing_is_told(admin: Admin) -> None:
    for one in TABLE.endpoints:
        path = one.path.replace("{file}", "app.js").replace("{", "").replace("}", "")
        reply = ask(admin.address, one.method, path, token=None)
        assert reply.status == (200 if one.open_to_all else 401)
    # Not even what there is.
    assert ask(admin.address, "GET", "/nothing", token=None).status == 401
    assert "Bearer" in ask(admin.address, "GET", "/status", token=None).headers["www-authenticate"]


def test_readiness(admin: Admin) -> None:
    assert ask(admin.address, "GET", "/readyz", token=None).body == b"ready\n"
    admin.world.ready = False
    reply = ask(admin.address, "GET", "/readyz", token=None)
    assert (reply.status, reply.body) == (503, b"not ready\n")
    assert ask(admin.address, "GET", "/livez", token=None).status == 200


def test_status(admin: Admin) -> None:
    status = admin.get("/status")
    assert status["ready"] is True
    assert status["configFile"] == "headgate.toml"
    assert status["listeners"] == [{"bind": "127.0.0.1:18080", "state": "open"}]
    assert [worker["worker"] for worker in status["workers"]] == [0]
    assert [pool["name"] for pool in status["pools"]] == ["web", "api"]
    assert [(row["pool"], row["name"], row["healthy"]) for row in status["backends"]] == [
        ("web", "a", True),
        ("web", "b", True),
        ("api", "http://127.0.0.1:3", True),
    ]
    assert status["totals"]["requests"] == 0


def test_all_reasons_of_a_backend_are_told(admin: Admin) -> None:
    record = admin.world.controller.backend("web", "a")
    record.checked, record.up, record.health_reason = True, False, "3 checks failed: connection refused"
    admin.do("PUT", "/pools/web/backends/a/weight", {"weight": 0})
    admin.do("POST", "/pools/web/backends/a/drain")
    row = admin.get("/pools/web/backends/a")
    assert row["reasons"] == ["draining", "down: 3 checks failed: connection refused", "weight 0"]
    assert row["addresses"] == ["127.0.0.1:1"]
    assert sorted(row["changed"]) == ["draining", "weight"]


def test_counters(admin: Admin) -> None:
    slot = admin.world.controller.backend("web", "a").slot
    admin.within(lambda: admin.world.segment.add_backend(1, slot, "attempts", 7))
    admin.within(lambda: admin.world.segment.add_worker(0, "requests", 9))
    metrics = admin.get("/metrics.json")
    assert metrics["totals"]["requests"] == 9
    assert [row["totalRequests"] for row in metrics["backends"]] == [7, 0, 0]
    reply = admin.do("GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = reply.body.decode().splitlines()
    assert 'headgate_backend_attempts_total{pool="web",backend="a"} 7' in lines
    assert "headgate_requests_begun_total 9" in lines
    reply = ask(admin.address, "GET", "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.body.endswith(b"# EOF\n")


def test_connections(admin: Admin) -> None:
    slot = admin.world.controller.backend("web", "b").slot
    admin.within(lambda: admin.world.segment.add_backend(0, slot, "active", 2))
    found = admin.get("/connections")
    assert found["backends"] == [{"pool": "web", "backend": "b", "active": 2, "idle": 0}]
    assert [worker["worker"] for worker in found["workers"]] == [0]


def test_secrets_are_masked(admin: Admin) -> None:
    reply = admin.do("GET", "/config")
    assert b"long enough" not in reply.body
    assert reply.json["effective"]["pools"]["api"]["sticky"]["secret"] == "***"


def test_config_shows_what_was_changed(admin: Admin) -> None:
    admin.do("PUT", "/pools/web/backends/a/weight", {"weight": 7})
    config = admin.get("/config")
    assert [row["weight"] for row in config["effective"]["pools"]["web"]["backends"]] == [7, 1]
    assert [row["weight"] for row in config["file"]["pools"]["web"]["backends"]] == [1, 1]
    (change,) = config["changes"]
    assert change["kind"] == "kept"
    assert "weight 7" in change["text"]


def test_events(admin: Admin) -> None:
    before = admin.get("/events")["last"]
    admin.do("POST", "/pools/web/backends/a/drain")
    admin.do("POST", "/pools/web/backends/a/enable")
    found = admin.get(f"/events?after={before}")
    assert [(event["backend"], event["what"]) for event in found["events"]] == [("a", "draining"), ("a", "enabled")]
    assert [event["number"] for event in found["events"]] == [before + 1, before + 2]
    assert len(admin.get("/events?limit=1")["events"]) == 1


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "limit=0", "limit=1001", "nonsense=1", "after=1&after=2", "after"]
)
def test_a_wrong_query_is_refused(admin: Admin, query: str) -> None:
    assert admin.do("GET", f"/events?{query}").status == 400


def test_a_backend_is_added_and_removed(admin: Admin) -> None:
    reply = admin.do("POST", "/pools/web/backends", {"url": "http://127.0.0.1:9", "weight": 3})
    assert reply.status == 201
    assert (reply.json["applied"], reply.json["saved"], reply.json["warning"]) == (True, False, "")
    assert reply.json["backend"]["weight"] == 3
    assert reply.json["backend"]["changed"] == ["added"]
    # By its URL: the path's parts are decoded after they were split.
    path = "/pools/web/backends/" + quote("http://127.0.0.1:9", safe="")
    assert admin.get(path)["name"] == "http://127.0.0.1:9"
    assert admin.do("DELETE", path).json["applied"] is True
    assert admin.do("GET", path).status == 404
    assert admin.do("DELETE", path).status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"url": "http://127.0.0.1:1"}, 409),
        ({"url": "http://127.0.0.1:9", "name": "a"}, 409),
        ({"url": "ftp://x"}, 422),
        ({"url": "http://127.0.0.1:9/path"}, 422),
        ({"url": "http://127.0.0.1:9", "weight": 257}, 422),
        ({"url": "http://127.0.0.1:9", "weight": "1"}, 422),
        ({"url": "http://127.0.0.1:9", "unknown": 1}, 422),
        ({"url": 1}, 422),
        ({}, 422),
        ([], 422),
        (b"{", 400),
        (b"\xff", 400),
    ],
)
def test_what_cannot_be_added_is_refused(admin: Admin, body: object, status: int) -> None:
    reply = ask(admin.address, "POST", "/pools/web/backends", body, headers={"Content-Type": "application/json"})
    assert reply.status == status, reply.body
    assert reply.json["reason"]
    assert len(admin.get("/pools/web/backends")) == 2


def test_a_body_must_say_that_it_is_json(admin: Admin) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
        headers = {"Content-Type": kind}
        body = json.dumps({"url": "http://127.0.0.1:9"}).encode()
        assert ask(admin.address, "POST", "/pools/web/backends", body, headers=headers).status == 415


@pytest.mark.parametrize(
    ("how", "flag", "state"), [("drain", stats.DRAINING, "draining"), ("disable", stats.ENABLED, "disabled")]
)
def test_a_backend_is_taken_out_and_given_back(admin: Admin, how: str, flag: int, state: str) -> None:
    slot = admin.world.controller.backend("web", "a").slot
    before = admin.world.segment.backend_flags(slot)
    generation = admin.world.segment.generation
    reply = admin.do("POST", f"/pools/web/backends/a/{how}")
    assert reply.json["backend"]["state"] == state
    # Before the answer is sent, whatever a worker picks next goes by it.
    assert admin.world.segment.backend_flags(slot) & flag != before & flag
    assert admin.world.segment.generation > generation
    reply = admin.do("POST", "/pools/web/backends/a/enable")
    assert reply.json["backend"]["state"] == "up"
    assert admin.world.segment.backend_flags(slot) == before


@pytest.mark.parametrize(("body", "status"), [({"deadline": 60}, 200), ({"deadline": 0}, 422), ({"deadlin": 1}, 422)])
def test_a_drain_may_have_a_deadline(admin: Admin, body: object, status: int) -> None:
    assert admin.do("POST", "/pools/web/backends/a/drain", body).status == status
    assert admin.world.controller.backend("web", "a").draining is (status == 200)


def test_a_weight_is_set(admin: Admin) -> None:
    slot = admin.world.controller.backend("web", "a").slot
    assert admin.do("PUT", "/pools/web/backends/a/weight", {"weight": 256}).status == 200
    assert admin.world.segment.backend_weight(slot) == 256
    assert admin.do("PUT", "/pools/web/backends/a/weight", {"weight": 257}).status == 422
    assert admin.do("PUT", "/pools/web/backends/z/weight", {"weight": 2}).status == 404
    assert admin.do("PUT", "/pools/nowhere/backends/a/weight", {"weight": 2}).status == 404


def test_a_strategy_is_tried_before_it_is_set(admin: Admin) -> None:
    assert admin.do("PUT", "/pools/web/strategy", {"name": "p2c"}).json["applied"] is True
    assert admin.get("/pools/web")["strategy"] == "p2c"
    assert admin.get("/pools/web")["changed"] == ["strategy"]
    assert admin.do("PUT", "/pools/web/strategy", {"name": "p2d"}).status == 422
    admin.world.refuses = 'pools.web.strategy: there is no module "nowhere"'
    reply = admin.do("PUT", "/pools/web/strategy", {"name": "nowhere:Class"})
    assert (reply.status, reply.json["reason"]) == (422, admin.world.refuses)
    assert admin.get("/pools/web")["strategy"] == "p2c"


def _again(**backend: object) -> Config:
    tree = json.loads(json.dumps(TREE))
    tree["pools"]["web"]["backends"][0].update(backend)
    return validate(tree)


def test_plan_and_reload(admin: Admin) -> None:
    admin.do("PUT", "/pools/web/backends/b/weight", {"weight": 9})
    admin.world.read_again = _again(weight=5)
    planned = admin.do("POST", "/plan").json["changes"]
    assert ("changed", "pool web, backend a") in [(change["kind"], change["where"]) for change in planned]
    assert ("kept", "pool web, backend b") in [(change["kind"], change["where"]) for change in planned]
    assert admin.get("/pools/web/backends/a")["weight"] == 1
    assert admin.do("POST", "/reload").json["changes"] == planned
    assert [row["weight"] for row in admin.get("/pools/web/backends")] == [5, 9]


def test_a_refused_reload_tells_every_mistake(admin: Admin) -> None:
    admin.world.read_again = ReloadResult(False, problems=("headgate.toml:1: x", "headgate.toml:2: y"))
    for target in ("/reload", "/plan"):
        reply = admin.do("POST", target)
        assert reply.status == 422
        assert reply.json["problems"] == ["headgate.toml:1: x", "headgate.toml:2: y"]


def test_a_configuration_is_compared_with_what_runs(admin: Admin) -> None:
    tree = json.loads(json.dumps(TREE))
    del tree["pools"]["web"]["backends"][1]
    (change,) = admin.do("POST", "/plan", {"config": tree}).json["changes"]
    assert (change["kind"], change["where"]) == ("removed", "pool web, backend b")
    reply = admin.do("POST", "/plan", {"config": {"pools": {"web": {}}, "nonsense": 1}})
    assert reply.status == 422
    assert len(reply.json["problems"]) >= 2


def test_listeners_are_drained_and_opened(admin: Admin) -> None:
    path = "/listeners/" + quote("127.0.0.1:18080", safe="")
    admin.do("POST", f"{path}/drain")
    assert admin.get("/status")["listeners"] == [{"bind": "127.0.0.1:18080", "state": "draining"}]
    admin.do("POST", f"{path}/open")
    assert admin.get("/status")["listeners"][0]["state"] == "open"
    assert admin.do("POST", "/listeners/elsewhere/drain").status == 404


def test_log_level(admin: Admin) -> None:
    logger = logging.getLogger("headgate")
    before = logger.level
    try:
        assert admin.do("PUT", "/log-level", {"level": "debug"}).json == {"level": "debug"}
        assert logger.level == logging.DEBUG
        assert admin.get("/log-level") == {"level": "debug"}
        assert admin.do("PUT", "/log-level", {"level": "loud"}).status == 422
    finally:
        logger.setLevel(before)


def test_a_worker_that_does_not_answer_is_told_of(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.admin.changes.APPLY_S", 0.05)
    admin.world.answers = False
    reply = admin.do("PUT", "/pools/web/backends/a/weight", {"weight": 2})
    assert reply.status == 200
    assert (reply.json["applied"], reply.json["warning"]) == (False, "not every worker runs it yet")


def test_wrong_methods_are_told_the_right_ones(admin: Admin) -> None:
    reply = admin.do("DELETE", "/status")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert admin.do("GET", "/reload").headers["allow"] == "POST"
    assert admin.do("OPTIONS", "/log-level").headers["allow"] == "GET, HEAD, PUT"


@pytest.mark.parametrize(
    "target", ["/pools//backends", "/pools/web/", "/pools/%ff", "/status/", "//status", "/pools/%2e%2e"]
)
def test_paths_are_taken_as_they_are(admin: Admin, target: str) -> None:
    assert admin.do("GET", target).status in (400, 404)
