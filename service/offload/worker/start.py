"""What a process does before its first job: it loads the user's tasks and calls their hooks.

Lives here: the way from a `LoadSpec` to an `Executor`, and the guard against a task that forks and lets the child
return.  `main` and `remote` call it, in the worker.
"""

from __future__ import annotations

import os
import sys

from offload.errors import OffloadError
from offload.tasks.context import set_lane
from offload.tasks.faults import exception_message, exception_name
from offload.tasks.loading import Registry
from offload.wire.spec import LoadSpec
from offload.worker.execution import Executor
from offload.worker.isolation import limit_library_threads, seed_anew
from offload.worker.preload import load_targets


class StartFailed(OffloadError):
    """This worker cannot take jobs; the text says why."""


def get_ready(load: LoadSpec, *, lane: int, is_debug: bool) -> Executor:
    """Everything that happens before the first job.  The user's code runs here for the first time.

    Raises StartFailed.
    """
    sys.set_int_max_str_digits(0)  # whole numbers of any length arrive whole; the job's limits are the limit
    limit_library_threads(load.library_threads)
    set_lane(lane)
    try:
        registry = load_targets(load.targets)
        seed_anew()
        _run_hooks(registry)
        return Executor(registry, lane=lane, is_debug=is_debug)
    except StartFailed:
        raise
    except OffloadError as error:
        raise StartFailed(str(error)) from error


def end_if_copy(owner: int) -> None:
    """A task may fork and let the child return to here; it must not answer in its parent's name."""
    if os.getpid() != owner:
        os._exit(0)


def _run_hooks(registry: Registry) -> None:
    owner = os.getpid()
    for hook in registry.hooks:
        try:
            hook()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            told = f"{exception_name(error)}: {exception_message(error)}"
            raise StartFailed(f"@on_worker_start {getattr(hook, '__qualname__', hook)!s} raised {told}") from error
        finally:
            end_if_copy(owner)
