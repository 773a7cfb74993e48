"""A `multiprocessing` context that starts the service's workers for a pool or an executor of the standard library.

It makes queues and locks as usual, but gets each process from the service, already started.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from multiprocessing.context import BaseContext, ForkContext, ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Final

from offload.settings.table import StartMethod

_CONTEXTS: Final[dict[StartMethod, type[BaseContext]]] = {
    StartMethod.FORK: ForkContext,
    StartMethod.SPAWN: SpawnContext,
    StartMethod.FORKSERVER: ForkServerContext,
}


class StartPermit:
    """Allows one pool or executor to start workers for `slots`, until it is revoked."""

    def __init__(self, slots: frozenset[int]) -> None:
        self.slots = slots
        self.is_revoked = False


class StartedProcess:
    """What the library gets in place of `process`, which has been started.

    Attributes that the library sets stay here (a pool makes its processes daemons, which may not have children). The
    `sentinel` becomes readable when the process ends; that of `process` may be a pipe, which the worker has closed with
    everything else that it inherited.
    """

    daemon = True

    def __init__(self, process: BaseProcess) -> None:
        assert process.pid is not None
        self.name = process.name
        self._process = process
        try:
            self.sentinel = os.pidfd_open(process.pid)
            weakref.finalize(self, os.close, self.sentinel)
        except OSError:  # it has ended, or no descriptor is left
            self.sentinel = process.sentinel

    def start(self) -> None:
        """Do nothing: the process is running."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)


class NoProcess:
    """Placeholder used when no process could be started."""

    name = ""
    daemon = True
    exitcode = None

    def start(self) -> None:
        """Do nothing."""


def make_context(start_method: StartMethod, start_process: Callable[..., StartedProcess]) -> BaseContext:
    """Returns a context that calls `start_process` as the library calls `multiprocessing.Process`."""
    context = _CONTEXTS[start_method]()
    vars(context)["Process"] = start_process
    return context


def check_semaphores() -> None:
    """Make a semaphore, as the queues of a pool do. Raises OSError with the place if the system has none.

    Source: sem_overview(7).
    """
    try:
        SpawnContext().Lock()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "/dev/shm, for the semaphores of this engine") from error
