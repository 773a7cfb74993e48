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

# Of the fields that follow the command's name; the manual page counts from 1, and two fields stand before these.
_STATE: Final = 0
_PARENT: Final = 1
_CPU: Final = slice(11, 15)  # utime, stime, cutime, cstime
_START: Final = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process at one moment.  `start_ticks` since boot tells it from a later one with the same id.

    `cpu_ticks` is what it has used itself, and what its ended children had, as far as it has waited for them.
    """

    pid: int
    parent: int
    is_ended: bool
    start_ticks: int
    cpu_ticks: int


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
        cpu_ticks=sum(map(int, fields[_CPU])),
    )


def is_running(process: Process) -> bool:
    """Whether it still runs; one that has ended and that nobody has waited for does not."""
    now = read(process.pid)
    return now is not None and not now.is_ended and now.start_ticks == process.start_ticks


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
    """CPU time of the whole tree so far, seconds, exact to a tick (10 ms as a rule) for each process.

    It never goes back as long as the tree's processes wait for their children.
    """
    return sum(process.cpu_ticks for process in tree(root)) / _TICKS_PER_S
