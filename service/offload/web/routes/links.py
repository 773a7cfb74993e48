"""Makes the paths of the links in documents.

A path starts with the prefix under which a proxy (`root_path`) or a host application (`add_subapp`) serves it.
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
    """Use only after start-up: mounting the application moves its paths, and the parts may come late."""

    def __init__(self, router: web.UrlDispatcher, parts: LateParts) -> None:
        self._router = router
        self._parts = parts

    def path(self, resource: str, **parts: str) -> str:
        """Returns the path of a named resource as a caller must write it."""
        return self._parts.current.root_path + str(self._router[resource].url_for(**parts))
