"""The scenario `overload`: what a system achieves at several times the load that it can handle.

Callers come in an open schedule and wait for a second. Goodput is the rate of answers in time, as a share of the
system's own capacity.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from typing import Final

from tests.benchmark import report
from tests.benchmark.chart import line_chart
from tests.benchmark.figures import Spread
from tests.benchmark.load.plan import Closed, LoadPlan, Open
from tests.benchmark.load.result import LoadResult
from tests.benchmark.options import Options, say
from tests.benchmark.processes import Server, load, running
from tests.benchmark.report import Column, Report
from tests.benchmark.rounds import measure_in_rounds
from tests.benchmark.systems import OFFLOAD, System

FACTORS: Final = (2, 5, 10)
BUDGET_S: Final = 1.0

_JOB: Final = '{"ms": 10}'
_PATH: Final = "/jobs/burn"
_CALLERS: Final = 8  # enough to keep two workers busy, too few to wait for one another
_CAPACITY_S: Final = 1.0
_LASTS: Final = 2.0  # times the usual length: the first second of an overload differs from the others
_MIB: Final = 1024 * 1024
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One load at a multiple of the capacity.

    `fresh_ms`: how long a job takes just after it; `grown_bytes`: memory that the serving process gained.
    """

    capacity_per_s: float
    result: LoadResult
    fresh_ms: float
    grown_bytes: int

    @property
    def goodput(self) -> float:
        """As a share of the capacity."""
        return self.result.served_in_time_per_s / self.capacity_per_s

    @property
    def generator_share(self) -> float:
        """The share of the cores that the load generator took from the system."""
        return self.result.cpu_share / report.usable_cores()

    @property
    def goodput_of_rest(self) -> float:
        """As a share of the capacity that the generator left."""
        return self.goodput / (1 - self.generator_share)

    def share(self, count: int) -> float:
        """Of the requests sent."""
        return count / max(self.result.sent, 1)


_GOODPUT: Final = Column[Step]("goodput", lambda one: one.goodput, report.percent)
_COLUMNS: Final = (
    _GOODPUT,
    Column[Step]("served p99 ms", lambda one: one.result.served.p99_ms),
    Column[Step]("rejected", lambda one: one.share(one.result.rejected.count), report.percent),
    Column[Step]("rejected p99 ms", lambda one: one.result.rejected.p99_ms),
    Column[Step]("without answer", lambda one: one.share(one.result.lost), report.percent),
    Column[Step]("generator", lambda one: one.generator_share, report.percent),
    Column[Step]("next job ms", lambda one: one.fresh_ms),
    Column[Step]("memory gained MiB", lambda one: one.grown_bytes / _MIB),
)


def run(options: Options) -> Report:
    """Measures every system at every factor in each round."""
    systems = [system for system in options.systems if system.has_workers]
    rounds = measure_in_rounds("overload", systems, options.rounds, lambda system: _steps(system, options.seconds))
    results = {
        (system, factor): [each[factor] for each in measured]
        for system, measured in rounds.results.items()
        for factor in FACTORS
    }
    rows = [((system, f"{factor} ×"), steps) for (system, factor), steps in results.items()]
    made = Report(title="Overload", data=rounds.results)
    made.paragraphs = [
        f"Jobs of 10 ms, an open schedule of callers who hang up after {BUDGET_S:g} s. Load and goodput are shares of "
        f"what the system did for {_CALLERS} callers just before. The load generator competes for the same cores; the "
        "share that it took is a column. next job: sent just after the load. Medians of the rounds.",
        report.rounds_table(("system", "load"), _COLUMNS, rows),
        *rounds.notes(),
    ]
    for factor in FACTORS:
        steps = results.get((OFFLOAD.name, factor))
        if steps:
            made.figures[f"goodput_{factor}"] = Spread.of([step.goodput_of_rest for step in steps])
    made.files["overload.svg"] = line_chart(
        title="Goodput under overload: answers within the caller's second, as a share of capacity",
        x_title="load offered, in multiples of what the system can do (jobs of 10 ms)",
        xs=FACTORS,
        lines={
            system: [statistics.median(map(_GOODPUT.figure, results[system, factor])) for factor in FACTORS]
            for system in rounds.results
        },
    )
    return made


def _steps(system: System, seconds: float) -> dict[int, Step]:
    """One step for each factor, each on a new server, so that the backlog of one is not the load of another."""
    steps = {}
    for factor in FACTORS:
        say(f"overload: {system.name} at {factor} times its capacity")
        with running(system, workers=report.usable_cores(), is_killed=True) as server:
            capacity_per_s = _load(server, Closed(connections=_CALLERS), min(seconds, _CAPACITY_S)).answers_per_s
            held = _memory_bytes(server)
            schedule = Open(rate_per_s=factor * capacity_per_s, patience_s=BUDGET_S)
            result = _load(server, schedule, seconds * _LASTS)
            next_job = _load(server, Closed(connections=1, max_requests=1), seconds=BUDGET_S)
            steps[factor] = Step(
                capacity_per_s=capacity_per_s,
                result=result,
                fresh_ms=next_job.latency.max_ms,
                grown_bytes=_memory_bytes(server) - held,
            )
    return steps


def _load(server: Server, schedule: Closed | Open, seconds: float) -> LoadResult:
    return load(LoadPlan(port=server.port, path=_PATH, schedule=schedule, body=_JOB, seconds=seconds))


def _memory_bytes(server: Server) -> int:
    """Resident memory of the process that was started, which serves HTTP in most systems."""
    with open(f"/proc/{server.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES
