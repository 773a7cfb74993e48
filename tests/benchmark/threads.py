"""What `/proc` counts for each thread of a process: CPU time and how often it went to sleep.

Lives here: reading, and the difference of two readings.  A thread that waits gives its core away by itself (a voluntary
switch), and is woken for what it waited for: as many wake-ups.

Source: proc_pid_status(5); Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_NS_PER_S: Final = 1e9
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_USER: Final = 11
_SYSTEM: Final = 12  # of the fields that follow the command's name in `stat`


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of one or more threads.  `cpu_s` is exact, `user_s` and `system_s` to a tick of the clock."""

    cpu_s: float = 0.0
    user_s: float = 0.0
    system_s: float = 0.0
    wakeups: int = 0
    preemptions: int = 0

    def __add__(self, other: Self) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in Counts.__slots__})

    def __sub__(self, other: Self) -> Counts:
        return Counts(**{name: getattr(self, name) - getattr(other, name) for name in Counts.__slots__})


def counts(pid: int) -> dict[int, Counts]:
    """By the id of each thread that the process has now."""
    found = {}
    for entry in os.scandir(f"/proc/{pid}/task"):
        try:
            found[int(entry.name)] = _read(Path(entry.path))
        except OSError:
            continue  # it has ended just now
    return found


def since(before: Mapping[int, Counts], after: Mapping[int, Counts]) -> dict[int, Counts]:
    """What each thread did in between; one that is new began with nothing, one that has ended is left out."""
    return {thread: now - before.get(thread, Counts()) for thread, now in after.items()}


def _read(folder: Path) -> Counts:
    fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
    status = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
    return Counts(
        cpu_s=int((folder / "schedstat").read_bytes().split()[0]) / _NS_PER_S,
        user_s=int(fields[_USER]) / _TICKS_PER_S,
        system_s=int(fields[_SYSTEM]) / _TICKS_PER_S,
        wakeups=int(status["voluntary_ctxt_switches"]),
        preemptions=int(status["nonvoluntary_ctxt_switches"]),
    )
