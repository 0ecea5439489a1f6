"""Slots: who has which, and when one may be given away again."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headgate.runtime.slots import SlotTable


def test_a_key_keeps_its_slot_and_low_ones_come_first() -> None:
    slots: SlotTable[str] = SlotTable(4)
    assert [slots.take(key) for key in "aba"] == [0, 1, 0]
    assert slots.key(1) == "b"
    assert slots.get("c") is None


def test_a_freed_slot_rests_until_every_worker_knows() -> None:
    slots: SlotTable[str] = SlotTable(2)
    slots.take("a")
    slots.release("a", generation=5)
    assert slots.take("b") == 1
    with pytest.raises(ValueError, match=r"no room for more than 2 at a time \(1 more are about to be free\)"):
        slots.take("c")
    assert slots.recycle(4) == []
    assert slots.recycle(5) == [0]
    assert slots.take("c") == 0


def test_a_slot_rests_while_requests_are_in_flight() -> None:
    active = {0}
    slots: SlotTable[str] = SlotTable(1, busy=lambda slot: slot in active)
    slots.take("a")
    slots.release("a", 1)
    assert slots.recycle(9) == []
    assert slots.resting == 1
    active.clear()
    assert slots.recycle(9) == [0]
    assert slots.resting == 0


def test_a_name_that_comes_back_at_once_gets_another_slot() -> None:
    slots: SlotTable[str] = SlotTable(2)
    first = slots.take("a")
    slots.release("a", 2)
    assert slots.take("a") != first


class Machine(RuleBasedStateMachine):
    """Against a model: no slot has two owners, and none is reused before its generation was acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: SlotTable[int] = SlotTable(5)
        self.owned: dict[int, int] = {}
        self.resting: dict[int, int] = {}
        self.generation = 0
        self.acknowledged = 0

    @rule(key=st.integers(0, 9))
    def take(self, key: int) -> None:
        if key in self.owned:
            assert self.slots.take(key) == self.owned[key]
        elif len(self.owned) + len(self.resting) == 5:
            with pytest.raises(ValueError, match="no room"):
                self.slots.take(key)
        else:
            slot = self.slots.take(key)
            assert slot not in self.owned.values()
            assert slot not in self.resting
            self.owned[key] = slot

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.owned)))
        self.generation += 1
        slot = self.owned.pop(key)
        assert self.slots.release(key, self.generation) == slot
        self.resting[slot] = self.generation

    @precondition(lambda self: self.acknowledged < self.generation)
    @rule()
    def acknowledge(self) -> None:
        self.acknowledged += 1
        freed = {slot for slot, since in self.resting.items() if since <= self.acknowledged}
        assert set(self.slots.recycle(self.acknowledged)) == freed
        self.resting = {slot: since for slot, since in self.resting.items() if slot not in freed}

    @invariant()
    def agrees(self) -> None:
        assert dict(self.slots.items()) == self.owned
        assert self.slots.resting == len(self.resting)


TestMachine = Machine.TestCase
