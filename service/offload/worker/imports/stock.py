"""Takes stock of what this process holds, before and after the import of the user's modules."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, process, resource_tracker
from types import FrameType
from typing import Any, Final, TypeAlias

from offload.worker.descriptors import paths_of_descriptors
from offload.worker.imports.descriptor_facts import ReopenedFile, as_reopened, read_descriptor
from offload.worker.imports.holdings import Descriptor, Finding, HeldKind, conflict_of
from offload.worker.imports.seeds import SeedWatch

SignalHandler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None

_CREDENTIALS: Final = struct.Struct("3i")  # process, user and group id: unix(7), SO_PEERCRED
_STANDARD: Final = frozenset({0, 1, 2})


@dataclass(slots=True, kw_only=True)
class Holdings:
    """What the user's modules hold.

    `descriptors`: all that they opened. `files`: those of which each copy needs its own. `signals`: the handlers that
    they installed. `generators`: those that each copy seeds anew.
    """

    findings: list[Finding] = field(default_factory=list)
    descriptors: set[int] = field(default_factory=set)
    generators: list[random.Random] = field(default_factory=list)
    files: list[ReopenedFile] = field(default_factory=list)
    signals: dict[int, SignalHandler] = field(default_factory=dict)


class Stock:
    """What this process holds at one moment. From then on the garbage collector ignores the objects of before."""

    def __init__(self) -> None:
        self._descriptors = paths_of_descriptors()
        self._threads = set(threading.enumerate())
        self._thread_count = _thread_count()
        self._memory = _shared_memory()
        self._signals = signal_handlers()
        gc.freeze()

    def add_to(self, holdings: Holdings, target: str, seeds: SeedWatch) -> None:
        """Add what this process holds now and did not hold then. `seeds` has watched meanwhile."""
        found = [*self._new_descriptors(holdings), *self._new_memory(), *self._new_threads()]
        if seeds.is_common_seeded:
            found.append((HeldKind.SEED, "`random`"))
        found += _objects(holdings, seeds)
        holdings.findings += [Finding(target=target, kind=kind, thing=thing) for kind, thing in found]
        now = signal_handlers()
        holdings.signals.update((number, now[number]) for number in now if now[number] != self._signals.get(number))

    def _new_descriptors(self, holdings: Holdings) -> Iterator[tuple[HeldKind, str]]:
        own = _of_multiprocessing()
        for number, path in paths_of_descriptors().items():
            if path == self._descriptors.get(number) or number in own:
                continue
            with suppress(OSError):  # a thread has just closed it
                descriptor = read_descriptor(number, path)
                holdings.descriptors.add(number)
                found = None if _is_of_own_child(descriptor) else conflict_of(descriptor)
                if found is not None:
                    yield found
                if descriptor.is_reopened:
                    holdings.files.append(as_reopened(descriptor))

    def _new_memory(self) -> Iterator[tuple[HeldKind, str]]:
        open_paths = set(paths_of_descriptors().values())
        for path in set(_shared_memory().values()) - set(self._memory.values()):
            if path not in open_paths:
                yield HeldKind.MEMORY, path

    def _new_threads(self) -> Iterator[tuple[HeldKind, str]]:
        new = [thread for thread in threading.enumerate() if thread not in self._threads]
        for thread in new:
            yield HeldKind.THREAD, f"the thread {thread.name!r}"
        others = _thread_count() - self._thread_count - len(new)
        if others > 0 and others > _threads_of_openblas():
            yield HeldKind.THREAD, f"{others} thread{'s' if others > 1 else ''} of a library"


def files_to_reopen() -> list[ReopenedFile]:
    """Returns all open files of this process that each copy opens again."""
    found = []
    for number, path in paths_of_descriptors().items():
        with suppress(OSError):
            descriptor = read_descriptor(number, path)
            verdict = conflict_of(descriptor)
            is_shared = verdict is None or verdict[0].can_be_shared
            if number not in _STANDARD and descriptor.is_reopened and is_shared:
                found.append(as_reopened(descriptor))
    return found


def _of_multiprocessing() -> set[int]:
    """Returns what the library holds for itself, and handles after a fork: its trackers and the pipes of its processes.

    If the private names have changed, these count as the user's, so each worker imports the modules: slow but right.
    """
    library: Any = forkserver
    found = {
        getattr(getattr(resource_tracker, "_resource_tracker", None), "_fd", None),
        getattr(getattr(library, "_forkserver", None), "_forkserver_alive_fd", None),
    }
    for child in process.active_children():
        finalizer = getattr(getattr(child, "_popen", None), "finalizer", None)
        found.update((child.sentinel, *(getattr(finalizer, "_args", None) or ())))
    return {number for number in found if isinstance(number, int)}


def _is_of_own_child(descriptor: Descriptor) -> bool:
    """Whether it is a connection to a process of the library, such as a manager; each copy makes its own."""
    if descriptor.kind is None or not hasattr(socket, "SO_PEERCRED"):
        return False
    children = {child.pid for child in process.active_children()}
    with socket.socket(fileno=os.dup(descriptor.number)) as sock, suppress(OSError):
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return _CREDENTIALS.unpack(credentials)[0] in children
    return False


def _thread_count() -> int:
    """Returns the number of this process's threads, also of libraries in C."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _threads_of_openblas() -> int:
    """Returns the number of threads of NumPy's library for linear algebra, which it starts anew after a fork."""
    import ctypes

    count = 0
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        paths = {line.split(maxsplit=5)[-1].strip() for line in file if "openblas" in line}
        for library in [ctypes.CDLL(path) for path in paths]:
            for prefix, suffix in itertools.product(("", "scipy_"), ("", "64_")):
                ask = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
                count += 0 if ask is None else ask() - 1
    return count


