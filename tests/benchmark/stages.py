"""Which part of a job's way a piece of code belongs to: the table, and how samples of stacks are shared out by it.

Lives here: data, and pure functions on what a sampling profiler prints (`py-spy record --format raw --threads`).  Code
that no line of the table names belongs to whoever called it; what nobody names is told as `other`, with its module, so
that a new module is missed here and nowhere else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

HTTP_IN: Final = "HTTP in"
SCHEDULING: Final = "admission and scheduling"
CHANNEL_OUT: Final = "channel out"
WORKER_IN: Final = "worker in"
CALL: Final = "call"
WORKER_OUT: Final = "worker out"
CHANNEL_IN: Final = "channel in"
HTTP_OUT: Final = "HTTP out"
METRICS: Final = "metrics"
LOG: Final = "log"
WATCHING: Final = "watching over workers"
LOOP: Final = "event loop and kernel"
OTHER: Final = "other"

# In the order of a job's way.
STAGES: Final = (
    HTTP_IN,
    SCHEDULING,
    CHANNEL_OUT,
    WORKER_IN,
    CALL,
    WORKER_OUT,
    CHANNEL_IN,
    HTTP_OUT,
    METRICS,
    LOG,
    WATCHING,
    LOOP,
    OTHER,
)

# The longest beginning of `module:function` that fits decides.  What the event loop does in C (reading and writing
# sockets, the kernel's part included) has no frame of its own: it shows as that which runs the loop.
SERVICE: Final[Mapping[str, str]] = {
    "aiohttp/": HTTP_IN,
    "aiohttp/abc.py:AbstractStreamWriter": HTTP_OUT,
    "aiohttp/http_writer.py": HTTP_OUT,
    "aiohttp/web_protocol.py:RequestHandler.finish_response": HTTP_OUT,
    "aiohttp/web_response.py": HTTP_OUT,
    "asyncio/base_events.py": LOOP,
    "asyncio/runners.py": LOOP,
    "asyncio/selector_events.py": LOOP,
    "concurrent/futures/thread.py": WATCHING,
    "logging/": LOG,
    "offload/cli/logs.py": LOG,
    "offload/core/": SCHEDULING,
    "offload/dispatch/": SCHEDULING,
    "offload/engines/": CHANNEL_IN,
    "offload/engines/supervised/channel.py:WorkerChannel.write": CHANNEL_OUT,
    "offload/engines/supervised/engine.py:SupervisedEngine.start": CHANNEL_OUT,
    "offload/engines/supervised/guard_handle.py": WATCHING,
    "offload/engines/supervised/killing.py": WATCHING,
    "offload/engines/supervised/lane.py:Lane.give": CHANNEL_OUT,
    "offload/engines/supervised/launcher.py": WATCHING,
    "offload/engines/supervised/outbox.py": CHANNEL_OUT,
    "offload/engines/supervised/output.py": LOG,
    "offload/engines/supervised/proctree.py": WATCHING,
    "offload/engines/supervised/reaper.py": WATCHING,
    "offload/engines/supervised/watch.py": WATCHING,
    "offload/metrics/": METRICS,
    "offload/web/": HTTP_IN,
    "offload/web/access_log.py": LOG,
    "offload/web/direct.py:DirectConnection._end": HTTP_OUT,
    "offload/web/direct.py:DirectConnection._on_end": HTTP_OUT,
    "offload/web/direct.py:DirectConnection._send": HTTP_OUT,
    "offload/web/exchange.py:Exchanges._finish": HTTP_OUT,
    "offload/web/outcomes.py": HTTP_OUT,
    "offload/web/reply.py": HTTP_OUT,
    "offload/web/response_head.py": HTTP_OUT,
    "offload/web/timing.py": HTTP_OUT,
    "offload/worker/frames.py": CHANNEL_IN,
    "offload/worker/frames.py:pack_job": CHANNEL_OUT,
}

WORKER: Final[Mapping[str, str]] = {
    "tests/benchmark/tasks.py": CALL,
    "offload/metrics/": METRICS,
    "offload/tasks/arguments.py": WORKER_IN,
    "offload/tasks/context.py": CALL,
    "offload/tasks/results.py": WORKER_OUT,
    "offload/tasks/signature.py": WORKER_IN,
    "offload/tasks/signature.py:CompiledTask.call": CALL,
    "offload/tasks/validation.py": WORKER_IN,
    "offload/worker/": WORKER_IN,
    "offload/worker/channel.py:Channel.write": WORKER_OUT,
    "offload/worker/execution.py": CALL,
    "offload/worker/frames.py:pack_answer": WORKER_OUT,
    "offload/worker/start.py:end_if_copy": WORKER_OUT,
    "offload/worker/main.py:_send": WORKER_OUT,
}

_THREAD: Final = re.compile(r"thread \((\d+)\)")
_FRAME: Final = re.compile(r"(.+) \((.+):\d+\)")


@dataclass(slots=True, kw_only=True)
class Samples:
    """Of one thread: how often it was seen in each stage, and in which code that no line of the table names."""

    stages: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


def read_samples(raw: str, table: Mapping[str, str]) -> dict[int, Samples]:
    """By thread, of lines like `thread (12): name;outer (a.py:1);inner (b.py:2) 3`; other lines are left out."""
    threads: dict[int, Samples] = {}
    for line in raw.splitlines():
        stack, _, times = line.rpartition(" ")
        thread, *frames = stack.split(";")
        found = _THREAD.match(thread)
        if found is None or not times.isdecimal():
            continue
        samples = threads.setdefault(int(found[1]), Samples())
        names = [named for frame in reversed(frames) if (named := _name(frame)) is not None]
        stage = stage_of(names, table)
        samples.stages[stage] += int(times)
        if stage == OTHER and names:
            samples.unknown[names[0]] += int(times)
    return threads


def stage_of(names: Sequence[str], table: Mapping[str, str]) -> str:
    """Of a stack, innermost first, each as `module:function`."""
    for name in names:
        fitting = [prefix for prefix in table if name.startswith(prefix)]
        if fitting:
            return table[max(fitting, key=len)]
    return OTHER


def share_out(samples: Mapping[int, Samples], us_per_job: Mapping[int, float]) -> dict[str, float]:
    """Microseconds a job by stage: each thread's CPU time, by how often it was seen where.

    A thread's CPU time is counted and not guessed from samples: one that sleeps is seen, and costs nothing.
    """
    shared: dict[str, float] = {}
    for thread, us in us_per_job.items():
        stages = samples[thread].stages if thread in samples else Counter({OTHER: 1})
        for stage, times in stages.items():
            shared[stage] = shared.get(stage, 0.0) + us * times / stages.total()
    return shared


def in_order(shared: Iterable[str]) -> list[str]:
    """Stages in the order of a job's way."""
    return sorted(shared, key=STAGES.index)


def _name(frame: str) -> str | None:
    """`module:function` of `function (module:line)`; the module's path begins with its package."""
    found = _FRAME.match(frame)
    return found and f"{found[2]}:{found[1]}"
