"""The latency histogram: 16 buckets a doubling, from 1 us to beyond an hour."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.histogram import Latency, bucket_of, histogram_bounds
from headgate.engine.stats import Segment

BOUNDS = histogram_bounds()
FIRST_NS = 1_000
BEYOND_NS = 1_000 << 32
ERROR = 0.032


def test_it_reaches_from_a_microsecond_to_more_than_an_hour() -> None:
    assert len(BOUNDS) == 512
    assert BOUNDS[-1] == BEYOND_NS > 3_600 * 10**9


@pytest.mark.parametrize("octave", range(32))
def test_every_doubling_of_a_microsecond_starts_sixteen_buckets(octave: int) -> None:
    assert bucket_of(FIRST_NS << octave) == 16 * octave


def test_bounds_and_index_agree_at_every_edge() -> None:
    for index, bound in enumerate(BOUNDS[:-1]):
        assert (bucket_of(bound - 1), bucket_of(bound)) == (index, index + 1)


@given(st.integers(FIRST_NS, BEYOND_NS - 1))
def test_the_middle_of_a_bucket_is_near_all_its_values(ns: int) -> None:
    index = bucket_of(ns)
    lower = BOUNDS[index - 1] if index else FIRST_NS
    assert lower <= ns < BOUNDS[index]
    assert abs((lower + BOUNDS[index]) / 2 - ns) <= ERROR * ns


@pytest.mark.parametrize(("ns", "index"), [(0, 0), (999, 0), (BEYOND_NS, 511), (2**64 - 1, 511)])
def test_values_outside_land_in_the_outer_buckets(ns: int, index: int) -> None:
    assert bucket_of(ns) == index


def test_quantiles_are_those_of_the_values_within_the_error() -> None:
    rng = random.Random(20261121)
    values = sorted(int(rng.lognormvariate(14, 1.5)) for _ in range(5_000))
    with Segment.create(2, backends=1, pools=3) as segment:
        for count, value in enumerate(values):
            segment.add_latency(count % 2, 2, value)
        latency = segment.latency(2)
    assert (latency.count, latency.sum_ns) == (len(values), sum(values))
    assert sum(count for _, count in latency.buckets) == len(values)
    assert latency.buckets == sorted(latency.buckets)
    for q in (0.01, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = values[math.ceil(q * len(values)) - 1]
        found = latency.quantile(q)
        assert found is not None
        assert abs(found - exact) <= ERROR * exact


def test_time_to_first_byte_and_total_time_are_apart_and_pools_too() -> None:
    with Segment.create(1, backends=1, pools=2) as segment:
        segment.add_latency(0, 0, 5_000_000)
        segment.add_latency(0, 1, 7_000_000, first_byte=True)
        assert [segment.latency(pool).count for pool in (0, 1)] == [1, 0]
        assert [segment.latency(pool, first_byte=True).count for pool in (0, 1)] == [0, 1]
        assert segment.latency(0).buckets == [(5_120_000, 1)]


def test_nothing_counted_has_no_quantile() -> None:
    assert Latency(0, 0, []).quantile(0.5) is None


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Latency(1, 5, [(2_000, 1)]).quantile(q)
