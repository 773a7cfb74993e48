"""The running job and the lane of this worker, for tasks to read.

A worker runs one job at a time, so both are plain state of the process, visible to threads that the task starts. A
Dask worker may run several jobs in threads; each of those threads sees its own job.
"""

from __future__ import annotations

import threading
from typing import NamedTuple


class CurrentJob(NamedTuple):
    """The running job.

    `attempt` counts from 1. `lane` is the number of this worker's lane, from 0; it stays the same when the worker is
    replaced. `request_id` and `traceparent` come from the caller and may be empty.
    """

    id: str
    task: str
    attempt: int
    lane: int
    request_id: str
    traceparent: str


# The fields of a `CurrentJob`, which is made only when a task asks for it.
JobFacts = tuple[str, str, int, int, str, str]


class _ProcessState:
    """State of this process. `is_shared`: several jobs may run at once, in threads."""

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
    """Returns the running job, or None outside a job, as in tests and in `@on_worker_start`."""
    job = _thread.job or _state.job
    return None if job is None else CurrentJob(*job)


def current_lane() -> int | None:
    """Returns the number of this worker's lane, from 0 to workers + spares - 1; use it to select a GPU, for example.

    It is known in `@on_worker_start`. None outside a worker, as in tests.
    """
    return _state.lane


def set_current(job: JobFacts | None) -> None:
    """Set the running job; None when it has finished. Called by the worker."""
    _state.job = job
    if _state.is_shared:
        _thread.job = job


def share_process() -> None:
    """Allow several jobs at once, in threads, as in a cluster's worker. Called by the worker."""
    _state.is_shared = True


def set_lane(lane: int | None) -> None:
    """Set the lane of this worker. Called by the worker."""
    _state.lane = lane
