"""The composition root: builds everything and nests its life times.

Lives here: `Service`, all that runs behind the HTTP interface; `run`, which serves it from the command line until a
signal; `create_app`, which gives it to an application of somebody else's.  The only module that knows all others; it
holds no policy.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from offload import __version__
from offload.core.admission.admission import AdmissionLimits
from offload.core.scheduler import Scheduler
from offload.dispatch.dispatcher import Dispatcher
from offload.dispatch.ticker import Ticker
from offload.engines.choice import make_engine
from offload.metrics.layout import MetricsMemory, ServiceState
from offload.metrics.loop_lag import LoopLag
from offload.metrics.rates import Rates
from offload.metrics.recorder import Recorder
from offload.metrics.snapshot import Facts, Instruments, QueueClients, QueueFacts, ServiceFacts, Stats, snapshot
from offload.processes.cpus import usable_cpus
from offload.processes.describe import describe
from offload.processes.launcher import Launcher
from offload.settings.table import MAX_WORKERS, Settings
from offload.tasks.catalogue import Catalogue
from offload.tasks.loading import Named, parse_target
from offload.wire.spec import LoadSpec

if TYPE_CHECKING:
    from aiohttp import web

    from offload.web.parts import WebParts

logger: Final = logging.getLogger("offload.service")

# Connections that the kernel holds while the loop is busy; Linux cuts it to net.core.somaxconn.
_BACKLOG: Final = 1024
# Young objects, after which Python looks for cycles among them.  Nearly all that a job leaves is gone with its answer,
# and is looked at in vain: with Python's own figure, 700, that took an eighth of the time of a short job.
_YOUNG_OBJECTS: Final = 50_000
# What idle workers get to leave by themselves when the service ends; jobs have had the drain before.
_CLOSE_S: Final = 2.0


class Service:
    """All that runs behind the HTTP interface, between `open` and `close`.

    Making one raises UserError for what cannot be a target.
    """

    def __init__(self, targets: Iterable[Named], settings: Settings) -> None:
        self.settings = settings
        self._workers = settings.workers or (MAX_WORKERS if settings.engine_address else usable_cpus())
        self._load = LoadSpec(
            targets=tuple(parse_target(target) for target in targets), library_threads=settings.threads_per_worker
        )
        self._launcher = Launcher(settings.start_method, self._load)
        self._started_at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._born_at = time.monotonic()
        self._hurry = asyncio.Event()
        self._stack = AsyncExitStack()
        self.dispatcher: Dispatcher
        self.catalogue: Catalogue

    def warm_up(self) -> None:
        """Gets going what takes time, before the event loop runs; without it, `open` does."""
        self._launcher.warm_up()

    async def open(self) -> None:
        """Loads the tasks and starts the workers.  Raises UserError for targets that cannot be served."""
        self._launcher.warm_up()
        self._launcher.open()
        data = await describe(self._launcher, self._load, timeout_s=self.settings.start_timeout)
        self.catalogue = Catalogue.from_json(data, default_timeout_s=self.settings.timeout)
        await self._build()

    async def close(self) -> None:
        """Stops what still runs, with an answer, and ends all processes.  May be called twice, and without `open`."""
        await self._stack.aclose()
        await self._launcher.close()

    async def drain(self) -> None:
        """Takes nothing new and lets what is there finish, within the drain timeout or until `hurry`."""
        await self.dispatcher.drain(self.settings.drain_timeout, self._hurry)

    def hurry(self) -> None:
        """Ends a drain at once; what still runs is stopped with an answer."""
        self._hurry.set()

    def web_parts(self) -> WebParts:
        """What the HTTP interface is made from."""
        from multidict import istr

        from offload.web.parts import WebParts

        settings = self.settings
        return WebParts(
            dispatcher=self.dispatcher,
            catalogue=self.catalogue,
            stats_source=self.stats,
            version=__version__,
            max_body_bytes=settings.max_body,
            body_timeout_s=settings.body_timeout,
            root_path=settings.root_path,
            client_header=istr(settings.client_header) if settings.client_header else None,
            has_access_log=settings.access_log,
            is_debug=settings.debug,
        )

    def stats(self) -> Stats:
        """The document of `/stats`."""
        self._update_state()
        return snapshot(self._instruments, self._facts(), time.monotonic())

    async def _build(self) -> None:
        stack, settings, names = self._stack, self.settings, list(self.catalogue)
        now = time.monotonic()
        memory = MetricsMemory(tasks=len(names), lanes=self._workers + settings.spares)
        recorder = Recorder(memory, names)
        lag, rates = LoopLag(now), Rates(now)
        self._instruments = Instruments(memory=memory, recorder=recorder, rates=rates, loop_lag=lag)
        self._engine = make_engine(
            settings=settings, workers=self._workers, launcher=self._launcher, load=self._load, metrics=memory.workers
        )
        ahead = self._engine.ahead
        limits = AdmissionLimits(
            queue_limit=settings.queue_limit,
            queue_bytes=settings.queue_bytes,
            max_queued_per_client=settings.max_queued_per_client,
            max_running_per_client=settings.max_running_per_client,
            quarantine_after=settings.quarantine_after,
        )
        self._scheduler = Scheduler(
            limits=limits,
            withdraw=None if ahead is None else ahead.withdraw,
            busy_since=None if ahead is None else ahead.busy_since,
        )
        self.dispatcher = Dispatcher(scheduler=self._scheduler, engine=self._engine, recorder=recorder)
        stack.push_async_callback(self._engine.close, _CLOSE_S)
        stack.callback(self.dispatcher.close)
        await self._engine.open(self.dispatcher)
        ticker = Ticker(record_lag=lag.record, tick=self._tick)
        stack.callback(ticker.close)
        ticker.start()

    def _facts(self) -> Facts:
        scheduler, now = self._scheduler, time.monotonic()
        queue = scheduler.queue
        queued, running = scheduler.queued_by_task(), scheduler.slots.running_by_task()
        waiting = queue.lengths_by_client().values()
        return Facts(
            service=ServiceFacts(
                name="offload",
                version=__version__,
                pid=os.getpid(),
                state=self._instruments.memory.state,
                started_at=self._started_at,
                uptime_s=round(now - self._born_at, 3),
            ),
            queued_by_task=[queued[index] for index in range(len(self.catalogue))],
            running_by_task=[running[index] for index in range(len(self.catalogue))],
            workers=self._engine.worker_facts(),
            pool=self._engine.pool_facts(),
            queue=QueueFacts(
                limit=queue.limit,
                bytes=queue.size_bytes,
                limit_bytes=queue.limit_bytes,
                arriving_bytes=scheduler.traffic.arriving_bytes,
                leaving_bytes=scheduler.traffic.leaving_bytes,
                expected_wait_ms=round(scheduler.expected_wait_s(now) * 1e3, 3),
                by_urgency=queue.lengths(),
                clients=QueueClients(waiting=len(waiting), most_queued=max(waiting, default=0)),
                quarantined=scheduler.quarantine.size(now),
            ),
        )

    def _tick(self, now: float) -> None:
        self._instruments.rates.tick(now, self._instruments.recorder.totals.ended)
        self._update_state()

    def _update_state(self) -> None:
        rejection = self.dispatcher.rejection()
        if self.dispatcher.is_draining:
            state = ServiceState.DRAINING
        elif rejection is None:
            state = ServiceState.READY
        else:
            state = ServiceState(rejection.reason.value)
        self._instruments.memory.state = state


def create_app(tasks: Named | Sequence[Named], settings: Settings | None = None) -> web.Application:
    """The service as an `aiohttp.web.Application`, to run or to mount in another one (`add_subapp`).

    `tasks`: functions with `@task`, files (by text or path), module names, or several of them.  The workers start with
    the application and end with it; its own shutdown drains.  Raises TargetError at once for what cannot be a target,
    and when the application starts for what cannot be loaded.
    """
    from offload.web.app import build_app
    from offload.web.parts import PARTS

    several = [tasks] if isinstance(tasks, (str, os.PathLike)) or callable(tasks) else tasks
    service = Service(several, settings or Settings())
    app = build_app()

    async def life(app: web.Application) -> AsyncIterator[None]:
        try:
            await service.open()
            app[PARTS] = service.web_parts()
            yield
        finally:
            await service.close()

    async def shut_down(_: web.Application) -> None:
        await service.drain()

    app.cleanup_ctx.append(life)
    app.on_shutdown.append(shut_down)
    return app


def run(targets: Sequence[str], settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT, then drains.  Returns the exit code; raises UserError for the user's mistakes."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        service = Service(targets, settings)
        service.warm_up()  # before aiohttp is imported: that and what the workers load go on side by side
        try:
            runner.run(_serve(service))
        except asyncio.CancelledError:
            logger.info("stopped before it served")
    return 0


async def _serve(service: Service) -> None:
    from aiohttp import web

    from offload.web.app import build_app
    from offload.web.server.listening import bound_sockets, close_all, shown_address, unlink
    from offload.web.server.runner import make_runner

    settings = service.settings
    main = asyncio.current_task()
    assert main is not None
    _on_stop_signals(main.cancel)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(service.close)
        sockets = bound_sockets(settings.host, settings.port, settings.uds)
        stack.callback(close_all, sockets)
        await service.open()
        runner = make_runner(build_app(service.web_parts()), is_debug=settings.debug)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        for sock in sockets:
            stack.callback(unlink, sock)
            await web.SockSite(runner, sock, backlog=_BACKLOG).start()
            fields = {"address": shown_address(sock), "tasks": ", ".join(service.catalogue)}
            logger.info("serving", extra={"fields": fields})
        gc.freeze()  # what is there now stays
        gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
        stop = asyncio.Event()
        _on_stop_signals(lambda: service.hurry() if stop.is_set() else stop.set())
        await stop.wait()
        logger.info("draining", extra={"fields": {"timeout_s": settings.drain_timeout}})
        await service.drain()  # while it still listens: who comes now is told so
    logger.info("stopped")


def _on_stop_signals(callback: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, callback)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it is installed, asyncio's where not."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
