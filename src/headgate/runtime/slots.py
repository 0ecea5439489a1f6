"""Which place in the shared segment belongs to which backend, and when a place may be given away again.

A worker that has not yet heard of a removal still counts in the old place. So a freed slot rests until every worker
has acknowledged a generation that is without it, and until nothing is in flight on it any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class SlotTable(Generic[Key]):
    """Slots 0 to capacity - 1, each free, taken by one key, or resting.

    busy: tells whether a resting slot is still in use by requests in flight.
    """

    def __init__(self, capacity: int, busy: Callable[[int], bool] = lambda slot: False) -> None:
        self._free = list(range(capacity))  # a heap: low numbers first keeps scans of the segment short
        self._slots: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        self._resting: dict[int, int] = {}
        self._busy = busy
        self.capacity = capacity

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def resting(self) -> int:
        """How many slots wait to be free."""
        return len(self._resting)

    def get(self, key: Key) -> int | None:
        """The slot of a key."""
        return self._slots.get(key)

    def key(self, slot: int) -> Key | None:
        """Whose slot it is now; None for free and resting ones."""
        return self._keys.get(slot)

    def items(self) -> list[tuple[Key, int]]:
        """All keys with their slots."""
        return list(self._slots.items())

    def take(self, key: Key) -> int:
        """The key's slot, a new one if it has none. Raises ValueError when there is none left."""
        slot = self._slots.get(key)
        if slot is None:
            if not self._free:
                waiting = f" ({len(self._resting)} more are about to be free)" if self._resting else ""
                raise ValueError(f"no room for more than {self.capacity} at a time{waiting}")
            slot = heapq.heappop(self._free)
            self._slots[key] = slot
            self._keys[slot] = key
        return slot

    def reserve(self, key: Key, slot: int) -> None:
        """Give the key this very slot, as it had it before (an upgrade). It must be free."""
        self._free.remove(slot)
        heapq.heapify(self._free)
        self._slots[key] = slot
        self._keys[slot] = key

    def rest(self, slot: int, generation: int) -> None:
        """A free slot that somebody may still know under its former owner: it rests, too."""
        self._free.remove(slot)
        heapq.heapify(self._free)
        self._resting[slot] = generation

    def resting_slots(self) -> list[int]:
        """Those that wait to be free."""
        return list(self._resting)

    def release(self, key: Key, generation: int) -> int:
        """Take the slot from its key. `generation` is the first snapshot that is without it. Raises KeyError."""
        slot = self._slots.pop(key)
        del self._keys[slot]
        self._resting[slot] = generation
        return slot

    def recycle(self, acknowledged: int) -> list[int]:
        """Free what may be freed: `acknowledged` is the lowest generation that any worker runs. Returns those slots."""
        freed = [slot for slot, since in self._resting.items() if since <= acknowledged and not self._busy(slot)]
        for slot in freed:
            del self._resting[slot]
            heapq.heappush(self._free, slot)
        return freed
