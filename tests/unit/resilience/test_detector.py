from __future__ import annotations

import pytest

from headgate.resilience.cause import Cause
from headgate.resilience.detector import Detector, Tripped


class Backend:
    """Drives a detector as a worker does: a counter, a clock, a sample each second."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.now = 100.0
        self.succeeded = 0
        self.causes: list[Cause] = []
        detector.sample(self.now, 0)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while int(self.now) < int(end):
            self.now = float(int(self.now) + 1)
            self.detector.sample(self.now, self.succeeded)
        self.now = end

    def succeed(self, n: int = 1) -> None:
        self.succeeded += n

    def fail(self, n: int = 1) -> str | None:
        """The reason the n-th failure gave; none before it may have given one."""
        for _ in range(n - 1):
            assert self.detector.failed(self.now, self.succeeded) is None
        tripped = self.detector.failed(self.now, self.succeeded)
        if tripped is None:
            return None
        self.causes.append(tripped.cause)
        return tripped.reason


@pytest.fixture
def backend() -> Backend:
    return Backend(Detector())


def test_five_failures_in_a_row(backend: Backend) -> None:
    backend.succeed(1_000_000)
    assert backend.fail(5) == "5 failures in a row"
    assert backend.causes == [Cause.CONSECUTIVE_FAILURES]


def test_a_success_in_between_begins_a_new_row(backend: Backend) -> None:
    backend.succeed(100)
    assert backend.fail(4) is None
    backend.succeed()
    assert backend.fail(4) is None
    assert backend.fail() == "5 failures in a row"


def test_a_success_may_be_reported_instead_of_counted(backend: Backend) -> None:
    backend.succeed(100)
    assert not backend.detector.wants_successes
    assert backend.fail(4) is None
    assert backend.detector.wants_successes
    backend.detector.succeeded(backend.now)
    assert not backend.detector.wants_successes
    assert backend.fail(4) is None


def test_half_of_ten(backend: Backend) -> None:
    for _ in range(4):
        backend.succeed()
        assert backend.fail() is None
    backend.succeed()
    assert backend.fail() == "5 of 10 attempts failed within 10 s"
    assert backend.causes == [Cause.FAILURE_RATE]


def test_half_of_nine_say_too_little(backend: Backend) -> None:
    for _ in range(4):
        assert backend.fail() is None
        backend.succeed()
    assert backend.fail() is None


def test_less_than_half(backend: Backend) -> None:
    for _ in range(100):
        backend.succeed(2)
        assert backend.fail() is None
        backend.wait(0.05)


def test_failures_older_than_the_window_are_forgotten(backend: Backend) -> None:
    for _ in range(4):
        backend.succeed()
        assert backend.fail() is None
    backend.wait(10.2)
    backend.succeed(3)
    assert backend.fail() is None  # 1 of 4, not 5 of 12


def test_successes_older_than_the_window_are_forgotten(backend: Backend) -> None:
    backend.succeed(1000)
    backend.wait(11)
    for _ in range(4):
        backend.succeed()
        assert backend.fail() is None
    backend.succeed()
    assert backend.fail() == "5 of 10 attempts failed within 10 s"


def test_the_window_begins_between_samples_where_it_should(backend: Backend) -> None:
    """100 successes a second from 100.0 to 105.5, failures at 111.5: the window holds those from 101.5 on, 400."""
    for _ in range(11):
        backend.succeed(50)
        backend.wait(0.5)
    backend.wait(6)
    reasons: list[Tripped | None] = []
    while not any(reasons):
        reasons.append(backend.detector.failed(backend.now, backend.succeeded))
        backend.detector.succeeded(backend.now)  # no row of them
    assert len(reasons) == 400
    assert reasons[-1] == (Cause.FAILURE_RATE, "400 of 800 attempts failed within 10 s")


def test_a_trip_begins_counting_afresh(backend: Backend) -> None:
    backend.succeed(10)
    assert backend.fail(5) is not None
    assert backend.fail(4) is None
    assert backend.fail() == "5 failures in a row"


def test_reset_forgets_everything(backend: Backend) -> None:
    backend.succeed(4)
    assert backend.fail(4) is None
    backend.detector.reset()
    assert backend.fail(4) is None


def test_it_needs_no_sample_before_the_first_failure() -> None:
    detector = Detector()
    assert [detector.failed(5.0, 7) for _ in range(5)][-1] == (Cause.CONSECUTIVE_FAILURES, "5 failures in a row")


def test_a_worker_that_stood_still_for_a_minute(backend: Backend) -> None:
    backend.succeed(500)
    assert backend.fail(4) is None
    backend.now += 60  # no samples meanwhile
    backend.succeed(20)
    assert backend.fail() is None
    backend.detector.sample(backend.now, backend.succeeded)
    assert backend.fail(3) is None


def test_memory_is_bounded(backend: Backend) -> None:
    for _ in range(3000):
        backend.succeed(5)
        assert backend.fail() is None
        backend.wait(0.02)
    sizes = [len(value) for value in vars(backend.detector).values() if hasattr(value, "__len__")]
    assert max(sizes) <= 101


@pytest.mark.parametrize(
    ("options", "failures", "reason"),
    [
        ({"failure_threshold": 1}, 1, "a failure"),
        ({"failure_threshold": 2}, 2, "2 failures in a row"),
        ({"failure_threshold": 50, "minimum": 3}, 3, "3 of 3 attempts failed within 10 s"),
        ({"failure_threshold": 50, "minimum": 4, "window_s": 2.5}, 4, "4 of 4 attempts failed within 2.5 s"),
        ({"failure_threshold": 50, "failure_rate": 1.0}, 10, "10 of 10 attempts failed within 10 s"),
    ],
)
def test_options(options: dict[str, float], failures: int, reason: str) -> None:
    assert Backend(Detector(**options)).fail(failures) == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"failure_threshold": 0}, {"minimum": 0}, {"failure_rate": 0}, {"failure_rate": 1.1}, {"window_s": 0}]
)
def test_options_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|at most 1|longer than nothing"):
        Detector(**options)  # type: ignore[arg-type]
