"""The start record of a worker process: the one argument of its `multiprocessing.Process`."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from offload.metrics.layout import WorkerRows
    from offload.tasks.targets.loading import Target

# Tells the forkserver what to preload: only module names and the environment reach it.
PRELOAD_VARIABLE: Final = "OFFLOAD_PRELOAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """What to load. `library_threads` is for `limit_library_threads`, `max_body_bytes` limits an inflated body."""

    targets: tuple[Target, ...]
    library_threads: int
    max_body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """`channel` is the worker's end of the socket pair, `output` the writing end of the pipe for its output.

    `tokens` holds the eventfd of `worker.inbox`, None if the system has none. `descriptors` is the worker's end of the
    pair of `wire.passing`, None if no descriptors are passed. `is_debug` puts tracebacks of the user's code into
    problems.
    """

    load: LoadSpec
    lane: int
    start_method: str
    channel: socket.socket
    output: Connection
    tokens: Connection | None
    descriptors: socket.socket | None
    metrics: WorkerRows
    is_debug: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeSpec:
    """`channel` is for one CATALOGUE or START_FAILED frame."""

    load: LoadSpec
    start_method: str
    channel: socket.socket
