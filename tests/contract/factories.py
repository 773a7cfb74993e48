"""Factories of executors for `--executor`."""

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
    """Ends the resource tracker of loky, which would live as long as this process. A later use starts another."""
    _join_threads()
    gc.collect()
    tracker: Any = import_module("loky.backend.resource_tracker")
    tracker._resource_tracker._stop()


def _join_threads() -> None:
    for thread in threading.enumerate():
        if thread.name in ("ExecutorManagerThread", "QueueFeederThread"):
            thread.join(BOUND_S)


def no_executor(workers: int) -> Executor:
    raise OSError("the cluster cannot be reached")
