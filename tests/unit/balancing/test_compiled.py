"""Strategies that are compiled as they stand are to their users what they are as plain Python."""

from __future__ import annotations

import copy
import inspect
from importlib import import_module
from typing import Any, cast

import pytest

from headgate.balancing.base import Backend, Context, Strategy
from headgate.balancing.latency import Estimate
from headgate.balancing.peak_ewma import PeakEwma
from headgate.balancing.registry import build, resolve

from .compiled import COMPILED, TYPED, not_compiled
from .fakes import OUTCOME, REQUEST, REQUIRED, FakeBackend, FakeRequest, context, make, several

every_compiled = pytest.mark.parametrize("name", COMPILED)


@pytest.mark.parametrize("name", sorted(TYPED))
def test_who_has_types_beside_it_is_compiled(name: str) -> None:
    assert str(import_module(name).__file__).endswith(".so")
    with not_compiled():
        assert str(import_module(name).__file__).endswith(".py")
    assert str(import_module(name).__file__).endswith(".so")


@every_compiled
def test_its_signature_is_that_of_its_source(name: str) -> None:
    said = inspect.signature(resolve(name))
    with not_compiled():
        meant = inspect.signature(resolve(name))
    assert [(p.name, p.kind, p.default) for p in said.parameters.values()] == [
        (p.name, p.kind, p.default) for p in meant.parameters.values()
    ]


@every_compiled
def test_one_can_be_derived_from_it_with_options_of_its_own(name: str) -> None:
    base = cast(Any, resolve(name))

    class Mine(base):  # type: ignore[misc, valid-type]
        def __init__(self, context: Context, *, volume: int = 3) -> None:
            super().__init__(context, **REQUIRED.get(name, {}))
            self.volume = volume
            self.asked = 0

        def pick(self, request: Any, tried: Any) -> Any:
            self.asked += 1
            return super().pick(request, tried)

    class Same(base):  # type: ignore[misc, valid-type]
        pass

    assert list(inspect.signature(Mine).parameters) == ["context", "volume"]
    assert inspect.signature(Same) == inspect.signature(base)
    mine = Mine(context(), volume=11)
    backends = several(4)
    mine.update(backends)
    assert mine.pick(REQUEST, ()) in backends
    assert (mine.volume, mine.asked) == (11, 1)


def test_what_a_subclass_does_otherwise_is_what_is_done() -> None:
    class Optimist(PeakEwma):
        def sampled(self, estimate: Estimate, sample: float, now: float) -> None:
            estimate.latency = 0.5

    backend = FakeBackend("a")
    strategy = Optimist(context())
    strategy.update([backend])
    strategy.done(backend, OUTCOME)
    assert strategy._estimates[backend].latency == 0.5


@every_compiled
@pytest.mark.parametrize("n", [3, 1500])
def test_a_copy_picks_the_same_and_the_original_does_not_notice(name: str, n: int) -> None:
    """Explanations ask a copy (headgate.explain.picking), of a large pool too."""
    backends = several(n)
    strategy, twin = make(name, backends), make(name, backends)
    for one in (strategy, twin):
        _use(one, 50)
    shared: dict[int, object] = {id(backend): backend for backend in backends}
    copied = copy.deepcopy(strategy, shared)
    picks = _use(copied, 30)
    assert _use(twin, 30) == picks
    assert _use(strategy, 30) == picks


def _use(strategy: Strategy, times: int) -> list[str]:
    picks = []
    for number in range(times):
        picked = strategy.pick(FakeRequest(number % 7), ())
        assert isinstance(picked, FakeBackend)
        picks.append(picked.name)
        if number % 3 and (done := getattr(strategy, "done", None)) is not None:
            done(picked, OUTCOME)
    return picks


@every_compiled
def test_what_a_backend_raises_comes_through(name: str) -> None:
    """Compiled code must not lose an exception, whatever it reads numbers from."""

    class Broken(FakeBackend):
        fine = True

        @property
        def active(self) -> int:
            if not self.fine:
                raise RuntimeError("no idea")
            return 0

        @active.setter
        def active(self, value: int) -> None:
            pass

    backends = [Broken("a"), Broken("b")]
    strategy = build(name, context(), REQUIRED.get(name))
    strategy.update(cast("list[Backend]", backends))
    assert strategy.pick(REQUEST, ()) in backends
    Broken.fine = False
    if name in ("maglev", "random", "ring_hash", "round_robin", "weighted_round_robin"):  # they do not ask for loads
        assert strategy.pick(REQUEST, ()) in backends
    else:
        with pytest.raises(RuntimeError, match="no idea"):
            strategy.pick(REQUEST, ())


@every_compiled
def test_nonsense_is_an_error_and_no_crash(name: str) -> None:
    strategy = cast(Any, build(name, context(), REQUIRED.get(name)))
    backends = several(12)
    strategy.update(backends)
    with pytest.raises((AttributeError, TypeError)):
        strategy.update(None)
    with pytest.raises((AttributeError, TypeError)):
        strategy.pick()
    strategy.update(backends)
    if hasattr(strategy, "done"):
        strategy.done(None, None)  # nobody's
        if name not in ("bounded_hash", "least_connections"):  # they only want to know that something ended
            with pytest.raises(AttributeError):
                strategy.done(backends[0], None)
    if hasattr(strategy, "fade"):
        with pytest.raises((AttributeError, TypeError)):
            strategy.fade(None, 1.0)
