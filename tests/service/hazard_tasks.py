"""Tasks with what a worker should not have inherited, or leaves behind."""

from __future__ import annotations

import os
import random
import time

import numpy as np

from offload import task

FIRST = (random.random(), np.random.random())  # both generators exist, and have been used, before any fork


@task
def dice() -> tuple[float, float]:
    return random.random(), np.random.random()


@task
def leave_helper(has_own_session: bool) -> int:
    """Succeeds, and leaves a process running; its id."""
    pid = os.fork()
    if pid == 0:
        if has_own_session:
            os.setsid()
        time.sleep(1000)
        os._exit(0)
    return pid


@task
def fine() -> int:
    return os.getpid()


@task
def leave() -> None:
    os._exit(1)


@task
def noise() -> None:
    for number in range(200):
        print(f"line {number}")
