"""A `multiprocessing` context whose processes are workers of ours.

Lives here: what a pool or an executor of the standard library is given instead of its own way of making processes.  It
makes queues and locks as ever, and asks the crew for each process.  What it gets looks like one, and runs already.
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
    """What one pool or executor hires: for which lanes, and whether it still may."""

    def __init__(self, slots: frozenset[int]) -> None:
        self.slots = slots
        self.is_revoked = False


class StartedProcess:
    """Stands for `process`, which has been started, in the library's hands.

    Whatever the library calls it, or wants it to be (a pool wants daemons, which may have no children), stays here.
    Its `sentinel` becomes readable when it ends: that of `process` may be a pipe, which the worker has closed with all
    else that it inherited.
    """

    daemon = True

    def __init__(self, process: BaseProcess) -> None:
        assert process.pid is not None
        self.name = process.name
        self._process = process
        try:
            self.sentinel = os.pidfd_open(process.pid)
            weakref.finalize(self, os.close, self.sentinel)
        except OSError:  # it has ended
            self.sentinel = process.sentinel

    def start(self) -> None:
        """It runs."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)


class NoProcess:
    """Stands for a process that was not to be had, where the library cannot do without."""

    name = ""
    daemon = True
    exitcode = None

    def start(self) -> None:
        """It never will."""


def make_context(start_method: StartMethod, start_process: Callable[..., StartedProcess]) -> BaseContext:
    """`hire` is called as `multiprocessing.Process` is."""
    context = _CONTEXTS[start_method]()
    vars(context)["Process"] = start_process
    return context
