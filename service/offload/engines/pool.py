"""The engine `pool`: a `multiprocessing.Pool` of the standard library.

A worker that dies between two jobs may have held a lock of the pool's queues, and then no other worker gets another
job. So the whole pool is replaced after that. A worker that dies in a job or ends as planned held no lock, and the
library replaces it.
Every private name of `multiprocessing.pool` is used in this file.

Source: `multiprocessing/pool.py` of CPython 3.11 to 3.14.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.pool import TERMINATE, Pool
from typing import Any, Final, Unpack

from offload.engines.base import EngineParts
from offload.engines.local.context import NoProcess
from offload.engines.local.engine import LOCAL_CAPABILITIES, LocalEngine
from offload.engines.local.replaceable_pool import OnResult
from offload.engines.local.worker import LocalWorkerEnd
from offload.errors import StartError
from offload.processes.worker_state import EndCause
from offload.worker.foreign.remote import Call, run_job

CAPABILITIES: Final = replace(LOCAL_CAPABILITIES, isolates_deaths=False)


class MultiprocessingKind:
    """Implements `PoolKind`: one pool for all workers. A slot is not bound to one worker."""

    name: Final = "pool"
    capabilities: Final = CAPABILITIES

    def slots_per_pool(self, workers: int) -> int:
        return workers

    def make(self, workers: int, context: BaseContext, give_up: Callable[[], None]) -> MultiprocessingPool:
        return MultiprocessingPool(workers, context, give_up)

    def survives(self, end: LocalWorkerEnd) -> bool:
        return end.was_busy or not end.was_ready or end.cause is EndCause.RETIRE


def pool_engine(**parts: Unpack[EngineParts]) -> LocalEngine:
    return LocalEngine(kind=MultiprocessingKind(), **parts)


class MultiprocessingPool:
    """Implements `WorkerPool`."""

    def __init__(self, workers: int, context: BaseContext, give_up: Callable[[], None]) -> None:
        self._pool = _Pool(workers, context, give_up)
        self._numbers: dict[int, int] = {}

    def submit(self, call: Call, on_result: OnResult) -> None:
        number = call[1]

        def on_answer(values: object) -> None:
            self._numbers.pop(number, None)
            on_result(values)

        result: Any = self._pool.apply_async(run_job, (call,), callback=on_answer, error_callback=on_answer)
        self._numbers[number] = result._job

    def forget(self, number: int) -> None:
        """Make the pool forget the job, for whose answer it would wait forever when it closes."""
        self._pool.forget(self._numbers.pop(number, None))

    def leave(self) -> None:
        self._pool.leave()

    def end(self, timeout_s: float) -> bool:
        return self._pool.give_up(timeout_s)


class _Pool(Pool):
    """The library's pool, which can be ended although a dead worker may hold a lock."""

    def __init__(self, workers: int, context: BaseContext, on_garbage: Callable[[], None]) -> None:
        self._on_garbage = on_garbage
        super().__init__(workers, context=context)
        inner: Any = self
        inner._terminate.cancel()  # or it would wait at exit for a lock that a dead worker may hold

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N802  # the name is the library's
        """Called in a thread, which an exception would end. If no process can be started, the pool is replaced."""
        try:
            return ctx.Process(*args, **kwargs)
        except StartError:
            return NoProcess()

    def _setup_queues(self) -> None:
        """Report an answer that cannot be unpickled: it ends the thread that reads answers, and so the pool."""
        super()._setup_queues()  # type: ignore[misc]  # not in the stubs
        inner: Any = self  # private in the stubs
        inner._quick_get = partial(_read, inner._quick_get, self._on_garbage)

    def forget(self, job: int | None) -> None:
        inner: Any = self
        inner._cache.pop(job, None)

    def leave(self) -> None:
        """As `close`, but does not wait for answers, and does not replace workers that die meanwhile."""
        inner: Any = self
        self._stop_maintaining()
        inner._taskqueue.put(None)  # its thread passes one to each worker, then ends

    def give_up(self, timeout_s: float) -> bool:
        """End the pool's threads when all of its processes are dead; return whether they have ended.

        `terminate` would wait for a lock that a dead worker held. Answers in the queue are still read: the thread that
        reads them ends at the end of the pipe, which has no writer any more.
        """
        inner: Any = self
        free(inner._outqueue._wlock)  # the thread that hands out tasks takes it before it ends
        inner._outqueue._writer.close()
        inner._inqueue._reader.close()  # makes a write of that thread to a full pipe fail
        inner._task_handler._state = TERMINATE
        self._stop_maintaining()
        inner._taskqueue.put(None)
        give_up_at = time.monotonic() + timeout_s
        threads = [inner._worker_handler, inner._task_handler, inner._result_handler]
        for thread in threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            return False
        for queue in (inner._inqueue, inner._outqueue, inner._change_notifier):
            queue.close()
        return True

    def _stop_maintaining(self) -> None:
        inner: Any = self
        inner._state = TERMINATE
        inner._worker_handler._state = TERMINATE
        inner._change_notifier.put(None)


def free(lock: Any) -> None:
    """Free a lock of `multiprocessing`, which only a dead process can hold."""
    lock.acquire(block=False)
    lock.release()


def _read(get: Callable[[], object], on_garbage: Callable[[], None]) -> object:
    try:
        return get()
    except (OSError, EOFError):
        raise
    except BaseException as error:
        on_garbage()
        raise EOFError("an answer cannot be unpickled") from error
