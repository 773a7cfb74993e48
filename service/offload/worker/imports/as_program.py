"""Lets a module be imported as if its file were run as a program: the same arguments and streams in every process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib.machinery import PathFinder
from pathlib import Path

from offload.tasks.targets.loading import Target


def arguments_of(target: Target) -> list[str]:
    """Returns the `sys.argv` of `python FILE` or `python -m MODULE`."""
    return [target.file or _module_file(target)]


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

    For a process that workers are copies of: they redirect the descriptors, and nothing would be copied in a buffer.
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


def _module_file(target: Target) -> str:
    """Returns the file of a module that has not been imported yet; its name if that is unknown."""
    if target.module is None:
        return target.named
    path = [*([] if target.directory is None else [target.directory]), *sys.path]
    spec, name = None, ""
    for part in target.module.split("."):
        name = f"{name}.{part}".lstrip(".")
        try:
            spec = PathFinder.find_spec(name, path)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            return target.module
        path = list(spec.submodule_search_locations or ())
    return (spec.origin if spec is not None else None) or target.module
