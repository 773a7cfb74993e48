"""The composition root: build everything and nest the life times.

`Service` is everything behind the HTTP interface. `run` serves it from the command line until a signal; `create_app`
makes an aiohttp application of it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from offload import __version__
from offload.core.admission.admission import AdmissionLimits
from offload.core.scheduler import Scheduler
from offload.dispatch.dispatcher import Dispatcher
from offload.dispatch.statistics import Statistics
from offload.dispatch.ticker import Ticker
from offload.engines.choice import make_engine
from offload.metrics.layout import MetricsMemory
from offload.metrics.loop_lag import LoopLag
from offload.metrics.rates import Rates
from offload.metrics.recorder import Recorder
from offload.metrics.snapshot import Instruments, Stats
from offload.processes.copies import keep_signals_from_copies
from offload.processes.cpus import usable_cpus
from offload.processes.describe import describe
from offload.processes.launcher import Launcher
from offload.processes.limits import (
    check_interpreter,
    descriptor_limit,
    explain,
    most_connections,
    raise_descriptor_limit,
)
from offload.settings.table import MAX_WORKERS, Settings
from offload.tasks.arguments.inflation import supported_codings
from offload.tasks.catalogue import Catalogue
from offload.tasks.targets.loading import Named, parse_target
from offload.wire.shared_bytes import LARGE_BYTES
from offload.wire.spec import LoadSpec

if TYPE_CHECKING:
    from aiohttp import web

    from offload.web.parts import WebParts

logger: Final = logging.getLogger("offload.service")

# Connections that the kernel holds while the loop is busy. Linux limits it to net.core.somaxconn.
_BACKLOG: Final = 1024
# New objects after which Python looks for reference cycles. Nearly all objects of a job are freed with its answer, so
# the search finds nothing: with Python's default of 700 it took an eighth of the time of a short job.
_GC_THRESHOLD: Final = 50_000
# Time for idle workers to exit by themselves when the service closes. Jobs have had the drain before.
_CLOSE_S: Final = 2.0


class Service:
    """Everything behind the HTTP interface, between `open` and `close`.

    The constructor raises UserError for something that cannot be a target.
    """

    def __init__(self, targets: Iterable[Named], settings: Settings, *, descriptor_limit: int | None = None) -> None:
        """`descriptor_limit`: the limit on open files of what the service starts, if not its own."""
        self.settings = settings
        self._workers = settings.workers or (MAX_WORKERS if settings.engine_address else usable_cpus())
        self._load = LoadSpec(
            targets=tuple(parse_target(target) for target in targets),
            library_threads=settings.threads_per_worker,
            max_body_bytes=settings.max_body,
        )
        self._launcher = Launcher(settings.start_method, self._load, descriptor_limit=descriptor_limit)
        self._started_at = time.monotonic()
        self._hurry = asyncio.Event()
        self._stack = AsyncExitStack()
        self.dispatcher: Dispatcher
        self.catalogue: Catalogue

    def most_connections(self) -> int:
        """Returns how many connections leave descriptors for everything else.

        Raises SurroundingsError if these are too few.
        """
        local_workers = 0 if self.settings.engine_address else self._workers + self.settings.spares
        large_bodies = self.settings.queue_bytes // LARGE_BYTES
        return most_connections(descriptor_limit(), workers=local_workers, large_bodies=large_bodies)

    def warm_up(self) -> None:
        """Begin what takes time before the event loop runs. Optional: `open` does it otherwise."""
        self._launcher.warm_up()

    async def open(self) -> None:
        """Load the tasks and start the workers. Raises UserError for targets that cannot be served."""
        self._launcher.warm_up()
        self._launcher.open()
        description = await describe(self._launcher, self._load, timeout_s=self.settings.start_timeout)
        self.catalogue = Catalogue.from_json(description.catalogue, default_timeout_s=self.settings.timeout)
        await self._launcher.prepare(can_be_copied=description.can_be_copied)
        for sentence in description.held:
            logger.warning(sentence)
        await self._build()

    async def close(self) -> None:
        """Stop running jobs, each with an answer, and end all processes. May be called twice, and without `open`."""
        await self._stack.aclose()
        await self._launcher.close()

    async def drain(self) -> None:
        """Reject new jobs and let the others finish, until the drain timeout or `hurry`."""
        await self.dispatcher.drain(self.settings.drain_timeout, self._hurry)

    def hurry(self) -> None:
        """End a drain at once. Jobs that still run are stopped, each with an answer."""
        self._hurry.set()

    def stats(self) -> Stats:
        """Returns the document of `/stats`."""
        return self._statistics.document()

    def web_parts(self, content_codings: tuple[str, ...] = ()) -> WebParts:
        """Returns what the HTTP interface is made from; `content_codings` are those of compressed bodies."""
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
            content_codings=content_codings,
            root_path=settings.root_path,
            client_header=istr(settings.client_header) if settings.client_header else None,
            has_access_log=settings.access_log,
            is_debug=settings.debug,
        )

    async def _build(self) -> None:
        instruments = self._instruments()
        self._engine = make_engine(
            settings=self.settings,
            workers=self._workers,
            launcher=self._launcher,
            load=self._load,
            metrics=instruments.memory.workers,
        )
        ahead = self._engine.ahead
        self._scheduler = Scheduler(
            limits=_admission_limits(self.settings),
            withdraw=None if ahead is None else ahead.withdraw,
            busy_since=None if ahead is None else ahead.busy_since,
        )
        self.dispatcher = Dispatcher(scheduler=self._scheduler, engine=self._engine, recorder=instruments.recorder)
        self._statistics = Statistics(
            version=__version__,
            started_at=self._started_at,
            instruments=instruments,
            scheduler=self._scheduler,
            dispatcher=self.dispatcher,
            engine=self._engine,
        )
        self._stack.push_async_callback(self._engine.close, _CLOSE_S)
        self._stack.callback(self.dispatcher.close)
        await self._engine.open(self.dispatcher)
        ticker = Ticker(record_lag=instruments.loop_lag.record, tick=self._statistics.tick)
        self._stack.callback(ticker.close)
        ticker.start()

    def _instruments(self) -> Instruments:
        names, now = list(self.catalogue), time.monotonic()
        memory = MetricsMemory(tasks=len(names), lanes=self._workers + self.settings.spares)
        return Instruments(memory=memory, recorder=Recorder(memory, names), rates=Rates(now), loop_lag=LoopLag(now))


def _admission_limits(settings: Settings) -> AdmissionLimits:
    return AdmissionLimits(
        queue_limit=settings.queue_limit,
        queue_bytes=settings.queue_bytes,
        max_queued_per_client=settings.max_queued_per_client,
        max_running_per_client=settings.max_running_per_client,
        quarantine_after=settings.quarantine_after,
    )


def create_app(tasks: Named | Sequence[Named], settings: Settings | None = None) -> web.Application:
    """Returns the service as an `aiohttp.web.Application`, to run or to mount in another one with `add_subapp`.

    `tasks` is a function with `@task`, the path of a file, the name of a module, or a sequence of these. The workers
    start and end with the application, whose shutdown drains first. Raises TargetError at once for something that
    cannot be a target, and at the application's start for something that cannot be loaded.
    """
    from offload.web.app import build_app
    from offload.web.parts import PARTS

    targets = [tasks] if isinstance(tasks, (str, os.PathLike)) or callable(tasks) else tasks
    service = Service(targets, settings or Settings())
    app = build_app()

    async def open_and_close(app: web.Application) -> AsyncIterator[None]:
        try:
            await service.open()
            app[PARTS] = service.web_parts()
            yield
        finally:
            await service.close()

    async def drain(_: web.Application) -> None:
        await service.drain()

    app.cleanup_ctx.append(open_and_close)
    app.on_shutdown.append(drain)
    return app


def run(targets: Sequence[str], settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then drain. Returns the exit code. Raises UserError for mistakes of the user."""
    progress = _Progress()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            check_interpreter()
            service = Service(targets, settings, descriptor_limit=raise_descriptor_limit())
            progress.doing = "start the processes of the service"
            service.most_connections()  # raises before anything is started
            service.warm_up()  # before aiohttp is imported, so that both happen at the same time
            try:
                runner.run(_serve(service, progress))
            except asyncio.CancelledError:
                logger.info("stopped before serving")
    except (OSError, MemoryError, RuntimeError) as error:
        refused = None if progress.stage is _Stage.SERVING else explain(error, progress.doing)
        if refused is None:
            raise
        if progress.stage is _Stage.STARTING:
            raise refused from error
        logger.warning("the event loop was not closed", extra={"fields": {"reason": refused.problem}})
    finally:
        _ignore_stop_signals()
    return 0


