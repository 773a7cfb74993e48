"""The scenario `idle`: the cost of standing still.

Lives here: starting a system, waiting until it takes a job, and looking at it while nobody asks for anything.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Final

from tests.benchmark import memory, report
from tests.benchmark.children import running
from tests.benchmark.figures import Spread
from tests.benchmark.options import Options
from tests.benchmark.report import Report
from tests.benchmark.systems import OURS, System
from tests.benchmark.turns import take_turns

_WORKERS: Final = 2
_SETTLE_S: Final = 0.5  # for what a system still does after it is ready
_POLL_S: Final = 0.002
_MIB: Final = 1024 * 1024
_MS_PER_S: Final = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """`start_s` from its first process until a job is taken; `cpu_share` is of one core."""

    start_s: float
    processes: int
    pss_bytes: int
    cpu_share: float


def run(options: Options) -> Report:
    """Looks at each system for `options.seconds`, once in each round."""
    turns = take_turns("idle", options.systems, options.rounds, lambda system: _measure(system, options.seconds))
    made = Report(title="Standing still")
    made.paragraphs = [
        f"{_WORKERS} workers; the service has its example tasks, the others a no-op. Start to ready: from the first "
        "process until a job is taken. PSS and CPU time of all processes, once nobody asks for anything. Medians of "
        "the rounds.",
        report.table(
            ("system", "start to ready s", "processes", "PSS MiB", "CPU ms a s"),
            [
                [
                    system,
                    report.number(statistics.median(one.start_s for one in each)),
                    str(each[-1].processes),
                    report.number(statistics.median(one.pss_bytes for one in each) / _MIB),
                    report.number(statistics.median(one.cpu_share for one in each) * _MS_PER_S),
                ]
                for system, each in turns.results.items()
            ],
        ),
        *turns.notes(),
    ]
    made.data = {system: [asdict(one) for one in each] for system, each in turns.results.items()}
    ours = turns.results.get(OURS.name)
    if ours:
        made.figures = {
            "idle_pss_mib": Spread.of([one.pss_bytes / _MIB for one in ours]),
            "start_s": Spread.of([one.start_s for one in ours]),
        }
    return made


def _measure(system: System, seconds: float) -> Measurement:
    began_s = time.perf_counter()
    with running(system, workers=_WORKERS, is_example=True, poll_s=_POLL_S) as server:
        start_s = time.perf_counter() - began_s
        time.sleep(_SETTLE_S)
        before_cpu_s, before_s = server.cpu_s(), time.perf_counter()
        time.sleep(seconds)
        cpu_share = (server.cpu_s() - before_cpu_s) / (time.perf_counter() - before_s)
        return Measurement(
            start_s=start_s,
            processes=len(server.family()),
            pss_bytes=memory.pss_bytes(server.pid),
            cpu_share=cpu_share,
        )
