"""What one job costs, written down: the tables of the scenario `account`, and the file that the repository keeps.

Lives here: Markdown and plain data from what `account` has counted, with what is counted said in the table itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from tests.benchmark import report, stages
from tests.benchmark.report import Report

if TYPE_CHECKING:
    from tests.benchmark.account import Account

_US_PER_S: Final = 1e6
_JOBS: Final = 1_000
_FILE: Final = "account.md"
_COMMAND: Final = 'make bench account OPTIONS="--files tests/benchmark"'

_CALLS: Final = {
    "python_calls": "calls of functions written in Python",
    "builtin_calls": "calls of functions written in C",
}
_LOOP: Final = {
    "callbacks": "callbacks it was asked to call next (steps of coroutines among them)",
    "timers": "timers that were set",
    "from_threads": "callbacks from other threads",
    "collections_0": "times that the garbage collector ran, youngest generation",
    "collections_1": "the same, second generation",
    "collections_2": "the same, all objects",
    "blocks": "blocks of memory more in use afterwards",
}


def write(account: Account) -> Report:
    """All of it."""
    made = Report(title="What one no-op job costs, and where")
    jobs = max(account.load.answers, 1)
    made.paragraphs = [
        f"64 callers, 2 workers, {report.number(account.load.answers_per_s)} no-op jobs a second while nobody looked. "
        "Every tool looks at a load of its own, so that its price is in its own figures only.",
        *account.notes,
        "### CPU time and wake-ups",
        "From `/proc`, all threads. A wake-up is a thread that had given its core away to wait; taken away: the core "
        "was.",
        _cost_table(account, jobs),
    ]
    if account.us_by_stage:
        made.paragraphs += [
            "### Stages",
            "CPU µs a job. Each thread's CPU time from the table above, shared out by how often py-spy saw it where: "
            "the innermost code that the table in `stages.py` names. The kernel's part of reading and writing sockets "
            "of callers is in the event loop's, which has no frames of its own. A thread that waits for a core is "
            "seen, too, as a rule where it was woken: the stage that waits for the next frame has too much.",
            _stage_table(account.us_by_stage),
        ]
    if account.unknown:
        names = ", ".join(f"`{name}` {share:.1%}" for name, share in account.unknown.items())
        made.paragraphs.append(f"Named by no stage, of all samples: {names}.")
    if account.system_calls:
        made.paragraphs += [
            "### System calls",
            f"A job, counted by `{account.tracer}`, which slows all down: fewer jobs come at a time, and there are "
            "more calls a job than without it.",
            _call_table(account.system_calls),
        ]
    if account.loop:
        made.paragraphs += [
            f"### Event loop and garbage, {_JOBS:,} jobs",
            "Counted in the service's own process. What the loop calls because a socket is ready, nobody asks for. "
            "Python does not count allocations; the collector's youngest generation runs whenever some hundred more "
            "containers were made than freed.",
            _rows(_LOOP, {"service": account.loop}, scale=_JOBS),
        ]
    if account.calls:
        made.paragraphs += [
            "### Calls of functions",
            "A job, counted by `cProfile` in the main threads of a service with one worker.",
            _rows(_CALLS, account.calls, scale=1),
        ]
    head = f"# {made.title}\n\nMade by `{_COMMAND}`. {report.machine_line(report.machine())}"
    made.files[_FILE] = "\n\n".join([head, *made.paragraphs]) + "\n"
    made.data = asdict(account)
    made.data["costs_per_job"] = {
        role: {name: value / jobs for name, value in asdict(counts).items()} for role, counts in account.costs.items()
    }
    return made


def _cost_table(account: Account, jobs: int) -> str:
    head = ("process", "CPU µs a job", "user", "system", "wake-ups a job", "core taken away, a job")
    rows = []
    for role, counts in account.costs.items():
        times = [
            report.number(seconds * _US_PER_S / jobs) for seconds in (counts.cpu_s, counts.user_s, counts.system_s)
        ]
        switches = [f"{times_ / jobs:.3f}" for times_ in (counts.wakeups, counts.preemptions)]
        rows.append([role, *times, *switches])
    return report.table(head, rows)


def _stage_table(us_by_stage: Mapping[str, Mapping[str, float]]) -> str:
    found = stages.in_order({stage for shares in us_by_stage.values() for stage in shares})
    rows = [[stage, *(_cell(shares.get(stage)) for shares in us_by_stage.values())] for stage in found]
    rows.append(["**all**", *(report.number(sum(shares.values())) for shares in us_by_stage.values())])
    return report.table(("stage", *us_by_stage), rows)


def _call_table(calls: Mapping[str, Mapping[str, float]]) -> str:
    names = sorted(
        {name for each in calls.values() for name in each},
        key=lambda name: -sum(each.get(name, 0.0) for each in calls.values()),
    )
    rows = [[f"`{name}`", *(_cell(each.get(name)) for each in calls.values())] for name in names]
    rows.append(["**all**", *(report.number(sum(each.values())) for each in calls.values())])
    return report.table(("system call", *calls), rows)


def _rows(names: Mapping[str, str], counted: Mapping[str, Mapping[str, float]], *, scale: int) -> str:
    rows = [[what, *(_cell(each.get(name, 0.0) * scale) for each in counted.values())] for name, what in names.items()]
    return report.table(("what", *counted), rows)


def _cell(value: float | None) -> str:
    return report.NOTHING if value is None else report.number(value)
