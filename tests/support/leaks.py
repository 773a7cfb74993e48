"""What a test may not leave behind: processes, threads, descriptors, shared memory, asyncio tasks.

Lives here: taking stock of this process and saying what is there that was not there before.  Nothing here knows pytest;
`tests/conftest.py` calls it around every test.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Final

# Stands in the environment of whatever a test starts, so that a process which has lost its parents is known as ours.
MARK_VARIABLE: Final = "PYTEST_LEAK_CHECK"

_PROC: Final = Path("/proc")
_SHARED_MEMORY: Final = Path("/dev/shm")
_SHARED: Final = "shared memory "
# The standard library's own, whatever stands in for it at the time.
_CANCEL_ALL: Final[Callable[[asyncio.AbstractEventLoop], None]] = vars(asyncio.runners)["_cancel_all_tasks"]

# What has been told to end takes a moment to be gone, on a busy machine a long one.
_SETTLE_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.01

Things = Mapping[str, str]  # what it is → what to say of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What this process has at one moment.  `pids` are all of the machine's: only new ones are looked at."""

    pids: frozenset[str]
    threads: Things
    descriptors: Things
    shared_memory: Things

    def left_since(self, before: Stock) -> list[str]:
        """A line for each thing that is there now and was not before."""
        left = {f"process {pid}": what for pid, what in _our_processes(self.pids, before.pids).items()}
        for now, then in (
            (self.threads, before.threads),
            (self.descriptors, before.descriptors),
            (self.shared_memory, before.shared_memory),
        ):
            left.update((thing, what) for thing, what in now.items() if then.get(thing) != what)
        for thing in [thing for thing in left if thing.startswith(_SHARED) and _is_somebody_elses(thing)]:
            del left[thing]
        return [f"{thing}: {what}" for thing, what in left.items()]


def mark_environment() -> None:
    """From here on whatever is started can be recognised, see `MARK_VARIABLE`."""
    os.environ[MARK_VARIABLE] = str(os.getpid())


def take_stock() -> Stock:
    return Stock(
        pids=frozenset(name for name in os.listdir(_PROC) if name.isdecimal()),
        threads={f"thread {thread.ident}": thread.name for thread in threading.enumerate()},
        descriptors=dict(_descriptors()),
        shared_memory={
            **{f"shared memory {name}": "not unlinked" for name in os.listdir(_SHARED_MEMORY)},
            **dict(_mappings()),
        },
    )


def left_since(before: Stock, settle_s: float = _SETTLE_S) -> list[str]:
    """What is left once everything has had the time to go; returns at once when nothing is."""
    left = take_stock().left_since(before)
    end = time.monotonic() + settle_s
    while left and time.monotonic() < end:
        gc.collect()  # what only a reference cycle holds is not left behind
        time.sleep(_LOOK_EVERY_S)
        left = take_stock().left_since(before)
    return left


@contextmanager
def tasks_left_to_runners() -> Iterator[list[str]]:
    """Collects the asyncio tasks that still ran when their loop's runner was closed, which cancels them silently.

    May be nested: a task is collected once, by the innermost that is open when its runner closes.
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
    # tracker, and the arenas from which it takes what `RawArray` and its like ask for.
    tracker = vars(resource_tracker)["_resource_tracker"]._fd
    arena = _arena_prefix()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) != tracker and not target.startswith(arena):
                yield f"descriptor {name}", target


def _mappings() -> Iterator[tuple[str, str]]:
    """What is mapped of shared memory that has no name, or has lost it."""
    arena = _arena_prefix()
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        address, *_, name = line.split(maxsplit=5)
        if name.startswith(("/memfd:", f"{_SHARED_MEMORY}/")) and not name.startswith(arena):
            yield f"mapping {address}", name


def _arena_prefix() -> str:
    return f"{_SHARED_MEMORY}/pym-{os.getpid()}-"


def _is_somebody_elses(thing: str) -> bool:
    """Whether shared memory is in use by a program that is not ours: the whole machine's lies in one place."""
    path = f"{_SHARED_MEMORY}/{thing.removeprefix(_SHARED)}".encode()
    users = set()
    for name in os.listdir(_PROC):
        with suppress(OSError):
            if name.isdecimal() and path in (_PROC / name / "maps").read_bytes():
                users.add(name)
    return bool(users) and str(os.getpid()) not in users and not _our_processes(frozenset(users), frozenset())


def _our_processes(pids: frozenset[str], before: frozenset[str]) -> dict[str, str]:
    """Those of `pids` that are new and ours: they descend from this process, or carry its mark and lost their parents.

    What was there before may have started others meanwhile, as a service does that a fixture of a wider scope holds;
    those are its own.
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
    """The nearest ancestor that is one of `among`; "1" if it has lost all others."""
    while True:
        stat = (_PROC / pid / "stat").read_text(errors="replace")
        pid = stat.rpartition(")")[2].split()[1]
        if pid in among or int(pid) <= 1:
            return pid


def _is_marked(pid: str) -> bool:
    try:
        environment = (_PROC / pid / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # gone, a zombie, or somebody else's
    return f"{MARK_VARIABLE}={os.getpid()}".encode() in environment.split(b"\0")
