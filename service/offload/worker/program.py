"""Makes a worker look to the user's code, and to what that starts, like a program that is run.

Child processes of a task inherit or receive what `multiprocessing` keeps in the process: who is the main process, the
start method, the main module, `sys.argv`, the resource tracker. In a worker that is the service's, and children would
run the service's main module or be named after the worker. Every private name that this needs is used in this file.

Source: `multiprocessing/process.py`, `spawn.py`, `resource_tracker.py` and `concurrent/futures/` of CPython 3.11 to
3.14.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from multiprocessing import forkserver, process, resource_tracker
from types import ModuleType
from typing import Any, Final

from offload.tasks.targets.loading import Target, is_of_main

# A server of `multiprocessing` that the user's modules start at their import, in a process that imports this module
# early, accepts this key only.
_AUTHKEY: Final = multiprocessing.current_process().authkey

# The threads that `concurrent.futures` ends at the end of a process.
_THREADS: Final = (
    ("concurrent.futures.thread", "_threads_queues"),
    ("concurrent.futures.process", "_threads_wakeups"),
)


def become_program(targets: Sequence[Target], *, start_method: str) -> None:
    """Forget the service. Runs in a worker that is isolated, and before the user's code runs there."""
    _become_main_process()
    _forget_tracker()
    if start_method == "spawn":  # the library has set one, and the user's modules may want to
        multiprocessing.set_start_method(None, force=True)
    elif start_method == "fork":
        _forget_threads()
    if not any(is_of_main(target) for target in targets):
        sys.modules["__main__"] = ModuleType("__main__")  # without a file, so children run none
    sys.argv = arguments_of(targets[0])


def arguments_of(target: Target) -> list[str]:
    """Returns the `sys.argv` of `python FILE` or `python -m MODULE`."""
    return [target.file or _module_file(target)]


def waited_for() -> Iterator[int]:
    """Yields the ids of child processes that `multiprocessing` asks for their ends, some of them without an object."""
    for child in vars(process)["_children"]:
        yield child.pid or 0
    yield vars(forkserver)["_forkserver"]._forkserver_pid or 0
    yield vars(resource_tracker)["_resource_tracker"]._pid or 0


def _become_main_process() -> None:
    """Have the name and the identity of a main process, which those of its children are made of, and no parent."""
    worker = multiprocessing.current_process()
    worker.authkey = _AUTHKEY
    vars(worker).update(_identity=(), _name="MainProcess", _parent_pid=None)
    vars(process)["_parent_process"] = None


def _forget_tracker() -> None:
    """Release the service's resource tracker, which would keep the shared memory of a killed worker.

    A task that needs one then starts its own. That unlinks what the worker leaves when the worker has ended.
    """
    tracker: Any = vars(resource_tracker)["_resource_tracker"]
    if tracker._fd is not None:
        os.close(tracker._fd)
    tracker._fd, tracker._pid = None, None


def _forget_threads() -> None:
    """Forget the service's threads, which this process does not have. Waiting for them would fail."""
    threading.main_thread().name = "MainThread"
    for module, threads in _THREADS:
        if module in sys.modules:
            vars(sys.modules[module])[threads].clear()


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
