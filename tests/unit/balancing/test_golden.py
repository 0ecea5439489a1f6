"""What every strategy picks in a lively run, as it was when this was recorded.

A change that is to make one cheaper must not change its picks, or every figure of the simulation is out of date. Where
picks are meant to change, record anew (`python -m tests.unit.balancing.test_golden`) and run the simulation again.
"""

from __future__ import annotations

import sys
from collections import deque
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from headgate.balancing.base import Context, Strategy
from headgate.balancing.registry import BUILT_IN, build, resolve
from headgate.engine.hashing import hash64

from .compiled import COMPILED, DIRECTORY, not_compiled
from .fakes import REQUIRED, FakeBackend, FakeRequest

SIZES = (1, 3, 9, 40)


class Ended:
    """How an attempt ended, of all kinds."""

    def __init__(self, random: Random) -> None:
        self.kind, self.status, self.ok = 0, 200, True
        self.first_byte_s = self.total_s = random.expovariate(100)
        self.retry_after_s = -1.0
        chance = random.random()
        if chance < 0.03:
            self.kind, self.status, self.ok, self.first_byte_s = random.choice([8, 9, 10]), 0, False, -1.0
        elif chance < 0.05:
            self.status, self.retry_after_s = 429, random.choice([-1.0, 0.5, 7.0])
        elif chance < 0.07:
            self.status = 404


def picks(name: str, n: int, weights: tuple[int, ...], spec: str = "") -> str:
    random = Random(f"{name} {n} {weights}")
    now = [100.0]
    strategy: Strategy = build(spec or name, Context(Random(7), lambda: now[0], hash64), REQUIRED.get(name))
    backends = [FakeBackend(f"b{slot}", weights[slot % len(weights)], slot=slot) for slot in range(n)]
    strategy.update(backends)
    flying: deque[FakeBackend] = deque()
    seen = sha256()
    for step in range(600):
        now[0] += 1.5 if step % 200 == 199 else random.expovariate(500)
        if step % 150 == 149:
            random.choice(backends).share_of_weight = random.choice([0.05, 0.5, 1.0])
            strategy.update([backend for backend in backends if random.random() < 0.9] or backends)
        tried = random.sample(backends, min(n, 2))[: 1 if n < 3 else 2] if random.random() < 0.05 else ()
        picked = strategy.pick(FakeRequest(random.randrange(1000)), tried)
        if picked is None:
            seen.update(b"-")
            continue
        assert isinstance(picked, FakeBackend)
        seen.update(f"{picked.name},".encode())
        picked.active += 1
        flying.append(picked)
        while len(flying) > min(3 * n, 60):
            if random.random() < 0.5:
                flying.rotate(-1)
            ended = flying.popleft()
            ended.active -= 1
            outcome = Ended(random)
            if done := getattr(strategy, "done", None):
                done(ended, outcome)
    return seen.hexdigest()[:8]


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_picks_what_it_picked(name: str) -> None:
    assert recorded(name) == GOLDEN[name]


@pytest.mark.parametrize("name", COMPILED)
def test_the_same_file_not_compiled_picks_the_same(name: str) -> None:
    with not_compiled():
        assert recorded(name) == GOLDEN[name]


@pytest.mark.parametrize("name", COMPILED)
def test_a_copy_of_the_file_as_somebodys_own_strategy_picks_the_same(name: str, tmp_path: Path) -> None:
    """It is plain Python then, on top of compiled parts."""
    module, _, cls = BUILT_IN[name].rpartition(".")[2].partition(":")
    own = f"own_{module}"
    (tmp_path / f"{own}.py").write_text((DIRECTORY / f"{module}.py").read_text())
    try:
        resolve(f"{own}:{cls}", tmp_path)
        assert recorded(name, f"{own}:{cls}") == GOLDEN[name]
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules[own]


def recorded(name: str, spec: str = "") -> str:
    return " ".join(picks(name, n, weights, spec) for n in SIZES for weights in ((1,), (1, 2, 5)))


GOLDEN = {
    "round_robin": "c9962f75 0c7b5504 acab2dea 9c4febcd c2ed1034 6f12ea39 a2b6961d 3bd52af2",
    "weighted_round_robin": "54f317b3 821bc663 4cebde42 3bf31067 f7d6f86f bc158c61 115fe953 fb25b723",
    "least_connections": "6516197f e305e2eb e2103870 93d1fbd6 013bae09 4e062a68 b2505768 16fb3370",
    "random": "a6dfbf44 4dd23103 d0768964 7e53498f 18293f01 f3dd1e0e c1a0a323 eb79614b",
    "weighted_random": "15756cd2 a2c1b7d3 7e87d9df c5dd421b 7279fbf9 0639a0c9 5e4efcc2 c91caa84",
    "ip_hash": "4d7f6aed 4d56acea b50401e7 82544855 7e5a0c21 382d5b37 f5a16c03 51ceea21",
    "p2c": "f69a00ea 44a4d8eb af80d62a 8558c7af 3a0e5c8f 9a3907ab 465a07a0 ab368036",
    "peak_ewma": "86eeee59 c389384d 76448ca3 36944884 ea810240 f2ddc143 d47304ea 486caa12",
    "least_time": "9f8a7346 5aa3ab25 5af96f76 e2dca564 d7fc36e4 232d30f6 c6847acf aff48135",
    "prequal": "b6c1cda3 3369502b e607453b c0349fbe b0cb393d b28a250c e70d10fb ae87f02f",
    "ring_hash": "1e9f1f69 c909e168 6eb2697f 5cf45c0e 78032b93 22c19d1e 5d5d7411 a3256389",
    "maglev": "12b8951e e4079d6e 32a0b116 8d150362 5713b936 02af224c 5661b858 e64a9fa1",
    "bounded_hash": "a06049ce 6d3276ee 8dac6672 aad343a5 977e48ba 58b95ace d5164f61 7ad2f72d",
    "random_subset": "ebaef729 44bbb68b bdd5fa18 fb710af6 65081c1a a824d7a3 2c0b5765 f89f8e88",
}

if __name__ == "__main__":
    for one in BUILT_IN:
        print(f'    "{one}": "{recorded(one)}",')
