"""Isolates a new worker from its parent: signals, session, descriptors, output, limits and random seeds.

It runs before any of the user's code.
"""

from __future__ import annotations

import fcntl
import gc
import os
import random
import signal
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import forkserver, parent_process, resource_tracker
from typing import Any, Final

from offload.worker.descriptors import is_locked
from offload.worker.dumps import write_dumps_to
from offload.worker.finishing import forget_exit_functions, leave_alone
from offload.worker.prctl import adopt_orphaned_descendants, die_with_parent_thread, outlive_parent_thread
from offload.worker.state.resource_limits import forbid_core_files
from offload.worker.state.streams import StandardStreams

# In the range -1000 to 1000: when memory runs out, the kernel kills workers before the service.
_OOM_SCORE: Final = 500

# Gives a worker a third of the event loop's share of a contended core (sched(7)).
_NICE: Final = 5

# Python ignores these two, so writing to a closed pipe or past a file size limit raises an exception.
_IGNORED: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})

# By default, each numeric library starts a thread for every core.
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def limit_library_threads(count: int) -> None:
    """Set the threads of numeric libraries to `count` unless the environment sets them; 0 changes nothing.

    Must run before the libraries are imported: they read these variables once.
    """
    if count:
        for name in THREAD_VARIABLES:
            os.environ.setdefault(name, str(count))


def isolate(*, keep: Iterable[int], output: int, start_method: str) -> StandardStreams:
    """Make this process a worker: detached, in its own session, with its output in the pipe `output`.

    Stack dumps use `output` itself, so they work after a task closes 1 and 2.
    """
    detach(keep={*keep, output}, start_method=start_method)
    os.setsid()
    streams = StandardStreams(output)
    write_dumps_to(output)
    adopt_orphaned_descendants()
    _raise_oom_score()
    _yield_to_the_loop()
    return streams


def _yield_to_the_loop() -> None:
    """Lower the priority below the event loop's, so that the loop runs at once and workers do not wait for it.

    If the kernel groups processes by session (sched(7), autogrouping), a nice value counts only within the group, and
    the group has its own nice value.
    """
    os.nice(_NICE)
    with (
        suppress(OSError),
        open("/proc/self/autogroup", "w", encoding="ascii") as file,
    ):  # not on every kernel
        file.write(str(_NICE))


def detach(*, keep: Iterable[int], start_method: str) -> None:
    """Undo what this process inherited. `keep`: descriptors that stay open besides 0, 1 and 2."""
    _reset_signals()
    if start_method != "forkserver":
        # Here the parent is the service. Under forkserver it is the forkserver, whose death must not end jobs.
        die_with_parent_thread()  # until `hand_over_to_guard`
    gc.freeze()  # never collect the parent's objects: their destructors close descriptors by number
    _forget_forkserver()
    if start_method != "spawn":
        forget_exit_functions()
    _close_descriptors(set(keep), is_forked=start_method == "fork")
    forbid_core_files()


def hand_over_to_guard() -> None:
    """Leave the end of this process to the guard, which now knows this worker and kills it with its descendants.

    If the worker died with the service before the guard looks, the guard could not find the descendants.
    """
    outlive_parent_thread()


def seed_anew() -> None:
    """Seed the random generators: forked copies of one process would otherwise draw the same numbers."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _reset_signals() -> None:
    # A worker forked from a running event loop shares its wake-up descriptor: a signal here would wake the loop.
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _forget_forkserver() -> None:
    """Release the service's forkserver, which must end with the service, not with this worker.

    A task that uses `multiprocessing` with forkserver then starts its own.
    """
    server: Any = forkserver._forkserver  # multiprocessing has no public way to release it
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    server._forkserver_address = server._forkserver_pid = None


def _close_descriptors(keep: set[int], *, is_forked: bool) -> None:
    keep |= {0, 1, 2}
    tracker = vars(resource_tracker._resource_tracker)["_fd"]  # shared by design; has no public name
    if tracker is not None:
        keep.add(tracker)
    parent = parent_process()
    if parent is not None:
        keep.add(parent.sentinel)
    inherited = [descriptor for name in os.listdir("/dev/fd") if (descriptor := int(name)) not in keep]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) if is_forked else None
    for descriptor in inherited:
        with suppress(OSError):  # the list includes its own descriptor, which is closed or has become `null`
            if null is not None and _is_users_file(descriptor):
                leave_alone([descriptor])
            else:
                _drop(descriptor, null)


def _is_users_file(descriptor: int) -> bool:
    """Whether a fork of the service keeps this file, which the user's modules or the application may have opened.

    They cannot be told apart. The service itself opens files for reading and writing, or locks them.
    """
    if stat.S_IFMT(os.fstat(descriptor).st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR):
        return False
    return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR and not is_locked(descriptor)


def _drop(descriptor: int, null: int | None) -> None:
    """Close a descriptor of the service; leave `null` at its number, unless it is a socket.

    libuv closes a pipe of its own by number in every forked child. If the number were free in this worker, it would hit
    what a task opens: in the child processes of a `multiprocessing.Pool`, the pool's pipe. Sockets need not keep their
    numbers, and there may be many: one for each connection of a client.
    """
    if null is None or stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
    elif descriptor != null:
        os.dup2(null, descriptor, inheritable=False)


def _raise_oom_score() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(_OOM_SCORE))
    except OSError:
        # No such file (macOS), or a higher score was set from outside and may not be lowered: both are fine.
        return
