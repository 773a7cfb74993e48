"""Ends what the user's code has begun, in processes that `multiprocessing` ends with `os._exit`.

Functions registered with `atexit` run, and what files have buffered is written, as at the end of a program.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import io
import os
import stat
import threading
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import util
from typing import Final

_STANDARD: Final = frozenset({0, 1, 2})


# Files of the application that this process was forked from. What they have buffered is the application's to write.
_left_alone: Final[set[int]] = set()


def leave_alone(descriptors: Iterable[int]) -> None:
    """Never write what is buffered for these files."""
    _left_alone.update(descriptors)


def take_over(descriptors: Iterable[int]) -> None:
    """Write what is buffered for these files after all: the user's modules opened them."""
    _left_alone.difference_update(descriptors)


def forget_exit_functions() -> None:
    """Forget the exit functions of the process that this one is a copy of: it runs them itself.

    That of `multiprocessing` stays. It does not end the parent's processes, but those that this process starts.
    """
    vars(atexit)["_clear"]()
    atexit.register(vars(util)["_exit_function"])


def finish() -> None:
    """Run the exit functions in the reverse order, as the interpreter does at its end, and write what is buffered."""
    vars(atexit)["_run_exitfuncs"]()
    if _has_written_file():
        gc.unfreeze()  # or the files of the loaded modules would not be found
        flush_files()


def finish_within(timeout_s: float) -> None:
    """Call `finish` in a thread, and wait for it for at most `timeout_s`."""
    thread = threading.Thread(target=finish, name="offload-finish", daemon=True)
    thread.start()
    thread.join(timeout_s)


def flush_files() -> None:
    """Write what is buffered in files, as far as the garbage collector tracks them: files opened since `gc.freeze`."""
    for value in gc.get_objects():
        if issubclass(type(value), (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with suppress(Exception):  # closed, detached, on a full disk, or a class of the user
                if value.fileno() not in _STANDARD | _left_alone and value.writable():
                    value.flush()


def _has_written_file() -> bool:
    """Whether a regular file is open that can be written: the search for its object takes milliseconds."""
    try:
        names = os.listdir("/dev/fd")
    except OSError:  # no descriptor is left for the listing
        return True
    for name in names:
        with suppress(OSError):  # the listing's own descriptor is closed by now
            number = int(name)
            is_file = number not in _STANDARD | _left_alone and stat.S_ISREG(os.fstat(number).st_mode)
            if is_file and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                return True
    return False
