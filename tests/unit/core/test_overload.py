"""Overload on a virtual clock: what can be served in time is served, and all other jobs are rejected at once.

Capacity is what the slots can do without pauses. Figures cover the overload after its first second, in which the run
times were not known yet.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from offload.core.outcome import Reason
from offload.core.request import TaskLimits
from tests.unit.core.overload import Overload, Stream, Visit

TEN_MS = TaskLimits(name="ten", index=0, timeout_s=60.0)
ONE_MS = TaskLimits(name="one", index=1, timeout_s=60.0)
HUNDRED_MS = TaskLimits(name="hundred", index=2, timeout_s=60.0)
TWO_S = TaskLimits(name="two seconds", index=3, timeout_s=60.0)
HALF_S = TaskLimits(name="half a second", index=4, timeout_s=60.0)

# Multiples of the capacity; `make test-all` adds one between the extremes.
LOADS = [2, pytest.param(5, marks=pytest.mark.long), 10]

LASTS_S = 10.0
WARM_S = 1.0


def stream(
    task: TaskLimits, run_s: float, *, work: float, budget_s: float | None = 1.0, to_s: float = LASTS_S
) -> Stream:
    """Returns a stream of jobs with `work` seconds of slot time in each second."""
    return Stream(visit=Visit(task=task, run_s=run_s, budget_s=budget_s), per_s=work / run_s, to_s=to_s)


@pytest.mark.parametrize("times", LOADS)
def test_under_overload_goodput_stays_near_capacity(times: int) -> None:
    overload = Overload(slots=2, streams=[stream(TEN_MS, 0.01, work=times * 2)]).run()
    capacity = 2 * (LASTS_S - WARM_S) / 0.01
    assert overload.good(TEN_MS, from_s=WARM_S, to_s=LASTS_S) >= 0.95 * capacity
    rejected = [ended for ended in overload.ended if ended.reason is Reason.OVERLOADED]
    assert len(rejected) + overload.good(TEN_MS) >= 0.999 * len(overload.ended)
    # Nearly all are rejected at once; a few were accepted and rejected later.
    assert sum(ended.waited_s == 0.0 for ended in rejected) >= 0.99 * len(rejected)
    assert overload.most_queued <= 2 * 100  # a second of work: it does not grow with the load


@pytest.mark.long
def test_a_thousand_slots_at_ten_times_the_load() -> None:
    overload = Overload(
        slots=1000, streams=[stream(HALF_S, 0.5, work=10_000, budget_s=2.0, to_s=5.0)], queue_limit=100_000
    ).run()
    assert overload.good(HALF_S) >= 0.95 * 1000 * 5.0 / 0.5


def test_after_an_overload_a_new_job_is_served_at_once() -> None:
    """Less than a second of work is still queued; a second later the queue is empty."""
    after = Stream(visit=Visit(task=TEN_MS, run_s=0.01, budget_s=1.0), per_s=20.0, from_s=5.0, to_s=15.0)
    overload = Overload(slots=2, streams=[stream(TEN_MS, 0.01, work=20, to_s=5.0), after]).run()
    late = [ended for ended in overload.ended if ended.came_at >= 5.0]
    assert len(late) > 150
    assert all(ended.is_good for ended in late if ended.came_at >= 6.0)
    assert max(ended.waited_s for ended in late if ended.came_at >= 6.0) < 0.1


def test_goodput_stays_near_capacity_at_every_step_of_a_ramp() -> None:
    """The ramp goes from half to ten times the capacity."""
    steps = [0.5, 1.0, 2.0, 5.0, 10.0]
    streams = [
        Stream(
            visit=Visit(task=TEN_MS, run_s=0.01, budget_s=1.0),
            per_s=step * 2 / 0.01,
            from_s=5.0 * number,
            to_s=5.0 * (number + 1),
        )
        for number, step in enumerate(steps)
    ]
    overload = Overload(slots=2, streams=streams).run()
    for number, step in enumerate(steps):
        good = overload.good(TEN_MS, from_s=5.0 * number, to_s=5.0 * (number + 1))
        assert good >= 0.93 * min(step, 1.0) * 2 * 5.0 / 0.01, step


@pytest.mark.parametrize("times", LOADS)
@pytest.mark.parametrize(("long", "least"), [(TWO_S, 0.75), (replace(TWO_S, max_running=3), 0.95)])
def test_short_tasks_meet_their_deadlines_beside_very_long_ones(long: TaskLimits, least: float, times: int) -> None:
    """The tasks share the slots as clients do.

    With a limit on the running long jobs the short ones hardly notice them. Without it, short jobs are rejected at once
    while long jobs occupy all slots for longer than the callers wait.
    """
    lasts_s, slots = 15.0, 4
    streams = [
        stream(ONE_MS, 0.001, work=times * slots * 0.05, budget_s=1.0, to_s=lasts_s),
        stream(HUNDRED_MS, 0.1, work=times * slots * 0.45, budget_s=1.0, to_s=lasts_s),
        stream(long, 2.0, work=times * slots * 0.5, budget_s=10.0, to_s=lasts_s),
    ]
    overload = Overload(slots=slots, streams=streams).run()
    fair_s = slots * lasts_s / 3
    assert overload.good(ONE_MS) * 0.001 >= least * min(times * slots * lasts_s * 0.05, fair_s)
    assert overload.good(HUNDRED_MS) * 0.1 >= 0.7 * fair_s
    assert overload.good(long) * 2.0 >= 0.7 * fair_s
    for task, in_time in ((ONE_MS, 0.95), (HUNDRED_MS, 0.85)):
        taken = [ended for ended in overload.of(task) if ended.waited_s > 0]
        assert sum(ended.is_good for ended in taken) >= in_time * len(taken), task.name
    assert overload.busy_s >= 0.9 * slots * lasts_s


def test_beside_a_flooding_client_another_is_served_within_about_one_run_time() -> None:
    flood = [Visit(task=HUNDRED_MS, run_s=0.1, client="greedy")] * 1000
    streams = [
        Stream(visit=flood[0], per_s=1_000_000.0, to_s=0.001),
        Stream(visit=Visit(task=HUNDRED_MS, run_s=0.1, client="modest"), per_s=1.0, from_s=2.0, to_s=20.0),
    ]
    overload = Overload(slots=2, streams=streams, queue_limit=2000).run()
    modest = [ended for ended in overload.ended if ended.visit.client == "modest"]
    assert len(modest) > 5
    assert max(ended.waited_s for ended in modest) <= 0.1 + 0.1 + 0.1
    assert all(ended.reason is Reason.SUCCEEDED for ended in overload.ended)


def test_urgent_jobs_overtake_and_old_ones_are_still_served() -> None:
    steady = Stream(visit=Visit(task=TEN_MS, run_s=0.01, urgency=0), per_s=195.0, to_s=60.0)
    late = Stream(visit=Visit(task=TEN_MS, run_s=0.01, urgency=7), per_s=20.0, to_s=20.0)
    overload = Overload(slots=2, streams=[steady, late]).run()
    urgent = [ended.waited_s for ended in overload.ended if ended.visit.urgency == 0]
    patient = [ended.waited_s for ended in overload.ended if ended.visit.urgency == 7]
    assert sum(urgent) / len(urgent) < 0.2 * sum(patient) / len(patient)
    assert max(patient) < 40.0


@pytest.mark.parametrize("times", LOADS)
def test_callers_that_return_after_retry_after_are_served(times: int) -> None:
    """A burst, and then nearly half of the capacity: no promise holds while the burst lasts."""
    burst = Visit(task=TEN_MS, run_s=0.01, budget_s=1.0, returns=1)
    streams = [
        Stream(visit=burst, per_s=times * 200.0, to_s=1.0),
        Stream(visit=Visit(task=TEN_MS, run_s=0.01, budget_s=1.0), per_s=80.0, from_s=1.0, to_s=40.0),
    ]
    overload = Overload(slots=2, streams=streams).run()
    came_back = [ended for ended in overload.ended if ended.visit.has_returned]
    assert len(came_back) > 20
    assert sum(ended.is_good for ended in came_back) >= 0.9 * len(came_back)


def test_rejected_callers_return_spread_over_time() -> None:
    burst = Visit(task=TEN_MS, run_s=0.01, budget_s=1.0)
    overload = Overload(slots=2, streams=[Stream(visit=burst, per_s=4000.0, to_s=1.0)]).run()
    comes_back = [ended.came_at + ended.retry_after_s for ended in overload.ended if ended.retry_after_s is not None]
    busiest = max(sum(second <= when < second + 1 for when in comes_back) for second in range(80))
    assert busiest <= 200 * 1.2  # the capacity of a second


def test_a_clock_that_jumps_loses_no_job() -> None:
    """After a machine has slept for an hour, waiting jobs have timed out and new ones are served."""
    before = stream(TEN_MS, 0.01, work=4, to_s=1.0)
    after = Stream(visit=Visit(task=TEN_MS, run_s=0.01, budget_s=1.0), per_s=100.0, from_s=3600.0, to_s=3610.0)
    asleep = Stream(visit=Visit(task=TWO_S, run_s=3000.0, budget_s=None), per_s=1000.0, to_s=0.002)
    overload = Overload(slots=2, streams=[before, asleep, after]).run()
    assert all(ended.is_good for ended in overload.ended if ended.came_at >= 3600.0)
