"""An explanation without a balancer, and how it reads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headgate.balancing import sticky
from headgate.config.schema import Config, Strategy
from headgate.explain import text
from headgate.explain.of_file import explain_file
from headgate.explain.question import Question
from headgate.runtime.strategies import StrategyMaker
from tests.unit.balancing.fakes import FakeBackend, FakeRequest

SECRET = "a secret that is long enough"
DRAWN = ("random", "weighted_random", "p2c", "peak_ewma", "random_subset")
OPTIONS: dict[str, dict[str, object]] = {"random_subset": {"balancer": 0, "balancers": 1}}


def config(**pool: Any) -> Config:
    backends = [{"url": f"http://10.0.0.{n}", "name": f"b{n}", "weight": n} for n in range(1, 5)]
    web = {"backends": backends, **pool}
    spare = {"backends": ["http://10.0.1.1"]}
    return Config.from_dict(
        {
            "listeners": [{"bind": ":8080"}],
            "pools": {"web": web, "spare": spare},
            "routes": [{"pool": "web"}, {"pool": "spare", "host": "*.spare.test"}],
        }
    )


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_seed_draws_the_same(name: str) -> None:
    """As the first request of a worker that was started with it."""
    wanted = Strategy(name=name, options=OPTIONS.get(name, {}))
    drawn = set()
    for seed in ("one", "two", "three", "four"):
        said = explain_file(
            config(strategy={"name": name, **wanted.options}), Question(url="http://x:8080/"), seed=seed
        )
        strategy = StrategyMaker(lambda: 0.0, seed=seed)(wanted)
        strategy.update([FakeBackend(f"b{n}", n) for n in range(1, 5)])
        first = strategy.pick(FakeRequest(), ())
        assert first is not None
        assert (said.picked, said.exact) == (first.name, True)
        drawn.add(said.picked)
    assert len(drawn) > 1


@pytest.mark.parametrize(("name", "exact"), [("random", False), ("round_robin", True), ("ip_hash", True)])
def test_it_says_when_nobody_can_know(name: str, exact: bool) -> None:
    said = explain_file(config(strategy=name), Question(url="http://x:8080/"))
    assert said.exact is exact
    assert ("the strategy draws: another time it would be another one" in said.notes) is not exact


def test_cookies_of_a_secret_in_the_file() -> None:
    value = sticky.cookie_value(SECRET.encode(), "web", "b3").decode()
    question = Question(url="http://x:8080/", headers=(("Cookie", f"headgate_web={value}"),))
    assert explain_file(config(sticky={"secret": SECRET}), question).picked == "b3"
    unknown = explain_file(config(sticky="cookie"), question)
    assert unknown.picked_by == "strategy"
    assert any("only a running balancer can read it" in note for note in unknown.notes)


def test_how_it_reads() -> None:
    question = Question(url="http://a.spare.test:8080/x?y", client="192.0.2.7")
    said = text.explanation(msgspec.to_builtins(explain_file(config(), question)))
    assert said.splitlines() == [
        "GET http://a.spare.test/x?y  from 192.0.2.7",
        "=> goes to http://10.0.1.1, picked by round_robin",
        "",
        "listener  :8080",
        "route     2: host *.spare.test, any path -> pool spare",
        "          route 1 (*/ -> web) matches too, but route 2 names the host (*.spare.test)",
        "pool      spare",
        "strategy  round_robin",
        "          turns until its own, in this worker: 0 is next",
        "",
        "    backend          state  weight  active  score",
        "=>  http://10.0.1.1  up     1       0       0      next",
        "",
        "note: from the configuration alone: every backend is thought to be up and idle, and this the first request",
    ]
