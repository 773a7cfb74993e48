"""What `/proc` says about a tree of processes: who belongs to it, and how much CPU time it has used.

Lives here: reading only.  The scenarios ask before and after a load; `children` asks what a stopped server has left
behind.  Linux only.

Source: proc_pid_stat(5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_NS_PER_S: Final = 1e9

# Of the fields that follow the command's name; the manual page counts from 1, and two fields stand before these.
_STATE: Final = 0
_PARENT: Final = 1
_OWN_CPU: Final = slice(11, 13)  # utime, stime
_CHILDREN_CPU: Final = slice(13, 15)  # cutime, cstime
_START: Final = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process at one moment.  `start_ticks` since boot tells it from a later one with the same id.

    `own_cpu_ticks` is what it has used itself, `children_cpu_ticks` what its ended children had, as far as it has
    waited for them.
    """

    pid: int
    parent: int
    is_ended: bool
    start_ticks: int
    own_cpu_ticks: int
    children_cpu_ticks: int


def read(pid: int) -> Process | None:
    """One process; None if there is none of that id."""
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command in parentheses, and may itself hold spaces and parentheses.
    fields = data[data.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[_PARENT]),
        is_ended=fields[_STATE] in (b"Z", b"X"),
        start_ticks=int(fields[_START]),
        own_cpu_ticks=sum(map(int, fields[_OWN_CPU])),
        children_cpu_ticks=sum(map(int, fields[_CHILDREN_CPU])),
    )


def is_running(process: Process) -> bool:
    """Whether it still runs; one that has ended and that nobody has waited for does not."""
    now = read(process.pid)
    return now is not None and not now.is_ended and now.start_ticks == process.start_ticks


def is_resource_tracker(process: Process) -> bool:
    """Whether it is the process that `multiprocessing` keeps to clean up after the others."""
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return False


def tree(root: int) -> list[Process]:
    """The process `root` and all that descend from it."""
    found = (read(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    processes = {process.pid: process for process in found if process is not None}
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    members, open_ends = [], [root]
    while open_ends:
        pid = open_ends.pop()
        if pid in processes:
            members.append(processes[pid])
            open_ends += children.get(pid, ())
    return members


def cpu_s(root: int) -> float:
    """CPU time of the whole tree so far, seconds.

    It never goes back as long as the tree's processes wait for their children.
    """
    return sum(map(process_cpu_s, tree(root)))


def process_cpu_s(process: Process) -> float:
    """What the process and its ended children have used, seconds.

    A tick is 10 ms as a rule, too coarse for few jobs; the scheduler's own count, in nanoseconds, knows nothing of
    threads that have ended.  Neither is ever more than the truth.
    """
    own_s = max(process.own_cpu_ticks / _TICKS_PER_S, _scheduled_s(process.pid))
    return own_s + process.children_cpu_ticks / _TICKS_PER_S


def _scheduled_s(pid: int) -> float:
    """CPU time of the threads that a process has now; 0 where the kernel does not count it.

    Source: Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`.
    """
    try:
        threads = [Path(entry.path, "schedstat").read_bytes() for entry in os.scandir(f"/proc/{pid}/task")]
    except OSError:
        return 0.0
    return sum(int(thread.split()[0]) for thread in threads) / _NS_PER_S
