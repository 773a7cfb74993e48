"""The scenario `engines`: the same jobs on each engine of the service, beside the default one.

Lives here: which engines take their turns.  The loads, figures and tables are those of `jobs`.  An engine whose package
is not installed is left out, and the table says so.
"""

from __future__ import annotations

from typing import Final

from tests.benchmark import jobs
from tests.benchmark.options import Options
from tests.benchmark.report import Report
from tests.benchmark.systems import ENGINES, OURS

_WORKLOADS: Final = tuple(workload for workload in jobs.WORKLOADS if workload.name in ("noop", "1_ms", "10_ms"))


def run(options: Options) -> Report:
    """Measures, and reports each workload with the ratios of the default engine to every other."""
    return jobs.measured(
        "engines",
        "What a job costs on each engine",
        (OURS, *ENGINES),
        _WORKLOADS,
        rounds=options.rounds,
        seconds=options.seconds,
    )
