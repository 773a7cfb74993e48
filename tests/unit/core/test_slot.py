"""The states of a slot, which stays occupied until the work has ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from offload.core.job import SlotId
from offload.core.slot import Slot, SlotState
from offload.errors import IllegalStep
from tests.unit.core.stage import new_job


def advance(slot: Slot) -> None:
    slot.add_waiting(new_job())
    slot.advance()


STEPS: dict[str, Callable[[Slot], object]] = {
    "ready": lambda slot: slot.attach_worker(2),
    "start": lambda slot: slot.occupy(new_job()),
    "stop": lambda slot: slot.stop_work(),
    "finish": lambda slot: slot.vacate(),
    "advance": advance,
    "die": lambda slot: slot.detach_worker(),
}
TABLE = {
    (SlotState.ABSENT, "ready"): SlotState.IDLE,
    (SlotState.IDLE, "start"): SlotState.BUSY,
    (SlotState.BUSY, "stop"): SlotState.STOPPING,
    (SlotState.BUSY, "finish"): SlotState.IDLE,
    (SlotState.BUSY, "advance"): SlotState.BUSY,
    (SlotState.STOPPING, "finish"): SlotState.IDLE,
    **{(state, "die"): SlotState.ABSENT for state in SlotState},
}


def slot_in(state: SlotState) -> Slot:
    slot = Slot(SlotId(3))
    if state is not SlotState.ABSENT:
        slot.attach_worker(1)
    if state in (SlotState.BUSY, SlotState.STOPPING):
        slot.occupy(new_job())
    if state is SlotState.STOPPING:
        slot.stop_work()
    return slot


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("state", SlotState)
def test_a_slot_follows_the_table_or_raises_and_changes_nothing(state: SlotState, step: str) -> None:
    slot = slot_in(state)
    before = (slot.state, slot.job, slot.generation)
    if (state, step) in TABLE:
        STEPS[step](slot)
        assert slot.state is TABLE[state, step]
    else:
        with pytest.raises(IllegalStep, match=f"slot 3 is {state}: {step} is not possible"):
            STEPS[step](slot)
        assert (slot.state, slot.job, slot.generation) == before


@pytest.mark.parametrize("end", ["finish", "die"])
@pytest.mark.parametrize("state", [SlotState.BUSY, SlotState.STOPPING])
def test_the_end_of_the_work_removes_the_job(state: SlotState, end: str) -> None:
    slot = slot_in(state)
    assert slot.job is not None
    STEPS[end](slot)
    assert slot.job is None


def test_a_slot_advances_to_the_first_waiting_job() -> None:
    slot, first, second = slot_in(SlotState.BUSY), new_job(), new_job()
    slot.add_waiting(first)
    slot.add_waiting(second)
    assert slot.advance() is first
    assert (slot.job, list(slot.waiting)) == (first, [second])


def test_a_stopped_job_keeps_its_slot() -> None:
    slot = slot_in(SlotState.BUSY)
    job = slot.job
    slot.stop_work()
    assert slot.job is job
    assert not slot.is_idle


def test_a_new_worker_sets_the_generation() -> None:
    slot = slot_in(SlotState.IDLE)
    slot.detach_worker()
    slot.attach_worker(5)
    assert (slot.generation, slot.is_idle) == (5, True)


def test_the_repr_of_a_slot_has_state_generation_and_job() -> None:
    assert repr(slot_in(SlotState.IDLE)) == "<Slot 3 idle generation=1 job=None>"
