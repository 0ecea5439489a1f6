from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.balancing.base import Backend
from headgate.balancing.ip_hash import IpHash

from .fakes import REQUEST, FakeBackend, FakeRequest, context, make, several

CLIENTS = [FakeRequest(client) for client in range(2000)]


def homes(backends: list[FakeBackend], tried: tuple[Backend, ...] = ()) -> list[Backend | None]:
    """Where each client goes, by a strategy without history."""
    strategy = make("ip_hash", backends)
    return [strategy.pick(client, tried) for client in CLIENTS]


def test_the_same_client_comes_to_the_same_backend() -> None:
    strategy = make("ip_hash", several(5))
    assert len({strategy.pick(REQUEST, ()) for _ in range(20)}) == 1


@pytest.mark.parametrize("n", [2, 3, 8, 9, 50])
@pytest.mark.parametrize("weights", [(1,), (1, 2, 5), (100, 50), (256, 17, 1)])
def test_when_one_leaves_only_its_own_clients_move(n: int, weights: tuple[int, ...]) -> None:
    backends = several(n, weights)
    before = homes(backends)
    for gone in (backends[0], backends[n // 2], backends[-1]):
        rest = [backend for backend in backends if backend is not gone]
        after = homes(rest)
        for old, new in zip(before, after, strict=True):
            assert new is not gone
            assert old is gone or old is new
        # One that saw it leave and one that never saw it agree; and when it is back all is as it was.
        strategy = make("ip_hash", backends)
        strategy.update(rest)
        assert [strategy.pick(client, ()) for client in CLIENTS] == after
        strategy.update(backends)
        assert [strategy.pick(client, ()) for client in CLIENTS] == before


@pytest.mark.parametrize("n", [3, 10])
def test_no_more_clients_move_than_the_one_that_left_had_a_right_to(n: int) -> None:
    backends = several(n)
    before = homes(backends)
    for gone in backends:
        after = homes([backend for backend in backends if backend is not gone])
        moved = sum(old is not new for old, new in zip(before, after, strict=True))
        assert moved / len(CLIENTS) <= 1 / n * 1.3


@pytest.mark.parametrize("weights", [(1,), (3, 1), (100, 20)])
def test_history_and_order_play_no_part(weights: tuple[int, ...]) -> None:
    """Two workers that saw different changes must agree."""
    backends = several(9, weights)
    strategy = make("ip_hash", backends[:3])
    strategy.update(backends[2:])
    strategy.update([])
    strategy.update(backends[::-1])
    for backend in backends:
        backend.weight += 15
    strategy.update(backends)
    for backend in backends:
        backend.weight -= 15
    strategy.update(backends)
    assert [strategy.pick(client, ()) for client in CLIENTS] == homes(backends)


def test_only_names_count_so_a_restart_changes_nothing() -> None:
    first, second = several(6), several(6)
    assert [home.name for home in homes(first) if home] == [home.name for home in homes(second) if home]


@pytest.mark.parametrize("weights", [(1,), (17, 1)])
def test_a_backend_made_anew_under_the_same_name_takes_over(weights: tuple[int, ...]) -> None:
    backends = several(6, weights)
    strategy = make("ip_hash", backends)
    before = [strategy.pick(client, ()) for client in CLIENTS]
    anew = several(6, weights)[0]
    strategy.update(backends[1:])
    strategy.update([anew, *backends[1:]])
    expected = [anew if backend is backends[0] else backend for backend in before]
    assert [strategy.pick(client, ()) for client in CLIENTS] == expected


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 12), k=st.integers(1, 11), weights=st.lists(st.integers(1, 256), min_size=1, max_size=3))
def test_a_retry_goes_where_the_client_would_go_without_the_tried_ones(n: int, k: int, weights: list[int]) -> None:
    backends = several(n, weights)
    tried = tuple(backends[: min(k, n - 1)])
    retrying, without = make("ip_hash", backends), make("ip_hash", backends[len(tried) :])
    for client in CLIENTS[:100]:
        assert retrying.pick(client, tried) is without.pick(client, ())


@pytest.mark.parametrize("weights", [(1, 1, 1), (8, 2, 6), (100, 50, 50), (255, 16, 1)])
def test_clients_spread_by_weight(weights: tuple[int, ...]) -> None:
    backends = several(len(weights), weights)
    found = homes(backends)
    for backend in backends:
        fair = backend.weight / sum(weights)
        assert found.count(backend) / len(CLIENTS) == pytest.approx(fair, abs=0.06)


def test_more_weight_only_draws_clients_in() -> None:
    backends = several(5, (4,))
    before = homes(backends)
    backends[0].weight = 6
    after = homes(backends)
    assert all(new is old or new is backends[0] for old, new in zip(before, after, strict=True))
    assert after.count(backends[0]) > before.count(backends[0])


@pytest.mark.parametrize("value", [0, 2**64 - 1])
def test_addresses_at_the_ends_of_the_hash_have_a_home(value: int) -> None:
    strategy = IpHash(replace(context(), hash64=lambda data, seed: value))
    strategy.update(several(3))
    home = strategy.pick(REQUEST, ())
    assert home is not None
    assert strategy.pick(REQUEST, (home,)) not in (home, None)
