"""What the states of its backends mean for a pool: panic, or nothing routable and who serves instead. (Workers work it
out for themselves; this is for the log, the status and the metrics.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from headgate.config.schema import Pool
from headgate.resilience.eligibility import eligible
from headgate.runtime.fallbacks import stand_in
from headgate.runtime.states import BackendRecord, States


class Outlook:
    """Looks at a pool some time after anything in it changed, once for a hundred changes in one turn of the loop.

    soon: runs a function a little later (`loop.call_soon`). members: a pool's backends.
    """

    def __init__(
        self,
        states: States,
        soon: Callable[[Callable[[], None]], object],
        members: Callable[[str], Sequence[BackendRecord]],
    ) -> None:
        self._states = states
        self._soon = soon
        self._members = members
        self._pools: Mapping[str, Pool] = {}
        self._doubted: set[str] = set()
        self._in_panic: set[str] = set()
        self._stand_ins: dict[str, str] = {}
        self._settled = False

    @property
    def in_panic(self) -> Collection[str]:
        """The pools in which ejected backends are used, since too few others are left."""
        return self._in_panic

    @property
    def stand_ins(self) -> Mapping[str, str]:
        """The pools in which nothing is routable -> what serves in their place; see `fallbacks.stand_in`."""
        return self._stand_ins

    def configure(self, pools: Mapping[str, Pool]) -> None:
        """These are the pools now."""
        for name in self._pools.keys() - pools.keys():
            self._in_panic.discard(name)
            self._stand_ins.pop(name, None)
        self._pools = pools
        for name in pools:
            self.doubt(name)

    def settle(self) -> None:
        """The first checks are done: what is not routable now is news."""
        self._settled = True
        for name in self._pools:
            self.doubt(name)

    def doubt(self, pool: str) -> None:
        """Something in it has changed. Whoever changed it tells that first."""
        if not self._doubted:
            self._soon(self._look)
        self._doubted.add(pool)

    def _look(self) -> None:
        doubted, self._doubted = self._doubted & self._pools.keys(), set()
        out = self._stand_ins.keys() - doubted
        for name in doubted:
            members = self._members(name)
            result = eligible(members, self._pools[name].panic)
            # A first check that is under way will tell, in a moment.
            if not result.new_sessions and all(record.checked or not record.addresses for record in members):
                out.add(name)
            if result.panic == (name in self._in_panic):
                continue
            count = self._count(name)
            if result.panic:
                self._in_panic.add(name)
                self._states.pool_happened(name, "panic", f"{count}: ejected ones are used again")
            else:
                self._in_panic.discard(name)
                self._states.pool_happened(name, "no panic any more", count)
        if self._settled:
            self._tell_who_serves(out)

    def _tell_who_serves(self, out: Collection[str]) -> None:
        """Nothing is routable in the pools `out`."""
        before = self._stand_ins
        self._stand_ins = {name: stand_in(name, self._pools, lambda other: other not in out) for name in sorted(out)}
        for name, serves in self._stand_ins.items():
            if before.get(name) != serves:
                instead = f"{serves} serves instead" if serves else "requests are answered 503"
                self._states.pool_happened(name, "nothing routable", f"{self._count(name)}: {instead}")
        for name in sorted(before.keys() - self._stand_ins.keys()):
            self._states.pool_happened(name, "routable again", self._count(name))

    def _count(self, pool: str) -> str:
        records = self._members(pool)
        return f"{sum(record.routable for record in records)} of {len(records)} backends are routable"
