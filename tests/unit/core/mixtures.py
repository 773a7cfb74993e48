"""The mixtures that the simulation plays: small services under many kinds of load, and one large one."""

from __future__ import annotations

from dataclasses import replace

from offload.core.request import TaskLimits
from tests.unit.core.habits import Habits
from tests.unit.core.simulation import Mixture

RETRIED = tuple(
    TaskLimits(name=f"retried-{retries}", index=index, timeout_s=0.1, retries=retries)
    for index, retries in enumerate((1, 3, 10))
)
# Most jobs are short; some are long or measured.
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
# Contains every kind of event.
MILLION = replace(
    SHORT_JOBS,
    seed=20_260,
    jobs=1_000_000,
    slots=1000,
    queue_limit=5000,
    clients=5,
    max_queued_per_client=500,
    storms=5,
    invariants_every=1000,
)
MIXTURES = {
    "small queue, twice the load": Mixture(seed=0, jobs=4000, slots=5, load=2.0, queue_limit=3, queue_limit_bytes=300),
    "no queue": Mixture(seed=0, jobs=4000, slots=3, queue_limit=0),
    "one slot": Mixture(seed=0, jobs=2000, slots=1, load=0.7),
    "light load": Mixture(seed=0, jobs=2000, slots=50, load=0.05, storms=3),
    "many retries": Mixture(
        seed=0, jobs=4000, slots=20, load=0.5, tasks=RETRIED, habits=Habits(crashes=0.3, crashes_unbegun=0.3)
    ),
    "many stalls and budgets": Mixture(seed=0, jobs=4000, slots=20, budgets=0.9, habits=Habits(stalls=0.2)),
    "callers that disconnect": Mixture(seed=0, jobs=4000, slots=8, load=1.5, cancels=0.6),
    "memory hogs": Mixture(seed=0, jobs=4000, slots=8, load=0.5, habits=Habits(memory_excesses=0.5)),
    "limits for each client": Mixture(
        seed=0, jobs=4000, slots=8, load=1.5, clients=3, max_queued_per_client=10, max_running_per_client=2
    ),
    "slow stops": Mixture(seed=0, jobs=4000, slots=8, habits=Habits(stalls=0.1, stop_s=0.05)),
    "failing start-ups": Mixture(seed=0, jobs=4000, slots=4, storms=20, habits=Habits(failed_starts=0.7, leaves=0.2)),
    "spares replace dead workers": Mixture(seed=0, jobs=4000, slots=4, habits=Habits(crashes=0.2, replacements=0.9)),
    "a drain in the middle": Mixture(seed=0, jobs=4000, slots=8, load=1.5, drains_after=0.5, drain_s=0.02),
    "a drain without time": Mixture(seed=0, jobs=2000, slots=8, load=1.5, drains_after=0.5, drain_s=0.0),
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
    "short jobs that sometimes drag": replace(SHORT_JOBS, habits=ROUGH, load=0.9),
    "short jobs of callers that disconnect": replace(SHORT_JOBS, cancels=0.5, budgets=0.5, longest_budget_s=0.005),
    "short jobs and rough workers": replace(
        SHORT_JOBS, habits=ROUGH, slots=8, cancels=0.2, longest_budget_s=0.005, storms=5
    ),
    "short jobs and a drain without time": replace(SHORT_JOBS, drains_after=0.5, drain_s=0.0),
    "short jobs and rough workers, one at a time": replace(SHORT_JOBS, habits=ROUGH, prefetch=False),
}
