"""Tasks for large bodies and results."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from offload import current_job, task


@task
def echo(data: bytes) -> bytes:
    return data


@task
def echo_view(data: memoryview) -> memoryview:
    return data


@task
def echo_json(text: str) -> str:
    return text


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
def doubled(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values * 2


@task
def many(count: int) -> bytes:
    return bytes(count)


@task(timeout=0.2)
def hang(data: memoryview) -> None:
    time.sleep(1000)


@task
def die(data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(retries=2)
def echo_at_last(data: bytes) -> bytes:
    """Dies twice with all of it in its hands."""
    job = current_job()
    assert job is not None
    if job.attempt < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return data


@task
def leave() -> None:
    os._exit(1)
