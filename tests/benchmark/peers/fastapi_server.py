"""FastAPI on uvicorn, with a `ProcessPoolExecutor`.

Source: FastAPI's documentation, "Return a Response Directly" and "Using the Request Directly" (no validation that
nothing needs); uvicorn's settings: uvloop, httptools, no access log.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from tests.benchmark import tasks
from tests.benchmark.load.plan import HOST


def make_app(executor: ProcessPoolExecutor) -> FastAPI:
    app = FastAPI()

    @app.post("/jobs/echo")
    async def echo(request: Request) -> Response:
        result = await asyncio.get_running_loop().run_in_executor(executor, tasks.echo, await request.body())
        return Response(result, media_type="application/octet-stream")

    @app.post("/jobs/{task}")
    async def run_job(task: str, request: Request) -> Response:
        call = partial(getattr(tasks, task), **orjson.loads(await request.body()))
        result = await asyncio.get_running_loop().run_in_executor(executor, call)
        return Response(orjson.dumps(result), media_type="application/json")

    @app.get("/health/live")
    async def live() -> Response:
        return Response()

    return app


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    settings = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("forkserver")) as executor:
        uvicorn.run(make_app(executor), host=HOST, port=port, **settings)
