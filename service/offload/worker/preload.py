"""Preloaded by the forkserver: the user's modules, so that a new worker has them at once.

Lives here: what is done once in the forkserver and inherited by every worker.  `set_forkserver_preload` takes
importable names only and swallows ImportError, so this module is the only name, and what goes wrong is kept for the
workers to tell.  Imported for its effect by the forkserver alone, the one place where work at import is the purpose.
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
    """What the forkserver loaded, or why it could not."""

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
    # Whatever hangs or dies from here on, the import of a module too: this process does not outlive the service.  Its
    # children do not inherit that; they are the guard's.
    die_with_parent_thread()
    if os.getppid() != wanted["service_pid"]:
        os._exit(1)  # the service had gone before it could take us along
    limit_library_threads(wanted["library_threads"])
    return Preloaded(targets_from_json(wanted["targets"]))


def load_targets(targets: tuple[Target, ...]) -> Registry:
    """The loaded targets: what the forkserver has of them, else freshly.  Raises UserError."""
    if preloaded is None or preloaded.targets != targets:
        return load(targets)
    if preloaded.error is not None:
        raise preloaded.error
    if preloaded.registry is None:
        raise AssertionError("neither a registry nor an error")
    return preloaded.registry


preloaded: Final = _preload()
gc.freeze()
