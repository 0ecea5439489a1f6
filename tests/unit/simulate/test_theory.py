"""The simulator against results of queueing theory. Seeds are fixed, so a run always gives the same figures; the
tolerances are what runs of this length may be off."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import factorial

import pytest

from headgate.balancing.base import Backend, Context, Request
from headgate.simulate import Candidate, Measured, Server, ServiceName, run
from headgate.simulate.workload import LOGNORMAL_VARIATION, poisson

MEAN_S = 0.010
VARIATION: dict[ServiceName, float] = {"constant": 0.0, "exponential": 1.0, "lognormal": LOGNORMAL_VARIATION}


def simulate(strategy: str, servers: int, slots: int, load: float, service: ServiceName, requests: int) -> Measured:
    rate = load * servers * slots / MEAN_S
    workload = poisson(rate, requests / rate, service, MEAN_S, seed=11, who=50)
    return run(Candidate(strategy), [Server(f"s{n}", slots=slots) for n in range(servers)], workload, warm_up_s=1.0)


def erlang_c(slots: int, load: float) -> float:
    """The part of requests that wait in M/M/c."""
    offered = slots * load
    last = offered**slots / factorial(slots) / (1 - load)
    return last / (sum(offered**k / factorial(k) for k in range(slots)) + last)


class Independent:
    """What theory is about. Our own `random` and `p2c` draw more evenly, and do better than these formulas."""

    def __init__(self, context: Context) -> None:
        self.random = context.random
        self.backends: list[Backend] = []

    def update(self, backends: Sequence[Backend]) -> None:
        self.backends = list(backends)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend:
        return self.random.choice(self.backends)


class OfTwo(Independent):
    def pick(self, request: Request, tried: Collection[Backend]) -> Backend:
        return min(self.random.sample(self.backends, 2), key=lambda backend: backend.active)


@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (4, 0.75), (16, 0.8)])
def test_mean_wait_of_m_m_c(slots: int, load: float) -> None:
    wait = erlang_c(slots, load) * MEAN_S / (slots * (1 - load))
    measured = simulate("round_robin", 1, slots, load, "exponential", 60_000)
    assert measured.mean_s == pytest.approx(MEAN_S + wait, rel=0.03)


@pytest.mark.parametrize("service", ["constant", "lognormal"])
def test_mean_wait_of_m_g_1(service: ServiceName) -> None:
    """Pollaczek and Khinchine."""
    load = 0.6
    wait = load / (1 - load) * (1 + VARIATION[service] ** 2) / 2 * MEAN_S
    measured = simulate("round_robin", 1, 1, load, service, 80_000)
    assert measured.mean_s == pytest.approx(MEAN_S + wait, rel=0.05)


def test_a_random_choice_splits_poisson_arrivals_into_poisson_arrivals() -> None:
    load = 0.7
    measured = simulate(f"{__name__}:Independent", 5, 1, load, "exponential", 100_000)
    assert measured.mean_s == pytest.approx(MEAN_S / (1 - load), rel=0.05)
    # Time in M/M/1 is exponential.
    assert measured.p50_s == pytest.approx(0.693 * MEAN_S / (1 - load), rel=0.05)
    assert measured.p99_s == pytest.approx(4.605 * MEAN_S / (1 - load), rel=0.10)


def test_the_power_of_two_choices() -> None:
    """Mitzenmacher 2001: many servers of one slot, d = 2: mean time = sum over i >= 1 of load ** (2 ** i - 2)."""
    load = 0.9
    expected = sum(load ** (2**i - 2) for i in range(1, 12)) * MEAN_S
    # 100 servers are not yet infinitely many.
    assert simulate(f"{__name__}:OfTwo", 100, 1, load, "exponential", 100_000).mean_s == pytest.approx(
        expected, rel=0.05
    )


def test_ours_are_at_least_as_good_as_theory() -> None:
    """Stratified draws: what one server is sent varies less than with independent ones."""
    load = 0.9
    for ours, plain, servers in (("random", "Independent", 5), ("p2c", "OfTwo", 20)):
        measured = simulate(ours, servers, 1, load, "exponential", 50_000).mean_s
        assert measured < simulate(f"{__name__}:{plain}", servers, 1, load, "exponential", 50_000).mean_s
