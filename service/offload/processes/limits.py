"""Limits of the operating system: raises that on file descriptors, and says what to do when one is reached.

Source: getrlimit(2), fork(2), errno(3).
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from offload.errors import SurroundingsError

# Measured: 22 without workers, and 8 for each; a few more while workers start and processes are looked at.
_SERVICE_DESCRIPTORS: Final = 26
_WORKER_DESCRIPTORS: Final = 10
_LEAST_CONNECTIONS: Final = 8
# Large bodies may take an eighth of all descriptors.
_SHARE_OF_BODIES: Final = 8
_OPEN_MAX: Final = 10_240  # the most that macOS grants, whatever the hard limit says

_NO_THREAD: Final = "can't start new thread"  # what `threading` raises, without an error number


def raise_descriptor_limit() -> int:
    """Raise the limit on open files as far as it may be raised. Returns the limit before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    set_descriptor_limit(min(hard, max(soft, _OPEN_MAX)) if sys.platform == "darwin" else hard)
    return soft


def set_descriptor_limit(soft: int) -> None:
    """Set the limit on open files of this process and of what it starts from now on."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        return  # above the limit of the whole system: the one that was set stays


@contextmanager
def descriptors_limited(soft: int | None) -> Iterator[None]:
    """Run the block with this limit on open files; None changes nothing."""
    before = descriptor_limit()
    if soft is not None:
        set_descriptor_limit(soft)
    try:
        yield
    finally:
        if soft is not None:
            set_descriptor_limit(before)


def descriptor_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def explain(error: BaseException, doing: str) -> SurroundingsError | None:
    """Returns the sentence for what the system has refused. None for any other error, which is a bug."""
    if isinstance(error, MemoryError):
        return SurroundingsError(doing, _remedy(errno.ENOMEM, ""))
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return SurroundingsError(doing, _remedy(errno.EAGAIN, ""))
    if not isinstance(error, OSError):
        return None
    text = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        text = f"{text}: {os.fsdecode(error.filename)}"
    return SurroundingsError(doing, _remedy(error.errno or 0, text))


def most_connections(limit: int, *, workers: int, large_bodies: int) -> int:
    """Returns how many connections may be open at once, with this limit on open files.

    The others are kept for the service itself, its workers, and large bodies, which have a descriptor each. Raises
    SurroundingsError if too few are left.
    """
    kept = _SERVICE_DESCRIPTORS + _WORKER_DESCRIPTORS * workers

    def left_of(total: int) -> int:
        return total - kept - min(large_bodies, total // _SHARE_OF_BODIES)

    if left_of(limit) < _LEAST_CONNECTIONS:
        needed = next(total for total in count(limit) if left_of(total) >= _LEAST_CONNECTIONS)
        problem = (
            f"the limit of {limit} open files is too low for {workers} workers; raise it to at least {needed} "
            "with `ulimit -n` or LimitNOFILE=, or use fewer --workers"
        )
        raise SurroundingsError("serve", problem)
    return left_of(limit)


def check_interpreter() -> None:
    """Raise SurroundingsError if this process cannot start others like itself."""
    if not os.access(sys.executable or "", os.X_OK):
        problem = f"this user may not execute the interpreter {sys.executable or '(unknown)'}; use another one"
        raise SurroundingsError("start processes", problem)


@contextmanager
def refusals_explained(doing: str) -> Iterator[None]:
    """Turn what the system refuses in the block into a SurroundingsError."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        refused = explain(error, doing)
        if refused is None:
            raise
        raise refused from error


def _remedy(number: int, text: str) -> str:
    match number:
        case errno.EMFILE:
            return f"too many open files (the limit is {descriptor_limit()}); raise it with `ulimit -n` or LimitNOFILE="
        case errno.ENFILE:
            return "the machine has too many open files; raise fs.file-max"
        case errno.EAGAIN:
            return (
                f"too many processes and threads (the limit of this user is {_shown(resource.RLIMIT_NPROC)}); "
                "raise it with `ulimit -u` or LimitNPROC=, or that of the container or unit with TasksMax="
            )
        case errno.ENOMEM:
            return "not enough memory; use fewer --workers, or raise the limit (`ulimit -v`, MemoryMax=)"
        case errno.ENOSPC | errno.EDQUOT:
            return f"{text}; free some space"
    return text


def _shown(limit: int) -> str:
    soft = resource.getrlimit(limit)[0]
    return "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
