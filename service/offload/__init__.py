"""Turn CPU-heavy Python functions into an HTTP compute service.

For writing tasks: `task`, `on_worker_start`, `current_job`, `current_lane`, `Response`. For running them: `create_app`,
`Settings`, `OffloadError`. Each name is imported on first use, so that a worker does not pay for what it does not use.
"""

from __future__ import annotations

import sys

# `python -m offload` would search the working directory first, and run a `typing.py` there. So the directory leaves the
# path before anything else is imported, unless it is the one with this package.
if (
    getattr(sys, "argv", [])[:1] == ["-m"]
    and sys.orig_argv[-len(sys.argv)].endswith("offload")
    and not sys.flags.safe_path
    and not __file__.startswith(f"{sys.path[0]}/offload/")
):
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from offload.errors import OffloadError as OffloadError
    from offload.service import create_app as create_app
    from offload.settings.table import Settings as Settings
    from offload.tasks.context import current_job as current_job
    from offload.tasks.context import current_lane as current_lane
    from offload.tasks.definition.decorators import on_worker_start as on_worker_start
    from offload.tasks.definition.decorators import task as task
    from offload.tasks.response import Response as Response

__version__: Final = "0.1.0"

_MODULES: Final = {
    "OffloadError": "offload.errors",
    "Response": "offload.tasks.response",
    "Settings": "offload.settings.table",
    "create_app": "offload.service",
    "current_job": "offload.tasks.context",
    "current_lane": "offload.tasks.context",
    "on_worker_start": "offload.tasks.definition.decorators",
    "task": "offload.tasks.definition.decorators",
}

__all__ = [
    "OffloadError",
    "Response",
    "Settings",
    "create_app",
    "current_job",
    "current_lane",
    "on_worker_start",
    "task",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
