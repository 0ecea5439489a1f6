"""The past that a page is shown at once: right, and of fixed size."""

from __future__ import annotations

import random
import sys

from headgate.engine.histogram import bucket_of, histogram_bounds
from headgate.observe.history import MINUTES, SECONDS, WINDOW, Buckets, History, Row, grown, merged, quantiles

BOUNDS = histogram_bounds()


def buckets(*ms: float) -> dict[int, int]:
    """Durations as they are counted."""
    return merged([{BOUNDS[bucket_of(int(one * 1e6))]: 1} for one in ms])


def add(
    history: History,
    wall: float,
    requests: int = 0,
    *,
    elapsed: float = 1.0,
    errors: int = 0,
    times: Buckets | None = None,
    in_flight: int = 0,
    connections: int = 0,
) -> tuple[Row, Row | None]:
    return history.add(
        wall,
        elapsed,
        requests=requests,
        errors=errors,
        buckets=times or {},
        in_flight=in_flight,
        connections=connections,
    )


def test_a_day_and_more_keeps_its_size() -> None:
    history = History()
    sizes = []
    for hour in range(30):
        # Each second of the first minutes of an hour, then one look a minute: as much as matters, in a second.
        for second in [*range(120), *range(120, 3600, 60)]:
            add(history, hour * 3600 + second, 7, times=buckets(1, 2, 3))
        sizes.append((len(history.seconds), len(history.minutes), sys.getsizeof(history.seconds)))
    assert sizes[-1][:2] == (SECONDS, MINUTES)
    assert sizes[-1] == sizes[-3]
    assert history.minutes[-1][0] - history.minutes[0][0] == (MINUTES - 1) * 60
    assert len(history._window) == WINDOW


def test_a_minute_is_made_of_its_seconds() -> None:
    history = History()
    draw = random.Random(3)
    all_times: list[float] = []
    requests = errors = 0
    for second in range(60, 120):
        times = [draw.lognormvariate(2, 1) for _ in range(draw.randrange(20))]
        all_times += times
        requests += len(times)
        errors += len(times) // 5
        row, ended = add(
            history,
            second,
            len(times),
            errors=len(times) // 5,
            times=buckets(*times),
            in_flight=second % 7,
            connections=9,
        )
        assert ended is None
        assert row[:3] == (second, len(times), len(times) // 5)
    _, minute = add(history, 120)
    assert minute == (60, round(requests / 60, 2), round(errors / 60, 2), *quantiles(buckets(*all_times)), 6, 9)
    assert list(history.minutes) == [minute]


def test_rates_are_by_the_time_that_passed() -> None:
    row, _ = add(History(), 10, 300, elapsed=2.5)
    assert row[1] == 120


def test_a_clock_that_goes_back_makes_no_row_older_than_the_last() -> None:
    history = History()
    for wall in (1000, 1001, 400, 401, 1003):
        add(history, wall)
    assert [row[0] for row in history.seconds] == [1000, 1001, 1002, 1003, 1004]


def test_percentiles_of_the_last_seconds_forget() -> None:
    history = History()
    add(history, 0, 1, times=buckets(500))
    for second in range(1, WINDOW):
        add(history, second, 1, times=buckets(10))
    p50, _, p99 = history.recent()
    assert p50 is not None
    assert p99 is not None
    assert abs(p50 - 10) < 0.5
    assert abs(p99 - 500) < 20
    add(history, WINDOW, 1, times=buckets(10))
    assert history.recent()[2] == p50
    for second in range(WINDOW):
        add(history, WINDOW + 1 + second)
    assert history.recent() == (None, None, None)


def test_only_what_has_come_counts() -> None:
    assert grown({10: 3, 20: 1}, {10: 1}) == {10: 2, 20: 1}
    assert grown({10: 3}, {10: 3}) == {}
    # The counters began anew: what they had before is no request of this second.
    assert grown({10: 1}, {10: 3}) == {}
    assert grown({20: 1}, {10: 3, 20: 1}) == {}
