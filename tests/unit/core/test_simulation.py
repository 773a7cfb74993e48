"""Simulations of whole services against the core, decided by a seed.

The simulation itself asserts that the counts balance after every event, that all invariants hold after every few
events, that each job has one outcome, and that each slot is idle at the end.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from offload.core.outcome import Reason
from tests.unit.core.mixtures import MILLION, MIXTURES, PREFETCHED
from tests.unit.core.simulation import Mixture, Simulation

# Faults that only a worker can find. To the core each of them is like `task-error`.
FOUND_BY_WORKERS = {
    Reason.BAD_REQUEST,
    Reason.BODY_TOO_LARGE,
    Reason.UNSUPPORTED_MEDIA_TYPE,
    Reason.INVALID_JSON,
    Reason.INVALID_ARGUMENTS,
    Reason.RESULT_NOT_SERIALISABLE,
}

# What the fake engine counts.
COUNTED = {
    "reported with others",
    "late answers",
    "leaving with jobs",
    "lost behind others",
    "prefetched",
    "stalled",
    "stopped",
    "withdrawn",
    "too late to withdraw",
    "unbegun behind others",
}


def play(mixture: Mixture) -> Simulation:
    """Runs a simulation and prints its counts and speed; no time is asserted."""
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
def test_every_mixture_ends_with_each_job_settled_and_each_slot_idle(name: str, seed: int) -> None:
    mixture = (MIXTURES | PREFETCHED)[name]
    jobs = mixture.jobs if seed else mixture.jobs // 2  # seed 0 runs in `make test`, the others in `make test-all`
    simulation = Simulation(replace(mixture, seed=seed, jobs=jobs))
    simulation.run()
    assert sum(simulation.reasons.values()) == jobs


def test_the_same_seed_gives_the_same_simulation() -> None:
    """So a failure can be reproduced from its seed."""
    runs = []
    for _ in range(2):
        simulation = Simulation(replace(MIXTURES["everything at once"], jobs=1000))
        simulation.run()
        runs.append((simulation.reasons, simulation.events, simulation.now))
    assert runs[0] == runs[1]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_million_jobs_on_a_thousand_slots() -> None:
    simulation = play(MILLION)
    assert set(simulation.reasons) == set(Reason) - FOUND_BY_WORKERS
    assert {name for name, times in simulation.engine.counts.items() if times} == COUNTED
