"""Loads the user's modules once in the forkserver, so that every worker inherits them.

`set_forkserver_preload` takes only importable names and ignores ImportError, so this module is the only preloaded name
and keeps any error for the workers to report. It works at import time because the forkserver only imports it.
"""

from __future__ import annotations

import gc
import json
import os
from typing import Final

from offload.errors import UserError
from offload.tasks.loading import Registry, Target, load, targets_from_json
from offload.wire.spec import PRELOAD_VARIABLE
from offload.worker.isolation import limit_library_threads
from offload.worker.prctl import die_with_parent_thread


class Preloaded:
    """The tasks that the forkserver loaded, or the error."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.targets = targets
        self.registry: Registry | None = None
        self.error: UserError | None = None
        try:
            self.registry = load(targets)
        except UserError as error:
            self.error = error


def _preload() -> Preloaded | None:
    text = os.environ.pop(PRELOAD_VARIABLE, None)
    if text is None:
        return None
    wanted = json.loads(text)
    # From here on this process ends with the service, even if importing a module hangs. Its children do not inherit
    # that; the guard ends them.
    die_with_parent_thread()
    if os.getppid() != wanted["service_pid"]:
        os._exit(1)  # the service ended before this took effect
    limit_library_threads(wanted["library_threads"])
    return Preloaded(targets_from_json(wanted["targets"]))


def load_targets(targets: tuple[Target, ...]) -> Registry:
    """Returns the tasks of `targets`, preloaded by the forkserver or loaded now. Raises UserError."""
    if preloaded is None or preloaded.targets != targets:
        return load(targets)
    if preloaded.error is not None:
        raise preloaded.error
    if preloaded.registry is None:
        raise AssertionError("neither a registry nor an error")
    return preloaded.registry


preloaded: Final = _preload()
gc.freeze()