def _shared_memory() -> dict[str, str]:
    """Returns memory that forked copies would share and that can be written: address range → path."""
    found = {}
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            addresses, permissions, _, _, _, *path = line.split(maxsplit=5)
            if permissions[1] == "w" and permissions[3] == "s":
                found[addresses] = path[0].strip() if path else "no file"
    return found


def signal_handlers() -> dict[int, SignalHandler]:
    """Returns the handler of each signal; None for one that was not set by Python code."""
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def _objects(holdings: Holdings, seeds: SeedWatch) -> Iterator[tuple[HeldKind, str]]:
    """Yields what only objects show."""
    numpy_random: Any = sys.modules.get("numpy.random")
    bit_generator: Any = getattr(numpy_random, "BitGenerator", ())
    common = getattr(numpy_random, "get_bit_generator", lambda: None)()
    tempfile: Any = sys.modules.get("tempfile")
    directory: Any = getattr(tempfile, "TemporaryDirectory", ())
    name_sequence: Any = getattr(tempfile, "_RandomNameSequence", ())  # has a generator, and a new one after a fork
    wanted = (random.Random, directory, name_sequence, bit_generator)
    objects = _instances(wanted)
    exempt = {id(vars(sequence).get("_rng")) for sequence in objects if isinstance(sequence, name_sequence)}
    for value in objects:
        if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
            if seeds.is_unseeded(value):
                holdings.generators.append(value)
            elif id(value) not in exempt:
                yield HeldKind.GENERATOR, "random.Random"
        elif isinstance(value, directory):
            if os.path.isdir(value.name):
                yield HeldKind.DIRECTORY, str(value.name)
        elif isinstance(value, bit_generator) and value is not common:
            yield HeldKind.GENERATOR, "numpy.random"
    if common is not None and getattr(common, "seed_seq", None) is None:  # as long as it has one, it has no seed
        yield HeldKind.SEED, "`numpy.random`"


def _instances(classes: Iterable[Any]) -> list[Any]:
    """Returns the objects of these classes that are younger than the last `gc.freeze`."""
    wanted = tuple(cls for cls in classes if cls != ())
    is_wanted: dict[type, bool] = {}
    found = []
    for value in gc.get_objects():
        cls = type(value)
        if is_wanted.get(cls) is None:
            is_wanted[cls] = issubclass(cls, wanted)
        if is_wanted[cls]:
            found.append(value)
    return found
