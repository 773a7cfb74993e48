"""What a child process does before anything else: it stops being a copy of its parent.

Lives here: signals, session, descriptors, output, limits and seeds of a new worker.  Nothing here knows tasks or jobs.
`worker.main` calls `isolate` first thing, before any code of the user's runs.
"""

from __future__ import annotations

import faulthandler
import gc
import io
import os
import random
import resource
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import forkserver, parent_process, resource_tracker
from typing import Any, Final

from offload.worker.prctl import adopt_orphaned_descendants, die_with_parent_thread, outlive_parent_thread

# Asks a worker for the Python stacks of all its threads; faulthandler answers in C, whoever holds the GIL.
DUMP_SIGNAL: Final = signal.SIGUSR2

# Of the range -1000 to 1000: the kernel takes workers first when memory runs out, and the service last.
_OOM_SCORE: Final = 500

# A third of the event loop's share of a core that both want (sched(7)).
_NICE: Final = 5

# Python itself ignores these two so that writing to a closed pipe, or past a file size limit, is an exception.
_IGNORED: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})

# The libraries behind numeric packages each start a thread for every core unless told otherwise.
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
    """One thread for each library call unless the environment says otherwise; 0 leaves all as it is.

    Must run before the libraries are imported: they read these variables once.
    """
    if count:
        for name in THREAD_VARIABLES:
            os.environ.setdefault(name, str(count))


def isolate(*, keep: Iterable[int], output: int, start_method: str) -> None:
    """Makes this process a worker: detached, in a session of its own, its output in the pipe `output`."""
    detach(keep={*keep, output}, start_method=start_method)
    os.setsid()
    _redirect_output(output)
    adopt_orphaned_descendants()
    _raise_oom_score()
    _yield_to_the_loop()


def _yield_to_the_loop() -> None:
    """Less of a core than the event loop, where both want one: then it runs at once, and no worker waits for it.

    Where the kernel groups processes by session (sched(7), autogrouping) a nice value counts within the group only, and
    the group has one of its own.
    """
    os.nice(_NICE)
    with suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as file:  # Linux, and not everywhere
        file.write(str(_NICE))


def detach(*, keep: Iterable[int], start_method: str) -> None:
    """Makes this process nobody's copy.  `keep`: descriptors that stay open beside 0, 1, 2."""
    _reset_signals()
    if start_method != "forkserver":
        # The parent is the service itself.  Under a forkserver it is the forkserver, whose death must not end jobs.
        die_with_parent_thread()  # until `hand_over_to_guard`
    gc.freeze()  # what came from the parent must never be collected: its destructors close descriptors by number
    _forget_forkserver()
    _close_descriptors(set(keep))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def hand_over_to_guard() -> None:
    """The guard knows this worker by now, and will end it together with its descendants.  Dying by itself with the
    service, before the guard has looked, would hide those from it."""
    outlive_parent_thread()


def seed_anew() -> None:
    """Fresh seeds after a fork: copies of one process must not all throw the same dice."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _reset_signals() -> None:
    # A worker forked under a running event loop shares its wake-up descriptor: a signal here would arrive there.
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _forget_forkserver() -> None:
    """Lets go of the service's forkserver: it must end with the service, not with us, and a task that uses
    `multiprocessing` by forkserver gets one of its own."""
    server: Any = forkserver._forkserver  # there is no public way to let go
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    server._forkserver_address = None


def _close_descriptors(keep: set[int]) -> None:
    keep |= {0, 1, 2}
    tracker = vars(resource_tracker._resource_tracker)["_fd"]  # shared by design, has no public name
    if tracker is not None:
        keep.add(tracker)
    parent = parent_process()
    if parent is not None:
        keep.add(parent.sentinel)
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        if descriptor not in keep:
            with suppress(OSError):  # the listing's own descriptor is in the list, and closed by now
                os.close(descriptor)


def _redirect_output(output: int) -> None:
    """stdin reads nothing; stdout and stderr, C code's too, go into the pipe; stack dumps as well, by a descriptor
    of their own, so that a task which closes 1 and 2 does not lose them."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = _text_writer(1)
    sys.stderr = _text_writer(2)
    faulthandler.enable(output)
    faulthandler.register(DUMP_SIGNAL, output, all_threads=True)


def _text_writer(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def _raise_oom_score() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(_OOM_SCORE))
    except OSError:
        # No such file (macOS), or a score above ours was set from outside and may not be lowered: both are fine.
        return
