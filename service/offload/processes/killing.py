"""Kills a worker with everything that it started.

This blocks for milliseconds, so it runs in a thread or in the guard process. A tree is frozen before it is killed: a
stopped process cannot fork, so the tree is complete when a scan finds nothing new.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from offload.processes.proctree import ProcessInfo, all_processes, descendants, has_mark, read

# A fork bomb may outrun a few scans; each round freezes all that the last one left running.
_MAX_ROUNDS: Final = 20

Victims = Callable[[dict[int, ProcessInfo]], set[int]]


def kill_trees(roots: Mapping[int, int]) -> None:
    """Send SIGKILL to group leaders, to all of their descendants, and to the groups.

    `roots`: id → `start_ticks` (see `ProcessInfo`), which tells a process from a later one with the same id.
    """
    kill_all(partial(trees, roots))
    for pid, start_ticks in roots.items():
        kill_group(pid, start_ticks)


def trees(roots: Mapping[int, int], processes: dict[int, ProcessInfo]) -> set[int]:
    """Returns those of `roots` (as in `kill_trees`) that still exist, with all of their descendants."""
    alive = {pid for pid, ticks in roots.items() if pid in processes and processes[pid].start_ticks == ticks}
    return alive | descendants(alive, processes)


def kill_group(pid: int, start_ticks: int) -> None:
    """Send SIGKILL to what is left of the process group that the process led.

    While the group has a member, no new process gets its id (fork(2)); if one has it, the group is another.
    """
    info = read(pid)
    if info is None or info.start_ticks == start_ticks:
        _signal_group(pid, signal.SIGKILL)


def kill_strays(mark: bytes, *, known: set[int], keep: set[int], spared_parent: int | None = None) -> None:
    """Send SIGKILL to marked processes that no longer belong to a worker.

    `known`: spared with their descendants. `keep`: spared without their descendants. `spared_parent`: its children are
    spared with their descendants.
    """

    def strays(processes: dict[int, ProcessInfo]) -> set[int]:
        roots = known | {pid for pid, info in processes.items() if info.parent == spared_parent}
        spared = roots | keep | descendants(roots, processes)
        return {pid for pid in processes if pid not in spared and has_mark(pid, mark)}

    kill_all(strays)


def kill_all(victims: Victims) -> None:
    """Freeze what `victims` picks from a scan of all processes until it picks nothing new, then kill it."""
    frozen: set[int] = set()
    for _ in range(_MAX_ROUNDS):
        processes = all_processes()
        new = {pid for pid in victims(processes) - frozen if pid in processes and not processes[pid].is_dead}
        if not new:
            break
        for pid in new:
            send_signal(pid, signal.SIGSTOP)
        frozen |= new
    for pid in frozen:
        send_signal(pid, signal.SIGKILL)


def send_signal(pid: int, number: int) -> None:
    """Send a signal to one process; nothing happens if it is gone or belongs to another user."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # The group is empty; macOS reports EPERM if only zombies are left.
        return
