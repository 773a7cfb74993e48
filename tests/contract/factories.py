"""Executors of somebody else's, as `--executor` names them."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import Executor
from importlib import import_module
from typing import Any, Final

BOUND_S: Final = 10.0


def loky_executor(workers: int) -> Executor:
    executor: Executor = import_module("loky").ProcessPoolExecutor(workers)
    return executor


def end_loky() -> None:
    """Its resource tracker otherwise lives as long as this process.  It goes last: what goes later starts another."""
    _join_threads()
    gc.collect()
    tracker: Any = import_module("loky.backend.resource_tracker")
    tracker._resource_tracker._stop()


def _join_threads() -> None:
    for thread in threading.enumerate():
        if thread.name in ("ExecutorManagerThread", "QueueFeederThread"):
            thread.join(BOUND_S)


def no_executor(workers: int) -> Executor:
    raise OSError("there is no cluster")
