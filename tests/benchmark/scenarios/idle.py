"""The scenario `idle`: the cost of standing still, and of starting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from tests.benchmark import proc, report
from tests.benchmark.options import Options
from tests.benchmark.processes import running
from tests.benchmark.report import Column, Report
from tests.benchmark.rounds import measure_in_rounds
from tests.benchmark.systems import System

_WORKERS: Final = 2
_SETTLE_S: Final = 0.5  # for what a system still does after it is ready
_BYTES_PER_MB: Final = 1e6
_MS_PER_S: Final = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """`start_s`: from the start of the first process until ready; `cpu_share`: of one core."""

    start_s: float
    processes: int
    pss_bytes: int
    cpu_share: float


_START: Final = Column[Measurement]("start to ready s", lambda one: one.start_s)
_MEMORY: Final = Column[Measurement]("PSS MB", lambda one: one.pss_bytes / _BYTES_PER_MB)
_COLUMNS: Final = (
    _START,
    Column[Measurement]("processes", lambda one: one.processes, "{:.0f}".format),
    _MEMORY,
    Column[Measurement]("CPU ms/s", lambda one: one.cpu_share * _MS_PER_S),
)


def run(options: Options) -> Report:
    """Observes each system for `options.seconds` in each round."""
    rounds = measure_in_rounds("idle", options.systems, options.rounds, lambda one: _measure(one, options.seconds))
    made = Report(title="Standing still", data=rounds.results)
    made.paragraphs = [
        f"{_WORKERS} workers; the service has its example tasks, the others a no-op. PSS and CPU time are of the "
        "process tree without requests. Medians of the rounds.",
        report.systems_table(_COLUMNS, rounds.results),
        *rounds.notes(),
    ]
    figures = {"idle_pss_mb": rounds.figure(_MEMORY.figure), "start_s": rounds.figure(_START.figure)}
    made.figures = {name: spread for name, spread in figures.items() if spread}
    return made


def _measure(system: System, seconds: float) -> Measurement:
    began_s = time.perf_counter()
    with running(system, workers=_WORKERS, is_example=True) as server:
        start_s = time.perf_counter() - began_s
        time.sleep(_SETTLE_S)
        before_cpu_s, before_s = server.cpu_s(), time.perf_counter()
        time.sleep(seconds)
        cpu_share = (server.cpu_s() - before_cpu_s) / (time.perf_counter() - before_s)
        return Measurement(
            start_s=start_s,
            processes=len(proc.tree(server.pid)),
            pss_bytes=proc.pss_bytes(server.pid),
            cpu_share=cpu_share,
        )
