"""One job in a process of a cluster's: what Dask and Ray are asked to call at the other end.

Lives here: the few functions that are called there by name, so this package must be installed there.  What goes in and
out is numbers, text and bytes.  `hosted` does the job; here is what a process of a cluster needs besides: it may be
asked for several jobs at once, in threads; it may be another process than the one that is meant; and a job that it has
not begun can be taken back.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from typing import Final

from offload.worker.hosted import prepare
from offload.worker.hosted import run as run_job
from offload.worker.remote import PlainAnswer
from offload.worker.start import StartFailed

# Most that were taken back never come here; the scheduler has dropped them before so many others were.
_MAX_WITHDRAWN: Final = 10_000

# Token, process id, and why the tasks cannot be loaded, empty where they are.
LoadResult = tuple[str, int, str]


class _Process:
    """One for each process.  The lock is of this process alone, and dies with it."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self.lock = threading.Lock()
        self.loads: dict[str, bytes] = {}
        self.begun: set[str] = set()
        self.withdrawn: dict[str, None] = {}


_process: Final = _Process()


def load_tasks(name: str, load: bytes, lane: int) -> LoadResult:
    """Loads the tasks, which are called `name` from then on, and calls their hooks, once in each process."""
    with _process.lock:
        try:
            prepare(load, lane)
        except StartFailed as failure:
            return _process.token, os.getpid(), str(failure) or "nobody can tell why"
        _process.loads[name] = load
    return _process.token, os.getpid(), ""


def run_pinned(token: str, name: str, job: str, *call: object) -> PlainAnswer | None:
    """Runs one job, `call` without its load, of the tasks `name`.  None: it was not begun, and never will.

    `token` is that of the greeting, for the job was given to that process and to no other; `job` names it among those
    of all services.
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
    """True: the job has not begun here, and never will."""
    with _process.lock:
        if token != _process.token or job in _process.begun:
            return False
        _process.withdrawn[job] = None
        if len(_process.withdrawn) > _MAX_WITHDRAWN:
            del _process.withdrawn[next(iter(_process.withdrawn))]
        return True


def run_anywhere(load: bytes, *call: object) -> PlainAnswer:
    """Runs one job, `call` without its load, in whichever process this is, the only job in it.

    Ray has SIGTERM raise SystemExit in the main thread, which is where its tasks run: who asked this process to end
    would end the job instead, as if the task had raised that.
    """
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        return run_job((load, *call))  # type: ignore[arg-type]  # the rest of a Call
    finally:
        signal.signal(signal.SIGTERM, before)
