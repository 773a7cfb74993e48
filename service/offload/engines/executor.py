"""The engine `executor`: a `concurrent.futures.Executor`, the standard library's or another.

A death breaks a whole `ProcessPoolExecutor` and fails every job in it, so each worker has an executor of its own. With
`--executor` it is another library's: see `foreign`. Every private name of `concurrent.futures` is used in this file.

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
from offload.engines.foreign import ForeignEngine, WorkerLoss
from offload.engines.local.engine import LOCAL_CAPABILITIES, LocalEngine
from offload.engines.local.replaceable_pool import OnResult
from offload.engines.local.worker import LocalWorkerEnd
from offload.errors import TargetError
from offload.tasks.faults import exception_message, exception_name
from offload.tasks.targets.importing import import_module
from offload.worker.foreign.remote import Call, run_job

_MAX_NOTE: Final = 300

CAPABILITIES: Final = LOCAL_CAPABILITIES


# Nothing is known about another library's executor, so nothing is promised.
FACTORY_CAPABILITIES: Final = Capabilities()


class FuturesKind:
    """Implements `PoolKind`: one executor with one worker for each slot."""

    name: Final = "executor"
    capabilities: Final = CAPABILITIES

    def slots_per_pool(self, workers: int) -> int:
        return 1

    def make(self, workers: int, context: BaseContext, give_up: Callable[[], None]) -> FuturesPool:
        return FuturesPool(workers, context)

    def survives(self, end: LocalWorkerEnd) -> bool:
        return False


def executor_engine(**parts: Unpack[EngineParts]) -> ServedEngine:
    """Raises TargetError if the factory cannot be imported."""
    factory = parts["settings"].executor
    if factory:
        return ForeignEngine(FactoryBackend(factory), parts)
    return LocalEngine(kind=FuturesKind(), **parts)


class FuturesPool:
    """Implements `WorkerPool`."""

    def __init__(self, workers: int, context: BaseContext) -> None:
        self._executor = ProcessPoolExecutor(workers, mp_context=context)
        inner: Any = self._executor  # private in the stubs
        self._result_queue = inner._result_queue
        self._call_queue = inner._call_queue
        self._executor.submit(int)  # starts the process now, not on the event loop with the first job
        self._manager = inner._executor_manager_thread
        _threads_wakeups.pop(self._manager)  # or the interpreter would wait for it at exit, possibly forever

    def submit(self, call: Call, on_result: OnResult) -> None:
        self._executor.submit(run_job, call).add_done_callback(partial(_pass_on, on_result))

    def forget(self, number: int) -> None:
        """Do nothing: the executor fails the job of a dead worker."""

    def leave(self) -> None:
        self._executor.shutdown(wait=False)

    def end(self, timeout_s: float) -> bool:
        """End the executor's thread, which notices that no process is left, even while it waits for an answer."""
        self._result_queue._writer.close()
        self._executor.shutdown(wait=False)
        self._manager.join(timeout_s)
        if self._manager.is_alive():
            return False
        self._call_queue.close()
        self._result_queue.close()
        return True


class FactoryBackend:
    """Implements `Backend`: an executor made by the user's factory, and made again when it is broken."""

    name: Final = "executor"
    capabilities: Final = FACTORY_CAPABILITIES

    def __init__(self, factory: str) -> None:
        """Raises TargetError if the factory cannot be imported."""
        name, _, function = factory.partition(":")
        module = import_module(name, str(Path.cwd()), named=factory)
        self._name = factory
        self._factory = getattr(module, function, None)
        if not callable(self._factory):
            raise TargetError(factory, "the module has no such function")
        self._executor: Executor | None = None

    def open(self, workers: int) -> None:
        try:
            self._executor = self._factory(workers)  # type: ignore[misc]  # it was callable
        except Exception as error:  # whatever the user's function raises
            raised = f"{exception_name(error)}: {exception_message(error)}"
            raise TargetError(self._name, f"the function did not return an executor: it raised {raised}") from error

    def submit(self, call: Call, on_result: OnResult) -> Future[object]:
        if self._executor is None:
            raise BrokenExecutor("the executor is being replaced")
        future: Future[Any] = self._executor.submit(run_job, call)
        future.add_done_callback(partial(_pass_on, on_result))
        return future

    def stop(self, handle: Future[object]) -> None:
        handle.cancel()  # has an effect only before it has begun

    def judge(self, error: BaseException) -> WorkerLoss:
        note = f"{type(error).__name__}: {error}"
        is_broken = isinstance(error, (BrokenExecutor, RuntimeError))
        return WorkerLoss(death=Death(note=note[:_MAX_NOTE]), begun=True, is_broken=is_broken)

    def close(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def _pass_on(on_result: OnResult, future: Future[object]) -> None:
    """Raises nothing: a traceback would keep the future alive with its exception, and everything that both hold."""
    if future.cancelled():
        on_result(CancelledError())
    else:
        on_result(future.exception() or future.result())
