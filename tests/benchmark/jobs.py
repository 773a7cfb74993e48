"""The scenario `jobs`: what a job costs, beside what people use without the service.

Lives here: the loads, from a job that is nothing but overhead to one of 100 ms; the systems by turns in each round,
and the ratios within a round.  Where the machine changes its mind between two rounds, the ratios do not.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.benchmark import report
from tests.benchmark.children import Server, load, running
from tests.benchmark.figures import Spread, differences
from tests.benchmark.load import LoadPlan, LoadResult
from tests.benchmark.options import Options
from tests.benchmark.report import Report
from tests.benchmark.systems import NOOP_BODY, OURS, System
from tests.benchmark.turns import compare, take_turns

_WORKERS: Final = 2
_WARM_UP_S: Final = 0.3
_US_PER_S: Final = 1e6
_US_PER_MS: Final = 1e3
_MS_PER_S: Final = 1e3
_SLOWEST: Final = 1.3  # times the length of a load, before it is ended for a system that does not get as much done


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of load: no-op jobs for a time, or a number of jobs of `run_ms`, which idle workers would do in
    `lasts` times that.  Only the second tells an efficiency: its end is the end of the last job.
    """

    name: str
    connections: int
    run_ms: float = 0.0
    lasts: float = 1.0

    @property
    def title(self) -> str:
        jobs = f"Jobs of {self.run_ms:g} ms" if self.run_ms else "No-op jobs"
        return f"{jobs}, {self.connections} connection{'s' if self.connections > 1 else ''}"

    def plan(self, port: int, seconds: float) -> LoadPlan:
        plan = {"port": port, "connections": self.connections}
        if not self.run_ms:
            return LoadPlan(**plan, path="/jobs/noop", body=NOOP_BODY, seconds=seconds)
        each = max(round(self.lasts * seconds * _MS_PER_S / self.run_ms), 1)
        return LoadPlan(
            **plan,
            path="/jobs/burn",
            body=f'{{"ms": {self.run_ms:g}}}',
            seconds=self.lasts * seconds * _SLOWEST,
            max_requests=each * _WORKERS,
        )

    def suits(self, system: System) -> bool:
        """The bare handler's own event loop would burn."""
        return system.has_workers or not self.run_ms


