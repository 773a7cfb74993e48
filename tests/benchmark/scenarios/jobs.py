"""The scenario `jobs`: what a job costs, from one that is only overhead to one of 100 ms, on each system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmark import report
from tests.benchmark.figures import Spread
from tests.benchmark.load.plan import Closed, LoadPlan
from tests.benchmark.load.result import LoadResult
from tests.benchmark.options import Options
from tests.benchmark.processes import Server, load, running
from tests.benchmark.report import Column, Report
from tests.benchmark.rounds import compare, measure_in_rounds, ratio_table
from tests.benchmark.systems import NOOP_BODY, OFFLOAD, System

_WORKERS: Final = 2
_WARM_UP_S: Final = 0.3
_US_PER_S: Final = 1e6
_US_PER_MS: Final = 1e3
_MS_PER_S: Final = 1e3
_SLOWEST: Final = (
    1.3  # times the length of a load: when it is ended for a system that does less than idle workers could
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """No-op jobs for a time, or as many jobs of `run_ms` as idle workers would do in `lasts` times that.

    A number of jobs, because efficiency is known only when the last job has ended.
    """

    name: str
    connections: int = 64
    run_ms: float = 0.0
    lasts: float = 1.0

    @property
    def title(self) -> str:
        jobs = f"Jobs of {self.run_ms:g} ms" if self.run_ms else "No-op jobs"
        return f"{jobs}, {self.connections} connection{'s' if self.connections > 1 else ''}"

    def plan(self, port: int, seconds: float) -> LoadPlan:
        if not self.run_ms:
            schedule = Closed(connections=self.connections)
            return LoadPlan(port=port, path="/jobs/noop", schedule=schedule, body=NOOP_BODY, seconds=seconds)
        jobs = _WORKERS * max(round(self.lasts * seconds * _MS_PER_S / self.run_ms), 1)
        return LoadPlan(
            port=port,
            path="/jobs/burn",
            schedule=Closed(connections=self.connections, max_requests=jobs),
            body=f'{{"ms": {self.run_ms:g}}}',
            seconds=self.lasts * seconds * _SLOWEST,
        )

    def suits(self, system: System) -> bool:
        """Whether the system can run it: the bare handler would block its event loop."""
        return system.has_workers or not self.run_ms


WORKLOADS: Final = (
    Workload(name="noop"),
    Workload(name="1_ms", run_ms=1),
    Workload(name="10_ms", run_ms=10),
    # Long enough that it makes no difference which worker finishes first.
    Workload(name="100_ms", run_ms=100, lasts=2),
    Workload(name="unloaded", connections=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One load on one system.

    `cpu_us_per_job`: CPU time of the system's process tree; `overhead_us_per_job`: that beyond the job's own work.
    `efficiency`: the share of the cores that jobs got.
    """

    load: LoadResult
    cpu_us_per_job: float
    overhead_us_per_job: float
    efficiency: float

    @classmethod
    def of(cls, workload: Workload, result: LoadResult, cpu_s: float) -> Measurement:
        cpu_us_per_job = cpu_s * _US_PER_S / max(result.answers, 1)
        return cls(
            load=result,
            cpu_us_per_job=cpu_us_per_job,
            overhead_us_per_job=cpu_us_per_job - workload.run_ms * _US_PER_MS,
            efficiency=result.answers_per_s * workload.run_ms / _MS_PER_S / min(_WORKERS, report.usable_cores()),
        )


Columns = Mapping[str, Column[Measurement]]
Results = Mapping[str, Sequence[Measurement]]  # of one workload: each system's measurements by round

_THROUGHPUT: Final[Columns] = {
    "jobs_per_s": Column("jobs/s", lambda one: one.load.answers_per_s, ratio_head="jobs/s (more is better)"),
    "cpu_us": Column("CPU µs/job", lambda one: one.cpu_us_per_job, ratio_head="CPU (less is better)"),
}
_WORK: Final[Columns] = {
    "overhead_us": Column(
        "overhead µs/job", lambda one: one.overhead_us_per_job, ratio_head="overhead (less is better)"
    ),
    "efficiency": Column("efficiency", lambda one: one.efficiency),
}
_LATENCY: Final[Columns] = {
    "p50_ms": Column("p50 ms", lambda one: one.load.latency.p50_ms, ratio_head="p50 (less is better)"),
    "p99_ms": Column("p99 ms", lambda one: one.load.latency.p99_ms),
    "generator_us": Column("generator CPU µs/job", lambda one: one.load.cpu_us_per_answer),
    "generator_share": Column("generator, of one core", lambda one: one.load.cpu_share, report.percent),
}


def run(options: Options) -> Report:
    """Each workload with the ratios of the service to every other system."""
    return measure_workloads("jobs", "Cost of a job", options.systems, WORKLOADS, options)


def measure_workloads(
    scenario: str, title: str, systems: Sequence[System], workloads: Sequence[Workload], options: Options
) -> Report:
    def measure(system: System) -> dict[str, Measurement]:
        with running(system, workers=_WORKERS) as server:
            suitable = [workload for workload in workloads if workload.suits(system)]
            return {workload.name: _measure(server, workload, options.seconds) for workload in suitable}

    rounds = measure_in_rounds(scenario, systems, options.rounds, measure)
    made = Report(title=title, data=rounds.results)
    made.paragraphs = [
        f"{_WORKERS} workers each, except `bare`, which has none. Medians of the rounds. CPU: of the system's process "
        "tree. Overhead: CPU beyond the job's own work. Efficiency: share of the cores that jobs got. Ratios are taken "
        "within each round: median (lowest to highest).",
        *rounds.notes(),
    ]
    for workload in workloads:
        results = {
            system: [each[workload.name] for each in measured]
            for system, measured in rounds.results.items()
            if workload.name in measured[0]
        }
        if results:
            _add(made, workload, results)
    return made


def _measure(server: Server, workload: Workload, seconds: float) -> Measurement:
    load(workload.plan(server.port, min(seconds, _WARM_UP_S)))
    before_s = server.cpu_s()
    result = load(workload.plan(server.port, seconds))
    return Measurement.of(workload, result, server.cpu_s() - before_s)


def _add(made: Report, workload: Workload, results: Results) -> None:
    """Adds the workload's part of the report."""
    columns = {**_THROUGHPUT, **(_WORK if workload.run_ms else {}), **_LATENCY}
    made.paragraphs += [
        f"### {workload.title}",
        report.systems_table(columns.values(), results),
        ratio_table(columns.values(), results),
        *(
            f"**{system}: not all answers were 200**: {one.load.failures}"
            for system, measured in results.items()
            for one in measured
            if one.load.failures
        ),
    ]
    made.figures |= {f"{workload.name}_{name}": spread for name, spread in _figures(columns, results)}


def _figures(columns: Columns, results: Results) -> Iterator[tuple[str, Spread]]:
    """Each figure of the service, its ratio to that of each other system, and the p50 above the bare handler's."""
    service = results.get(OFFLOAD.name, ())
    for name, column in columns.items() if service else ():
        yield name, Spread.of([*map(column.figure, service)])
        for system, ratio in compare(results, column.figure).items():
            if ratio is not None:
                yield f"{name}_to_{system}", ratio
    pairs = [*zip(service, results.get("bare", ()), strict=False)]
    if pairs:
        yield "added_p50_ms", Spread.of([one.load.latency.p50_ms - bare.load.latency.p50_ms for one, bare in pairs])
