"""`run_job`, which runs one job in a worker process that another library started: a pool, an executor, a cluster.

The call and the answer are tuples of numbers, text and bytes, never an object or exception of the user. The service
imports this module; the worker imports `job_runner`, which runs the job.

    call      load, number, task_index, attempt, lane, job id, head (the strings of a `JobHead`), body
    answer    number, status, media_type, body, run_ns, traceback, pid, rss_bytes, is_leaving

`load` is the JSON of `pack_load`. `status` is an index into `frames.STATUSES`, or NOT_LOADED or NOT_RUN; for these two,
`body` is the reason in UTF-8. `is_leaving`: the process ends after this answer, as planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from offload.core.outcome import Reason
from offload.errors import FrameError
from offload.tasks.targets.loading import targets_to_json
from offload.wire.frames import STATUSES
from offload.wire.spec import LoadSpec

NOT_LOADED: Final = -1  # the tasks cannot be loaded or a hook failed: the job has not begun
NOT_RUN: Final = -2  # a bug in this package

Call = tuple[bytes, int, int, int, int, str, Sequence[str], bytes | bytearray]
PlainAnswer = tuple[int, int, str, bytes | bytearray, int, str, int, int, bool]


class RemoteAnswer(NamedTuple):
    """A valid answer."""

    number: int
    status: int
    media_type: str
    body: bytes | bytearray
    run_ns: int
    traceback: str
    pid: int
    rss_bytes: int
    is_leaving: bool = False

    @property
    def reason(self) -> Reason | None:
        """How the job ended in the worker; None for NOT_LOADED and NOT_RUN."""
        return STATUSES[self.status] if self.status >= 0 else None


def pack_load(load: LoadSpec, *, is_debug: bool) -> bytes:
    values = {
        "targets": targets_to_json(load.targets),
        "library_threads": load.library_threads,
        "max_body_bytes": load.max_body_bytes,
        "is_debug": is_debug,
    }
    return orjson.dumps(values)


def run_job(call: Call) -> PlainAnswer:
    """Run one job, see `job_runner.run`."""
    from offload.worker.foreign.job_runner import run

    return run(call)


def read_answer(values: object, number: int) -> RemoteAnswer:
    """Returns the answer to job `number`. Raises FrameError for anything else: a task may write to the transport."""
    match values:
        case (
            int(answered),
            int(status),
            str(media_type),
            (bytes() | bytearray()) as body,
            int(run_ns),
            str(trace),
            int(pid),
            int(rss_bytes),
            bool(is_leaving),
        ) if answered == number and NOT_RUN <= status < len(STATUSES):
            return RemoteAnswer(number, status, media_type, body, run_ns, trace, pid, rss_bytes, is_leaving)
    raise FrameError(f"invalid answer to job {number}")
