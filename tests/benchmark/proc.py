"""Reads from `/proc` which processes a tree has, and their CPU time and memory. Linux only.

Sources: proc_pid_stat(5); Documentation/scheduler/sched-stats.rst; Documentation/filesystems/proc.rst, `smaps_rollup`
and `meminfo`.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_NS_PER_S: Final = 1e9
_KIB: Final = 1024
_PEAK_POLL_S: Final = 0.005

# Indexes of the fields after the command's name; the manual page counts from 1, and two fields come before these.
_STATE: Final = 0
_PARENT: Final = 1
_OWN_CPU: Final = slice(11, 13)  # utime, stime
_CHILDREN_CPU: Final = slice(13, 15)  # cutime, cstime
_START: Final = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process at one moment. `start_ticks` since boot tells it from a later one with the same id.

    `children_cpu_ticks` is what ended children used, if the process has waited for them.
    """

    pid: int
    parent: int
    has_ended: bool
    start_ticks: int
    own_cpu_ticks: int
    children_cpu_ticks: int


def read(pid: int) -> Process | None:
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command in parentheses, and may itself hold spaces and parentheses.
    fields = data[data.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[_PARENT]),
        has_ended=fields[_STATE] in (b"Z", b"X"),
        start_ticks=int(fields[_START]),
        own_cpu_ticks=sum(map(int, fields[_OWN_CPU])),
        children_cpu_ticks=sum(map(int, fields[_CHILDREN_CPU])),
    )


def is_running(process: Process) -> bool:
    """Whether it still runs; a zombie does not."""
    now = read(process.pid)
    return now is not None and not now.has_ended and now.start_ticks == process.start_ticks


def is_resource_tracker(process: Process) -> bool:
    """Whether it is the process with which `multiprocessing` cleans up after the others."""
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return False


def tree(root: int) -> list[Process]:
    """The process `root` and its descendants."""
    found = (read(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    processes = {process.pid: process for process in found if process is not None}
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    members, open_pids = [], [root]
    while open_pids:
        pid = open_pids.pop()
        if pid in processes:
            members.append(processes[pid])
            open_pids += children.get(pid, ())
    return members


def cpu_s(root: int) -> float:
    """CPU time of the tree so far, seconds. Never decreases if its processes wait for their children."""
    return sum(map(process_cpu_s, tree(root)))


def process_cpu_s(process: Process) -> float:
    """CPU time of the process and its ended children, seconds.

    A tick, usually 10 ms, is too coarse for few jobs; the scheduler's count in nanoseconds lacks threads that have
    ended. Neither exceeds the truth.
    """
    own_s = max(process.own_cpu_ticks / _TICKS_PER_S, _scheduled_s(process.pid))
    return own_s + process.children_cpu_ticks / _TICKS_PER_S


def _scheduled_s(pid: int) -> float:
    """CPU time of the threads that the process has now; 0 if the kernel does not count it."""
    try:
        threads = [Path(entry.path, "schedstat").read_bytes() for entry in os.scandir(f"/proc/{pid}/task")]
    except OSError:
        return 0.0
    return sum(int(thread.split()[0]) for thread in threads) / _NS_PER_S


def pss_bytes(root: int) -> int:
    """Memory of the tree. PSS divides each page by the number of processes that map it."""
    return sum(_smaps_rollup(process.pid).get("Pss", 0) for process in tree(root))


def read_sizes(text: str) -> dict[str, int]:
    """Bytes by name, from lines like `Pss:  123 kB`; other lines are skipped."""
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB":
            sizes[name] = int(words[0]) * _KIB
    return sizes


class Peak:
    """The peak memory of a tree inside this context, above what it held before.

    Shared memory that no process maps at the moment is in no PSS, so shared memory is that of the whole machine.
    """

    def __init__(self, root: int) -> None:
        self._pids = [process.pid for process in tree(root)]
        self._idle_bytes = self._peak_bytes = self._held_bytes()
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._has_ended.set()
        self._thread.join()

    @property
    def above_idle_bytes(self) -> int:
        return self._peak_bytes - self._idle_bytes

    def _watch(self) -> None:
        while not self._has_ended.wait(_PEAK_POLL_S):
            self._peak_bytes = max(self._peak_bytes, self._held_bytes())

    def _held_bytes(self) -> int:
        sizes = map(_smaps_rollup, self._pids)
        private = sum(size.get("Pss", 0) - size.get("Pss_Shmem", 0) for size in sizes)
        return private + read_sizes(Path("/proc/meminfo").read_text(encoding="ascii"))["Shmem"]


def _smaps_rollup(pid: int) -> dict[str, int]:
    """Empty for a process that has ended or belongs to another user."""
    try:
        return read_sizes(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
    except OSError:
        return {}
