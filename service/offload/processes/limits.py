"""Limits of the operating system: raises that on file descriptors, and says what to do when one is reached.

Source: getrlimit(2), fork(2), errno(3).
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from offload.errors import SurroundingsError

_NO_THREAD: Final = "can't start new thread"  # what `threading` raises, without an error number


def raise_descriptor_limit() -> int:
    """Raise the limit on open files as far as it may be raised. Returns the limit before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    set_descriptor_limit(hard)
    return soft


def set_descriptor_limit(soft: int) -> None:
    """Set the limit on open files of this process and of what it starts from now on."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        return  # macOS refuses a limit above OPEN_MAX; the one that was set stays


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
