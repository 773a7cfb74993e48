"""What a running task may ask about itself.

Lives here: the job that this worker process runs, and the number of its lane.  A worker runs one job at a time, so it
is plain state of the process, and threads that the task starts see it too.  (A process of Dask's may run several, in
threads: each of these sees its own.)  `worker` sets it; tasks read it.
"""

from __future__ import annotations

import threading
from typing import NamedTuple


class CurrentJob(NamedTuple):
    """The running job.

    `attempt` counts from 1.  `lane` is the number of this worker's lane, from 0; it stays the same when the worker is
    replaced.  `request_id` and `traceparent` are what the caller sent, empty where there was none.
    """

    id: str
    task: str
    attempt: int
    lane: int
    request_id: str
    traceparent: str


# The fields of a `CurrentJob`, of which one is made when somebody asks.
JobFacts = tuple[str, str, int, int, str, str]


class _ProcessState:
    """One for each process.  `is_shared`: jobs run in several threads of it."""

    __slots__ = ("is_shared", "job", "lane")

    def __init__(self) -> None:
        self.is_shared = False
        self.job: JobFacts | None = None
        self.lane: int | None = None


class _ThreadState(threading.local):
    job: JobFacts | None = None


_state = _ProcessState()
_thread = _ThreadState()


def current_job() -> CurrentJob | None:
    """The job that runs in this process; None outside of a job, so also in tests and in `@on_worker_start`."""
    job = _thread.job or _state.job
    return None if job is None else CurrentJob(*job)


def current_lane() -> int | None:
    """The number of this worker's lane, from 0 to the number of workers and spares - 1, to pick a GPU by, say.

    Known in `@on_worker_start` already; None where there is no worker, as in tests.
    """
    return _state.lane


def set_current(job: JobFacts | None) -> None:
    """For the worker: this job begins; None when it is over."""
    _state.job = job
    if _state.is_shared:
        _thread.job = job


def share_process() -> None:
    """For a worker that is somebody else's, which may run several jobs in threads."""
    _state.is_shared = True


def set_lane(lane: int | None) -> None:
    """For the worker: it works for this lane."""
    _state.lane = lane
