"""The goals of the service, and whether a run met them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.benchmark import report
from tests.benchmark.figures import Spread


@dataclass(frozen=True, slots=True)
class Goal:
    """The median of `figure`, which the scenario reports, is compared with `limit`."""

    what: str
    scenario: str
    figure: str
    bound: str
    limit: float

    def is_met(self, measured: float) -> bool:
        return measured <= self.limit if self.bound == AT_MOST else measured >= self.limit


AT_LEAST: Final = "at least"
AT_MOST: Final = "at most"

GOALS: Final = (
    *(
        Goal(f"efficiency at {ms} ms / mosec", "jobs", f"{ms}_ms_jobs_per_s_to_mosec", AT_LEAST, 1)
        for ms in (1, 10, 100)
    ),
    Goal("efficiency at 1 ms", "jobs", "1_ms_efficiency", AT_LEAST, 0.83),
    Goal("efficiency at 10 ms", "jobs", "10_ms_efficiency", AT_LEAST, 0.93),
    Goal("efficiency at 100 ms", "jobs", "100_ms_efficiency", AT_LEAST, 0.97),
    Goal("CPU per no-op job / bare handler", "jobs", "noop_cpu_us_to_bare", AT_MOST, 1),
    Goal("CPU per no-op job / mosec", "jobs", "noop_cpu_us_to_mosec", AT_MOST, 0.5),
    Goal("overhead of a 1 ms job / mosec", "jobs", "1_ms_overhead_us_to_mosec", AT_MOST, 1),
    Goal("overhead of a 1 ms job, µs", "jobs", "1_ms_overhead_us", AT_MOST, 200),
    Goal("no-op jobs/s / bare handler", "jobs", "noop_jobs_per_s_to_bare", AT_LEAST, 1.5),
    Goal("unloaded p50 of a no-op job above bare handler, ms", "jobs", "unloaded_added_p50_ms", AT_MOST, 0.06),
    Goal("/health/live with all cores busy, p99 ms", "health", "live_p99_ms", AT_MOST, 3),
    Goal("goodput at 2 times the load, of what the generator leaves", "overload", "goodput_2", AT_LEAST, 0.97),
    Goal("goodput at 5 times the load, of what the generator leaves", "overload", "goodput_5", AT_LEAST, 0.95),
    Goal("goodput at 10 times the load, of what the generator leaves", "overload", "goodput_10", AT_LEAST, 0.92),
    Goal("timeout to answer, p99 ms", "recover", "answered_p99_ms", AT_MOST, 5),
    Goal("timeout to CPU freed, p99 ms", "recover", "freed_p99_ms", AT_MOST, 15),
    Goal("timeout to lane ready, p99 ms", "recover", "back_p99_ms", AT_MOST, 25),
    Goal("echo of 10 MB, speed / best of the others", "payload", "echo_10_mb_to_best", AT_LEAST, 1.5),
    Goal("echo of 100 MB, speed / best of the others", "payload", "echo_100_mb_to_best", AT_LEAST, 1.5),
    Goal("idle tree with two workers and example tasks, MB PSS", "idle", "idle_pss_mb", AT_MOST, 60),
    Goal("start to ready with example tasks, s", "idle", "start_s", AT_MOST, 0.5),
)


def verdicts(figures: Mapping[str, Mapping[str, Spread]]) -> list[dict[str, Any]]:
    """Returns what was measured for each goal, ready for JSON; `figures` by scenario and name."""
    return [
        {
            "what": goal.what,
            "goal": f"{goal.bound} {goal.limit:g}",
            "measured": measured,
            "is_met": measured and goal.is_met(measured.median),
        }
        for goal in GOALS
        for measured in [figures.get(goal.scenario, {}).get(goal.figure)]
    ]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts as Markdown."""
    words = {None: "not measured", True: "yes", False: "no"}
    rows = [[one["what"], one["goal"], report.ratio(one["measured"]), words[one["is_met"]]] for one in found]
    return report.table(("what", "goal", "measured", "met"), rows)
