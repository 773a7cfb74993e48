"""The HTTP interface as an `aiohttp.web.Application`: which handler serves which path.

The application can be run (see `server.runner`) or mounted in another one with `add_subapp`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from aiohttp import hdrs, web

from offload.core.outcome import Reason
from offload.web.answers.reply import Reply
from offload.web.answers.request_problems import method_not_allowed, not_found
from offload.web.parts import PARTS, LateParts, WebParts
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
    """Returns the application. Without `parts`, its start-up must set `app[PARTS]`."""
    app = web.Application()
    if parts is not None:
        app[PARTS] = parts
    access_log = app[ACCESS_LOG] = AccessLog()
    late_parts = LateParts(app)
    watch = DisconnectWatch(lambda job: late_parts.current.dispatcher.cancel(job, Reason.DISCONNECTED))
    _add_routes(_Routes(app.router, HandlerAdapter(late_parts, access_log)), late_parts, watch)

    async def timers(_: web.Application) -> AsyncIterator[None]:
        yield
        watch.close()
        access_log.flush()

    app.cleanup_ctx.append(timers)
    return app


class _Routes:
    """Adds resources with all their methods; other methods get a problem document."""

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
        self.add_fallback(resource, _method_not_allowed(", ".join(allowed)))

    def add_fallback(self, resource: web.Resource, handle: Handler) -> None:
        resource.add_route(hdrs.METH_ANY, self._adapter.adapt(handle), expect_handler=leave_expectation)


def _add_routes(routes: _Routes, parts: LateParts, watch: DisconnectWatch) -> None:
    paths = links.Links(routes.router, parts)
    jobs = JobHandlers(parts, watch=watch, links=paths)
    tasks = TaskHandlers(parts, links=paths)
    health = HealthHandlers(parts)
    index = IndexHandler(parts, links=paths)
    routes.add("/jobs/{task}", links.JOBS, {hdrs.METH_POST: jobs.run})
    routes.add("/jobs/{task}/{id}", links.JOB, {hdrs.METH_DELETE: jobs.cancel})
    routes.add("/tasks", links.TASKS, {hdrs.METH_GET: tasks.list_all})
    routes.add("/tasks/{task}", links.TASK, {hdrs.METH_GET: tasks.describe})
    routes.add("/stats", links.STATS, {hdrs.METH_GET: stats_handler(parts)})
    # Not logged: several machines poll these every few seconds.
    routes.add("/health/live", links.LIVE, {hdrs.METH_GET: health.live}, is_logged=False)
    routes.add("/health/ready", links.READY, {hdrs.METH_GET: health.ready}, is_logged=False)
    routes.add("/", links.INDEX, {hdrs.METH_GET: index.get})
    routes.add_fallback(routes.router.add_resource("/{path:.*}"), _not_found)


def _method_not_allowed(allowed: str) -> Handler:
    async def reject(exchange: Exchange) -> Reply:
        raise method_not_allowed(exchange.request.method, allowed)

    return reject


async def _not_found(exchange: Exchange) -> Reply:
    raise not_found(exchange.request.rel_url.path)
