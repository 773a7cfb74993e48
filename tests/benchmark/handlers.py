"""The aiohttp handlers that the service is compared with: `python -m tests.benchmark.handlers NAME PORT WORKERS`.

Lives here: one handler over what people use without the service (`bare`, `pool`, `executor`; see `systems`).  All have
the same tasks, the same event loop and the same kind of answer, and end on SIGTERM.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web

from tests.benchmark import tasks
from tests.benchmark.event_loop import loop_factory
from tests.benchmark.load import HOST

Task = Callable[..., Any]
Call = Callable[[Task, dict[str, Any]], Awaitable[Any]]

# As the service's default; and no worker is a copy of a process that has an event loop.
_START_METHOD: Final = "forkserver"

_TASKS: Final[Mapping[str, Task]] = {"noop": tasks.noop, "burn": tasks.burn}
_MOST_BODY_BYTES: Final = 1 << 30


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


def _settle(future: asyncio.Future[Any], settled_by: Callable[[Any], None], value: Any) -> None:
    if not future.done():  # the handler may have been cancelled
        settled_by(value)


def make_app(call: Call) -> web.Application:
    """Handlers that read and write JSON, or bytes as they are, and leave the rest to `call`."""

    async def run_job(request: web.Request) -> web.Response:
        arguments = orjson.loads(await request.read())
        result = await call(_TASKS[request.match_info["task"]], arguments)
        return web.Response(body=orjson.dumps(result), content_type="application/json")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await call(tasks.echo, {"data": await request.read()}))

    async def live(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=_MOST_BODY_BYTES)
    app.router.add_post("/jobs/echo", echo)
    app.router.add_post("/jobs/{task}", run_job)
    app.router.add_get("/health/live", live)
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
    """Serves the handler until SIGTERM."""
    name, port, workers = arguments[0], int(arguments[1]), int(arguments[2])
    with HANDLERS[name](workers) as call, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(make_app(call), port))


if __name__ == "__main__":
    main(sys.argv[1:])
