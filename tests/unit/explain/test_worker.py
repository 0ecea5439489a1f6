"""A worker explains itself: what it says is what the engine then gets, and asking changes nothing."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from headgate.balancing import sticky
from headgate.balancing.registry import BUILT_IN
from headgate.engine.stats import CHECKED, DRAINING, EJECTED, ENABLED, HALF_OPEN, PRESENT
from headgate.explain.answer import Explanation
from headgate.explain.question import Question
from headgate.runtime.messages import Explain, Explained
from tests.unit.runtime.fake_engine import GOOD, Request
from tests.unit.runtime.worker_world import SECRET, World, config, pool_tree, world

OPTIONS: dict[str, dict[str, object]] = {"random_subset": {"balancer": 0, "balancers": 2, "size": 5}}


def ask(there: World, url: str = "http://example.test:8080/", **question: Any) -> Explanation:
    there.tell(Explain(7, "127.0.0.1:8080", Question(url=url, **question)))
    said = there.heard(Explained)[-1]
    assert said.number == 7
    assert said.explanation is not None, said.problem
    return said.explanation


@pytest.fixture(params=[*BUILT_IN])
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("count", [3, 30])
def test_what_is_said_is_what_is_picked(strategy: str, count: int) -> None:
    """Both forms of the strategies that scan up to so many, with loads and latencies that differ."""
    tree = pool_tree(count, strategy={"name": strategy, **OPTIONS.get(strategy, {})})
    for index, backend in enumerate(tree["backends"]):
        backend["priority"] = int(index % 7 == 6)
    drawn = Random(3)
    with world(config(web=tree)) as there:
        there.set_state("b1", weight=3)
        there.set_state("b2", flags=GOOD & ~CHECKED)  # the next priority bears part of the load
        pool = there.pool()
        in_flight: list[Any] = []
        for number in range(50):
            client = f"192.0.2.{drawn.randrange(9)}"
            path = f"/{drawn.randrange(5)}".encode()
            said = [ask(there, f"http://example.test:8080{path.decode()}", client=client) for _ in range(2)]
            assert said[0] == said[1], "asking twice changes nothing"
            picked = pool.choose(Request(path=path, client=client))
            assert picked is not None
            assert (number, said[0].picked, said[0].picked_by) == (number, picked.name, "strategy")
            assert [row.name for row in said[0].candidates if row.picked] == [picked.name]
            picked.active += 1
            in_flight.append(picked)
            if drawn.random() < 0.7:
                done = in_flight.pop(drawn.randrange(len(in_flight)))
                done.active -= 1
                if pool.done is not None:
                    pool.done(done, Ended(drawn.uniform(0.001, 0.2)))
            there.engine.now += drawn.choice([0.0, 0.01, 0.4])
        scores = [row for row in ask(there).candidates if row.score is not None]
        assert scores
        assert ask(there).rule
        assert all(row.score_text for row in scores)


class Ended:
    kind, status, total_s, ok, retry_after_s = 0, 200, 1.0, True, -1.0

    def __init__(self, first_byte_s: float) -> None:
        self.first_byte_s = first_byte_s


def test_why_not() -> None:
    with world(config(web=pool_tree(7, panic=False))) as there:
        there.segment.set_backend(
            there.slot("web", "b1"), flags=PRESENT | ENABLED | CHECKED, weight=1, reason="refused"
        )
        there.set_state("b2", flags=GOOD & ~ENABLED)
        there.set_state("b3", flags=GOOD | DRAINING)
        there.set_state("b4", flags=GOOD | EJECTED)
        there.set_state("b5", weight=0)
        there.set_state("b6", flags=GOOD & ~CHECKED)
        rows = {row.name: row for row in ask(there).candidates}
        assert {name: (row.state, row.routable) for name, row in rows.items()} == {
            "b1": ("down", False),
            "b2": ("disabled", False),
            "b3": ("draining", False),
            "b4": ("ejected", False),
            "b5": ("up", False),
            "b6": ("unchecked", False),
            "b7": ("up", True),
        }
        assert rows["b1"].reason == "down (refused)"
        assert rows["b5"].reason == "weight 0: only sessions that are bound to it"
        assert ask(there).picked == "b7"


def test_sticky() -> None:
    with world(config(web=pool_tree(3, sticky={"name": "s"}))) as there:
        value = {name: sticky.cookie_value(SECRET, "web", name).decode() for name in ("b1", "b2", "x")}
        bound = ask(there, headers=(("Cookie", f"a=1; s={value['b2']}"),))
        assert (bound.picked, bound.picked_by) == ("b2", "sticky")
        assert bound.sticky is not None
        assert bound.sticky.binds
        there.set_state("b2", flags=GOOD & ~ENABLED)
        gone = ask(there, headers=(("Cookie", f"s={value['b2']}"),))
        assert gone.picked != "b2"
        assert gone.sticky is not None
        assert gone.sticky.why == "b2 is not there: disabled by an operator"
        forged = ask(there, headers=(("Cookie", f"s={value['x']}"),))
        assert forged.sticky is not None
        assert "names no backend" in forged.sticky.why


def test_half_open_and_panic() -> None:
    with world(config(web=pool_tree(3))) as there:
        there.set_state("b2", flags=GOOD | HALF_OPEN)
        said = ask(there)
        assert (said.picked, said.picked_by) == ("b2", "probe")
        assert ask(there) == said, "nothing was claimed"
        assert ask(there, method="POST").picked_by == "strategy"
        there.set_state("b1", flags=GOOD | EJECTED)
        said = ask(there, method="POST")
        assert said.panic
        assert {row.name for row in said.candidates if row.routable} == {"b1", "b2", "b3"}


def test_nobody_is_left() -> None:
    with world(config({"routes": [{"pool": "web"}]}, web=pool_tree(1))) as there:
        there.set_state("b1", flags=GOOD & ~ENABLED)
        said = ask(there)
        assert (said.status, said.picked) == (503, "")
        assert said.outcome == "answered 503 by the balancer: no backend of pool web is routable"
    routed = config(
        {"routes": [{"pool": "web"}]},
        web=pool_tree(1, fallback="spare"),
        spare=pool_tree(1, 5, fallback={"status": 502, "body": "later"}),
    )
    with world(routed) as there:
        there.set_state("b1", flags=GOOD & ~ENABLED)
        said = ask(there)
        assert (said.pool, said.picked, [row.pool for row in said.passed]) == ("spare", "b5", ["web"])
        there.set_state("b5", flags=GOOD & ~ENABLED, pool="spare")
        assert ask(there).status == 502


def test_what_the_balancer_answers_itself() -> None:
    routes = {"routes": [{"pool": "web", "host": "shop.test", "limits": {"body": "1KiB"}}]}
    with world(config(routes)) as there:
        assert ask(there).status == 404
        assert ask(there, "http://x:8080/lb/status?x").status == 200
        assert ask(there, "http://x:8080/lb/status", client="192.0.2.9").status == 404
        assert ask(there, "http://x:8080/lb/status", method="POST").status == 405
        assert ask(there, headers=(("Host", "a b"),)).status == 400
        large = (("Host", "shop.test"), ("Content-Length", "2000"))
        assert ask(there, method="POST", headers=large).status == 413
        there.tell(Explain(8, "127.0.0.1:1", Question(url="http://x/")))
        assert there.heard(Explained)[-1].problem == "there is no listener 127.0.0.1:1"


def test_limits() -> None:
    tree = pool_tree(2, queue={"size": 5, "timeout": "1s"})
    tree["backends"][0]["max_requests"] = 1
    with world(config(web=tree)) as there:
        there.backend("b1").active = 1
        assert ask(there).picked == "b2"
        (full,) = [row for row in ask(there).candidates if row.name == "b1"]
        assert (full.routable, full.reason) == (False, "full: 1 of max_requests = 1 in flight")
        there.set_state("b2", flags=GOOD & ~ENABLED)
        assert ask(there).outcome.startswith("waits in the queue of pool web, for 1 s at most")


class Uncopyable:
    """It cannot be copied, and it must not be asked itself."""

    def __init__(self) -> None:
        self.asked = 0

    def update(self, backends: Any) -> None:
        self.backends = backends

    def pick(self, request: Any, tried: Any) -> Any:
        self.asked += 1
        return self.backends[0]

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("it holds a lock")


class Raises:
    def update(self, backends: Any) -> None:
        pass

    def pick(self, request: Any, tried: Any) -> Any:
        raise KeyError("oops")

    def explain(self, request: Any) -> Any:
        raise ValueError("no idea")


def test_strategies_of_users() -> None:
    module = __name__
    with world(config(web=pool_tree(2, strategy=f"{module}:Uncopyable"))) as there:
        said = ask(there)
        assert (said.picked, said.exact) == ("", False)
        assert "cannot be copied" in said.outcome
        assert there.glue().strategies[0].asked == 0  # type: ignore[attr-defined]
    with world(config(web=pool_tree(2, strategy=f"{module}:Raises"))) as there:
        said = ask(there)
        assert (said.picked, said.picked_by) == ("b1", "round_robin")
        assert "raises KeyError: 'oops'" in said.notes[0]
        assert "explain() raises ValueError" in said.rule
