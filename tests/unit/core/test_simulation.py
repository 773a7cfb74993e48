"""Whole lives of a service, decided by a seed, against the deciding core.

What must hold is asserted inside the simulation: the books after every event, all invariants after every so many, one
answer a job, every slot used by one job at a time and back at the end.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from offload.core.outcome import Reason
from tests.unit.core.mixtures import MILLION, MIXTURES, PREFETCHED
from tests.unit.core.simulation import Mixture, Simulation

# What a worker finds wrong with a call is decided in the worker: to the core each of these is one like `task-error`.
FOUND_BY_WORKERS = {Reason.INVALID_JSON, Reason.INVALID_ARGUMENTS, Reason.RESULT_NOT_SERIALISABLE}

# What a fake engine counts.
HAPPENINGS = {
    "heard with others",
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


def play(mixture: Mixture) -> Simulation:
    """What it did and how fast is printed; no time is asserted."""
    simulation = Simulation(mixture)
    began_at = time.perf_counter()
    simulation.run()
    took_s = time.perf_counter() - began_at
    jobs = simulation.scheduler.tally.submitted
    print(f"{jobs} jobs, {simulation.events} events in {took_s:.1f} s: {jobs / took_s:.0f} jobs/s")
    print(dict(simulation.reasons), dict(simulation.engine.counts))
    return simulation


def test_many_jobs_on_a_thousand_slots_one_at_a_time() -> None:
    simulation = play(
        Mixture(seed=20_260, jobs=20_000, slots=1000, storms=5, max_queued_per_client=100, invariants_every=1000)
    )
    assert set(simulation.reasons) == set(Reason) - FOUND_BY_WORKERS


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 10))])
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


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_million_jobs_on_a_thousand_slots() -> None:
    simulation = play(MILLION)
    assert set(simulation.reasons) == set(Reason) - FOUND_BY_WORKERS
    assert {name for name, times in simulation.engine.counts.items() if times} == HAPPENINGS
