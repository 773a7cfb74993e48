"""What `/proc` says about the memory of a tree of processes, with pages that several share counted once.

Lives here: reading, and a thread that looks again and again for the peak.  PSS divides each page by the number of
processes that map it.  Shared memory that nobody maps at the moment is in no process's PSS, so that a peak takes shared
memory from the whole machine's count instead.

Source: Documentation/filesystems/proc.rst, `smaps_rollup` and `meminfo`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final, Self

from tests.benchmark import cpu

_KIB: Final = 1024
_PAUSE_S: Final = 0.005


def pss_bytes(root: int) -> int:
    """PSS of the whole tree."""
    return sum(_rollup(process.pid).get("Pss", 0) for process in cpu.tree(root))


def read_sizes(text: str) -> dict[str, int]:
    """Bytes by name, of lines like `Pss:  123 kB`; other lines are left out."""
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB":
            sizes[name] = int(words[0]) * _KIB
    return sizes


class Peak:
    """The most that a tree of processes held while this context was entered, above what it held before."""

    def __init__(self, root: int) -> None:
        self._pids = [process.pid for process in cpu.tree(root)]
        self._idle_bytes = self._held_bytes()
        self._most_bytes = self._idle_bytes
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def above_idle_bytes(self) -> int:
        return self._most_bytes - self._idle_bytes

    def _look(self) -> None:
        while not self._is_over.wait(_PAUSE_S):
            self._most_bytes = max(self._most_bytes, self._held_bytes())

    def _held_bytes(self) -> int:
        private = 0
        for pid in self._pids:
            sizes = _rollup(pid)
            private += sizes.get("Pss", 0) - sizes.get("Pss_Shmem", 0)
        return private + read_sizes(Path("/proc/meminfo").read_text(encoding="ascii"))["Shmem"]


def _rollup(pid: int) -> dict[str, int]:
    """Nothing for a process that has ended, or is another user's."""
    try:
        return read_sizes(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
    except OSError:
        return {}
