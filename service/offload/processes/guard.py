"""The guard process: it outlives the service by a moment, and kills what the service left behind.

Its stdin is a pipe from the service, which announces the ids of workers. When the pipe ends, however the service ended,
the guard kills these workers with all their descendants, and every process that has the service's mark in its
environment (a worker that was being started, a grandchild that had left its group). `guard_handle` is the service's
side; it starts the guard in a bare interpreter, which imports only the few files of this package that it needs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Final

from offload.processes.killing import kill_all, trees
from offload.processes.proctree import ProcessInfo, all_processes, has_mark, is_tracker, read

# A process that is forked during a scan is found by the next one. Nothing may be left after 2 s.
_LOOKS: Final = 8
_PAUSE_S: Final = 0.1


def main(mark: str) -> None:
    """Read stdin to its end, then kill. `mark` is "NAME=value"."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a signal to the group means the service
    watched: dict[int, int] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        info = read(pid) if line[0] == "+" else None
        if info is not None:
            watched[pid] = info.start_ticks
        else:
            watched.pop(pid, None)
    _end_all(watched, mark.encode("ascii"))


def _end_all(watched: Mapping[int, int], mark: bytes) -> None:
    def left(processes: dict[int, ProcessInfo]) -> set[int]:
        marked = {pid for pid in processes if pid != os.getpid() and has_mark(pid, mark)}
        return trees(watched, processes) | marked

    def left_but_trackers(processes: dict[int, ProcessInfo]) -> set[int]:
        return {pid for pid in left(processes) if not is_tracker(pid)}

    for look in range(_LOOKS):
        # Resource trackers unlink the shared memory that the others leave, and then end by themselves.
        kill_all(left_but_trackers if look < _LOOKS // 2 else left)
        alive = {pid: info for pid, info in all_processes().items() if not info.is_dead}
        if not left(alive):
            return
        time.sleep(_PAUSE_S)
