"""The aiohttp handlers that the service is compared with: `python -m tests.benchmark.handlers NAME PORT WORKERS`.

All have the same tasks, event loop and answers, and end on SIGTERM. `systems` describes them.
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
from tests.benchmark.load.plan import HOST

Call = Callable[[partial[Any]], Awaitable[Any]]

# The service's default; and no worker is a copy of a process that has an event loop.
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_MAX_BODY_BYTES: Final = 1 << 30


@contextmanager
def bare(workers: int) -> Iterator[Call]:
    async def call(function: partial[Any]) -> Any:
        return function()

    yield call


@contextmanager
def pool(workers: int) -> Iterator[Call]:
    async def call(function: partial[Any]) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(setter: Callable[[Any], None], value: Any) -> None:
            if not future.done():  # the handler may have been cancelled
                setter(value)

        # Both callbacks run in a thread of the pool.
        processes.apply_async(
            function,
            callback=lambda result: loop.call_soon_threadsafe(settle, future.set_result, result),
            error_callback=lambda error: loop.call_soon_threadsafe(settle, future.set_exception, error),
        )
        return await future

    with _CONTEXT.Pool(workers) as processes:  # leaving the context terminates the workers
        yield call


@contextmanager
def executor(workers: int) -> Iterator[Call]:
    async def call(function: partial[Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(processes, function)

    with ProcessPoolExecutor(workers, mp_context=_CONTEXT) as processes:
        yield call


HANDLERS: Final[Mapping[str, Callable[[int], AbstractContextManager[Call]]]] = {
    "bare": bare,
    "pool": pool,
    "executor": executor,
}


def make_app(call: Call) -> web.Application:
    """Reads and writes JSON, or bytes as they are, and leaves the rest to `call`."""

    async def run_job(request: web.Request) -> web.Response:
        arguments = orjson.loads(await request.read())
        result = await call(partial(getattr(tasks, request.match_info["task"]), **arguments))
        return web.Response(body=orjson.dumps(result), content_type="application/json")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await call(partial(tasks.echo, await request.read())))

    async def live(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_post("/jobs/echo", echo)
    app.router.add_post("/jobs/{task}", run_job)
    app.router.add_get("/health/live", live)
    return app


async def serve(app: web.Application, port: int) -> None:
    """Serves until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        await stopped.wait()
    finally:
        await runner.cleanup()


def main(arguments: list[str]) -> None:
    name, port, workers = arguments[0], int(arguments[1]), int(arguments[2])
    with HANDLERS[name](workers) as call, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(make_app(call), port))


if __name__ == "__main__":
    main(sys.argv[1:])
