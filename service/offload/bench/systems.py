"""The systems that are compared: `python -m offload.bench.systems NAME PORT WORKERS` becomes one of them.

Lives here: the service itself, and one aiohttp handler over what people use without it.  All have the same tasks, the
same event loop and the same kind of answer, and end on SIGTERM.  `children` runs it as a process of its own.

    bare      the handler calls the task by itself, on the event loop: no worker, no limit, the price of HTTP alone
    pool      the handler waits for `multiprocessing.Pool.apply_async` with a callback
    executor  the handler waits for a `ProcessPoolExecutor` through `run_in_executor`
    offload   `offload serve`, with its defaults
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web

from offload.bench import tasks
from offload.bench.event_loop import loop_factory
from offload.bench.load import HOST

Task = Callable[..., Any]
Call = Callable[[Task, dict[str, Any]], Awaitable[Any]]

_PR_SET_PDEATHSIG: Final = 1

# As the service's default; and no worker is a copy of a process that has an event loop.
_START_METHOD: Final = "forkserver"

_TASKS: Final[Mapping[str, Task]] = {"noop": tasks.noop, "burn": tasks.burn}


@contextmanager
def bare(workers: int) -> Iterator[Call]:
    async def call(function: Task, arguments: dict[str, Any]) -> Any:
        return function(**arguments)

    yield call


@contextmanager
def pool(workers: int) -> Iterator[Call]:
    async def call(function: Task, arguments: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        # Both callbacks run in a thread of the pool's.
        processes.apply_async(
            function,
            kwds=arguments,
            callback=lambda result: loop.call_soon_threadsafe(_settle, future, future.set_result, result),
            error_callback=lambda error: loop.call_soon_threadsafe(_settle, future, future.set_exception, error),
        )
        return await future

    # Leaving the context terminates the workers.
    with multiprocessing.get_context(_START_METHOD).Pool(workers) as processes:
        yield call


@contextmanager
def executor(workers: int) -> Iterator[Call]:
    async def call(function: Task, arguments: dict[str, Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(processes, partial(function, **arguments))

    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(_START_METHOD)) as processes:
        yield call


HANDLERS: Final[Mapping[str, Callable[[int], AbstractContextManager[Call]]]] = {
    "bare": bare,
    "pool": pool,
    "executor": executor,
}
NAMES: Final = (*HANDLERS, "offload")


def _settle(future: asyncio.Future[Any], settled_by: Callable[[Any], None], value: Any) -> None:
    if not future.done():  # the handler may have been cancelled
        settled_by(value)


def make_app(call: Call) -> web.Application:
    """The one handler: it reads and writes JSON, and leaves the rest to `call`."""

    async def run_job(request: web.Request) -> web.Response:
        arguments = orjson.loads(await request.read())
        result = await call(_TASKS[request.match_info["task"]], arguments)
        return web.Response(body=orjson.dumps(result), content_type="application/json")

    app = web.Application()
    app.router.add_post("/jobs/{task}", run_job)
    return app


async def serve(app: web.Application, port: int) -> None:
    """Serves until SIGTERM."""
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        await is_over.wait()
    finally:
        await runner.cleanup()


def main(arguments: list[str]) -> None:
    """Serves the system until SIGTERM; the service takes this process over."""
    name, port, workers = arguments[0], int(arguments[1]), int(arguments[2])
    _end_with_parent()
    if name == "offload":
        command = [sys.executable, "-m", "offload", "serve", tasks.__name__]
        os.execv(sys.executable, [*command, "--host", HOST, "--port", str(port), "--workers", str(workers)])
    with HANDLERS[name](workers) as call, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(make_app(call), port))


def _end_with_parent() -> None:
    """SIGTERM for this process when the benchmark ends, however it does.  It outlives exec.  Source: prctl(2)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGTERM))


if __name__ == "__main__":
    main(sys.argv[1:])
