"""More than the slots can do, on a virtual clock: what can be served is served, everybody else is told at once.

Capacity is what the slots can do if they never pause.  Figures are of the time while the overload lasts, after its
first second, in which nothing was known of the tasks yet.
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

# Times the load; what lies between the extremes is for `make test-all`.
LOADS = [2, pytest.param(5, marks=pytest.mark.long), 10]

LASTS_S = 10.0
WARM_S = 1.0


def stream(
    task: TaskLimits, run_s: float, *, work: float, budget_s: float | None = 1.0, to_s: float = LASTS_S
) -> Stream:
    """Jobs of so much work: seconds of slots, a second."""
    return Stream(visit=Visit(task=task, run_s=run_s, budget_s=budget_s), per_s=work / run_s, to_s=to_s)


@pytest.mark.parametrize("times", LOADS)
def test_at_many_times_the_load_nearly_all_that_can_be_done_in_time_is_done(times: int) -> None:
    overload = Overload(slots=2, streams=[stream(TEN_MS, 0.01, work=times * 2)]).run()
    capacity = 2 * (LASTS_S - WARM_S) / 0.01
    assert overload.good(TEN_MS, from_s=WARM_S, to_s=LASTS_S) >= 0.95 * capacity
    refused = [told for told in overload.told if told.reason is Reason.OVERLOADED]
    assert len(refused) + overload.good(TEN_MS) >= 0.999 * len(overload.told)
    # Nearly all of them hear it at once; a few were taken, and had to go for what was not foreseen.
    assert sum(told.waited_s == 0.0 for told in refused) >= 0.99 * len(refused)
    assert overload.most_queued <= 2 * 100  # what can be done in a second: it does not grow with the load


@pytest.mark.long
def test_a_thousand_slots_at_ten_times_the_load() -> None:
    overload = Overload(
        slots=1000, streams=[stream(HALF_S, 0.5, work=10_000, budget_s=2.0, to_s=5.0)], queue_limit=100_000
    ).run()
    assert overload.good(HALF_S) >= 0.95 * 1000 * 5.0 / 0.5


def test_when_the_overload_is_over_a_fresh_job_is_served_at_once() -> None:
    """What is still queued is less than a second's work, and a second later nothing is."""
    after = Stream(visit=Visit(task=TEN_MS, run_s=0.01, budget_s=1.0), per_s=20.0, from_s=5.0, to_s=15.0)
    overload = Overload(slots=2, streams=[stream(TEN_MS, 0.01, work=20, to_s=5.0), after]).run()
    late = [told for told in overload.told if told.came_at >= 5.0]
    assert len(late) > 150
    assert all(told.is_good for told in late if told.came_at >= 6.0)
    assert max(told.waited_s for told in late if told.came_at >= 6.0) < 0.1


def test_a_ramp_is_followed_all_the_way_up() -> None:
    """From half the capacity to ten times, without a breakdown at any point."""
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
def test_among_tasks_of_very_different_length_the_short_ones_keep_their_budget(
    long: TaskLimits, least: float, times: int
) -> None:
    """The tasks share the slots like callers do.  Where the long one may not take every slot, the short one hardly
    notices; else it is told at once when all slots are taken for longer than its caller waits."""
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
        taken = [told for told in overload.of(task) if told.waited_s > 0]
        assert sum(told.is_good for told in taken) >= in_time * len(taken), task.name
    assert overload.busy_s >= 0.9 * slots * lasts_s


def test_one_caller_floods_and_another_is_served_within_about_one_jobs_time() -> None:
    flood = [Visit(task=HUNDRED_MS, run_s=0.1, client="greedy")] * 1000
    streams = [
        Stream(visit=flood[0], per_s=1_000_000.0, to_s=0.001),
        Stream(visit=Visit(task=HUNDRED_MS, run_s=0.1, client="modest"), per_s=1.0, from_s=2.0, to_s=20.0),
    ]
    overload = Overload(slots=2, streams=streams, queue_limit=2000).run()
    modest = [told for told in overload.told if told.visit.client == "modest"]
    assert len(modest) > 5
    assert max(told.waited_s for told in modest) <= 0.1 + 0.1 + 0.1
    assert all(told.reason is Reason.SUCCEEDED for told in overload.told)


def test_an_urgent_job_overtakes_and_an_old_one_is_still_served() -> None:
    steady = Stream(visit=Visit(task=TEN_MS, run_s=0.01, urgency=0), per_s=195.0, to_s=60.0)
    late = Stream(visit=Visit(task=TEN_MS, run_s=0.01, urgency=7), per_s=20.0, to_s=20.0)
    overload = Overload(slots=2, streams=[steady, late]).run()
    urgent = [told.waited_s for told in overload.told if told.visit.urgency == 0]
    patient = [told.waited_s for told in overload.told if told.visit.urgency == 7]
    assert sum(urgent) / len(urgent) < 0.2 * sum(patient) / len(patient)
    assert max(patient) < 40.0


@pytest.mark.parametrize("times", LOADS)
def test_those_who_come_back_when_they_were_told_are_served_then(times: int) -> None:
    """A burst, and then nearly half of what the slots can do: as long as it lasts, nobody can promise anything."""
    burst = Visit(task=TEN_MS, run_s=0.01, budget_s=1.0, returns=1)
    streams = [
        Stream(visit=burst, per_s=times * 200.0, to_s=1.0),
        Stream(visit=Visit(task=TEN_MS, run_s=0.01, budget_s=1.0), per_s=80.0, from_s=1.0, to_s=40.0),
    ]
    overload = Overload(slots=2, streams=streams).run()
    came_back = [told for told in overload.told if told.visit.has_returned]
    assert len(came_back) > 20
    assert sum(told.is_good for told in came_back) >= 0.9 * len(came_back)


def test_those_who_come_back_do_not_come_together() -> None:
    burst = Visit(task=TEN_MS, run_s=0.01, budget_s=1.0)
    overload = Overload(slots=2, streams=[Stream(visit=burst, per_s=4000.0, to_s=1.0)]).run()
    comes_back = [told.came_at + told.retry_after_s for told in overload.told if told.retry_after_s is not None]
    busiest = max(sum(second <= when < second + 1 for when in comes_back) for second in range(80))
    assert busiest <= 200 * 1.2  # what the slots can do in a second


def test_a_clock_that_jumps_loses_nobody() -> None:
    """A machine that slept for an hour: whoever waited has run out of time, and the next are served."""
    before = stream(TEN_MS, 0.01, work=4, to_s=1.0)
    after = Stream(visit=Visit(task=TEN_MS, run_s=0.01, budget_s=1.0), per_s=100.0, from_s=3600.0, to_s=3610.0)
    asleep = Stream(visit=Visit(task=TWO_S, run_s=3000.0, budget_s=None), per_s=1000.0, to_s=0.002)
    overload = Overload(slots=2, streams=[before, asleep, after]).run()
    assert all(told.is_good for told in overload.told if told.came_at >= 3600.0)
