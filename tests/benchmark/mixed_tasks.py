"""Tasks of very different lengths, for the service alone.

Lives here: one task for each length, so that the service learns each of them.  Apart from `tasks`, because an older
revision, which is measured too, need not know their limits.
"""

from __future__ import annotations

from offload import task
from tests.benchmark.tasks import burn


@task
def burn_1_ms() -> float:
    return burn(1.0)


@task
def burn_100_ms() -> float:
    return burn(100.0)


@task(max_running=1)  # as the README advises: a heavy task that may take every slot leaves none to short ones
def burn_2_s() -> float:
    return burn(2000.0)
