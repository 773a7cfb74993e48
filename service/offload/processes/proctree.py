"""Reads `/proc`: which process descends from which, which are stopped, how much memory they hold.

A scan of all processes takes milliseconds and does not belong on the event loop. Without `/proc` (not Linux) nothing is
found, and callers fall back to process groups.

Source: proc_pid_stat(5), proc_pid_statm(5).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# The longest of the short files is `stat`: 52 numbers, and a name of 64 bytes.
_SHORT_BYTES: Final = 4096
# How often a process that may be loading a program is looked at, and the pause: together 0.1 s, for a slow disk.
_MAX_LOOKS: Final = 50
_LOAD_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process at one moment.

    `state` is a letter: R, S, D, Z (ended, not reaped), T (stopped), t (traced), X. `start_ticks` since boot tells a
    process from a later one with the same id. `rss_bytes` is its resident memory. `has_memory` is false for threads of
    the kernel.
    """

    pid: int
    parent: int
    group: int
    state: str
    start_ticks: int
    rss_bytes: int
    has_memory: bool

    @property
    def is_stopped(self) -> bool:
        return self.state == "T"

    @property
    def is_dead(self) -> bool:
        return self.state in "ZXx"


def read(pid: int) -> ProcessInfo | None:
    """Returns the process with this id, None if it does not exist."""
    data = _content(f"/proc/{pid}/stat")
    if not data:
        return None
    # The second field is the command in parentheses, which may itself contain spaces and parentheses.
    fields = data[data.rindex(b")") + 2 :].split()
    return ProcessInfo(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        state=fields[0].decode("ascii"),
        start_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
        has_memory=fields[20] != b"0",
    )


def all_processes() -> dict[int, ProcessInfo]:
    """Returns every visible process, by id."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    found = (read(int(name)) for name in names if name.isdigit())
    return {info.pid: info for info in found if info is not None}


def descendants(roots: set[int], processes: dict[int, ProcessInfo]) -> set[int]:
    """Returns the ids of all that descend from `roots`, without the roots."""
    children: dict[int, list[int]] = {}
    for info in processes.values():
        children.setdefault(info.parent, []).append(info.pid)
    found: set[int] = set()
    open_ends = list(roots)
    while open_ends:
        for pid in children.get(open_ends.pop(), ()):
            if pid not in found and pid not in roots:
                found.add(pid)
                open_ends.append(pid)
    return found


def rss_bytes(pid: int) -> int:
    """Returns the resident memory in bytes, 0 if the process is gone."""
    fields = _content(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE_BYTES if fields else 0


def last_pid() -> bytes:
    """Returns the newest id on the machine. While it stays the same, a scan finds nothing new."""
    return _content("/proc/loadavg").rpartition(b" ")[2]


def _content(path: str) -> bytes:
    """Read a short file; return nothing if it cannot be read.

    `open` would make three times as many system calls. After each one this thread takes the interpreter's lock again,
    which delays the event loop.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _SHORT_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def has_mark(pid: int, mark: bytes) -> bool:
    """Whether the process was started with `mark` ("NAME=value") in its environment, or forked from one that was.

    A process that is loading another program (execve(2)) shows no environment for a moment; this waits for it.
    """
    for _ in range(_MAX_LOOKS):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read()
        except OSError:
            return False
        if environment or not _may_be_loading(pid):
            return mark in environment.split(b"\0")
        time.sleep(_LOAD_S)
    return False


def _may_be_loading(pid: int) -> bool:
    info = read(pid)
    return info is not None and info.state in "RD" and info.has_memory


def is_tracker(pid: int) -> bool:
    """Whether it is a resource tracker of `multiprocessing` or loky.

    It removes the shared memory and the folders that ended processes have left, and ends after the last of these.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"resource_tracker import main" in file.read()
    except OSError:
        return False