WORKLOADS: Final = (
    Workload(name="noop", connections=64),
    Workload(name="1_ms", connections=64, run_ms=1),
    Workload(name="10_ms", connections=64, run_ms=10),
    # Long enough that the end, when one worker is done before the other, does not count.
    Workload(name="100_ms", connections=8, run_ms=100, lasts=2),
    Workload(name="unloaded", connections=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One load on one system.  `cpu_us_per_job` is of the system's whole tree of processes, `overhead_us_per_job` what
    of it is not the job's own; `efficiency` is the share of the cores that jobs got.
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


# Of one workload: the measurements of each system, by round.
Rounds = Mapping[str, Sequence[Measurement]]
Figure = Callable[[Measurement], float]

_FIGURES: Final[Mapping[str, Figure]] = {
    "jobs_per_s": lambda measurement: measurement.load.answers_per_s,
    "cpu_us_per_job": lambda measurement: measurement.cpu_us_per_job,
    "p50_ms": lambda measurement: measurement.load.latency.p50_ms,
}


def run(options: Options) -> Report:
    """Measures, and reports each workload with the ratios of the service to every other system."""
    return measured(
        "jobs", "What a job costs", options.systems, WORKLOADS, rounds=options.rounds, seconds=options.seconds
    )


def measured(
    scenario: str, title: str, systems: Sequence[System], workloads: Sequence[Workload], *, rounds: int, seconds: float
) -> Report:
    """A report on these loads on these systems."""

    def measure(system: System) -> dict[str, Measurement]:
        with running(system, workers=_WORKERS) as server:
            suitable = [workload for workload in workloads if workload.suits(system)]
            return {workload.name: _measure(server, workload, seconds) for workload in suitable}

    turns = take_turns(scenario, systems, rounds, measure)
    made = Report(title=title)
    made.paragraphs = [
        f"{_WORKERS} workers each, except `bare`, which runs no job elsewhere. Medians of the rounds; CPU time is that "
        "of all the system's processes, the overhead what of it is not the job's own, the efficiency the share of the "
        "cores that jobs got. Ratios are taken within each round: the median, and the lowest and highest.",
        *turns.notes(),
    ]
    for workload in workloads:
        by_round = {
            system: [each[workload.name] for each in turn]
            for system, turn in turns.results.items()
            if workload.name in turn[0]
        }
        if by_round:
            _add(made, workload, by_round)
    return made


def _measure(server: Server, workload: Workload, seconds: float) -> Measurement:
    load(workload.plan(server.port, min(seconds, _WARM_UP_S)))
    before_s = server.cpu_s()
    result = load(workload.plan(server.port, seconds))
    return Measurement.of(workload, result, server.cpu_s() - before_s)


def _add(made: Report, workload: Workload, rounds: Rounds) -> None:
    """The workload's part of the report."""
    compared = compare(rounds, _FIGURES)
    made.paragraphs += [f"### {workload.title}", _table(workload, rounds)]
    if compared:
        made.paragraphs.append(_ratio_table(compared))
    made.paragraphs += _warnings(rounds)
    made.data[workload.name] = {
        "measurements": {system: [asdict(one) for one in each] for system, each in rounds.items()},
        "ratios": {
            system: {name: spread and asdict(spread) for name, spread in figures.items()}
            for system, figures in compared.items()
        },
    }
    made.figures |= {name: spread for name, spread in _goal_figures(workload, rounds, compared) if spread is not None}


def _table(workload: Workload, rounds: Rounds) -> str:
    head = [
        "system",
        "jobs/s",
        "CPU µs a job",
        "p50 ms",
        "p99 ms",
        "load generator: CPU µs a job",
        "kernel's",
        "of one core",
    ]
    figures: list[Figure] = [*_FIGURES.values(), lambda one: one.load.latency.p99_ms]
    if workload.run_ms:
        head[3:3] = ["overhead µs a job", "efficiency"]
        figures[2:2] = [lambda one: one.overhead_us_per_job, lambda one: one.efficiency]
    rows = []
    for system, measurements in rounds.items():
        cells = [report.number(_median(measurements, figure)) for figure in figures]
        cells.append(report.number(_median(measurements, lambda one: one.load.cpu_us_per_answer)))
        cells.append(f"{_median(measurements, lambda one: one.load.kernel_share):.0%}")
        cells.append(f"{_median(measurements, lambda one: one.load.cpu_share):.0%}")
        rows.append([system, *cells])
    return report.table(head, rows)


def _ratio_table(compared: Mapping[str, Mapping[str, Spread | None]]) -> str:
    head = (f"{OURS.name} to", "jobs/s (more is better)", "CPU a job (less is better)", "p50 (less is better)")
    return report.table(head, [[system, *map(report.ratio, figures.values())] for system, figures in compared.items()])


def _goal_figures(
    workload: Workload, rounds: Rounds, compared: Mapping[str, Mapping[str, Spread | None]]
) -> list[tuple[str, Spread | None]]:
    """Those that `goals` knows, of this workload."""
    ours = rounds.get(OURS.name)
    if ours is None:
        return []
    if workload.run_ms:
        return [(f"efficiency_{workload.name}", Spread.of([one.efficiency for one in ours]))]
    if workload.connections == 1:
        p50_ms = _FIGURES["p50_ms"]
        bare = rounds.get("bare", ())
        return [("added_p50_ms", differences([*map(p50_ms, ours)], [*map(p50_ms, bare)]) if bare else None)]
    return [
        (f"{figure}_to_{system}", ratios[figure])
        for system, ratios in compared.items()
        for figure in ("jobs_per_s", "cpu_us_per_job")
    ]


def _warnings(rounds: Rounds) -> list[str]:
    """A sentence for each system that did not answer everything as it should: its figures are worth nothing."""
    return [
        f"**{system}: not all answers were 200**: {measurement.load.failures}"
        for system, measurements in rounds.items()
        for measurement in measurements
        if measurement.load.failures
    ]


def _median(measurements: Sequence[Measurement], figure: Callable[[Any], float]) -> float:
    return statistics.median(map(figure, measurements))
