"""Kills a worker with everything that it started.

This blocks for milliseconds, so it runs in a thread or in the guard process. A tree is frozen before it is killed: a
stopped process cannot fork, so the tree is complete when a scan finds nothing new.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Final

from offload.processes.proctree import ProcessInfo, all_processes, descendants, has_mark, is_tracker, read

# A fork bomb may outrun a few scans; each round freezes all that the last one left running.
_MAX_ROUNDS: Final = 20

Victims = Callable[[dict[int, ProcessInfo]], set[int]]


def kill_trees(roots: Mapping[int, int]) -> None:
    """Send SIGKILL to group leaders, to all of their descendants, and to the groups; but spare resource trackers.

    `roots`: id → `start_ticks` (see `ProcessInfo`), which tells a process from a later one with the same id. Trackers
    remove the shared memory that the others leave, and then end by themselves.
    """
    tracked: set[int] = set()

    def victims(processes: dict[int, ProcessInfo]) -> set[int]:
        found = trees(roots, processes) | _members(roots, processes)
        trackers = {pid for pid in found if is_tracker(pid)}
        tracked.update(processes[pid].group for pid in trackers)
        return found - trackers

    kill_all(victims)
    for pid in roots.keys() - tracked:
        if _is_group_of(pid, roots[pid], read(pid)):
            _signal_group(pid, signal.SIGKILL)


def trees(roots: Mapping[int, int], processes: dict[int, ProcessInfo]) -> set[int]:
    """Returns those of `roots` (as in `kill_trees`) that still exist, with all of their descendants."""
    alive = {pid for pid, ticks in roots.items() if pid in processes and processes[pid].start_ticks == ticks}
    return alive | descendants(alive, processes)


def _members(roots: Mapping[int, int], processes: dict[int, ProcessInfo]) -> set[int]:
    """Returns the members of the groups that the processes lead or led."""
    groups = {pid for pid, ticks in roots.items() if _is_group_of(pid, ticks, processes.get(pid))}
    return {pid for pid, info in processes.items() if info.group in groups}


def _is_group_of(pid: int, start_ticks: int, info: ProcessInfo | None) -> bool:
    """Returns whether the group `pid` is that of the process; `info` is what has this id now.

    While the group has a member, no new process gets its id (fork(2)); if one has it, the group is another.
    """
    return info is None or info.start_ticks == start_ticks


def kill_group(pid: int, start_ticks: int) -> None:
    """Kill as `kill_trees` does what is left of the process group that an ended process led."""
    if _signal_group(pid, 0):
        kill_trees({pid: start_ticks})


def kill_strays(mark: bytes, *, known: set[int], keep: set[int], spared_parent: int | None = None) -> None:
    """Send SIGKILL to marked processes that no longer belong to a worker, except resource trackers.

    `known`: spared with their descendants. `keep`: spared without their descendants. `spared_parent`: its children are
    spared with their descendants.
    """

    def strays(processes: dict[int, ProcessInfo]) -> set[int]:
        roots = known | {pid for pid, info in processes.items() if info.parent == spared_parent}
        spared = roots | keep | descendants(roots, processes)
        return {pid for pid in processes if pid not in spared and has_mark(pid, mark) and not is_tracker(pid)}

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


def _signal_group(pid: int, number: int) -> bool:
    """Send a signal to a process group. Returns whether it has members."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # The group is empty; macOS reports EPERM if only zombies are left.
        return False
    return True
