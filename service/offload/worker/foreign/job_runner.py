"""The worker's side of `remote.run_job`: loads the tasks once in each process, and runs one job.

State that is kept between jobs (the loaded tasks, the process's row of shared memory) is global, because another
library calls these functions and passes only their arguments.
"""

from __future__ import annotations

import os
import time
import traceback
from typing import Final

import orjson

from offload.core.request import JobHead
from offload.metrics.layout import WorkerRow
from offload.tasks.context import share_process
from offload.tasks.targets.loading import Target, targets_from_json
from offload.wire.frames import STATUSES
from offload.wire.spec import LoadSpec
from offload.worker.call import JobCall
from offload.worker.execution import Executor
from offload.worker.foreign.remote import NOT_LOADED, NOT_RUN, Call, PlainAnswer
from offload.worker.start import StartFailed, end_if_copy, get_ready
from offload.worker.state.orphans import Orphans
from offload.worker.state.streams import StandardStreams, flush_output
from offload.worker.state.surroundings import Surroundings

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class _Process:
    """State of this process. `surroundings` is None in a process that also serves others, such as a cluster's.

    `is_leaving`: a job has left something behind that cannot be undone, so that this process must run no other.
    """

    __slots__ = ("executors", "is_leaving", "orphans", "row", "surroundings")

    def __init__(self) -> None:
        self.executors: dict[bytes, Executor] = {}
        self.row: WorkerRow | None = None
        self.surroundings: Surroundings | None = None
        self.orphans: Orphans | None = None
        self.is_leaving = False


_process = _Process()


def prepare(load: bytes, lane: int, row: WorkerRow | None = None) -> None:
    """Load the tasks and call their hooks, once in each process; record jobs in `row`. Raises StartFailed."""
    _process.row = row
    if load not in _process.executors:
        values = orjson.loads(load)
        spec = LoadSpec(
            targets=targets_of(load),
            library_threads=values["library_threads"],
            max_body_bytes=values["max_body_bytes"],
        )
        share_process()
        _process.executors[load] = get_ready(spec, lane=lane, is_debug=values["is_debug"])


def targets_of(load: bytes) -> tuple[Target, ...]:
    return targets_from_json(orjson.loads(load)["targets"])


def own_process(streams: StandardStreams, output: int) -> None:
    """From now on restore after each job what it has changed: this process, which is ready, runs our jobs only."""
    _process.surroundings = Surroundings(streams, output)
    _process.orphans = Orphans()


def is_leaving() -> bool:
    """Returns whether this process must end now, after its answer."""
    return _process.is_leaving


def run(call: Call) -> PlainAnswer:
    """Run one job and return its answer; never raises because of the task."""
    load, number, task_index, attempt, lane, job_id, head, body = call
    owner, row = os.getpid(), _process.row
    if row is not None:
        row.begin(number, time.monotonic_ns())
    try:
        if load not in _process.executors:
            prepare(load, lane, row)
        job = JobCall(number, task_index, attempt, job_id, JobHead._make(head), memoryview(body))
        answer = _process.executors[load].run(job, time.monotonic_ns())
    except StartFailed as failure:
        return _failed(number, NOT_LOADED, str(failure))
    except Exception:
        return _failed(number, NOT_RUN, traceback.format_exc())
    finally:
        try:
            end_if_copy(owner)
            _clean_up()
        except BaseException:  # as in `worker.main`
            end_if_copy(owner)
            _clean_up()
        if row is not None:
            row.end(time.monotonic_ns())
    result = bytes(answer.body) if isinstance(answer.body, memoryview) else answer.body
    status = STATUSES.index(answer.reason)
    trace = answer.traceback
    return number, status, answer.media_type, result, answer.run_ns, trace, owner, _rss_bytes(), _process.is_leaving


def _failed(number: int, status: int, why: str) -> PlainAnswer:
    body = why.encode("utf-8", "replace")
    return number, status, "", body, 0, "", os.getpid(), _rss_bytes(), _process.is_leaving


def _clean_up() -> None:
    """Restore this process for the next job, and write what the last one printed."""
    surroundings, orphans = _process.surroundings, _process.orphans
    if surroundings is None or orphans is None:
        flush_output()
        return
    problem = surroundings.restore()
    if problem:
        surroundings.log_problem(problem)
        _process.is_leaving = True
    orphans.reap()


def _rss_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
