"""Executors of somebody else's, as `--executor` names them."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor
from importlib import import_module


def process_pool_executor(workers: int) -> Executor:
    """As anybody would make one."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def loky_executor(workers: int) -> Executor:
    executor: Executor = import_module("loky").ProcessPoolExecutor(workers)
    return executor


def nothing(workers: int) -> Executor:
    raise OSError("there is no cluster")
