"""Find what a test leaves behind: processes, threads, descriptors, shared memory, asyncio tasks.

`tests/conftest.py` takes stock before and after every test and every module.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Final

from offload.metrics.arena import NAME as ARENA_NAME

# Set in the environment of everything a test starts, so that a process that has lost its parents is recognised.
MARK_VARIABLE: Final = "PYTEST_LEAK_CHECK"

_PROC: Final = Path("/proc")
_SHARED_MEMORY: Final = Path("/dev/shm")
# The standard library's own function, whatever replaces it at the time.
_CANCEL_ALL: Final[Callable[[asyncio.AbstractEventLoop], None]] = vars(asyncio.runners)["_cancel_all_tasks"]

# On a busy machine it takes a while until what has been asked to end is gone.
_SETTLE_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 0.2

Things = Mapping[str, str]  # what it is → what to report


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What this process has at one moment.

    `pids` and `memory_names` (None: not looked at) are the whole machine's; of these only new ones are examined.
    """

    pids: frozenset[str]
    threads: Things
    descriptors: Things
    mappings: Things
    memory_names: frozenset[str] | None

    def left_since(self, before: Stock) -> list[str]:
        """Return a line for each thing that exists now and did not before."""
        left = {f"process {pid}": what for pid, what in _our_processes(self.pids, before.pids).items()}
        for now, then in (
            (self.threads, before.threads),
            (self.descriptors, before.descriptors),
            (self.mappings, before.mappings),
        ):
            left.update((thing, what) for thing, what in now.items() if then.get(thing) != what)
        if self.memory_names and before.memory_names is not None:
            names = _our_memory(self.memory_names - before.memory_names)
            left.update((f"shared memory {name}", "not unlinked") for name in names)
        return [f"{thing}: {what}" for thing, what in left.items()]


def mark_environment() -> None:
    """Make everything that is started from here on recognisable, see `MARK_VARIABLE`."""
    os.environ[MARK_VARIABLE] = str(os.getpid())


def take_stock(*, with_memory_names: bool = True) -> Stock:
    return Stock(
        pids=frozenset(name for name in os.listdir(_PROC) if name.isdecimal()),
        threads={f"thread {thread.ident}": thread.name for thread in threading.enumerate()},
        descriptors=dict(_descriptors()),
        mappings=dict(_mappings()),
        memory_names=memory_names() if with_memory_names else None,
    )


def left_since(before: Stock, settle_s: float = _SETTLE_S) -> list[str]:
    """Return what is left after up to `settle_s` seconds; at once when nothing is."""
    with_memory_names = before.memory_names is not None
    left = take_stock(with_memory_names=with_memory_names).left_since(before)
    end = time.monotonic() + settle_s
    pause_s = 0.01
    while left and time.monotonic() < end:
        gc.collect()  # what only a reference cycle holds is not left behind
        multiprocessing.active_children()  # forgets processes that have ended, which it keeps until it is asked
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        left = take_stock(with_memory_names=with_memory_names).left_since(before)
    return left


@contextmanager
def tasks_left_to_runners() -> Iterator[list[str]]:
    """Collect the asyncio tasks that still ran when their loop's runner was closed, which cancels them silently.

    May be nested: the innermost one that is open when a runner closes collects its tasks.
    """
    left: list[str] = []
    outer = vars(asyncio.runners)["_cancel_all_tasks"]

    def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        left.extend(f"asyncio task {task.get_name()}: {task.get_coro()}" for task in asyncio.all_tasks(loop))
        _CANCEL_ALL(loop)

    vars(asyncio.runners)["_cancel_all_tasks"] = note_and_cancel
    try:
        yield left
    finally:
        vars(asyncio.runners)["_cancel_all_tasks"] = outer


