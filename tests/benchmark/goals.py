"""Where the service wants to be, and whether it is: the last table of a run.

Lives here: the goals as data, each on a figure that a scenario reports by that name.  A figure that a run has not
measured is not met and not missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tests.benchmark import report
from tests.benchmark.figures import Spread


class Bound(Enum):
    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`what` is wanted of `figure`, which the scenario measures: the median of its rounds against `limit`."""

    scenario: str
    figure: str
    what: str
    bound: Bound
    limit: float

    def is_met(self, measured: float) -> bool:
        return measured <= self.limit if self.bound is Bound.AT_MOST else measured >= self.limit


def _most(scenario: str, figure: str, limit: float, what: str) -> Goal:
    return Goal(scenario=scenario, figure=figure, what=what, bound=Bound.AT_MOST, limit=limit)


def _least(scenario: str, figure: str, limit: float, what: str) -> Goal:
    return Goal(scenario=scenario, figure=figure, what=what, bound=Bound.AT_LEAST, limit=limit)


GOALS: Final = (
    _most("jobs", "cpu_us_per_job_to_bare", 1.4, "CPU of a no-op job, to a bare handler's"),
    _most("jobs", "cpu_us_per_job_to_mosec", 0.5, "CPU of a no-op job, to mosec's"),
    _least("jobs", "jobs_per_s_to_bare", 0.95, "no-op jobs a second, to a bare handler's"),
    _least("jobs", "efficiency_1_ms", 0.93, "share of the cores that jobs of 1 ms get"),
    _least("jobs", "efficiency_10_ms", 0.98, "share of the cores that jobs of 10 ms get"),
    _least("jobs", "efficiency_100_ms", 0.995, "share of the cores that jobs of 100 ms get"),
    _most("jobs", "added_p50_ms", 0.1, "ms that a job takes longer than a bare handler, unloaded p50"),
    _most("health", "live_p99_ms", 5.0, "ms that `/health/live` takes with all cores busy, p99"),
    _least("overload", "goodput_10", 0.95, "goodput at ten times the load, and the generator's share of the cores"),
    _most("recover", "answered_p99_ms", 10.0, "ms from a time limit to its answer, p99"),
    _most("recover", "freed_p99_ms", 20.0, "ms from a time limit until the CPU is free, p99"),
    _most("recover", "back_p99_ms", 30.0, "ms from a time limit until the lane is back, p99"),
    _least("payload", "echo_10_mb_to_best", 2.0, "speed of an echo of 10 MB, to the best of the others of this run"),
    _most("idle", "idle_pss_mib", 70.0, "MiB that the idle tree holds, two workers, example tasks"),
    _most("idle", "start_s", 0.6, "seconds from start to ready, example tasks"),
)

_NOT_MEASURED: Final = "not measured"


def verdicts(figures: Mapping[str, Mapping[str, Spread]]) -> list[dict[str, Any]]:
    """For each goal what was measured, ready for JSON; `figures` by scenario and name."""
    return [
        {
            "what": goal.what,
            "goal": f"{goal.bound.value} {goal.limit:g}",
            "measured": measured,
            "is_met": measured and goal.is_met(measured.median),
        }
        for goal in GOALS
        for measured in [figures.get(goal.scenario, {}).get(goal.figure)]
    ]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts as Markdown."""
    words = {None: _NOT_MEASURED, True: "yes", False: "no"}
    rows = [[one["what"], one["goal"], report.ratio(one["measured"]), words[one["is_met"]]] for one in found]
    return report.table(("what", "goal", "measured", "met?"), rows)
