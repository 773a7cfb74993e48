"""Whole lives of a service, decided by a seed, against the deciding core.

What must hold is asserted inside the simulation: the books after every event, all invariants after every so many, one
answer a job, every slot used by one job at a time and back at the end.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from offload.core.job import Reason, TaskLimits
from tests.core.habits import Habits
from tests.core.simulation import Mixture, Simulation

# What a worker finds wrong with a call is decided in the worker: to the core each of these is one like `task-error`.
FOUND_BY_WORKERS = {Reason.INVALID_JSON, Reason.INVALID_ARGUMENTS, Reason.RESULT_NOT_SERIALISABLE}

# What a fake engine counts.
HAPPENINGS = {
    "late answers",
    "leaving with jobs",
    "lost behind others",
    "prefetched",
    "stalled",
    "stopped",
    "taken back",
    "too late to take back",
    "unbegun behind others",
}
RETRIED = tuple(
    TaskLimits(name=f"retried-{retries}", index=index, timeout_s=0.1, retries=retries)
    for index, retries in enumerate((1, 3, 10))
)
# Most jobs are short; a long one and a measured one now and then.
TINY = TaskLimits(name="tiny", index=0, timeout_s=0.05)
SHORT_AND_LONG = (
    *(TINY,) * 6,
    *(TaskLimits(name="tiny, retried", index=1, timeout_s=0.05, retries=2),) * 6,
    TaskLimits(name="measured", index=2, timeout_s=0.05, memory_bytes=1000),
    TaskLimits(name="long", index=3, timeout_s=0.1),
    TaskLimits(name="few at a time", index=4, timeout_s=0.1, max_running=2, max_queued=20),
)
SHORT_RUNS_S = (0.0001, 0.0001, 0.0001, 0.005, 0.001)
QUIET = Habits(
    run_s=SHORT_RUNS_S, crashes=0.001, crashes_unbegun=0.001, stalls=0.0005, memory_excesses=0.001, leaves=0.002
)
ROUGH = Habits(
    run_s=SHORT_RUNS_S,
    drags=0.003,
    crashes=0.02,
    crashes_unbegun=0.02,
    stalls=0.005,
    memory_excesses=0.01,
    leaves=0.02,
    garbage=0.3,
    stop_s=0.0005,
    start_s=0.001,
)
SHORT_JOBS = Mixture(
    seed=0,
    jobs=2500,
    slots=4,
    load=1.2,
    tasks=SHORT_AND_LONG,
    habits=QUIET,
    prefetch=True,
    longest_budget_s=0.02,
    cancelled_within_s=0.004,
    drain_s=0.02,
)
MIXTURES = {
    "small queue, twice the load": Mixture(seed=0, jobs=4000, slots=5, load=2.0, queue_limit=3, queue_limit_bytes=300),
    "no queue": Mixture(seed=0, jobs=4000, slots=3, queue_limit=0),
    "one slot": Mixture(seed=0, jobs=2000, slots=1, load=0.7),
    "hardly any load": Mixture(seed=0, jobs=2000, slots=50, load=0.05, storms=3),
    "many retries": Mixture(
        seed=0, jobs=4000, slots=20, load=0.5, tasks=RETRIED, habits=Habits(crashes=0.3, crashes_unbegun=0.3)
    ),
    "many stalls and budgets": Mixture(seed=0, jobs=4000, slots=20, budgets=0.9, habits=Habits(stalls=0.2)),
    "callers who hang up": Mixture(seed=0, jobs=4000, slots=8, load=1.5, cancels=0.6),
    "memory hogs": Mixture(seed=0, jobs=4000, slots=8, load=0.5, habits=Habits(memory_excesses=0.5)),
    "limits for each caller": Mixture(
        seed=0, jobs=4000, slots=8, load=1.5, clients=3, max_queued_per_client=10, max_running_per_client=2
    ),
    "slow stops": Mixture(seed=0, jobs=4000, slots=8, habits=Habits(stalls=0.1, stop_s=0.05)),
    "failing start-ups": Mixture(seed=0, jobs=4000, slots=4, storms=20, habits=Habits(failed_starts=0.7, leaves=0.2)),
    "spares for the dead": Mixture(seed=0, jobs=4000, slots=4, habits=Habits(crashes=0.2, replacements=0.9)),
    "a drain in the middle": Mixture(seed=0, jobs=4000, slots=8, load=1.5, drains_after=0.5, drain_s=0.02),
    "a drain of no time": Mixture(seed=0, jobs=2000, slots=8, load=1.5, drains_after=0.5, drain_s=0.0),
    "everything at once": Mixture(
        seed=0,
        jobs=6000,
        slots=12,
        load=1.3,
        queue_limit=20,
        budgets=0.6,
        cancels=0.2,
        storms=5,
        tasks=RETRIED,
        habits=Habits(crashes=0.1, crashes_unbegun=0.1, stalls=0.05, memory_excesses=0.1, leaves=0.1, idle_deaths=0.1),
    ),
}
PREFETCHED = {
    "short jobs and long ones": SHORT_JOBS,
    "short jobs on one slot": replace(SHORT_JOBS, slots=1),
    "short jobs at ten times the load": replace(SHORT_JOBS, load=10.0, queue_limit=50),
    "short jobs that drag now and then": replace(SHORT_JOBS, habits=ROUGH, load=0.9),
    "short jobs of callers who hang up": replace(SHORT_JOBS, cancels=0.5, budgets=0.5, longest_budget_s=0.005),
    "short jobs and rough workers": replace(
        SHORT_JOBS, habits=ROUGH, slots=8, cancels=0.2, longest_budget_s=0.005, storms=5
    ),
    "short jobs and a drain of no time": replace(SHORT_JOBS, drains_after=0.5, drain_s=0.0),
    "short jobs and rough workers, one at a time": replace(SHORT_JOBS, habits=ROUGH, prefetch=False),
}


def play(mixture: Mixture) -> Simulation:
    """What it did and how fast is printed; no time is asserted."""
    simulation = Simulation(mixture)
    began_at = time.perf_counter()
    simulation.run()
    took_s = time.perf_counter() - began_at
    jobs = simulation.scheduler.submitted
    print(f"{jobs} jobs, {simulation.events} events in {took_s:.1f} s: {jobs / took_s:.0f} jobs/s")
    print(dict(simulation.reasons), dict(simulation.engine.counts))
    return simulation


def test_a_million_jobs_on_a_thousand_slots() -> None:
    """Everything that can happen happens in it."""
    mixture = replace(
        SHORT_JOBS,
        seed=20_260,
        jobs=1_000_000,
        slots=1000,
        queue_limit=5000,
        clients=5,
        max_queued_per_client=500,
        storms=5,
        invariants_every=5000,
    )
    simulation = play(mixture)
    assert set(simulation.reasons) == set(Reason) - FOUND_BY_WORKERS
    assert {name for name, times in simulation.engine.counts.items() if times} == HAPPENINGS


def test_many_jobs_on_a_thousand_slots_one_at_a_time() -> None:
    simulation = play(Mixture(seed=20_260, jobs=20_000, slots=1000, storms=5, invariants_every=1000))
    assert set(simulation.reasons) == set(Reason) - FOUND_BY_WORKERS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MIXTURES | PREFETCHED)
def test_a_mixture_of_everything_ends_with_every_job_told_and_every_slot_back(name: str, seed: int) -> None:
    mixture = (MIXTURES | PREFETCHED)[name]
    simulation = Simulation(replace(mixture, seed=seed))
    simulation.run()
    assert sum(simulation.reasons.values()) == mixture.jobs


def test_the_same_seed_is_the_same_life() -> None:
    """A failure that a seed has found can be looked at again."""
    lives = []
    for _ in range(2):
        simulation = Simulation(MIXTURES["everything at once"])
        simulation.run()
        lives.append((simulation.reasons, simulation.events, simulation.now))
    assert lives[0] == lives[1]
