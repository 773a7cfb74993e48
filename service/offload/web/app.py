"""The service's HTTP interface as an `aiohttp.web.Application`.

Lives here: which handler answers which path, and what happens to everything else.  The application can be run
(`serve.make_runner` has the settings for that) or mounted in another one with `add_subapp`.  The composition root calls
`build_app`; it starts and stops nothing but the application's own timers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from aiohttp import hdrs, web

from offload.core.job import Reason
from offload.web.answers.reply import Reply
from offload.web.answers.request_problems import method_not_allowed, not_found
from offload.web.parts import PARTS, PartsOf, WebParts
from offload.web.requests.body import leave_expectation
from offload.web.requests.disconnects import DisconnectWatch
from offload.web.requests.exchange import Exchange, Handler
from offload.web.routes import links
from offload.web.routes.health import HealthHandlers
from offload.web.routes.index import IndexHandler
from offload.web.routes.jobs import JobHandlers
from offload.web.routes.stats import stats_handler
from offload.web.routes.tasks import TaskHandlers
from offload.web.server.access_log import ACCESS_LOG, AccessLog
from offload.web.server.adapter import HandlerAdapter


def build_app(parts: WebParts | None = None) -> web.Application:
    """The application; without `parts`, somebody must put them under `PARTS` before its start-up is over."""
    app = web.Application()
    if parts is not None:
        app[PARTS] = parts
    access_log = app[ACCESS_LOG] = AccessLog()
    parts_of = PartsOf(app)
    watch = DisconnectWatch(lambda job: parts_of.now.dispatcher.cancel(job, Reason.DISCONNECTED))
    _add_routes(_Routes(app.router, HandlerAdapter(parts_of, access_log)), parts_of, watch)

    async def timers(_: web.Application) -> AsyncIterator[None]:
        yield
        watch.close()
        access_log.flush()

    app.cleanup_ctx.append(timers)
    return app


class _Routes:
    """Adds resources with all of their methods; what they do not take is answered with a problem of ours."""

    def __init__(self, router: web.UrlDispatcher, adapter: HandlerAdapter) -> None:
        self.router = router
        self._adapter = adapter

    def add(self, path: str, name: str, handlers: Mapping[str, Handler], *, is_logged: bool = True) -> None:
        resource = self.router.add_resource(path, name=name)
        for method, handle in handlers.items():
            handler = self._adapter.adapt(handle, is_logged=is_logged)
            resource.add_route(method, handler, expect_handler=leave_expectation)
            if method == hdrs.METH_GET:
                resource.add_route(hdrs.METH_HEAD, handler, expect_handler=leave_expectation)
        allowed = sorted({*handlers, hdrs.METH_HEAD} if hdrs.METH_GET in handlers else handlers)
        self.any(resource, _method_not_allowed(", ".join(allowed)))

    def any(self, resource: web.Resource, handle: Handler) -> None:
        resource.add_route(hdrs.METH_ANY, self._adapter.adapt(handle), expect_handler=leave_expectation)


def _add_routes(routes: _Routes, parts: PartsOf, watch: DisconnectWatch) -> None:
    paths = links.Links(routes.router, parts)
    jobs = JobHandlers(parts, watch=watch, links=paths)
    tasks = TaskHandlers(parts, links=paths)
    health = HealthHandlers(parts)
    index = IndexHandler(parts, links=paths)
    routes.add("/jobs/{task}", links.JOBS, {hdrs.METH_POST: jobs.run})
    routes.add("/jobs/{task}/{id}", links.JOB, {hdrs.METH_DELETE: jobs.cancel})
    routes.add("/tasks", links.TASKS, {hdrs.METH_GET: tasks.every})
    routes.add("/tasks/{task}", links.TASK, {hdrs.METH_GET: tasks.one})
    routes.add("/stats", links.STATS, {hdrs.METH_GET: stats_handler(parts)})
    # Asked every few seconds by several machines: in the log they would hide everything else.
    routes.add("/health/live", links.LIVE, {hdrs.METH_GET: health.live}, is_logged=False)
    routes.add("/health/ready", links.READY, {hdrs.METH_GET: health.ready}, is_logged=False)
    routes.add("/", links.INDEX, {hdrs.METH_GET: index.index})
    routes.any(routes.router.add_resource("/{path:.*}"), _not_found)


def _method_not_allowed(allowed: str) -> Handler:
    async def refuse(exchange: Exchange) -> Reply:
        raise method_not_allowed(exchange.request.method, allowed)

    return refuse


async def _not_found(exchange: Exchange) -> Reply:
    raise not_found(exchange.request.rel_url.path)
