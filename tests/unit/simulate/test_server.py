"""Servers: slots, queues, stalls."""

from __future__ import annotations

from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.simulate import Server, Stall


def test_slots_work_side_by_side_and_the_next_waits() -> None:
    station = Server("a", slots=2).open(0)
    assert [station.accept(0.0, 1.0) for _ in range(5)] == [1.0, 1.0, 2.0, 2.0, 3.0]
    assert (station.active, station.peak, station.taken) == (5, 5, 5)


def test_slow_servers_take_longer() -> None:
    assert Server("a", slowness=3.0).open(0).accept(1.0, 0.5) == 2.5


@pytest.mark.parametrize(
    ("start", "work", "end"),
    [
        (0.0, 1.0, 1.0),  # before the first stall
        (4.5, 0.5, 5.0),  # done as it begins
        (4.9, 0.2, 5.6),  # held up in the middle
        (5.2, 0.1, 5.6),  # began while nothing moved
        (5.5, 0.1, 5.6),
        (4.0, 11.0, 16.0),  # over two stalls
    ],
)
def test_a_stall_holds_up_everything(start: float, work: float, end: float) -> None:
    server = Server("a", stall=Stall(for_s=0.5, every_s=10.0, offset_s=5.0))
    assert server.open(0).accept(start, work) == pytest.approx(end)


@given(st.floats(0, 100), st.floats(1e-6, 50), st.floats(0.01, 0.99), st.floats(0, 7))
def test_the_work_done_outside_of_stalls_is_the_work(start: float, work: float, part: float, offset: float) -> None:
    stall = Stall(part * 7, 7.0, offset)

    def useful(now: float) -> float:
        """Time until `now` in which something moved."""
        periods = floor((now - offset) / 7.0)
        return periods * (7.0 - stall.for_s) + max(0.0, now - offset - periods * 7.0 - stall.for_s)

    end = stall.end(start, work)
    assert end >= start + work - 1e-9
    assert useful(end) - useful(start) == pytest.approx(work, abs=1e-6)


@pytest.mark.parametrize(("for_s", "every_s"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_a_stall_must_leave_time(for_s: float, every_s: float) -> None:
    with pytest.raises(ValueError, match="leaves no time"):
        Stall(for_s, every_s)


def test_capacity() -> None:
    assert Server("a").capacity(0.010) == pytest.approx(400)
    assert Server("a", slowness=3.0).capacity(0.010) == pytest.approx(400 / 3)
    assert Server("a", stall=Stall(0.5, 10.0)).capacity(0.010) == pytest.approx(380)
