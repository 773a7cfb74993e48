"""A small process that outlives the service by a moment, to end what it left behind.

Its stdin is a pipe from the service, which tells it the ids of workers; when the pipe ends, however the service ended,
it kills them with all their descendants, and every process that carries the service's mark in its environment (a worker
that was being born, a grandchild that had left its group).  `guard_handle` starts it, in a bare interpreter that
imports nothing but this package's few files on processes.
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

# A process that was being forked while we looked is found by the next look; nothing of ours may be left after 2 s.
_LOOKS: Final = 8
_PAUSE_S: Final = 0.1


def main(mark: str) -> None:
    """Listens until stdin ends, then kills.  `mark` is "NAME=value"."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever stops the whole group means the service, and we end with it
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
    def ours(processes: dict[int, ProcessInfo]) -> set[int]:
        marked = {pid for pid in processes if pid != os.getpid() and has_mark(pid, mark)}
        return trees(watched, processes) | marked

    def ours_but_trackers(processes: dict[int, ProcessInfo]) -> set[int]:
        return {pid for pid in ours(processes) if not is_tracker(pid)}

    for look in range(_LOOKS):
        # What the others leave in shared memory is unlinked by resource trackers, which end when they have done that.
        kill_all(ours_but_trackers if look < _LOOKS // 2 else ours)
        alive = {pid: info for pid, info in all_processes().items() if not info.is_dead}
        if not ours(alive):
            return
        time.sleep(_PAUSE_S)
