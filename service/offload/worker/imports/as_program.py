"""Lets a module be imported as if its file were run as a program: the same arguments and streams in every process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from offload.tasks.targets.loading import Target
from offload.worker.program import arguments_of


@contextmanager
def arguments_of_program(target: Target) -> Iterator[None]:
    """Set `sys.argv` to `arguments_of(target)`."""
    before = sys.argv
    sys.argv = arguments_of(target)
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def plain_streams() -> Iterator[None]:
    """Set the standard streams to new ones without a buffer, which modules may keep.

    For a process that workers are copies of. They redirect the descriptors, and what a buffer holds would be copied.
    """
    before = sys.stdin
    with ExitStack() as stack:
        sys.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # empty, and without a descriptor to close
        stack.callback(setattr, sys, "stdin", before)
        with suppress(OSError):  # closed
            stack.enter_context(redirect_stdout(_unbuffered(1)))
            stack.enter_context(redirect_stderr(_unbuffered(2)))
        yield


def name_of(target: Target) -> str:
    """Returns the target's name in sentences: that of its file or module."""
    return target.module or Path(target.file or target.named).name


def _unbuffered(descriptor: int) -> io.TextIOWrapper:
    os.fstat(descriptor)  # raises OSError if it is closed
    binary = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", write_through=True)
