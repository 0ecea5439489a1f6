from __future__ import annotations

from headgate.balancing.round_robin import RoundRobin

from .fakes import make, picks, several


def test_each_in_turn() -> None:
    assert picks(make("round_robin", several(3)), 7) == "a b c a b c a"


def test_weights_are_kept_smoothly() -> None:
    assert picks(make("round_robin", several(3, (5, 1, 1))), 7) == "a a b a c a a"


def test_a_slow_start_gives_fewer_turns_and_then_all_are_equal_again() -> None:
    *_, c = backends = several(3)
    strategy = make("round_robin", backends)
    assert picks(strategy, 3) == "a b c"
    c.share_of_weight = 0.25
    strategy.update(backends)
    assert picks(strategy, 9).split().count("c") == 1
    c.share_of_weight = 1.0
    strategy.update(backends)
    assert sorted(picks(strategy, 3).split()) == ["a", "b", "c"]


def test_tried_ones_are_passed_over() -> None:
    a, b, _ = backends = several(3)
    strategy = make("round_robin", backends)
    assert picks(strategy, 1, [a, b]) == "c"
    assert picks(strategy, 1, [a]) == "b"
    assert picks(strategy, 2) == "c a"


def test_the_turn_goes_on_after_a_change() -> None:
    a, b, c, d = backends = several(4)
    strategy = make("round_robin", backends)
    assert picks(strategy, 2) == "a b"
    strategy.update([a, b, d])  # c, whose turn it was, is gone
    assert picks(strategy, 2) == "d a"
    strategy.update([a, b, c, d])
    assert picks(strategy, 4) == "b c d a"


def test_a_set_that_keeps_changing_does_not_favour_the_first() -> None:
    backends = several(4)
    strategy = make("round_robin", backends)
    order = []
    for i in range(8):
        strategy.update(backends if i % 2 else list(backends))
        order.append(picks(strategy, 1))
    assert " ".join(order) == "a b c d a b c d"


def test_as_a_fallback_it_needs_no_context() -> None:
    strategy = RoundRobin()
    strategy.update(several(2))
    assert picks(strategy, 3) == "a b a"
