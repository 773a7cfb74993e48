"""The scenario `health`: whether a system still answers quickly while its workers use every core.

A load keeps all cores busy and the queue filled; a slow second one asks for the paths that must stay quick. Its caller
competes for the same cores, so its own waiting is part of the figures.
"""

from __future__ import annotations

from typing import Final

from tests.benchmark import report
from tests.benchmark.errors import BenchError
from tests.benchmark.load.plan import Closed, LoadPlan
from tests.benchmark.load.result import LoadResult
from tests.benchmark.options import Options
from tests.benchmark.processes import Server, load, running, start_load
from tests.benchmark.report import Column, Report
from tests.benchmark.rounds import measure_in_rounds
from tests.benchmark.systems import OFFLOAD, System

PATHS: Final = ("/health/live", "/health/ready", "/stats")

_CALLERS: Final = 64
_JOB: Final = '{"ms": 20}'
_WATCHER: Final = Closed(connections=1, pause_s=0.005)
_BUILD_UP_S: Final = 0.5
_START_S: Final = 5.0  # for the load to build up, and for the other generators to start


def run(options: Options) -> Report:
    """Measures each path for `options.seconds` in each round."""
    workers = report.usable_cores()
    # The bare handler would run the jobs on its event loop.
    systems = [system for system in options.systems if system.has_workers]
    rounds = measure_in_rounds(
        "health", systems, options.rounds, lambda system: _measure(system, workers, options.seconds)
    )
    columns: list[Column[LoadResult]] = [
        *report.latency_columns(lambda one: one.latency),
        Column("failures", lambda one: sum(one.failures.values()), "{:.0f}".format, sum),
    ]
    rows = [
        ((system, path), [each[path] for each in measured])
        for system, measured in rounds.results.items()
        for path in measured[0]
    ]
    made = Report(title="Health checks while every core is busy", data=rounds.results)
    made.paragraphs = [
        f"{workers} workers on as many cores, {_CALLERS} callers with jobs of 20 ms; one more caller sends its "
        f"next request {_WATCHER.pause_s * 1e3:.0f} ms after each answer. Medians of the rounds, the maximum of all.",
        report.rounds_table(("system", "path"), columns, rows),
        *rounds.notes(),
    ]
    live_p99_ms = rounds.figure(lambda each: each[OFFLOAD.live_path].latency.p99_ms)
    if live_p99_ms:
        made.figures["live_p99_ms"] = live_p99_ms
    return made


def _measure(system: System, workers: int, seconds: float) -> dict[str, LoadResult]:
    """Returns the results by path. Raises BenchError if the system did not have work to the end."""
    paths = PATHS if system.is_service else (system.live_path,)
    with running(system, workers=workers, is_killed=True) as server:
        burning = LoadPlan(
            port=server.port,
            path="/jobs/burn",
            schedule=Closed(connections=_CALLERS),
            body=_JOB,
            seconds=_BUILD_UP_S + (seconds + _START_S) * len(paths),
        )
        with start_load(burning) as burner:
            _build_up(server)
            results = {
                path: load(LoadPlan(port=server.port, path=path, schedule=_WATCHER, seconds=seconds)) for path in paths
            }
            if burner.has_ended():
                raise BenchError(f"{system.name} was not busy to the end of the measurement")
            return results


def _build_up(server: Server) -> None:
    """Waits until the system works, and until jobs wait if it says so."""
    before_s = server.cpu_s()
    server.wait_until("busy", lambda: server.cpu_s() - before_s > _BUILD_UP_S)
    if server.system.is_service:
        server.wait_until("busy", lambda: server.stats()["jobs"]["queued"] > 0)
