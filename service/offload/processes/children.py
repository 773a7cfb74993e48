"""`multiprocessing` processes with a limit on open files, whose exit code several threads may ask for.

The library polls all children whenever it starts one, and its pools poll theirs. Of two threads that poll an ended
process at once, the library's `Popen` lets one see no exit code: waitpid(2) hands it out once.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from multiprocessing import popen_fork, popen_spawn_posix
from multiprocessing.context import ForkProcess, SpawnProcess
from multiprocessing.process import BaseProcess

from offload.processes.limits import set_descriptor_limit


class LimitedProcess(BaseProcess):
    """Sets its limit on open files before it runs anything: the service has raised its own."""

    descriptor_limit: int | None = None

    def run(self) -> None:
        if self.descriptor_limit is not None:
            set_descriptor_limit(self.descriptor_limit)
        super().run()


class SpawnedProcess(LimitedProcess, SpawnProcess):
    _start_method = None  # type: ignore[assignment]  # None, as of `Process`: the child has Python's default

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _SpawnPopen:  # noqa: N802  # the name is the library's
        return _SpawnPopen(process_obj)


class ForkedProcess(LimitedProcess, ForkProcess):
    _start_method = None  # type: ignore[assignment]  # as above

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _ForkPopen:  # noqa: N802  # the name is the library's
        return _ForkPopen(process_obj)


class _LockedPoll(popen_fork.Popen):
    """Polls under a lock, which is held for microseconds: a blocking poll waits before it takes the lock."""

    def __init__(self, process_obj: BaseProcess) -> None:
        self._lock = threading.Lock()
        super().__init__(process_obj)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if flag != os.WNOHANG and hasattr(os, "waitid"):
            with suppress(ChildProcessError):  # another thread has reaped it
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            return super().poll(flag)


class _SpawnPopen(_LockedPoll, popen_spawn_posix.Popen):
    pass


class _ForkPopen(_LockedPoll):
    pass
