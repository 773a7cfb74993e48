"""The whole HTTP interface over a real socket, with a fake engine behind it.

`web_service(...)` serves the application of `build_app` on a free port of the loopback, with a real dispatcher,
scheduler and recorder; the tasks are made by hand, and no worker process exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from offload.core.admission.admission import AdmissionLimits
from offload.core.request import TaskLimits
from offload.core.scheduler import Scheduler
from offload.dispatch.dispatcher import Dispatcher
from offload.metrics.layout import JobCounts, MetricsMemory
from offload.metrics.recorder import Recorder
from offload.tasks.catalogue import Catalogue, TaskInfo
from offload.web.app import build_app
from offload.web.parts import WebParts
from offload.web.server.runner import make_runner
from tests.support.fake_engine import FakeEngine
from tests.support.raw_http import Answer, RawConnection, raw_connection

BOUND_S = 10.0

MOUNTED_AT = b"/compute"

TASKS = {"primes": "json", "resize": "bytes", "solve": "npy-or-json", "compare": "form"}


def catalogue(timeout_s: float = 60.0) -> Catalogue:
    """One task for each kind of body."""
    return Catalogue(
        {
            name: TaskInfo(
                limits=TaskLimits(name=name, index=index, timeout_s=timeout_s),
                description=f"What {name} does.",
                arguments_schema={"type": "object"},
                result_schema=None,
                body=body,
            )
            for index, (name, body) in enumerate(TASKS.items())
        }
    )


def mounted(app: web.Application) -> web.Application:
    """For `wrap`: in an application of somebody else's, at MOUNTED_AT, which aiohttp serves as it would any other."""
    host = web.Application()
    host.add_subapp(MOUNTED_AT.decode(), app)
    return host


class WebService:
    """A running one; `url` is its address, `counts` the books of all tasks."""

    def __init__(self, engine: FakeEngine, dispatcher: Dispatcher, scheduler: Scheduler, recorder: Recorder) -> None:
        self.engine = engine
        self.dispatcher = dispatcher
        self.scheduler = scheduler
        self._recorder = recorder
        self.host = "127.0.0.1"
        self.port = 0
        self.client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def counts(self) -> JobCounts:
        return self._recorder.totals

    def raw(self) -> AbstractAsyncContextManager[RawConnection]:
        """A connection of its own that speaks in bytes."""
        return raw_connection(self.host, self.port)

    async def post(self, task: str, **how: Any) -> Answer:
        return await self.request("POST", f"/jobs/{task}", **how)

    async def get(self, path: str, **how: Any) -> Answer:
        return await self.request("GET", path, **how)

    async def request(self, method: str, path: str, **how: Any) -> Answer:
        async with self.client.request(method, path, **how) as response:
            return Answer(status=response.status, headers=response.headers, body=await response.read())


@asynccontextmanager
async def web_service(
    *,
    engine: FakeEngine | None = None,
    tasks: Catalogue | None = None,
    queue_limit: int = 10,
    queue_bytes: int = 1 << 20,
    limits: Mapping[str, int] | None = None,
    wrap: Callable[[web.Application], web.Application] | None = None,
    is_engine_ready: bool = True,
    **parts: Any,
) -> AsyncIterator[WebService]:
    """`parts` replace those of `WebParts`, `limits` are more of admission's.

    `wrap` mounts the application in one that aiohttp serves by itself.
    """
    engine = engine or FakeEngine()
    tasks = tasks or catalogue()
    recorder = Recorder(MetricsMemory(tasks=len(tasks), lanes=1), list(tasks))
    scheduler = Scheduler(limits=AdmissionLimits(queue_limit=queue_limit, queue_bytes=queue_bytes, **(limits or {})))
    dispatcher = Dispatcher(scheduler=scheduler, engine=engine, recorder=recorder)
    defaults: dict[str, Any] = {
        "stats_source": lambda: {"jobs": recorder.totals},
        "version": "1.2.3",
        "max_body_bytes": 1 << 16,
        "body_timeout_s": BOUND_S,
    }
    app = build_app(WebParts(dispatcher=dispatcher, catalogue=tasks, **(defaults | parts)))
    runner = make_runner(app) if wrap is None else web.AppRunner(wrap(app))
    service = WebService(engine, dispatcher, scheduler, recorder)
    if is_engine_ready:
        await engine.open(dispatcher)
    else:
        engine.connect(dispatcher)
    await runner.setup()
    try:
        site = web.TCPSite(runner, service.host, 0)
        await site.start()
        service.port = site.port
        async with aiohttp.ClientSession(service.url, timeout=aiohttp.ClientTimeout(total=BOUND_S)) as service.client:
            yield service
    finally:
        dispatcher.close()
        await runner.cleanup()
        await engine.close(0)
    scheduler.check_balance()


async def eventually(what: str, condition: Callable[[], object]) -> None:
    """Lets the loop run until the condition holds."""
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.001)
    assert condition(), what
