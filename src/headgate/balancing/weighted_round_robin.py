"""Weighted round robin: turns in proportion to share, spread as evenly as they can be.

Two forms of the same thing. Up to `SCAN_LIMIT` backends: smooth weighted round robin as in nginx, which looks at each
backend for each pick (5, 1, 1 gives a a b a c a a). Above it: earliest deadline first. A backend of share w is due w
times in a unit of time, at even distances; the earliest is taken from a heap, O(log n). Backends of one share begin at
different points of their distance, so that they do not fall due all at once. In both forms a whole cycle of picks gives
each backend exactly its share; with fractions (a slow start), over time.

Both have the same state, which `update` carries over: what a backend is owed, in turns (negative = it is ahead).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from headgate.balancing.base import Backend, Context, Grounds, Request, Score, usable
from headgate.balancing.signature import Takes

# As plain Python the scan costs about 60 ns a backend and the heap 0.5 µs at any size, so they meet here.
SCAN_LIMIT = 8


class _Turn:
    """A backend's place in the order. The scan uses `current`, the heap `phase` and `count`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.share = backend.share
        self.current = 0.0
        self.phase = 0.5  # part of the distance to go to the first turn
        self.count = 0

    @property
    def deadline(self) -> float:
        # Divided afresh for each turn: a sum of 1/share would drift, and equal fractions would no longer tie.
        return (self.phase + self.count) / self.share


class WeightedRoundRobin:
    """Turns in proportion to share, interleaved. Exact over each cycle; O(log n)."""

    __signature__ = Takes(anywhere=True)

    def __init__(self, context: Context | None = None) -> None:
        self._turns: list[_Turn] = []
        self._heap: list[tuple[float, int]] = []  # (deadline, index into _turns); empty = scan
        self._time = 0.0  # deadline of the turn taken last
        self._total = 0.0

    def update(self, backends: Sequence[Backend]) -> None:
        owed = self._owed()
        self._turns = [_Turn(backend) for backend in usable(backends)]
        self._total = sum(turn.share for turn in self._turns)
        self._time = 0.0
        self._heap = []
        if len(self._turns) <= SCAN_LIMIT:
            self._start_scan(owed)
        else:
            self._start_heap(owed)

    def _start_scan(self, owed: dict[Backend, float]) -> None:
        kept = [turn for turn in self._turns if turn.backend in owed]
        # What all are owed together is nothing. If one left that was ahead, the others have waited for it in proportion
        # to their shares, and in that proportion it is written off; the other way round likewise.
        shares = sum(turn.share for turn in kept)
        rest = sum(owed[turn.backend] for turn in kept)
        for turn in kept:
            right = owed[turn.backend] - rest * turn.share / shares
            # Rounded far below one, so that what was a whole number is one again and equals still tie.
            turn.current = round(right * self._total, 9)

    def _start_heap(self, owed: dict[Backend, float]) -> None:
        alike = Counter(turn.share for turn in self._turns)
        seen: Counter[float] = Counter()
        for turn in self._turns:
            if turn.backend in owed:
                turn.phase = min(1.0, max(0.0, 0.5 - owed[turn.backend]))
            else:
                turn.phase = (seen[turn.share] + 0.5) / alike[turn.share]
            seen[turn.share] += 1
        self._heap = [(turn.deadline, index) for index, turn in enumerate(self._turns)]
        heapify(self._heap)

    def pick(self, request: Request, tried: Collection[Backend]) -> Backend | None:
        if self._heap:
            if tried:
                return self._pick_earliest_untried(tried)
            turn = self._turns[self._heap[0][1]]
            self._take(turn)
            return turn.backend
        if tried:
            return self._pick_smooth([turn for turn in self._turns if turn.backend not in tried])
        return self._pick_smooth(self._turns)

    def explain(self, request: Request) -> Grounds:
        """What each is owed; see `ExplainingStrategy`."""
        if self._heap:
            return Grounds(
                "when its turn is due, in turns per share, in this worker: the lowest is next",
                {turn.backend: Score(turn.deadline, f"due at {turn.deadline:.4g}") for turn in self._turns},
            )
        return Grounds(
            "what it is owed, its share added, in this worker: the highest is next",
            {
                turn.backend: Score(turn.current + turn.share, f"owed {turn.current:g}, plus share {turn.share:g}")
                for turn in self._turns
            },
        )

    def _pick_smooth(self, turns: list[_Turn]) -> Backend | None:
        best: _Turn | None = None
        highest = 0.0
        total = 0.0
        for turn in turns:
            share = turn.share
            total += share
            current = turn.current = turn.current + share
            if best is None or current > highest:
                best = turn
                highest = current
        if best is None:
            return None
        best.current = highest - total
        return best.backend

    def _take(self, turn: _Turn) -> None:
        """`turn` stands at the top of the heap: take it and put its next one in."""
        self._time, index = self._heap[0]
        turn.count += 1
        heapreplace(self._heap, ((turn.phase + turn.count) / turn.share, index))

    def _pick_earliest_untried(self, tried: Collection[Backend]) -> Backend | None:
        heap = self._heap
        skipped = []
        chosen: Backend | None = None
        while heap:
            turn = self._turns[heap[0][1]]
            if turn.backend not in tried:
                chosen = turn.backend
                self._take(turn)
                break
            skipped.append(heappop(heap))
        for entry in skipped:  # their turn was not had, so it stays due
            heappush(heap, entry)
        return chosen

    def _owed(self) -> dict[Backend, float]:
        """Turns each backend has a right to and has not had yet."""
        if self._heap:
            return {turn.backend: 0.5 + (self._time - turn.deadline) * turn.share for turn in self._turns}
        return {turn.backend: turn.current / self._total for turn in self._turns}
