"""The scenario `health`: whether a system still answers while its workers have every core.

Lives here: a load that keeps all cores busy and the queue filled, and a second, slow one on the paths that must stay
quick.  Its caller stands in line for the same cores, so the waits of the caller itself are part of the figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from tests.benchmark import report
from tests.benchmark.children import Server, load, running, start_load
from tests.benchmark.figures import Percentiles, Spread
from tests.benchmark.load import LoadPlan, LoadResult
from tests.benchmark.options import Options
from tests.benchmark.report import Report
from tests.benchmark.systems import OURS, System
from tests.benchmark.turns import take_turns

PATHS: Final = ("/health/live", "/health/ready", "/stats")

_CALLERS: Final = 64
_JOB: Final = '{"ms": 20}'
_PAUSE_S: Final = 0.005
_BUILD_UP_S: Final = 0.5
_START_S: Final = 5.0  # for the load to build up, and for the other generators to start
_MS_PER_S: Final = 1e3

# Of one system: what came back, by path.
Answers = Mapping[str, LoadResult]


def run(options: Options) -> Report:
    """Measures each path for `options.seconds` in each round."""
    workers = report.usable_cores()
    # The bare handler has nobody else to do the work.
    systems = [system for system in options.systems if system.has_workers]
    idle: dict[str, str] = {}

    def measure(system: System) -> Answers:
        answers, is_busy = _measure(system, workers=workers, seconds=options.seconds)
        if not is_busy:
            idle[system.name] = f"**{system.name} was not busy to the end**: these are figures of an idle service."
        return answers

    turns = take_turns("health", systems, options.rounds, measure)
    made = Report(title="Answers while every core is busy")
    made.paragraphs = [
        f"{workers} workers on as many cores, {_CALLERS} callers waiting for jobs of 20 ms; one more caller that asks "
        f"again {_PAUSE_S * _MS_PER_S:.0f} ms after each answer. Medians of the rounds; the maximum is that of all.",
        report.table(
            ("system", "path", *report.PERCENTILE_HEAD, "failures"),
            [_row(system, path, rounds) for system, rounds in turns.results.items() for path in rounds[0]],
        ),
        *turns.notes(),
        *idle.values(),
    ]
    made.data = {
        system: [{path: asdict(result) for path, result in each.items()} for each in rounds]
        for system, rounds in turns.results.items()
    }
    ours = turns.results.get(OURS.name)
    if ours:
        made.figures["live_p99_ms"] = Spread.of([each[OURS.live_path].latency.p99_ms for each in ours])
    return made


def _measure(system: System, *, workers: int, seconds: float) -> tuple[Answers, bool]:
    """The answers, and whether there was work to the end."""
    paths = PATHS if system.is_service else (system.live_path,)
    with running(system, workers=workers, is_killed=True) as server:
        burning = LoadPlan(
            port=server.port,
            path="/jobs/burn",
            body=_JOB,
            connections=_CALLERS,
            seconds=_BUILD_UP_S + (seconds + _START_S) * len(paths),
        )
        with start_load(burning):
            _build_up(server)
            answers = {
                path: load(LoadPlan(port=server.port, path=path, connections=1, seconds=seconds, pause_s=_PAUSE_S))
                for path in paths
            }
            return answers, _is_busy(server)


def _build_up(server: Server) -> None:
    """Waits until every worker is busy."""
    before_s = server.cpu_s()
    server.wait_until("busy", lambda: server.cpu_s() - before_s > _BUILD_UP_S)
    if server.is_service:
        server.wait_until("busy", lambda: _is_busy(server))


def _is_busy(server: Server) -> bool:
    """Whether the service says that jobs wait and all its workers work; others are taken at their word."""
    if not server.is_service:
        return True
    stats = server.stats()
    return stats["jobs"]["queued"] > 0 and all(worker["state"] == "busy" for worker in stats["workers"])


def _row(system: str, path: str, rounds: Sequence[Answers]) -> list[str]:
    latencies = [each[path].latency for each in rounds]
    failures = [each[path].failures for each in rounds if each[path].failures]

    def median(figure: Callable[[Percentiles], float]) -> float:
        return statistics.median(map(figure, latencies))

    merged = Percentiles(
        count=sum(latency.count for latency in latencies),
        p50_ms=median(lambda latency: latency.p50_ms),
        p90_ms=median(lambda latency: latency.p90_ms),
        p99_ms=median(lambda latency: latency.p99_ms),
        max_ms=max(latency.max_ms for latency in latencies),
    )
    return [system, path, *report.percentile_cells(merged), str(failures[0] if failures else "none")]
