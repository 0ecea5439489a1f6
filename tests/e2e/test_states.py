"""What happens to backends and pools is told in three places: the status page, /metrics, and the log; with its cause,
at its begin and at its end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .conftest import MakeBackend, Run
from .harness.backends import Connection
from .harness.headgate import Headgate, configuration, pool
from .harness.ports import HeldPort
from .harness.waiting import eventually
from .test_metrics import Metrics

HEALTH = {"type": "tcp", "interval": "100ms", "fall": 1, "rise": 1}
BREAKER = {"failure_threshold": 2, "failure_rate": False, "recovery": "200ms", "success_threshold": 1}


def pool_status(headgate: Headgate) -> dict[str, Any]:
    return {row["name"]: row for row in headgate.get("/lb/status").json()["pools"]}


def test_states_and_causes_are_in_status_metrics_and_log(
    make_backend: MakeBackend, run: Run, port: HeldPort, tmp_path: Path
) -> None:
    mood = ["well"]

    def moody(connection: Connection) -> None:
        for _ in connection.each():
            if mood[0] == "busy":
                connection.respond(b"a", "503 Service Unavailable", [("Retry-After", "1")])
            else:
                connection.respond(b"a", "200 OK" if mood[0] == "well" else "500 Internal Server Error")

    a, b, spare = make_backend(moody, "a"), make_backend(name="b"), make_backend(name="spare")
    web = [{"url": a.url, "name": "a"}, {"url": b.url, "name": "b"}]
    pools = {
        "web": pool(*web, health=HEALTH, breaker=BREAKER, slow_start="1s", fallback="reserve"),
        "reserve": pool(spare.url),
    }
    admin = {"bind": f"unix:{tmp_path}/admin.sock"}
    headgate = run(configuration(port, pools, routes=[{"pool": "web"}], admin=admin))
    metrics = Metrics(tmp_path)

    def row() -> dict[str, Any]:
        headgate.get()
        return headgate.backend(a.url)

    def told(pattern: str) -> None:
        eventually(lambda: re.search(pattern, headgate.process.output), f"{pattern!r} in the log")

    def counted(name: str, **labels: str) -> float:
        where = {"pool": "web"} if name.startswith("headgate_pool") else {"pool": "web", "backend": "a"}
        return metrics.sum(name, **where, **labels)

    # It asks for less.
    assert (row()["penalty"], row()["wholeAt"]) == (None, None)
    mood[0] = "busy"
    eventually(lambda: row()["penalty"], "its penalty")
    shown = row()
    assert (shown["penalty"]["status"], shown["part"]) == (503, 0.1)
    assert shown["penalty"]["reason"] == "it answered 503 with Retry-After"
    assert shown["since"] < shown["penalty"]["until"] < shown["wholeAt"]
    assert counted("headgate_backend_weight_part") < 1
    assert counted("headgate_pool_backends_penalized") == 1
    assert counted("headgate_pool_penalties_total", status="503") == 1
    assert counted("headgate_pool_penalties_total", status="429") == 0
    told(r"backend web/a gets less: it answered 503 with Retry-After, for 1 s")
    mood[0] = "well"
    eventually(lambda: row()["penalty"] is None, "its share to be whole again")
    assert row()["part"] == counted("headgate_backend_weight_part") == 1
    assert counted("headgate_pool_backends_penalized") == 0
    told(r"backend web/a has its share: it answers no 503 with Retry-After any more")
    assert headgate.process.output.count("gets less") == 1

    # It fails, is ejected, and fails when it is tried.
    mood[0] = "ill"
    eventually(lambda: row()["state"] == "ejected", "its ejection")
    assert counted("headgate_pool_ejections_total", cause="consecutive_failures") == 1
    told(r"backend web/a ejected: 2 failures in a row: server error 500; out for 0.2 s")
    told(r"backend web/a half-open: probing after 0.2 s")
    eventually(lambda: row() and counted("headgate_pool_ejections_total", cause="probe_failed"), "a failed probe")
    told(r"backend web/a ejected: probe failed: server_error; out for 0.4 s")
    mood[0] = "well"
    eventually(lambda: row()["state"] == "up", "it to be back")
    assert counted("headgate_backend_breaker_state") == 0
    told(r"backend web/a readmitted: probe succeeded\n(.*\n)*.*backend web/a starts slowly: its share grows for 1 s")
    told(r"backend web/a has its share: its slow start is over")
    assert counted("headgate_pool_ejections_total", cause="failure_rate") == 0

    # Nobody is left.
    assert pool_status(headgate)["web"]["standIn"] is None
    assert counted("headgate_pool_fallback_active") == 0
    a.stop()
    b.stop()
    eventually(lambda: pool_status(headgate)["web"]["standIn"] == "pool reserve", "the other pool to stand in")
    assert headgate.get().body == b"spare"
    eventually(lambda: counted("headgate_pool_fallback_active") == 1, "that in the metrics")
    told(r"pool web: nothing routable: 0 of 2 backends are routable: pool reserve serves instead")
    a.start()
    eventually(lambda: pool_status(headgate)["web"]["standIn"] is None, "the pool to serve by itself")
    told(r"pool web: routable again: \d of 2 backends are routable")
    eventually(lambda: counted("headgate_pool_fallback_active") == 0, "that in the metrics")
