"""The worker process of a standard pool or executor.

It is isolated like any worker, loads the tasks, calls the hooks and reports that it is ready. Then it runs the loop of
the library, which calls `remote.run_job` for each job. When a job has left something behind that cannot be undone, the
process ends instead of waiting for the next job.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from offload.metrics.layout import WorkerRows

READY: Final = b"R"
FAILED: Final = b"F"  # followed by why, in UTF-8
MAX_MESSAGE_BYTES: Final = 4096  # PIPE_BUF: written whole or not at all, pipe(7)

# Exit code of a worker that ends as planned, between two jobs, holding no lock. Beside those in `worker.main`.
EXIT_LEFT: Final = 77
# How long its exit functions may take.
_FINISH_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWorkerSpec:
    """`ready` and `output` are the writing ends of pipes: for READY or FAILED, and for what is printed."""

    load: bytes
    lane: int
    start_method: str
    ready: Connection
    output: Connection
    metrics: WorkerRows


def run_pool_worker(spec: PoolWorkerSpec, target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Prepare this process, then call `target(*arguments)`, the library's loop, which runs jobs."""
    from offload.worker.finishing import finish
    from offload.worker.foreign.job_runner import own_process, prepare, targets_of
    from offload.worker.imports.preload import inherited_descriptors
    from offload.worker.isolation import hand_over_to_guard, isolate
    from offload.worker.program import become_program
    from offload.worker.start import StartFailed

    ready, output = spec.ready.fileno(), spec.output.fileno()
    keep = {ready, *_descriptors(arguments), *inherited_descriptors()}
    streams = isolate(keep=keep, output=output, start_method=spec.start_method)
    become_program(targets_of(spec.load), start_method=spec.start_method)
    try:
        prepare(spec.load, spec.lane, spec.metrics.worker_row(spec.lane))
    except StartFailed as failure:
        from offload.worker.main import EXIT_START_FAILED

        with suppress(OSError):
            os.write(ready, (FAILED + str(failure).encode("utf-8", "replace"))[:MAX_MESSAGE_BYTES])
        os._exit(EXIT_START_FAILED)
    own_process(streams, output)
    _leave_when_due(arguments[0])
    hand_over_to_guard()
    os.write(ready, READY)
    spec.ready.close()
    target(*arguments)
    finish()


def _leave_when_due(jobs: Any) -> None:
    """Make the loop of the library, which takes its jobs from this queue, end the process when it has to."""
    from offload.worker.finishing import finish_within
    from offload.worker.foreign.job_runner import is_leaving

    get = jobs.get

    def get_or_leave(*how: Any, **named: Any) -> object:
        if is_leaving():  # the answer has been written
            finish_within(_FINISH_S)
            os._exit(EXIT_LEFT)
        return get(*how, **named)

    jobs.get = get_or_leave


def _descriptors(arguments: tuple[Any, ...]) -> Iterator[int]:
    """Yields the pipes of the library's queues; every other open descriptor was inherited."""
    for queue in arguments:
        for name in ("_reader", "_writer"):
            connection = getattr(queue, name, None)
            if connection is not None and not connection.closed:
                yield connection.fileno()
