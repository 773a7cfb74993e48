"""One job in a worker process that is not of our making: a pool's, an executor's, a cluster's.

Lives here: `run_job`, which such a process is asked to call, and what goes in and out.  Both are tuples of numbers,
text and bytes, whatever carries them: never an object of the user's, never an exception.  What a process knows between
two jobs (the loaded tasks, the row of shared memory that it may have) is plain state of the process, for nothing else
reaches a function that others call.

    call      load, number, task_index, attempt, lane, meta, body
    answer    number, status, media_type, body, run_ns, traceback, pid, rss_bytes

`load` is the JSON of `pack_load`, `status` an index into `frames.STATUSES`, or NOT_LOADED or NOT_RUN, then `body` says
why in UTF-8.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import suppress
from typing import Final, NamedTuple

import orjson

from offload.core.job import Reason
from offload.errors import FrameError
from offload.metrics.layout import WorkerRow
from offload.tasks.loading import targets_from_json, targets_to_json
from offload.worker.channel import JobFrame
from offload.worker.execution import Executor
from offload.worker.frames import STATUSES, Header, Kind
from offload.worker.spec import LoadSpec
from offload.worker.start import StartFailed, end_if_copy, get_ready

NOT_LOADED: Final = -1  # the tasks cannot be loaded, or a hook failed: nothing of the job has begun
NOT_RUN: Final = -2  # a fault of ours

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

Call = tuple[bytes, int, int, int, int, bytes, bytes | bytearray]
PlainAnswer = tuple[int, int, str, bytes | bytearray, int, str, int, int]


class RemoteAnswer(NamedTuple):
    """What came back, judged."""

    number: int
    status: int
    media_type: str
    body: bytes | bytearray
    run_ns: int
    traceback: str
    pid: int
    rss_bytes: int

    @property
    def reason(self) -> Reason | None:
        """How the job ended by itself; None for NOT_LOADED and NOT_RUN."""
        return STATUSES[self.status] if self.status >= 0 else None


class _Process:
    """One for each process."""

    __slots__ = ("executors", "row")

    def __init__(self) -> None:
        self.executors: dict[bytes, Executor] = {}
        self.row: WorkerRow | None = None


_process = _Process()


def pack_load(load: LoadSpec, *, is_debug: bool) -> bytes:
    values = {"targets": targets_to_json(load.targets), "library_threads": load.library_threads, "is_debug": is_debug}
    return orjson.dumps(values)


def prepare(load: bytes, lane: int, row: WorkerRow | None = None) -> None:
    """Loads the tasks and calls their hooks, unless this process has done so.  Raises StartFailed.

    From then on this process writes into `row` what it does.
    """
    _process.row = row
    if load not in _process.executors:
        values = orjson.loads(load)
        targets = targets_from_json(values["targets"])
        spec = LoadSpec(targets=targets, library_threads=values["library_threads"])
        _process.executors[load] = get_ready(spec, lane=lane, is_debug=values["is_debug"])


def run_job(call: Call) -> PlainAnswer:
    """Runs one job and returns its answer; never raises for what the task does."""
    load, number, task_index, attempt, lane, meta, body = call
    owner, row = os.getpid(), _process.row
    if row is not None:
        row.begin(number, time.monotonic_ns())
    try:
        if load not in _process.executors:
            prepare(load, lane, row)
        header = Header(Kind.JOB, attempt, task_index, len(meta), len(body), number, 0)
        answer = _process.executors[load].run(JobFrame(header, meta, memoryview(body)))
    except StartFailed as failure:
        return _failed(number, NOT_LOADED, str(failure))
    except Exception:
        return _failed(number, NOT_RUN, traceback.format_exc())
    finally:
        end_if_copy(owner)
        _flush()
        if row is not None:
            row.end(time.monotonic_ns())
    result = bytes(answer.body) if isinstance(answer.body, memoryview) else answer.body
    status = STATUSES.index(answer.reason)
    return number, status, answer.media_type, result, answer.run_ns, answer.traceback, owner, _rss_bytes()


def read_answer(values: object, number: int) -> RemoteAnswer:
    """Raises FrameError for what is no answer to job `number`: a task can reach whatever carries answers."""
    match values:
        case (
            int(told),
            int(status),
            str(media_type),
            (bytes() | bytearray()) as body,
            int(run_ns),
            str(trace),
            int(pid),
            int(rss_bytes),
        ) if told == number and NOT_RUN <= status < len(STATUSES):
            return RemoteAnswer(number, status, media_type, body, run_ns, trace, pid, rss_bytes)
    raise FrameError(f"no answer to job {number}")


def _failed(number: int, status: int, why: str) -> PlainAnswer:
    return number, status, "", why.encode("utf-8", "replace"), 0, "", os.getpid(), _rss_bytes()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the task may have closed or replaced it
            stream.flush()


def _rss_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
