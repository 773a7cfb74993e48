"""The tasks that are measured, the same for every system.

Lives here: plain functions, which the service finds as tasks and the other systems call as they are.  They are
imported in every worker of every system, so this module imports next to nothing.
"""

from __future__ import annotations

import time

from offload import task

_MS_PER_S = 1e3

HANG_LIMIT_S = 0.2


@task
def noop(x: int) -> int:
    """Nothing: all of its cost is overhead."""
    return x


@task
def burn(ms: float) -> float:
    """Uses up `ms` milliseconds of this process's CPU time; waiting for a core does not count as work."""
    end_s = time.process_time() + ms / _MS_PER_S
    while time.process_time() < end_s:
        pass
    return ms


@task
def echo(data: bytes) -> bytes:
    """The body comes back: all of its cost is moving bytes."""
    return data


@task(timeout=HANG_LIMIT_S)
def hang() -> None:
    """Never ends by itself, and keeps a core busy."""
    while True:
        pass


@task
def burn_1_ms() -> float:
    return burn(1.0)


@task
def burn_100_ms() -> float:
    return burn(100.0)


@task(max_running=1)  # a heavy task that may occupy every slot leaves none to short ones
def burn_2_s() -> float:
    return burn(2000.0)
