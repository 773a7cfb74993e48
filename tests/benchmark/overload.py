"""The scenario `overload`: how much of what can be done is done when much more is asked for.

Lives here: an open loop of callers, each with a budget of a second, at several times what each system can do; the
systems by turns in each round.  Goodput is what had its answer in time, as a share of the system's own capacity.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Final

from tests.benchmark import report
from tests.benchmark.chart import Chart
from tests.benchmark.children import Server, load, running, start_open_load
from tests.benchmark.errors import BenchError
from tests.benchmark.figures import Spread
from tests.benchmark.load import LoadPlan
from tests.benchmark.open_load import OpenPlan, OpenResult
from tests.benchmark.options import Options, say
from tests.benchmark.report import Report
from tests.benchmark.systems import OURS, System
from tests.benchmark.turns import take_turns

FACTORS: Final = (2, 5, 10)
BUDGET_S: Final = 1.0

_JOB: Final = '{"ms": 10}'
_PATH: Final = "/jobs/burn"
_CALLERS: Final = 8  # enough to keep two workers busy, too few to wait for each other
_CAPACITY_S: Final = 1.0
_LASTS: Final = 2.0  # times the usual length: the first second of an overload is not like the others
_MIXED: Final[Mapping[str, tuple[float, float, float]]] = {  # milliseconds, share of the capacity, budget in seconds
    "burn_1_ms": (1.0, 0.05, 1.0),
    "burn_100_ms": (100.0, 0.45, 1.0),
    "burn_2_s": (2000.0, 0.5, 10.0),
}
_MIXED_FACTOR: Final = 5
_LONGEST_BUDGET_S: Final = max(budget_s for _, _, budget_s in _MIXED.values())
_MS_PER_S: Final = 1e3
_MIB: Final = 1024 * 1024
_OK: Final = 200
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One load at `factor` times the capacity.  After the last one, of a service: how long a job then takes, and how
    much more memory the process that answers HTTP holds.
    """

    factor: float
    capacity_per_s: float
    result: OpenResult
    fresh_ms: float | None = None
    grown_bytes: int | None = None

    @property
    def goodput(self) -> float:
        """As a share of the capacity."""
        return self.result.good_per_s / self.capacity_per_s

    @property
    def generator_share(self) -> float:
        """What the load generator took of the cores, which the system then did not have."""
        return self.result.cpu_s / self.result.seconds / report.usable_cores()


def run(options: Options) -> Report:
    """Measures every system at every factor in each round, and the service once with tasks of different length."""
    systems = [system for system in options.systems if system.has_workers]
    turns = take_turns("overload", systems, options.rounds, lambda system: _steps(system, options.seconds))
    mixed = _mixed(options) if OURS in systems else {}
    return _report({name: [*chain(*rounds)] for name, rounds in turns.results.items()}, mixed, turns.notes())


def _steps(system: System, seconds: float) -> list[Step]:
    """One step for each factor, each on a server of its own: what one leaves undone must not be another's load."""
    steps = []
    for factor in FACTORS:
        say(f"overload: {system.name} at {factor:g} times its capacity")
        with running(system, workers=report.usable_cores(), is_killed=True) as server:
            capacity_per_s = _capacity_per_s(server, min(seconds, _CAPACITY_S))
            held = _memory_bytes(server)
            result = _offer(server, factor * capacity_per_s, seconds * _LASTS)
            is_last = system.is_service and factor == FACTORS[-1]
            step = Step(
                factor=factor,
                capacity_per_s=capacity_per_s,
                result=result,
                fresh_ms=_fresh_ms(server) if is_last else None,
                grown_bytes=_memory_bytes(server) - held if is_last else None,
            )
        steps.append(step)
    return steps


def _capacity_per_s(server: Server, seconds: float) -> float:
    """What the system does when nobody asks for more than it can do."""
    plan = LoadPlan(port=server.port, path=_PATH, body=_JOB, connections=_CALLERS, seconds=seconds)
    return load(plan).answers_per_s


def _offer(server: Server, per_s: float, seconds: float) -> OpenResult:
    plan = OpenPlan(port=server.port, path=_PATH, body=_JOB, per_s=per_s, seconds=seconds, budget_s=BUDGET_S)
    with start_open_load(plan) as running_load:
        return running_load.result()


def _fresh_ms(server: Server) -> float:
    """How long a job takes that comes when the overload is just over."""
    plan = LoadPlan(port=server.port, path=_PATH, body=_JOB, connections=1, seconds=1.0, max_requests=1)
    return load(plan).latency.max_ms


