"""Paths that the service's documents point to.

Lives here: the names of the resources, and how a path is made from one of them, with the prefix under which a proxy
(`root_path`) or a host application (`add_subapp`) has put the service.  `app` names the resources when it adds them.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from offload.web.parts import LateParts

JOBS: Final = "jobs"
JOB: Final = "job"
TASKS: Final = "tasks"
TASK: Final = "task"
STATS: Final = "stats"
LIVE: Final = "live"
READY: Final = "ready"
INDEX: Final = "index"


class Links:
    """Known only once the application is complete: a mount moves its paths, and the parts may come late."""

    def __init__(self, router: web.UrlDispatcher, parts: LateParts) -> None:
        self._router = router
        self._parts = parts

    def path(self, resource: str, **parts: str) -> str:
        """The path of a named resource as a caller must write it."""
        return self._parts.current.root_path + str(self._router[resource].url_for(**parts))
