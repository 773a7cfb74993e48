"""The functions that Dask and Ray call by name in a cluster's process, so this package must be installed there.

Arguments and results are numbers, text and bytes. `job_runner` runs the job. This module adds what a cluster's process
needs: several jobs at once in threads, jobs for another process, and jobs that are withdrawn before they begin.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from typing import Final

from offload.worker.foreign.job_runner import prepare
from offload.worker.foreign.job_runner import run as run_job
from offload.worker.foreign.remote import PlainAnswer
from offload.worker.start import StartFailed

# Most withdrawn jobs never arrive: Dask's scheduler drops them. So old entries are forgotten.
_MAX_WITHDRAWN: Final = 10_000

# Token, process id, and the reason why the tasks cannot be loaded, or "".
LoadResult = tuple[str, int, str]


class _Process:
    """State of this process. The lock is not shared with other processes."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self.lock = threading.Lock()
        self.loads: dict[str, bytes] = {}
        self.begun: set[str] = set()
        self.withdrawn: dict[str, None] = {}


_process: Final = _Process()


def load_tasks(name: str, load: bytes, lane: int) -> LoadResult:
    """Load the tasks under the name `name` and call their hooks, once in each process."""
    with _process.lock:
        try:
            prepare(load, lane)
        except StartFailed as failure:
            return _process.token, os.getpid(), str(failure) or "unknown reason"
        _process.loads[name] = load
    return _process.token, os.getpid(), ""


def run_pinned(token: str, name: str, job: str, *call: object) -> PlainAnswer | None:
    """Run one job of the tasks `name`. Returns None if it has not begun and never will.

    `token` is the one that `load_tasks` returned: no other process may run the job. `job` is unique among the jobs of
    all services. `call` is a `remote.Call` without its load.
    """
    with _process.lock:
        if token != _process.token or name not in _process.loads or job in _process.withdrawn:
            _process.withdrawn.pop(job, None)
            return None
        _process.begun.add(job)
    try:
        return run_job((_process.loads[name], *call))  # type: ignore[arg-type]  # the rest of a Call
    finally:
        with _process.lock:
            _process.begun.discard(job)


def withdraw_pinned(token: str, job: str) -> bool:
    """Withdraw a job. Returns True if it has not begun here and never will."""
    with _process.lock:
        if token != _process.token or job in _process.begun:
            return False
        _process.withdrawn[job] = None
        if len(_process.withdrawn) > _MAX_WITHDRAWN:
            del _process.withdrawn[next(iter(_process.withdrawn))]
        return True


def run_anywhere(load: bytes, *call: object) -> PlainAnswer:
    """Run one job in any process, as its only job. `call` is a `remote.Call` without its load.

    Ray makes SIGTERM raise SystemExit in the main thread, where its tasks run. SIGTERM would then end only the job, as
    if the task had raised SystemExit. So the default action is restored while the job runs.
    """
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        return run_job((load, *call))  # type: ignore[arg-type]  # the rest of a Call
    finally:
        signal.signal(signal.SIGTERM, before)
