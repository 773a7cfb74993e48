"""The scenario `jobs`: what a job costs, beside what people use without the service.

Lives here: three loads on each system, the systems by turns in each round, and the ratios within a round.  Where the
machine changes its mind between two rounds, the ratios do not.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from offload.bench import report
from offload.bench.children import NOOP_BODY, Server, load, running
from offload.bench.figures import Spread, ratios
from offload.bench.load import LoadPlan, LoadResult
from offload.bench.options import Options, say
from offload.bench.report import Report

_WORKERS: Final = 2
_WARM_UP_S: Final = 0.5
_OURS: Final = "offload"
_US_PER_S: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of load.  `others` are the systems beside the service that it makes sense for."""

    title: str
    path: str
    body: str
    connections: int
    others: tuple[str, ...]

    def plan(self, port: int, seconds: float) -> LoadPlan:
        return LoadPlan(port=port, path=self.path, body=self.body, connections=self.connections, seconds=seconds)

    def suits(self, system: str) -> bool:
        return system == _OURS or system in self.others


WORKLOADS: Final = (
    Workload(
        title="No-op jobs, 64 connections",
        path="/jobs/noop",
        body=NOOP_BODY,
        connections=64,
        others=("bare", "pool", "executor"),
    ),
    Workload(
        title=f"Jobs of 1 ms, 64 connections ({_WORKERS * 1000:,} a second would be perfect)",
        path="/jobs/burn",
        body='{"ms": 1}',
        connections=64,
        others=("pool", "executor"),  # it would be the bare handler's own event loop that burns
    ),
    Workload(
        title="No-op jobs, 1 connection",
        path="/jobs/noop",
        body=NOOP_BODY,
        connections=1,
        others=("bare", "pool", "executor"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One load on one system.  `cpu_us_per_job` is of the system's whole tree of processes."""

    load: LoadResult
    cpu_us_per_job: float


# Of one workload: the measurements of each system, by round.
Rounds = Mapping[str, list[Measurement]]
Figure = Callable[[Measurement], float]

_FIGURES: Final[Mapping[str, Figure]] = {
    "jobs_per_s": lambda measurement: measurement.load.answers_per_s,
    "cpu_us_per_job": lambda measurement: measurement.cpu_us_per_job,
    "p50_ms": lambda measurement: measurement.load.latency.p50_ms,
}


def run(options: Options) -> Report:
    """Measures, and reports each workload with the ratios of the service to every other system."""
    results: dict[Workload, dict[str, list[Measurement]]] = {workload: {} for workload in WORKLOADS}
    for round_number in range(1, options.rounds + 1):
        for system in options.systems:
            say(f"jobs: round {round_number} of {options.rounds}, {system}")
            with running(system, workers=_WORKERS) as server:
                for workload in WORKLOADS:
                    if workload.suits(system):
                        measured = _measure(server, workload, options.seconds)
                        results[workload].setdefault(system, []).append(measured)
    return _report(results)


def _measure(server: Server, workload: Workload, seconds: float) -> Measurement:
    load(workload.plan(server.port, min(seconds, _WARM_UP_S)))
    before_s = server.cpu_s()
    result = load(workload.plan(server.port, seconds))
    used_s = server.cpu_s() - before_s
    return Measurement(load=result, cpu_us_per_job=used_s * _US_PER_S / max(result.answers, 1))


def _report(results: Mapping[Workload, Rounds]) -> Report:
    made = Report(title="What a job costs")
    made.paragraphs.append(
        f"{_WORKERS} workers each, except `bare`, which runs no job elsewhere. Medians of the rounds; CPU time is that "
        "of all the system's processes. Ratios are taken within each round: the median, and the lowest and highest."
    )
    for workload, rounds in results.items():
        if not rounds:
            continue
        made.paragraphs += [f"### {workload.title}", _table(rounds)]
        compared = _compared(rounds)
        if compared:
            made.paragraphs.append(_ratio_table(compared))
        made.paragraphs += _warnings(rounds)
        made.data[workload.title] = {
            "measurements": {system: [asdict(one) for one in each] for system, each in rounds.items()},
            "ratios": {
                system: {name: spread and asdict(spread) for name, spread in figures.items()}
                for system, figures in compared.items()
            },
        }
    return made


def _table(rounds: Rounds) -> str:
    head = ("system", "jobs/s", "CPU µs a job", "p50 ms", "p99 ms", "load generator's CPU, of one core")
    rows = []
    for system, measurements in rounds.items():
        figures: Sequence[Figure] = (*_FIGURES.values(), lambda one: one.load.latency.p99_ms)
        cells = [report.number(_median(measurements, figure)) for figure in figures]
        share = _median(measurements, lambda one: one.load.cpu_share)
        rows.append([system, *cells, f"{share:.0%}"])
    return report.table(head, rows)


def _compared(rounds: Rounds) -> dict[str, dict[str, Spread | None]]:
    """For each other system the ratio of ours to it, by figure."""
    ours = rounds.get(_OURS, [])
    return {
        system: {name: ratios([*map(figure, ours)], [*map(figure, theirs)]) for name, figure in _FIGURES.items()}
        for system, theirs in rounds.items()
        if ours and system != _OURS
    }


def _ratio_table(compared: Mapping[str, Mapping[str, Spread | None]]) -> str:
    head = (f"{_OURS} to", "jobs/s (more is better)", "CPU a job (less is better)", "p50 (less is better)")
    return report.table(head, [[system, *map(report.ratio, figures.values())] for system, figures in compared.items()])


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