def _descriptors() -> Iterator[tuple[str, str]]:
    # Two singletons of the standard library live as long as this process: the pipe to multiprocessing's resource
    # tracker, and the arenas from which it takes what `RawArray` and its like ask for. Those of the metrics live as
    # long as the metrics, which a traceback in a captured log may hold.
    tracker = vars(resource_tracker)["_resource_tracker"]._fd
    arena = _arena_prefixes()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) != tracker and not target.startswith(arena):
                yield f"descriptor {name}", target


def _mappings() -> Iterator[tuple[str, str]]:
    """Yield the mappings of shared memory, with a name or without."""
    arena = _arena_prefixes()
    shared = ("/memfd:", f"{_SHARED_MEMORY}/")
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    if not any(name in maps for name in shared):  # spares most tests the time to split a thousand lines
        return
    for line in maps.splitlines():
        address, *_, name = line.split(maxsplit=5)
        if name.startswith(shared) and not name.startswith(arena):
            yield f"mapping {address}", name


def _arena_prefixes() -> tuple[str, ...]:
    return f"{_SHARED_MEMORY}/pym-{os.getpid()}-", f"/memfd:{ARENA_NAME}"


def _our_memory(names: frozenset[str]) -> list[str]:
    """Return those of the names in `/dev/shm` that this process or its processes have mapped."""
    users = _users_of(names)
    us = str(os.getpid())
    ours = {us, *_our_processes(frozenset[str]().union(*users.values()), frozenset([us]))}
    return [name for name, pids in users.items() if pids & ours]


def unused_memory_since(before: frozenset[str], settle_s: float) -> list[str]:
    """Return the names in `/dev/shm` that are new and that no process has mapped, after up to `settle_s` seconds.

    Nothing tells who made such a name, and all pytest workers share the folder: so this is for the end of a session.
    """
    left = memory_names() - before
    end = time.monotonic() + settle_s
    while True:
        # Only those of the first look: what appears later is another program's, for the session has ended.
        left = frozenset(name for name, pids in _users_of(left & memory_names()).items() if not pids)
        if not left or time.monotonic() >= end:
            return sorted(left)
        time.sleep(_LONGEST_PAUSE_S)


def memory_names() -> frozenset[str]:
    return frozenset(os.listdir(_SHARED_MEMORY))


def _users_of(names: frozenset[str]) -> dict[str, set[str]]:
    """Return the ids of the processes that have mapped each of the names."""
    users: dict[str, set[str]] = {name: set() for name in names}
    for pid in os.listdir(_PROC) if names else ():
        with suppress(OSError):
            mapped = (_PROC / pid / "maps").read_bytes() if pid.isdecimal() else b""
            for name in names if b"/dev/shm/" in mapped else ():
                if f"{_SHARED_MEMORY}/{name}".encode() in mapped:
                    users[name].add(pid)
    return users


def _our_processes(pids: frozenset[str], before: frozenset[str]) -> dict[str, str]:
    """Return the new ones of `pids` that descend from this process, or carry its mark and have lost their parents.

    What earlier processes start is theirs: a service of a wider fixture starts workers during a test.
    """
    # The other half of the resource tracker.  It ends when this process does.
    tracker = str(vars(resource_tracker)["_resource_tracker"]._pid)
    ours = {}
    for pid in pids - before - {tracker}:
        try:
            owner = _first_ancestor(pid, before)
            if owner == str(os.getpid()) or (_is_marked(pid) and not _is_marked(owner)):
                command = (_PROC / pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                ours[pid] = command.strip() or "a zombie: nobody has waited for it"
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone by now
    return ours


def _first_ancestor(pid: str, among: frozenset[str]) -> str:
    """Return the nearest ancestor in `among`; "1" if all others have ended."""
    while True:
        stat = (_PROC / pid / "stat").read_text(errors="replace")
        pid = stat.rpartition(")")[2].split()[1]
        if pid in among or int(pid) <= 1:
            return pid


def _is_marked(pid: str) -> bool:
    try:
        environment = (_PROC / pid / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # gone, a zombie, or another user's
    return f"{MARK_VARIABLE}={os.getpid()}".encode() in environment.split(b"\0")
