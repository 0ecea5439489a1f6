"""Where listeners and routes count in the shared segment.

A configuration is never refused for the sake of its figures: what finds no room counts in slot 0, with all others of
the kind.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from headgate.config.schema import Config
from headgate.engine.stats import Segment
from headgate.observe.names import route_name
from headgate.runtime.knowledge import Knowledge
from headgate.runtime.slots import SlotTable

OTHER = "(other)"
"""The name of slot 0."""


class TrafficSlots:
    """The slots of all listeners, by their `bind`, and of all routes, by their names."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        # A listener that is closed has connections for a while, which count in its slot.
        self._listeners: SlotTable[str] = SlotTable(segment.listener_capacity, self._has_connections)
        self._closed: dict[str, set[int]] = {}
        self._routes: SlotTable[str] = SlotTable(segment.route_capacity)
        for table in (self._listeners, self._routes):
            table.reserve(OTHER, 0)

    @property
    def listeners(self) -> dict[str, int]:
        """A listener's `bind` -> its slot."""
        return dict(self._listeners.items())

    @property
    def routes(self) -> dict[str, int]:
        """A route's name -> its slot."""
        return dict(self._routes.items())

    def connections(self, bind: str) -> int:
        """Open client connections that came in by a listener, also before it was closed and opened again. Of those that
        found no slot of their own: those of all of them."""
        slots = self._closed.get(bind, set()) | {self._listeners.get(bind) or 0}
        own = slots - {0} or slots
        return sum(self._segment.listener_totals(slot)["open"] for slot in own)

    def _has_connections(self, slot: int) -> bool:
        return self._segment.listener_totals(slot)["open"] > 0

    @property
    def resting(self) -> int:
        """Freed slots that may not be given away yet."""
        return self._listeners.resting + self._routes.resting

    def knowledge(self) -> dict[str, Any]:
        """Its part of `Knowledge`, for the process that comes after this one."""
        return {
            "listeners": self.listeners,
            "routes": self.routes,
            "resting_listeners": self._listeners.resting_slots(),
            "resting_routes": self._routes.resting_slots(),
        }

    def take_over(self, knowledge: Knowledge) -> None:
        """Be as it was in the process before, which wrote into this very segment."""
        for table, slots, resting in (
            (self._listeners, knowledge.listeners, knowledge.resting_listeners),
            (self._routes, knowledge.routes, knowledge.resting_routes),
        ):
            for name, slot in slots.items():
                if name != OTHER:
                    table.reserve(name, slot)
            for slot in resting:
                table.rest(slot, 0)

    def apply(self, config: Config, generation: int) -> None:
        """Become this configuration. `generation` is the snapshot that will tell the workers."""
        wanted = {listener.bind.text for listener in config.listeners}
        for bind, slot in self._listeners.items():
            if bind not in wanted and slot:
                self._closed.setdefault(bind, set()).add(slot)
        _apply(self._listeners, wanted, generation)
        _apply(self._routes, {route_name(route) for route in config.routes}, generation)

    def recycle(self, acknowledged: int) -> None:
        """Every worker runs at least this generation: free the slots that no worker knows any more."""
        for slot in self._listeners.recycle(acknowledged):
            self._segment.clear_listener(slot)
            for bind, slots in list(self._closed.items()):
                slots.discard(slot)
                if not slots:
                    del self._closed[bind]
        for slot in self._routes.recycle(acknowledged):
            self._segment.clear_route(slot)


def _apply(table: SlotTable[str], wanted: Collection[str], generation: int) -> None:
    for name, _ in table.items():
        if name != OTHER and name not in wanted:
            table.release(name, generation)
    for name in sorted(wanted):
        if table.get(name) is None and len(table) + table.resting < table.capacity:
            table.take(name)
