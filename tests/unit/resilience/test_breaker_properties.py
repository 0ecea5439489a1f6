"""What holds for a pool's breakers whatever happens, against a model that only keeps the rules of the design."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.errors import Kind, Verdict
from headgate.resilience.breaker import BreakerGroup, Refused, State, Transition

RECOVERY_S = 10.0
LONGEST_S = 300.0
FAILURES = [kind for kind in Kind if kind.verdict in (Verdict.CONNECT, Verdict.TRANSPORT, Verdict.ANSWER)]
SILENT = [kind for kind in Kind if kind.verdict is Verdict.NONE]
KEYS = st.integers(0, 8)


class Breakers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.group: BreakerGroup[int] = BreakerGroup(success_threshold=2)
        self.opened_by: dict[int, Kind] = {}
        self.open_for: dict[int, float] = {}  # each member's last time, 0.0 = never
        self.closed_at: dict[int, float] = {}

    @initialize(n=st.integers(1, 9))
    def begin(self, n: int) -> None:
        for key in range(n):
            self.add(key)

    # What happens

    @rule(key=KEYS)
    def add(self, key: int) -> None:
        self.group.add(key, self.now)
        if key not in self.open_for:
            self.open_for[key] = 0.0
            self.closed_at[key] = self.now

    @rule(key=KEYS)
    def remove(self, key: int) -> None:
        self.group.remove(key)
        self.open_for.pop(key, None)
        self.closed_at.pop(key, None)
        self.opened_by.pop(key, None)

    @rule(key=KEYS, kind=st.sampled_from(FAILURES))
    def trip(self, key: int, kind: Kind) -> None:
        before = self.state(key)
        n, out = len(self.open_for), self.out
        answer = self.group.trip(key, kind, "x", self.now)
        if before in (None, State.OPEN):
            assert answer is None
        elif before is State.CLOSED and (n == 1 or out >= max(1, n // 2)):
            assert isinstance(answer, Refused)
            assert self.state(key) is State.CLOSED
        else:
            self.has_opened(key, kind, before)

    @rule(key=KEYS, kind=st.sampled_from(FAILURES))
    def probe_fails(self, key: int, kind: Kind) -> None:
        before = self.state(key)
        answer = self.group.probed(key, False, kind, self.now)
        if before is State.HALF_OPEN:
            self.has_opened(key, kind, before)
        else:
            assert answer is None

    @rule(key=KEYS, kind=st.sampled_from(SILENT))
    def probe_says_nothing(self, key: int, kind: Kind) -> None:
        before = self.state(key)
        assert self.group.probed(key, False, kind, self.now) is None
        assert self.state(key) is before

    @rule(key=KEYS)
    def two_probes_succeed(self, key: int) -> None:
        before = self.state(key)
        first = self.group.probed(key, True, Kind.OK, self.now)
        second = self.group.probed(key, True, Kind.OK, self.now)
        if before is State.HALF_OPEN:
            # The second one closes it, or the first where another had succeeded before it.
            assert {type(first), type(second)} == {type(None), Transition}
            assert self.state(key) is State.CLOSED
            self.closed_at[key] = self.now
        else:
            assert first is second is None

    @rule(key=KEYS, down_to_up=st.booleans())
    def check_passes(self, key: int, down_to_up: bool) -> None:
        before = self.state(key)
        answer = self.group.check_passed(key, down_to_up, self.now)
        proves = key in self.opened_by and self.opened_by[key].verdict in (Verdict.CONNECT, Verdict.TRANSPORT)
        if before in (State.OPEN, State.HALF_OPEN) and down_to_up and proves:
            assert answer is not None
            assert self.state(key) is State.CLOSED
            self.closed_at[key] = self.now
        else:
            assert answer is None
            assert self.state(key) is before

    @rule(seconds=st.floats(0.001, 700))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.advance()

    @precondition(lambda self: self.group.next_event(self.now) is not None)
    @rule()
    def the_next_thing_happens(self) -> None:
        when = self.group.next_event(self.now)
        assert when is not None
        self.now = when
        self.advance()

    # What must hold

    @invariant()
    def all_that_is_out_comes_back_by_itself(self) -> None:
        for key in self.open_for:
            until = self.group.until(key)
            assert (until is None) == (self.state(key) is State.CLOSED)
            assert until is None or until <= self.now + LONGEST_S

    # The model

    def state(self, key: int) -> State | None:
        return self.group.state(key) if key in self.open_for else None

    @property
    def out(self) -> int:
        return sum(self.state(key) is not State.CLOSED for key in self.open_for)

    def has_opened(self, key: int, kind: Kind, before: State | None) -> None:
        assert self.state(key) is State.OPEN
        until = self.group.until(key)
        assert until is not None
        lasts = round(until - self.now, 6)
        last = self.open_for[key]
        doubled = min(2 * last, LONGEST_S) if last else RECOVERY_S
        if before is State.HALF_OPEN or self.now - self.closed_at[key] < last - 1e-6:
            # Nothing is forgiven before it has stayed closed as long as it was open.
            assert lasts == doubled
        else:
            assert lasts in (10, 20, 40, 80, 160, 300)
            assert lasts <= doubled
        self.opened_by[key] = kind
        self.open_for[key] = lasts

    def advance(self) -> None:
        before = {key: (self.state(key), self.group.until(key)) for key in self.open_for}
        changed = {change.key for change in self.group.advance(self.now)}
        for key, (state, until) in before.items():
            due = until is not None and until <= self.now
            assert (key in changed) == due
            if due and state is State.OPEN:
                assert self.state(key) is State.HALF_OPEN, "never straight back into use"
            elif due:
                assert self.state(key) is State.CLOSED
                self.closed_at[key] = self.now


TestBreakers = Breakers.TestCase
TestBreakers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
