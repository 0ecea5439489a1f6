"""Pools that stand in for others, as the agent sets them up in the engine."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headgate.config.schema import Fallback, PoolTimeouts
from headgate.engine.stats import CHECKED, ENABLED, PRESENT
from headgate.runtime.messages import Applied, Rejected
from tests.unit.runtime.test_agent import listen
from tests.unit.runtime.worker_world import World, config, pool_tree, with_pool, world

DOWN = PRESENT | ENABLED | CHECKED
CHAIN = config(
    {"routes": [{"pool": "web"}]},
    web=pool_tree(1, fallback="spare"),
    spare=pool_tree(1, first=2, fallback="last"),
    last=pool_tree(1, first=3),
)


def way(w: World) -> list[str]:
    """The pools that a request meets, one after the other."""
    names = []
    route = w.listener().only_route
    while route is not None:
        names.append(route.pool.name)
        route = route.fallback
    return names


def test_a_chain_of_pools() -> None:
    with world(CHAIN) as w:
        listen(w, CHAIN)
        assert way(w) == ["web", "spare", "last"]


def test_routes_stay_while_their_chain_does() -> None:
    with world(CHAIN) as w:
        listen(w, CHAIN)
        before = w.listener().only_route
        w.apply(CHAIN)
        assert w.listener().only_route is before
        # The last pool's times are taken over by a route of its own.
        w.apply(with_pool(CHAIN, "last", timeouts=PoolTimeouts(first_byte=1.0)))
        assert w.listener().only_route is not before
        assert way(w) == ["web", "spare", "last"]
        w.apply(with_pool(CHAIN, "web", fallback=None))
        assert way(w) == ["web"]


def test_ready_as_long_as_somebody_stands_in() -> None:
    with world(CHAIN) as w:
        listen(w, CHAIN)
        ready = w.listener().ready
        assert ready is not None
        for pool, name in (("web", "b1"), ("spare", "b2"), ("last", "b3")):
            assert ready()
            w.set_state(name, flags=DOWN, pool=pool)
        assert not ready()


def test_a_static_answer_is_handed_to_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "sorry.html"
    file.write_bytes(b"sorry")
    wanted = config(web=pool_tree(fallback={"file": str(file), "status": 200}))
    with world(wanted) as w:
        assert w.pool().fallback_answer == (200, b"text/html; charset=utf-8", b"Cache-Control: no-store\r\n", b"sorry")
        file.write_bytes(b"very sorry")
        w.apply(wanted)  # a reload reads it again
        assert w.pool().fallback_answer[3] == b"very sorry"
        # A file that is gone by then: everything stays as it was.
        file.unlink()
        w.heard(Applied)
        w.apply(wanted)
        (rejected,) = w.heard(Rejected)
        assert "pools.web.fallback.file: " in rejected.text
        assert "No such file" in rejected.text
        assert w.pool().fallback_answer[3] == b"very sorry"
        w.apply(with_pool(wanted, "web", fallback=msgspec.structs.replace(Fallback(), body="here")))
        assert w.pool().fallback_answer[3] == b"here"
        w.apply(with_pool(wanted, "web", fallback=None))
        assert w.pool().fallback_answer is None
