"""Counts what happens inside a worker: served beside `tasks`, where calls are counted.

Lives here: a hook that begins to count in each worker, and a task that tells; see `probe`, which does it for the
service itself.
"""

from __future__ import annotations

from collections.abc import Callable

from offload import on_worker_start, task
from tests.benchmark.probe import Counts, count_calls, memory_counts

_counts: Callable[[], Counts] = dict


@on_worker_start
def count() -> None:
    global _counts  # noqa: PLW0603 - a worker is this process, and the task below has nothing else to ask
    _counts = count_calls()


@task
def counted() -> dict[str, int]:
    """All counts of this worker so far."""
    return {**_counts(), **memory_counts()}
