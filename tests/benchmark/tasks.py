"""The tasks that are measured, the same for every system; every worker of every system imports this module."""

from __future__ import annotations

import time

from offload import task

HANG_TIMEOUT_S = 0.2

_MS_PER_S = 1e3


@task
def noop(x: int) -> int:
    """Does nothing: its whole cost is overhead."""
    return x


@task
def burn(ms: float) -> float:
    """Uses `ms` milliseconds of the process's CPU time; waiting for a core does not count."""
    end_s = time.process_time() + ms / _MS_PER_S
    while time.process_time() < end_s:
        pass
    return ms


@task
def echo(data: bytes) -> bytes:
    """Returns the body: its whole cost is moving bytes."""
    return data


@task(timeout=HANG_TIMEOUT_S)
def hang() -> None:
    """Never ends by itself, and keeps a core busy."""
    while True:
        pass
