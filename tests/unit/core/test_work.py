"""Waiting work, counted by task and shared by slots."""

from __future__ import annotations

import pytest

from offload.core.queue.work import Work, wait_s
from offload.core.request import TaskLimits
from offload.core.run_times import RunTimes
from tests.unit.core.stage import new_job


@pytest.mark.parametrize(
    ("ahead_s", "busy_s", "waits_s"),
    [
        (0.0, [], 0.0),
        (5.0, [], 5.0),  # one slot is assumed
        (0.0, [0.0], 0.0),
        (0.0, [3.0, 1.0, 2.0], 1.0),  # the first free slot
        (0.5, [1.0, 2.0], 1.5),
        (1.0, [1.0, 2.0], 2.0),
        (4.0, [1.0, 2.0], 3.5),  # one second on the first alone, the rest on both
        (10.0, [0.0, 100.0], 10.0),  # a slot that hangs does not help
        (12.0, [1.0, 1.0, 1.0, 1.0], 4.0),
    ],
)
def test_slots_share_the_work_ahead_as_they_become_free(ahead_s: float, busy_s: list[float], waits_s: float) -> None:
    assert wait_s(ahead_s, busy_s) == pytest.approx(waits_s)


def test_work_follows_the_present_estimates() -> None:
    times, work = RunTimes(), Work()
    for index in (0, 0, 1):
        work.add(new_job(limits=TaskLimits(name="task", index=index, timeout_s=60.0)))
    times.record(0, 2.0)
    times.record(1, 0.5)
    assert work.expected_s(times) == 4.5
    work.subtract(new_job())
    assert work.expected_s(times) == 2.5
