"""The worker's side of the control channel: what a worker is told, what it then is, what it answers."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import msgspec
import pytest

from headgate.config.schema import Config, Listener
from headgate.engine.stats import CHECKED, ENABLED, PRESENT
from headgate.runtime.messages import (
    Addresses,
    Applied,
    Apply,
    Drain,
    Drained,
    Hello,
    Listen,
    Log,
    Rejected,
    ReopenLogs,
    Stop,
)
from tests.unit.runtime.fake_engine import Route
from tests.unit.runtime.strategies_for_tests import HERE, Last
from tests.unit.runtime.worker_world import WORKER, World, config, pool_tree, with_pool, world

DOWN = PRESENT | ENABLED | CHECKED


def listening_socket() -> int:
    with socket.socket() as sock:
        return os.dup(sock.fileno())


def listen(w: World, wanted: Config, index: int = 0) -> None:
    w.tell(Listen(wanted.listeners[index]), [listening_socket()])


def pool_of(route: Route | None) -> str | None:
    return route.pool.name if route is not None else None


# Coming up


def test_a_worker_introduces_itself_first() -> None:
    w = World()
    assert w.said == [Hello(WORKER, os.getpid())]


def test_a_snapshot_is_acknowledged_once_it_is_in_force() -> None:
    with world() as w:
        assert w.heard(Applied) == [Applied(1)]
        assert w.segment.worker_totals(WORKER)["generation"] == 1
        assert w.picks(3) == ["b1", "b2", "b3"]
        assert w.backend("b2").addresses == [f"address {w.slot('web', 'b2')}".encode()]


# What stays when something changes


def test_an_unchanged_snapshot_changes_nothing() -> None:
    wanted = config(web=pool_tree(strategy=f"{HERE}:Last", sticky="cookie"))
    with world(wanted) as w:
        listen(w, wanted)
        before = (w.pool(), list(w.glue().backends), w.glue().strategies, w.listener(), w.listener().only_route)
        w.apply(wanted)
        after = (w.pool(), list(w.glue().backends), w.glue().strategies, w.listener(), w.listener().only_route)
        assert before == after
        strategy = w.glue().strategies[0]
        assert isinstance(strategy, Last)
        assert len(strategy.sets) == 1
        assert w.heard(Applied)[-1] == Applied(2)


def test_a_backend_more_leaves_the_others_as_they_are() -> None:
    with world(config(web=pool_tree(2))) as w:
        kept = [w.backend("b1"), w.backend("b2")]
        w.apply(config(web=pool_tree(3)))
        assert [w.backend("b1"), w.backend("b2")] == kept
        assert set(w.picks(3)) == {"b1", "b2", "b3"}


def test_a_removed_backend_gets_no_request_and_loses_its_connections_when_the_last_one_ends() -> None:
    with world() as w:
        gone = w.backend("b2")
        gone.idle, gone.active = 3, 1
        w.apply(config(web=pool_tree(1)))
        assert w.picks(3) == ["b1"] * 3
        assert (gone.eligible, gone.bound_ok, gone.idle) == (False, False, 0)
        gone.idle = 1  # its request ended well, and left the connection behind
        gone.active = 0
        w.engine.pass_time(1)
        assert gone.idle == 0


def test_a_name_with_another_slot_is_another_backend() -> None:
    with world() as w:
        old = w.backend("b1")
        snapshot = w.snapshot(config())
        slots = {**snapshot.backend_slots, ("web", "b1"): 20}
        w.segment.set_backend(20, flags=DOWN, weight=1)
        w.tell(Apply(msgspec.structs.replace(snapshot, backend_slots=slots)))
        assert w.backend("b1") is not old
        assert w.eligible() == ["b2", "b3"]


def test_another_strategy_takes_over_and_the_old_ones_state_is_gone() -> None:
    wanted = config(web=pool_tree(strategy=f"{HERE}:Last"))
    with world(wanted) as w:
        assert w.picks(2) == ["b3", "b3"]
        w.apply(config())
        assert w.picks(3) == ["b1", "b2", "b3"]
        assert w.pool().done is None
        w.apply(wanted)
        assert [spec.name for spec in w.made] == [f"{HERE}:Last", "round_robin", f"{HERE}:Last"]


def test_another_option_is_another_strategy() -> None:
    with world(config(web=pool_tree(strategy={"name": f"{HERE}:Last", "note": "a"}))) as w:
        w.apply(config(web=pool_tree(strategy={"name": f"{HERE}:Last", "note": "b"})))
        strategy = w.glue().strategies[0]
        assert isinstance(strategy, Last)
        assert strategy.note == "b"


def test_settings_of_a_pool_change_in_place() -> None:
    wanted = config()
    with world(wanted) as w:
        listen(w, wanted)
        pool, route = w.pool(), w.listener().only_route
        timeouts = msgspec.structs.replace(wanted.pools["web"].timeouts, first_byte=1.0)
        w.apply(with_pool(wanted, "web", timeouts=timeouts))
        assert w.pool() is pool
        assert pool.config.timeouts.first_byte == 1.0
        assert w.listener().only_route is not route, "a route carries its pool's timeouts"


def test_pools_come_and_go() -> None:
    with world(config({"routes": [{"pool": "web"}]})) as w:
        old = w.pool()
        two = {"routes": [{"pool": "api", "path_prefix": "/api"}, {"pool": "shop"}]}
        w.apply(config(two, api=pool_tree(1), shop=pool_tree(1, first=5)))
        assert set(w.agent.pools) == {"api", "shop"}
        assert w.picks(1, "shop") == ["b5"]
        assert old.choose() is None


# All or nothing


def test_a_strategy_that_cannot_be_built_leaves_the_worker_as_it_was() -> None:
    with world() as w:
        routes = {"routes": [{"pool": "web"}, {"pool": "api", "path_prefix": "/api"}]}
        w.apply(config(routes, web=pool_tree(1), api=pool_tree(strategy="no_such.module:Class")))
        (rejected,) = w.heard(Rejected)
        assert rejected.generation == 2
        assert "no_such" in rejected.text
        assert set(w.agent.pools) == {"web"}
        assert w.picks(3) == ["b1", "b2", "b3"]
        w.apply(config(web=pool_tree(1)))
        assert w.picks(2) == ["b1", "b1"]
        assert w.heard(Applied)[-1] == Applied(3)


def test_a_log_file_that_cannot_be_opened_leaves_the_worker_as_it_was() -> None:
    with world(config({"access_log": {"path": "/var/log/a"}})) as w:
        w.apply(config({"access_log": {"path": "/not/there/log"}}, web=pool_tree(1)))
        (rejected,) = w.heard(Rejected)
        assert "/not/there/log" in rejected.text
        assert w.engine.access_log.config.path == "/var/log/a"
        assert set(w.picks(3)) == {"b1", "b2", "b3"}


# Addresses


def test_addresses_change_and_connections_to_old_ones_go() -> None:
    with world() as w:
        backend, other = w.backend("b1"), w.backend("b2")
        backend.idle = other.idle = 2
        w.tell(Addresses(w.slot("web", "b1"), [b"address x"]))
        assert backend.addresses == [b"address x"]
        assert (backend.idle, other.idle) == (0, 2)


def test_a_further_address_keeps_the_connections() -> None:
    with world() as w:
        backend = w.backend("b1")
        backend.idle = 2
        w.tell(Addresses(backend.slot, [b"address x", *backend.addresses]))
        assert len(backend.addresses) == 2
        assert backend.idle == 2


def test_addresses_of_a_backend_that_is_gone_are_ignored() -> None:
    with world() as w:
        w.tell(Addresses(31, [b"address x"]))
        assert w.picks(1) == ["b1"]


# Listeners and routes


def test_a_listener_with_one_route_for_all_needs_no_matching() -> None:
    with world() as w:
        listen(w, config())
        assert w.listener().only_route is not None
        assert pool_of(w.listener().route(b"any.example", b"/any")) == "web"


def test_requests_are_matched_by_host_and_path() -> None:
    routes = [{"pool": "api", "host": "*.example", "path_prefix": "/api"}, {"pool": "web"}]
    wanted = config({"routes": routes}, web=pool_tree(), api=pool_tree())
    with world(wanted) as w:
        listen(w, wanted)
        listener = w.listener()
        assert listener.only_route is None
        assert pool_of(listener.route(b"shop.example", b"/api/x")) == "api"
        assert pool_of(listener.route(b"shop.example", b"/apix")) == "web"
        assert pool_of(listener.route(b"other.test", b"/api")) == "web"


def test_a_single_route_that_does_not_catch_all_is_matched() -> None:
    wanted = config({"routes": [{"pool": "web", "path_prefix": "/app"}]})
    with world(wanted) as w:
        listen(w, wanted)
        assert pool_of(w.listener().route(b"", b"/app/x")) == "web"
        assert w.listener().route(b"", b"/other") is None


def two_listeners(**pools: Any) -> Config:
    binds = [{"bind": "127.0.0.1:8080"}, {"bind": "127.0.0.1:9090"}]
    routes = [{"pool": "web", "listener": "127.0.0.1:8080"}, {"pool": "api", "listener": "127.0.0.1:9090"}]
    return config({"listeners": binds, "routes": routes}, web=pool_tree(), api=pool_tree(first=5))


def test_each_listener_has_its_own_routes() -> None:
    wanted = two_listeners()
    with world(wanted) as w:
        listen(w, wanted, 0)
        listen(w, wanted, 1)
        assert [pool_of(listener.only_route) for listener in w.engine.listeners] == ["web", "api"]


def test_a_listener_that_is_no_longer_configured_is_closed_and_its_clients_keep_a_way() -> None:
    wanted = two_listeners()
    with world(wanted) as w:
        listen(w, wanted, 0)
        listen(w, wanted, 1)
        closed = w.engine.listeners[1]
        tree = {"listeners": [{"bind": "127.0.0.1:8080"}], "routes": [{"pool": "api"}]}
        w.apply(config(tree, api=pool_tree(first=5)))
        assert [listener.config.bind.text for listener in w.engine.listeners] == ["127.0.0.1:8080"]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(closed.fd)
        assert pool_of(closed.route()) == "api"


def test_settings_of_a_listener_change_in_place() -> None:
    wanted = config()
    with world(wanted) as w:
        listen(w, wanted)
        listener = w.listener()
        changed = config({"listeners": [{"bind": "127.0.0.1:8080", "trusted_proxies": ["10.0.0.0/8"]}]})
        w.apply(changed)
        assert w.listener() is listener
        assert listener.config.trusted_proxies == ("10.0.0.0/8",)


def test_a_listener_is_taken_once() -> None:
    wanted = config()
    with world(wanted) as w:
        listen(w, wanted)
        listen(w, wanted)
        assert len(w.engine.listeners) == 1


def test_a_listener_without_its_descriptor_is_not_fatal(caplog: pytest.LogCaptureFixture) -> None:
    with world() as w:
        w.tell(Listen(config().listeners[0]))
        assert w.engine.listeners == []
        assert "127.0.0.1:8080" in caplog.text


# What listeners answer by themselves


def test_the_status_page_has_every_backend_in_order() -> None:
    with world() as w:
        listen(w, config())
        w.set_state("b2", flags=DOWN)
        status = w.listener().status
        assert status is not None
        document = json.loads(status())
        assert [(row["name"], row["healthy"]) for row in document["backends"]] == [
            ("b1", True),
            ("b2", False),
            ("b3", True),
        ]
        assert document["backends"][0]["url"] == "http://10.0.0.1:80"


def test_what_the_status_page_calls_down_gets_nothing_any_more() -> None:
    """A state stands in the segment a moment before the generation says so: the page may have seen it already."""
    with world() as w:
        listen(w, config())
        w.segment.set_backend(w.slot("web", "b2"), flags=DOWN, weight=1)
        status = w.listener().status
        assert status is not None
        assert not json.loads(status())["backends"][1]["healthy"]
        assert w.eligible() == ["b1", "b3"]


def test_a_listener_is_ready_while_all_its_pools_can_serve() -> None:
    wanted = two_listeners()
    with world(wanted) as w:
        listen(w, wanted, 0)
        listen(w, wanted, 1)
        web, api = (listener.ready for listener in w.engine.listeners)
        assert web is not None
        assert api is not None
        assert (web(), api()) == (True, True)
        for name in ("b5", "b6", "b7"):
            w.set_state(name, flags=DOWN, pool="api")
        assert (web(), api()) == (True, False)
        w.engine.in_flight = 1
        w.tell(Drain(30))
        assert (web(), api()) == (False, False)


# The access log


def test_the_log_is_replaced_only_when_it_is_another() -> None:
    first = {"access_log": {"path": "/var/log/a"}}
    with world(config(first)) as w:
        log = w.engine.access_log
        w.apply(config(first, web=pool_tree(1)))
        assert w.engine.access_log is log
        w.apply(config({"access_log": {"path": "/var/log/b"}}))
        assert w.engine.access_log.config.path == "/var/log/b"
        assert log.closed
        w.apply(config())
        assert w.engine.access_log is None


def test_logs_are_opened_anew_on_request() -> None:
    with world(config({"access_log": {"path": "/var/log/a"}})) as w:
        w.tell(ReopenLogs())
        assert w.engine.access_log.reopened == 1
    with world() as w:
        w.tell(ReopenLogs())  # there is none


# The end


def test_a_drain_finishes_what_is_in_flight_and_then_exits() -> None:
    wanted = config()
    with world(wanted) as w:
        listen(w, wanted)
        w.engine.in_flight = 2
        w.tell(Drain(30))
        assert w.engine.listeners == []
        assert w.engine.draining is not None
        assert w.engine.draining[0] == 30
        assert (w.heard(Drained), w.exited) == ([], 0)
        w.engine.in_flight = 0
        w.engine.settle()
        assert (w.heard(Drained), w.exited) == ([Drained(0)], 1)


def test_a_second_drain_moves_the_deadline() -> None:
    with world() as w:
        w.engine.in_flight = 1
        w.tell(Drain(30))
        w.tell(Drain(1))
        assert w.engine.draining is not None
        assert w.engine.draining[0] == 1


def test_what_the_deadline_ends_is_counted() -> None:
    with world() as w:
        w.engine.in_flight = 3
        w.tell(Drain(1))
        w.engine.in_flight, w.engine.cut_off = 0, 3
        w.engine.settle()
        assert w.heard(Drained) == [Drained(3)]


def test_a_listener_that_comes_during_a_drain_is_not_accepted_on() -> None:
    with world() as w:
        w.engine.in_flight = 1
        w.tell(Drain(30))
        listen(w, config())
        assert w.engine.listeners == []


def test_stop_exits_at_once() -> None:
    with world() as w:
        w.engine.in_flight = 1
        w.tell(Stop())
        assert w.exited == 1


def test_without_its_supervisor_a_worker_accepts_no_more_and_finishes() -> None:
    wanted = config({"supervisor": {"drain": "7s"}})
    with world(wanted) as w:
        listen(w, wanted)
        w.engine.in_flight = 1
        w.hang_up()
        assert w.engine.listeners == []
        assert w.engine.draining is not None
        assert w.engine.draining[0] == 7
        w.engine.in_flight = 0
        w.engine.settle()
        assert w.exited == 1


def test_a_supervisor_that_dies_during_a_drain_does_not_prolong_it() -> None:
    with world() as w:
        w.engine.in_flight = 1
        w.tell(Drain(3))
        w.hang_up()
        assert w.engine.draining is not None
        assert w.engine.draining[0] == 3


def test_a_message_that_is_not_for_workers_is_said_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with world() as w:
        w.tell(Log("info", "hello"))  # type: ignore[arg-type]
        assert "Log" in caplog.text
        assert w.picks(1) == ["b1"]


def test_a_whole_listener_survives_the_way_through_the_channel() -> None:
    listener = config().listeners[0]
    assert isinstance(listener, Listener)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(listener), type=Listener) == listener
