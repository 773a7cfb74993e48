"""The executor engine: a `concurrent.futures.Executor`, the standard library's or another.

Lives here: the `ProcessPoolExecutor` as a host.  A death breaks the whole of such an executor and fails every job in
it, so each worker has an executor of its own.  With `--executor` it is somebody else's, see `foreign`.  All that we use
of the library's inner side stands in this file.

Source: `concurrent/futures/process.py` of CPython 3.11 to 3.14.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import _threads_wakeups
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Final, Unpack

from offload.core.death import Death
from offload.engines.base import Capabilities, EngineParts, ServedEngine
from offload.engines.foreign import ForeignEngine, Lost
from offload.engines.local.engine import LOCAL_CAPABILITIES, LocalEngine
from offload.engines.local.replaceable_pool import Tell
from offload.engines.local.worker import LocalWorkerEnd
from offload.errors import TargetError
from offload.tasks.faults import exception_message, exception_name
from offload.tasks.importing import import_module
from offload.worker.remote import Call, run_job

_MAX_NOTE: Final = 300

CAPABILITIES: Final = LOCAL_CAPABILITIES


# Of an executor that somebody else makes nothing is known, and so nothing can be promised.
FACTORY_CAPABILITIES: Final = Capabilities()


class FuturesKind:
    """Implements `PoolKind`: an executor of one worker for each lane."""

    name: Final = "executor"
    capabilities: Final = CAPABILITIES

    def slots_per_pool(self, workers: int) -> int:
        return 1

    def make(self, workers: int, context: BaseContext, give_up: Callable[[], None]) -> FuturesPool:
        return FuturesPool(workers, context)

    def survives(self, end: LocalWorkerEnd) -> bool:
        return False


def executor_engine(**parts: Unpack[EngineParts]) -> ServedEngine:
    """Raises TargetError for a factory that cannot be imported."""
    factory = parts["settings"].executor
    if factory:
        return ForeignEngine(FactoryBackend(factory), parts)
    return LocalEngine(kind=FuturesKind(), **parts)


class FuturesPool:
    """Implements `WorkerPool`."""

    def __init__(self, workers: int, context: BaseContext) -> None:
        self._executor = ProcessPoolExecutor(workers, mp_context=context)
        inner: Any = self._executor  # the stubs know nothing of its inside
        self._result_queue = inner._result_queue
        self._call_queue = inner._call_queue
        self._executor.submit(int)  # starts the process here, and not on the event loop with the first job
        self._manager = inner._executor_manager_thread
        _threads_wakeups.pop(self._manager)  # at exit it would be waited for, whatever it waits for itself

    def submit(self, call: Call, tell: Tell) -> None:
        self._executor.submit(run_job, call).add_done_callback(partial(_told, tell))

    def forget(self, number: int) -> None:
        """The executor fails what a dead worker had."""

    def leave(self) -> None:
        self._executor.shutdown(wait=False)

    def end(self, timeout_s: float) -> bool:
        """Its thread sees that no process is left; if it waits for the rest of an answer, that comes to an end, too."""
        self._result_queue._writer.close()
        self._executor.shutdown(wait=False)
        self._manager.join(timeout_s)
        if self._manager.is_alive():
            return False
        self._call_queue.close()
        self._result_queue.close()
        return True


class FactoryBackend:
    """Implements `Backend`: an executor of somebody else's, made anew when it broke."""

    name: Final = "executor"
    capabilities: Final = FACTORY_CAPABILITIES

    def __init__(self, factory: str) -> None:
        """Raises TargetError for a factory that cannot be imported."""
        name, _, function = factory.partition(":")
        module = import_module(name, str(Path.cwd()), named=factory)
        self._name = factory
        self._factory = getattr(module, function, None)
        if not callable(self._factory):
            raise TargetError(factory, "there is no such function in the module")
        self._executor: Executor | None = None

    def open(self, workers: int) -> None:
        try:
            self._executor = self._factory(workers)  # type: ignore[misc]  # it was callable
        except Exception as error:  # whatever the user's function raises
            told = f"{exception_name(error)}: {exception_message(error)}"
            raise TargetError(self._name, f"no executor could be made: {told}") from error

    def submit(self, call: Call, tell: Tell) -> Future[object]:
        if self._executor is None:
            raise BrokenExecutor("it is being replaced")
        future: Future[Any] = self._executor.submit(run_job, call)
        future.add_done_callback(partial(_told, tell))
        return future

    def stop(self, handle: Future[object]) -> None:
        handle.cancel()  # which helps only as long as it has not begun

    def lost(self, error: BaseException) -> Lost:
        note = f"{type(error).__name__}: {error}"
        is_broken = isinstance(error, (BrokenExecutor, RuntimeError))
        return Lost(death=Death(note=note[:_MAX_NOTE]), begun=True, is_broken=is_broken)

    def close(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def _told(tell: Tell, future: Future[object]) -> None:
    """Raises nothing, which would tie the future to its exception and keep what both hold."""
    if future.cancelled():
        tell(CancelledError())
    else:
        tell(future.exception() or future.result())
