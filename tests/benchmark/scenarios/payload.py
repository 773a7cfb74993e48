"""The scenario `payload`: large bodies that are sent and come back.

Speed and peak memory are measured one after the other, because watching the memory costs the system time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.benchmark import report
from tests.benchmark.figures import Percentiles, Spread
from tests.benchmark.load.plan import Closed, Echo, LoadPlan
from tests.benchmark.load.result import LoadResult
from tests.benchmark.options import Options
from tests.benchmark.proc import Peak
from tests.benchmark.processes import Server, load, running, start_load
from tests.benchmark.report import Column, Report
from tests.benchmark.rounds import measure_in_rounds, ratio_table
from tests.benchmark.systems import BASELINE, OFFLOAD, System

MB: Final = 1_000_000
SIZES_MB: Final = (10, 100)

_WORKERS: Final = 2
_MAX_BODY_BYTES: Final = 256 * MB
_WATCHER: Final = Closed(connections=1, pause_s=0.005)
_MIN_BODIES: Final = 2
_FOR_PEAK_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Bodies of one size through one system. `peak_bodies`: memory above idle, in multiples of the body."""

    echo: LoadResult
    live: Percentiles
    mb_per_s: float
    cpu_ms_per_mb: float
    peak_bodies: float


_COLUMNS: Final = (
    Column[Measurement]("MB/s", lambda one: one.mb_per_s, ratio_head="MB/s (more is better)"),
    Column[Measurement]("CPU ms/MB", lambda one: one.cpu_ms_per_mb),
    Column[Measurement]("peak above idle, bodies", lambda one: one.peak_bodies),
    Column[Measurement]("live p99 ms", lambda one: one.live.p99_ms),
    Column[Measurement]("live max ms", lambda one: one.live.max_ms, over_rounds=max),
    Column[Measurement]("generator, of one core", lambda one: one.echo.cpu_share, report.percent),
)


def run(options: Options, sizes_mb: Sequence[int] = SIZES_MB) -> Report:
    """Measures all sizes in each round."""

    def measure(system: System) -> dict[int, Measurement]:
        with running(system, workers=_WORKERS, max_body_bytes=_MAX_BODY_BYTES) as server:
            return {size_mb: _measure(server, size_mb, options.seconds) for size_mb in sizes_mb}

    rounds = measure_in_rounds("payload", options.systems, options.rounds, measure)
    made = Report(title="Large bodies")
    made.paragraphs = [
        f"One caller, {_WORKERS} workers, random bytes; MB/s counts a body once. Peak: memory of the process tree "
        "above idle in multiples of the body (PSS, with shared memory of the whole machine). live: the health check "
        f"meanwhile. The service is started with `--max-body {_MAX_BODY_BYTES}`. Medians of the rounds.",
        *rounds.notes(),
    ]
    for size_mb in sizes_mb:
        results = {system: [each[size_mb] for each in measured] for system, measured in rounds.results.items()}
        made.paragraphs += [
            f"### Bodies of {size_mb} MB",
            report.systems_table(_COLUMNS, results),
            ratio_table(_COLUMNS, results),
        ]
        made.data = {**made.data, f"{size_mb}_mb": results}
        to_best = _to_best(results)
        if to_best is not None:
            made.figures[f"echo_{size_mb}_mb_to_best"] = to_best
    return made


def _measure(server: Server, size_mb: int, seconds: float) -> Measurement:
    schedule = Echo(body_bytes=size_mb * MB, min_answers=_MIN_BODIES)
    plan = LoadPlan(port=server.port, path="/jobs/echo", schedule=schedule, seconds=seconds)
    watching = LoadPlan(port=server.port, path=server.system.live_path, schedule=_WATCHER, seconds=seconds)
    with Peak(server.pid) as peak:
        load(replace(plan, seconds=min(seconds, _FOR_PEAK_S)))
    before_s = server.cpu_s()
    with start_load(plan) as echoing, start_load(watching) as watcher:
        echo, live = echoing.result(), watcher.result().latency
    return Measurement(
        echo=echo,
        live=live,
        mb_per_s=echo.answers_per_s * size_mb,
        cpu_ms_per_mb=(server.cpu_s() - before_s) * 1e3 / ((echo.answers + 1) * size_mb),  # one more to warm up
        peak_bodies=peak.above_idle_bytes / schedule.body_bytes,
    )


def _to_best(results: Mapping[str, Sequence[Measurement]]) -> Spread | None:
    """Speed to that of the best other system of the same round; `bare` moves nothing to another process."""
    others = [measured for system, measured in results.items() if system not in (OFFLOAD.name, BASELINE, "bare")]
    best = [max(one.mb_per_s for one in of_round) for of_round in zip(*others, strict=True)]
    quotients = [one.mb_per_s / other for one, other in zip(results.get(OFFLOAD.name, ()), best, strict=False)]
    return Spread.of(quotients) if quotients else None
