"""The scenario `engines`: the loads of `jobs` on each engine of the service; one that is not installed is left out."""

from __future__ import annotations

from typing import Final

from tests.benchmark.options import Options
from tests.benchmark.report import Report
from tests.benchmark.scenarios import jobs
from tests.benchmark.systems import ENGINES, OFFLOAD

_WORKLOADS: Final = tuple(workload for workload in jobs.WORKLOADS if workload.name in ("noop", "1_ms", "10_ms"))


def run(options: Options) -> Report:
    """Each workload with the ratios of the default engine to every other."""
    return jobs.measure_workloads("engines", "Cost of a job by engine", (OFFLOAD, *ENGINES), _WORKLOADS, options)
