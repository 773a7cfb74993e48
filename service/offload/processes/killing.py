"""Ending a worker with everything that it started.

Lives here: the one way in which processes of ours are killed.  It decides nothing, blocks for milliseconds and
therefore runs in a thread or in the guard process.  A tree is frozen before it is killed: a stopped process cannot
fork, so when a scan finds nobody new the tree is whole.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from offload.processes.proctree import ProcessInfo, all_processes, descendants, has_mark, read

# A fork bomb may win a few rounds against the scan; each round freezes all that the last one left running.
_MAX_ROUNDS: Final = 20

Victims = Callable[[dict[int, ProcessInfo]], set[int]]


def kill_trees(roots: Mapping[int, int]) -> None:
    """SIGKILL for processes that led their groups, for all of their descendants, and for the groups.

    `roots`: id → `start_ticks` (see `ProcessInfo`), which tells one from another that may have got its id since.
    """
    kill_all(partial(trees, roots))
    for pid, start_ticks in roots.items():
        kill_group(pid, start_ticks)


def trees(roots: Mapping[int, int], processes: dict[int, ProcessInfo]) -> set[int]:
    """Those of `roots`, as in `kill_trees`, that are still there, with all of their descendants."""
    there = {pid for pid, ticks in roots.items() if pid in processes and processes[pid].start_ticks == ticks}
    return there | descendants(there, processes)


def kill_group(pid: int, start_ticks: int) -> None:
    """SIGKILL for what is left of the process group that the process led.

    As long as the group has a member, no new process gets its id (fork(2)); if one has it, the group is not ours.
    """
    info = read(pid)
    if info is None or info.start_ticks == start_ticks:
        _signal_group(pid, signal.SIGKILL)


def kill_strays(mark: bytes, *, known: set[int], keep: set[int], host: int | None = None) -> None:
    """SIGKILL for marked processes that belong to no worker any more.

    `known`: living processes of ours; they and their descendants are spared.  `keep`: spared, but not their children.
    `host`: whatever is its child is spared with its descendants.
    """

    def strays(processes: dict[int, ProcessInfo]) -> set[int]:
        roots = known | {pid for pid, info in processes.items() if info.parent == host}
        ours = roots | keep | descendants(roots, processes)
        return {pid for pid in processes if pid not in ours and has_mark(pid, mark)}

    kill_all(strays)


def kill_all(victims: Victims) -> None:
    """Freezes what `victims` picks from a scan of all processes, until nobody new is picked; then kills it."""
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
    """A signal to one process; nothing happens if it is gone, or has become another user's."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # Nobody of that group is left; macOS says EPERM where only ended ones are left.
        return
