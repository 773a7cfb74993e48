"""The scenario `payload`: large bodies, there and back.

Lives here: one caller who has bodies of 10 and 100 MB echoed, how fast that goes, what the system holds meanwhile and
whether it still answers.  Speed and peak are measured one after the other, since looking costs the system time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from tests.benchmark import report
from tests.benchmark.children import Server, running, start_echo_load, start_load
from tests.benchmark.echo_load import EchoPlan, EchoResult
from tests.benchmark.figures import Percentiles, Spread
from tests.benchmark.load import LoadPlan
from tests.benchmark.memory import Peak
from tests.benchmark.options import Options
from tests.benchmark.report import Report
from tests.benchmark.systems import BASELINE, OURS, System
from tests.benchmark.turns import compare, take_turns

MB: Final = 1_000_000
SIZES_MB: Final = (10, 100)

_WORKERS: Final = 2
_MOST_BODY_BYTES: Final = 256 * MB
_PAUSE_S: Final = 0.005
_LEAST: Final = 2  # bodies, however long one takes
_FOR_PEAK_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Bodies of one size through one system.  `peak_bodies` is the memory above idle, in multiples of the body."""

    echo: EchoResult
    live: Percentiles
    cpu_ms_per_mb: float
    peak_bodies: float


# Of one system in one round, by the size in MB.
Sizes = Mapping[int, Measurement]


def run(options: Options, sizes_mb: Sequence[int] = SIZES_MB) -> Report:
    """Measures both sizes in each round."""

    def measure(system: System) -> Sizes:
        with running(system, workers=_WORKERS, max_body_bytes=_MOST_BODY_BYTES) as server:
            return {size_mb: _measure(server, system, size_mb, options.seconds) for size_mb in sizes_mb}

    turns = take_turns("payload", options.systems, options.rounds, measure)
    made = Report(title="Large payloads, there and back")
    made.paragraphs = [
        f"One caller, {_WORKERS} workers, bodies of random bytes; MB/s counts a body once. The peak is the memory of "
        "all the system's processes above what they held idle, in multiples of the body: PSS, with shared memory as "
        f"the whole machine counts it. The service is started with `--max-body {_MOST_BODY_BYTES}`. Medians of the "
        "rounds, the worst of all for `/health/live` (whatever a system has in its place).",
        *turns.notes(),
    ]
    for size_mb in sizes_mb:
        rounds = {system: [each[size_mb] for each in measured] for system, measured in turns.results.items()}
        compared = compare(rounds, {"mb_per_s": lambda one: one.echo.mb_per_s})
        made.paragraphs += [f"### Bodies of {size_mb} MB", _table(rounds)]
        if compared:
            head = (f"{OURS.name} to", "MB/s (more is better)")
            rows = [[system, report.ratio(figures["mb_per_s"])] for system, figures in compared.items()]
            made.paragraphs.append(report.table(head, rows))
        made.data[f"{size_mb}_mb"] = {system: [asdict(one) for one in each] for system, each in rounds.items()}
        to_best = _to_best(rounds)
        if to_best is not None:
            made.figures[f"echo_{size_mb}_mb_to_best"] = to_best
    return made


def _measure(server: Server, system: System, size_mb: int, seconds: float) -> Measurement:
    plan = EchoPlan(port=server.port, path="/jobs/echo", body_bytes=size_mb * MB, seconds=seconds, least=_LEAST)
    watching = LoadPlan(port=server.port, path=system.live_path, connections=1, seconds=seconds, pause_s=_PAUSE_S)
    with Peak(server.pid) as peak, start_echo_load(replace(plan, seconds=min(seconds, _FOR_PEAK_S))) as running_load:
        running_load.result()
    before_s = server.cpu_s()
    with start_echo_load(plan) as running_load, start_load(watching) as watcher:
        echo = running_load.result()
        live = watcher.result().latency
    used_s = server.cpu_s() - before_s
    return Measurement(
        echo=echo,
        live=live,
        cpu_ms_per_mb=used_s * 1e3 / ((echo.answers + 1) * size_mb),  # one more is sent to warm up
        peak_bodies=peak.above_idle_bytes / plan.body_bytes,
    )


def _to_best(rounds: Mapping[str, Sequence[Measurement]]) -> Spread | None:
    """Our speed to that of the best of the others in the same round; `bare` moves nothing to another process."""
    others = [each for system, each in rounds.items() if system not in (OURS.name, BASELINE, "bare")]
    ours = rounds.get(OURS.name, ())
    best = [max(one.echo.mb_per_s for one in others_of_round) for others_of_round in zip(*others, strict=True)]
    quotients = [one.echo.mb_per_s / their for one, their in zip(ours, best, strict=False)]
    return Spread.of(quotients) if quotients else None


def _table(rounds: Mapping[str, Sequence[Measurement]]) -> str:
    head = ("system", "MB/s", "CPU ms a MB", "peak, bodies above idle", "live p99 ms", "live max ms", "generator's CPU")
    figures: list[Callable[[Measurement], float]] = [
        lambda one: one.echo.mb_per_s,
        lambda one: one.cpu_ms_per_mb,
        lambda one: one.peak_bodies,
        lambda one: one.live.p99_ms,
    ]
    rows = []
    for system, each in rounds.items():
        cells = [report.number(statistics.median(map(figure, each))) for figure in figures]
        worst = report.number(max(one.live.max_ms for one in each))
        share = statistics.median(one.echo.cpu_s / one.echo.seconds for one in each)
        rows.append([system, *cells, worst, f"{share:.0%}"])
    return report.table(head, rows)
