"""The retry budget (engine/budget.pyx): exact, whatever the requests and the clock do."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from headgate.engine.budget import RetryBudget

SLOTS = 10


class Model:
    """The same rules, written for reading: a list of ten slots, fractions, and nothing clever."""

    def __init__(self, ratio: Fraction, reserve: int, workers: int) -> None:
        self.ratio = ratio
        self.most = Fraction(reserve * 1_000_000 // workers, 1_000_000)
        self.pace = Fraction(reserve * 1_000_000 // workers // SLOTS, 1_000_000)
        self.reserve = self.most
        self.slots = [Fraction(0)] * SLOTS  # the oldest first, the current one last
        self.deposited = Fraction(0)
        self.ends: float | None = None

    def turn(self, now: float) -> None:
        if self.ends is None:
            self.ends = now + 1
        for _ in range(SLOTS):
            if now < self.ends:
                return
            expired = self.slots.pop(0)
            self.slots.append(Fraction(0))
            self.reserve = min(self.most, self.reserve + expired + max(Fraction(0), self.pace - self.deposited))
            self.deposited = Fraction(0)
            self.ends += 1
        if now >= self.ends:
            self.reserve = self.most
            self.ends = now + 1

    def deposit(self, now: float) -> None:
        self.turn(now)
        self.slots[-1] += self.ratio
        self.deposited += self.ratio

    def withdraw(self, now: float) -> bool:
        self.turn(now)
        if self.tokens < 1:
            return False
        due = Fraction(1)
        for n, slot in enumerate(self.slots):
            part = min(slot, due)
            self.slots[n] -= part
            due -= part
        self.reserve -= due
        return True

    @property
    def tokens(self) -> Fraction:
        return sum(self.slots, Fraction(0)) + self.reserve


steps = st.lists(
    st.tuples(
        st.integers(0, 3000) | st.sampled_from([0, 0, 0, 1000, 9_999, 10_000, 12_000, 60_000]), st.integers(0, 40)
    ),
    max_size=60,
)


@given(steps, st.sampled_from([1, 20, 50, 100]), st.integers(0, 30), st.integers(1, 4))
def test_it_is_its_model(steps: list[tuple[int, int]], percent: int, reserve: int, workers: int) -> None:
    budget = RetryBudget(percent / 100, reserve, workers)
    model = Model(Fraction(percent, 100), reserve, workers)
    passed = 0
    for number, (milliseconds, count) in enumerate(steps):
        passed += milliseconds
        # A little later than the step before: at exactly a whole second the last digit of a float would decide whose
        # second it is.
        now = 1000.0 + passed / 1000 + number * 1e-6
        for n in range(count):
            if n % 3 == 2:
                assert budget.withdraw(now) == model.withdraw(now)
            else:
                budget.deposit(now)
                model.deposit(now)
        assert abs(budget.tokens - model.tokens) < 1e-6


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=40),
    st.sampled_from([0.05, 0.2, 0.5, 1.0]),
    st.sampled_from([0, 1, 10, 100]),
)
def test_no_interval_sees_more_than_its_share(requests: list[int], ratio: float, reserve: int) -> None:
    """Everything fails, every second: retries <= reserve + sum of max(ratio * requests, reserve / 10)."""
    budget = RetryBudget(ratio, reserve)
    retries = 0
    for second, count in enumerate(requests):
        for n in range(count):
            now = 50.0 + second + n / (count + 1)
            budget.deposit(now)
            retries += budget.withdraw(now)
        allowed = reserve + sum(max(ratio * each, reserve / 10) for each in requests[: second + 1])
        assert retries <= allowed + 1e-6


def test_a_storm_costs_the_ratio_once_the_reserve_is_spent() -> None:
    """Row 42 of the fault matrix: 1,000 requests a second, all of which fail, each of which would be retried twice."""
    budget = RetryBudget(0.2, 100)
    retries = []
    for second in range(30):
        retries.append(0)
        for n in range(1000):
            now = 5.0 + second + n / 1000
            budget.deposit(now)
            retries[-1] += sum(budget.withdraw(now) for _ in range(2))
    assert retries[0] == 300  # the reserve, and a fifth
    assert retries[1:] == [200] * 29


def test_workers_have_a_part_each() -> None:
    parts = [RetryBudget(0.2, 100, 4) for _ in range(4)]
    assert [sum(part.withdraw(1.0) for _ in range(100)) for part in parts] == [25] * 4


def test_a_small_pool_has_its_reserve_back_in_ten_seconds() -> None:
    budget = RetryBudget(0.2, 100)
    assert sum(budget.withdraw(1.0) for _ in range(200)) == 100
    for second in range(2, 12):
        budget.deposit(second + 0.5)
        assert abs(budget.tokens - 10 * (second - 1)) < 0.3
    assert 100 <= sum(budget.withdraw(12.1) for _ in range(200)) <= 102  # and what the ten paid in


def test_deposits_last_ten_seconds_and_then_fill_the_reserve() -> None:
    budget = RetryBudget(0.2, 10)
    assert sum(budget.withdraw(1.0) for _ in range(20)) == 10
    for _ in range(1000):
        budget.deposit(1.5)
    assert budget.tokens == 200
    budget.deposit(10.9)
    assert budget.tokens == 209.0 or budget.tokens > 200  # the reserve fills meanwhile
    budget.deposit(11.1)
    assert abs(budget.tokens - 10.4) < 1e-6  # what expired beyond the reserve is gone


def test_no_ratio_is_no_limit() -> None:
    budget = RetryBudget(None, 0)
    assert all(budget.withdraw(1.0) for _ in range(1000))


def test_no_reserve_is_the_share_alone() -> None:
    budget = RetryBudget(0.2, 0)
    assert not budget.withdraw(1.0)
    for n in range(1, 11):
        budget.deposit(1.0)
        assert budget.withdraw(1.0) == (n % 5 == 0)


def test_a_refund_can_be_spent_again() -> None:
    budget = RetryBudget(0.2, 1)
    assert budget.withdraw(1.0)
    assert not budget.withdraw(1.0)
    budget.refund()
    assert budget.withdraw(1.0)


def test_other_settings_keep_what_was_earned() -> None:
    budget = RetryBudget(0.2, 100)
    for _ in range(40):
        budget.withdraw(1.0)
    budget.configure(0.5, 100)
    assert budget.tokens == 60
    budget.configure(0.5, 200)
    assert budget.tokens == 160
    budget.configure(0.5, 20)
    assert budget.tokens == 0
    budget.deposit(1.0)
    assert budget.tokens == 0.5