class _Stage(Enum):
    STARTING = auto()
    SERVING = auto()
    STOPPED = auto()


@dataclass(slots=True)
class _Progress:
    """`doing` is an infinitive: what is being done while starting."""

    stage: _Stage = _Stage.STARTING
    doing: str = "start the event loop"


async def _serve(service: Service, progress: _Progress) -> None:
    from aiohttp import web

    from offload.web.app import build_app
    from offload.web.server.capacity import Capacity
    from offload.web.server.listening import bound_sockets, close_all, shown_address, unlink
    from offload.web.server.runner import make_runner

    settings = service.settings
    main = asyncio.current_task()
    assert main is not None
    keep_signals_from_copies()
    _on_stop_signals(main.cancel)
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(os.getpid)  # starts a thread now that the end of the service needs
        stack.push_async_callback(service.close)
        progress.doing = "listen"
        sockets = bound_sockets(settings.host, settings.port, settings.uds)
        stack.callback(close_all, sockets)
        progress.doing = "load the tasks and start the workers"
        await service.open()
        progress.doing = "listen"
        capacity = Capacity(most=service.most_connections(), limit=descriptor_limit())
        stack.callback(capacity.close)
        capacity.open()
        app = build_app(service.web_parts(supported_codings()))
        runner = make_runner(app, is_debug=settings.debug, capacity=capacity)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        for sock in sockets:
            stack.callback(unlink, sock)
            await web.SockSite(runner, sock, backlog=_BACKLOG).start()
            fields = {"address": shown_address(sock), "tasks": ", ".join(service.catalogue)}
            logger.info("serving", extra={"fields": fields})
        progress.stage = _Stage.SERVING
        await _serve_until_stopped(service)
    progress.stage = _Stage.STOPPED
    logger.info("stopped")


async def _serve_until_stopped(service: Service) -> None:
    gc.freeze()  # the objects that exist now stay
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])
    stop = asyncio.Event()
    _on_stop_signals(lambda: service.hurry() if stop.is_set() else stop.set())
    await stop.wait()
    logger.info("draining", extra={"fields": {"timeout_s": service.settings.drain_timeout}})
    await service.drain()  # still listening, so that new jobs are answered with 503 `draining`


def _on_stop_signals(callback: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in _stop_signals():
        loop.add_signal_handler(number, callback)


def _stop_signals() -> Iterator[signal.Signals]:
    """Yields SIGINT, SIGTERM, and SIGHUP (the terminal has gone) unless it is ignored, as `nohup` has it."""
    yield from (signal.SIGINT, signal.SIGTERM)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        yield signal.SIGHUP


def _ignore_stop_signals() -> None:
    """The service has ended, and so will this process. The event loop has restored the default actions."""
    if threading.current_thread() is threading.main_thread():
        for number in _stop_signals():
            signal.signal(number, signal.SIG_IGN)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Returns the factory of uvloop's event loop if it is installed, else None for asyncio's."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
