"""Reaps the child processes of a worker that have ended and that nothing else reaps.

A worker adopts the orphans of what its jobs start. An orphan that has ended stays in the kernel's table until its
parent asks for its exit code, and so does a child that a task has forked and forgotten. The exit code of a process
whose `subprocess.Popen` or `multiprocessing` object exists is left alone: the task asks for it.

Source: wait(2), waitid with WNOWAIT; proc(5), /proc/pid/task/tid/children.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from offload.worker.program import waited_for

_HAS_ENDED: Final = 0x4 | 0x1 | 0x01000000  # WEXITED | WNOHANG | WNOWAIT: does not reap
_P_ALL: Final = 0

# A search for the owners of processes looks at every object. It may take this share of the time: one in twenty.
_SHARE: Final = 20


class Orphans:
    """Made when the worker is ready. What runs then belongs to the user's start-up functions, and is left alone."""

    def __init__(self) -> None:
        self._owned = frozenset(_children())
        self._next_at = 0.0
        # Half the cost of `os.waitid`, which raises an exception if there are no children, as after most jobs.
        self._waitid = ctypes.CDLL(None).waitid if sys.platform == "linux" else None

    def reap(self) -> None:
        """Reap what has ended, between two jobs."""
        if self._waitid is None or self._waitid(_P_ALL, 0, None, _HAS_ENDED) < 0 or time.monotonic() < self._next_at:
            return
        with suppress(ChildProcessError):
            if os.waitid(os.P_ALL, 0, _HAS_ENDED) is None:
                return
        ended = [pid for pid in _children() if pid not in self._owned and _has_ended(pid)]
        if not ended:
            return
        began = time.monotonic()
        owned = {*waited_for(), *_pids_of_objects()}
        for pid in ended:
            if pid not in owned:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        now = time.monotonic()
        self._next_at = now + _SHARE * (now - began)


def _children() -> list[int]:
    """Returns the children of this process, running or ended; none if the kernel does not list them."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError), open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def _has_ended(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, _HAS_ENDED) is not None
    return False


def _pids_of_objects() -> Iterator[int]:
    """Yields the ids of processes that Python objects stand for.

    `subprocess` keeps the objects that were dropped while their process ran; it expects that others reap these.
    """
    subprocess = sys.modules.get("subprocess")
    popen_fork = sys.modules.get("multiprocessing.popen_fork")
    kinds: list[Any] = [module.Popen for module in (subprocess, popen_fork) if module is not None]
    dropped = set(map(id, getattr(subprocess, "_active", None) or ()))
    for thing in gc.get_objects():
        if issubclass(type(thing), tuple(kinds)) and id(thing) not in dropped:
            yield getattr(thing, "pid", 0)