def _memory_bytes(server: Server) -> int:
    """Resident memory of the process that answers HTTP."""
    with open(f"/proc/{server.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES


def _mixed(options: Options) -> Mapping[str, OpenResult]:
    """Three tasks at once, each far beyond its share."""
    say(f"overload: tasks of 1 ms, 100 ms and 2 s together, {_MIXED_FACTOR} times what can be done")
    workers = report.usable_cores()
    with running(OURS, workers=workers) as server, ExitStack() as stack:
        for task in _MIXED:
            status, _ = server.request("POST", f"/jobs/{task}", "{}")  # so that its run time is known
            if status != _OK:
                raise BenchError(f"{task} answered {status}")
        loads = {}
        for task, (ms, share, budget_s) in _MIXED.items():
            plan = OpenPlan(
                port=server.port,
                path=f"/jobs/{task}",
                body="{}",
                per_s=_MIXED_FACTOR * workers * share / (ms / _MS_PER_S),
                seconds=max(options.seconds * _LASTS, _LONGEST_BUDGET_S),
                budget_s=budget_s,
            )
            loads[task] = stack.enter_context(start_open_load(plan))
        return {task: one.result() for task, one in loads.items()}


def _report(steps: Mapping[str, Sequence[Step]], mixed: Mapping[str, OpenResult], notes: Sequence[str]) -> Report:
    made = Report(title="What is done when much more is asked for")
    made.paragraphs = [
        f"Jobs of 10 ms, an open loop of callers who wait for {BUDGET_S:g} s and then hang up; load and goodput as "
        "shares of what the system did for eight callers just before. The load generator stands in line for the same "
        "cores; what it took of them is the last column. Medians of the rounds.",
        report.table(
            ("system", "load", "goodput", "served p99 ms", "refused", "refused p99 ms", "gave up", "generator"),
            [_row(system, factor, each) for system in steps for factor, each in _by_factor(steps[system])],
        ),
        *notes,
        *_after(steps),
    ]
    if mixed:
        made.paragraphs += [
            f"Tasks of different length together, each at {_MIXED_FACTOR} times its share of the machine:",
            report.table(
                ("task", "budget s", "sent/s", "served/s", "served, of those not refused", "refused p99 ms"),
                [_mixed_row(task, result) for task, result in mixed.items()],
            ),
        ]
    made.data = {
        "steps": {system: [asdict(step) for step in each] for system, each in steps.items()},
        "mixed": {task: asdict(result) for task, result in mixed.items()},
    }
    last = [step for step in steps.get(OURS.name, ()) if step.factor == FACTORS[-1]]
    if last:
        made.figures["goodput_10"] = Spread.of([step.goodput + step.generator_share for step in last])
    made.files["overload.svg"] = _chart(steps).svg()
    return made


def _after(steps: Mapping[str, Sequence[Step]]) -> list[str]:
    """A sentence on what an overload leaves behind, for each service."""
    sentences = []
    for system, each in steps.items():
        fresh_ms = [step.fresh_ms for step in each if step.fresh_ms is not None]
        grown = [step.grown_bytes / _MIB for step in each if step.grown_bytes is not None]
        if fresh_ms and grown:
            sentences.append(
                f"{system}: a job sent just after {FACTORS[-1]} times the load took "
                f"{report.number(statistics.median(fresh_ms))} ms; the memory of the process that answers HTTP grew by "
                f"{report.number(statistics.median(grown))} MiB."
            )
    return sentences


def _by_factor(steps: Sequence[Step]) -> list[tuple[float, list[Step]]]:
    return [(factor, [step for step in steps if step.factor == factor]) for factor in FACTORS]


def _row(system: str, factor: float, steps: Sequence[Step]) -> list[str]:
    results = [step.result for step in steps]
    return [
        system,
        f"{factor:g} ×",
        f"{_median_goodput(steps):.0%}",
        report.number(statistics.median(result.served.p99_ms for result in results)),
        _share(results, lambda result: result.refusal.count),
        report.number(statistics.median(result.refusal.p99_ms for result in results)),
        _share(results, lambda result: result.given_up),
        f"{statistics.median(step.generator_share for step in steps):.0%}",
    ]


def _share(results: Sequence[OpenResult], count: Callable[[OpenResult], int]) -> str:
    """Of all that was sent."""
    return f"{sum(map(count, results)) / max(sum(result.sent for result in results), 1):.0%}"


def _mixed_row(task: str, result: OpenResult) -> list[str]:
    taken = result.sent - result.refusal.count
    return [
        task,
        f"{_MIXED[task][2]:g}",
        report.number(result.sent / result.seconds),
        report.number(result.good_per_s),
        f"{result.good / max(taken, 1):.0%}",
        report.number(result.refusal.p99_ms),
    ]


def _median_goodput(steps: Sequence[Step]) -> float:
    return statistics.median(step.goodput for step in steps)


def _chart(steps: Mapping[str, Sequence[Step]]) -> Chart:
    return Chart(
        title="Goodput under overload: answers within the caller's second, as a share of capacity",
        x_title="load offered, in multiples of what the system can do (jobs of 10 ms)",
        xs=FACTORS,
        lines={
            system: [_median_goodput(at_factor) for _, at_factor in _by_factor(each)] for system, each in steps.items()
        },
        y_max=1.0,
        y_ticks={0.0: "0 %", 0.25: "25 %", 0.5: "50 %", 0.75: "75 %", 1.0: "100 %"},
    )
