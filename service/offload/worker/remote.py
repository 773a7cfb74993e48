"""One job for a worker process that is not of our making: a pool's, an executor's, a cluster's.

Lives here: `run_job`, which such a process is asked to call, and what goes in and out.  Both are tuples of numbers,
text and bytes, whatever carries them: never an object of the user's, never an exception.  The service imports this
module; what runs there, and what that needs, is imported in the worker, see `job_runner`.

    call      load, number, task_index, attempt, lane, job id, head (the strings of a `JobHead`), body
    answer    number, status, media_type, body, run_ns, traceback, pid, rss_bytes

`load` is the JSON of `pack_load`, `status` an index into `frames.STATUSES`, or NOT_LOADED or NOT_RUN, then `body` says
why in UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from offload.core.outcome import Reason
from offload.errors import FrameError
from offload.tasks.loading import targets_to_json
from offload.wire.frames import STATUSES
from offload.wire.spec import LoadSpec

NOT_LOADED: Final = -1  # the tasks cannot be loaded, or a hook failed: nothing of the job has begun
NOT_RUN: Final = -2  # a fault of ours

Call = tuple[bytes, int, int, int, int, str, Sequence[str], bytes | bytearray]
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


def pack_load(load: LoadSpec, *, is_debug: bool) -> bytes:
    values = {"targets": targets_to_json(load.targets), "library_threads": load.library_threads, "is_debug": is_debug}
    return orjson.dumps(values)


def run_job(call: Call) -> PlainAnswer:
    """See `job_runner.run`."""
    from offload.worker.job_runner import run

    return run(call)


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
