"""Which strategy of several priorities places a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from random import Random
from typing import Any, cast

import pytest

from headgate.resilience.eligibility import Level
from headgate.runtime.levels import Levels
from tests.unit.runtime.fake_engine import Request


class One:
    """Picks the first that was not tried; notes what it is told."""

    def __init__(self) -> None:
        self.set: list[Any] = []
        self.ended: list[object] = []

    def update(self, backends: Sequence[Any]) -> None:
        self.set = list(backends)

    def pick(self, request: Any, tried: Collection[Any]) -> Any:
        return next((backend for backend in self.set if backend not in tried), None)

    def done(self, backend: object, outcome: object) -> None:
        self.ended.append(backend)


class Keyed(One):
    """Goes by a key: the request's path is its position, in hundredths."""

    def position(self, request: Any) -> float:
        return int(request.path) / 100


def levels(*given: tuple[int, list[str], float], kind: type[One] = One, draw: Iterator[float] | None = None) -> Levels:
    made = Levels((lambda: next(draw)) if draw is not None else Random(1).random)
    made.use({priority: kind() for priority, _, _ in given})
    made.update(cast(Any, [Level(*one) for one in given]))
    return made


def pick(made: Levels, tried: Collection[str] = (), path: bytes = b"0") -> Any:
    return cast(Any, made.pick)(Request(path=path), tried)


def test_a_single_level_is_asked_directly() -> None:
    made = levels((0, ["a"], 1.0), (1, [], 0.0))
    assert made.pick == made.strategies[0].pick


@pytest.mark.parametrize(("first", "second"), [(1.0, 0.0), (0.7, 0.3), (0.0, 1.0)])
def test_levels_are_used_by_their_loads(first: float, second: float) -> None:
    made = levels((0, ["a"], first), (1, ["b"], second))
    counts = Counter(pick(made) for _ in range(10_000))
    assert counts["a"] / 10_000 == pytest.approx(first, abs=0.015)
    assert counts["b"] / 10_000 == pytest.approx(second, abs=0.015)


def test_when_all_of_a_level_were_tried_another_serves_standing_by_or_not() -> None:
    made = levels((0, ["a"], 1.0), (1, ["b"], 0.0), (2, ["c"], 0.0))
    assert [pick(made), pick(made, ["a"]), pick(made, ["a", "b"]), pick(made, "abc")] == ["a", "b", "c", None]


def test_a_key_keeps_its_level_until_the_loads_move_it() -> None:
    def where(first: float) -> list[str]:
        made = levels((0, ["a"], first), (1, ["b"], 1 - first), kind=Keyed, draw=iter(()))
        return [pick(made, path=b"%d" % key) for key in range(100)]

    before, after = where(0.7), where(0.5)
    assert Counter(before) == {"a": 70, "b": 30}
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 20


def test_rounding_leaves_nobody_out() -> None:
    made = levels((0, ["a"], 0.3), (1, ["b"], 0.6999), draw=iter([0.99999]))
    assert pick(made) == "b"


def test_nobody_there() -> None:
    assert pick(levels((0, [], 0.0), (1, [], 0.0))) is None


def test_the_strategy_of_the_backend_hears_how_attempts_end() -> None:
    class Backend:
        def __init__(self, priority: int) -> None:
            self.priority = priority

    made = levels((0, ["a"], 1.0), (2, ["b"], 0.0))
    done = cast(Any, made.done)
    backends = [Backend(2), Backend(0), Backend(5)]
    for backend in backends:
        done(backend, "outcome")
    heard = [cast(One, made.strategies[priority]).ended for priority in (0, 2)]
    assert heard == [[backends[1]], [backends[0]]]


def test_a_level_that_is_gone_lets_go_of_its_backends() -> None:
    made = levels((0, ["a"], 1.0), (1, ["b"], 0.0))
    made.update(cast(Any, [Level(0, ["a"], 1.0)]))
    assert cast(One, made.strategies[1]).set == []
