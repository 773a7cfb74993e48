"""Prepares a process for jobs: loads the user's tasks, calls their hooks and makes an `Executor`.

Also ends a forked child that returns from a task.
"""

from __future__ import annotations

import os
import sys

from offload.errors import OffloadError
from offload.tasks.context import set_lane
from offload.tasks.faults import exception_message, exception_name
from offload.tasks.targets.loading import Registry
from offload.wire.spec import LoadSpec
from offload.worker.execution import Executor
from offload.worker.imports.preload import load_targets
from offload.worker.isolation import limit_library_threads


class StartFailed(OffloadError):
    """This worker cannot run jobs; the text gives the reason."""


def get_ready(load: LoadSpec, *, lane: int, is_debug: bool) -> Executor:
    """Load the tasks and call their hooks; the user's code runs here for the first time. Raises StartFailed."""
    sys.set_int_max_str_digits(0)  # integers may have any length; only the job's limits apply
    limit_library_threads(load.library_threads)
    set_lane(lane)
    try:
        registry = load_targets(load.targets)
        _run_hooks(registry)
        return Executor(registry, lane=lane, is_debug=is_debug, max_body_bytes=load.max_body_bytes)
    except StartFailed:
        raise
    except OffloadError as error:
        raise StartFailed(str(error)) from error


def end_if_copy(owner: int) -> None:
    """End this process if a task forked it and returned in the child, which must not answer for its parent."""
    if os.getpid() != owner:
        os._exit(0)


def _run_hooks(registry: Registry) -> None:
    owner = os.getpid()
    for hook in registry.hooks:
        try:
            hook()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            raised = f"{exception_name(error)}: {exception_message(error)}"
            raise StartFailed(f"@on_worker_start {getattr(hook, '__qualname__', hook)!s} raised {raised}") from error
        finally:
            end_if_copy(owner)
