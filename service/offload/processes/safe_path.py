"""Starts the interpreters of `multiprocessing` without the working directory on their path.

The library starts them with `python -c …`, which searches the working directory first: a file named `random.py` there
would run in place of the standard library's module. The option `-P` (PYTHONSAFEPATH) leaves the directory out. The
environment variable would be simpler, but what the user's tasks start would inherit it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import process, resource_tracker, util
from typing import Final

SAFE_PATH_FLAG: Final = "-P"

# The library's function is replaced for the whole process. Held for milliseconds.
_lock: Final = threading.Lock()


@contextmanager
def safe_path() -> Iterator[None]:
    """Within the block, `multiprocessing` starts processes that do not search the working directory. Not reentrant."""
    with _lock:
        library = vars(util)
        flags = library["_args_from_interpreter_flags"]
        library["_args_from_interpreter_flags"] = lambda: [*flags(), SAFE_PATH_FLAG]
        try:
            yield
        finally:
            library["_args_from_interpreter_flags"] = flags


def start_tracker() -> None:
    """Start the resource tracker of `multiprocessing` unless it is running."""
    with safe_path():
        resource_tracker.ensure_running()


def code_on_path(code: str) -> str:
    """Returns code for `python -P -c` that finds the modules that this process finds, then runs `code`."""
    entries = [entry or vars(process)["ORIGINAL_DIR"] for entry in sys.path]
    path = [entry for entry in entries if isinstance(entry, str)]
    return f"import sys; sys.path[:] = {path!r}; {code}"
