"""The table of systems that are measured, and what a run may choose of them.

Lives here: for each system how it is started and what it can be asked; the starting itself is `children`'s.  All have
the same tasks, on the same paths, with the same bodies.

    bare      an aiohttp handler that calls the task by itself, on its event loop: no worker, the price of HTTP alone
    pool      an aiohttp handler over `multiprocessing.Pool.apply_async` with a callback
    executor  an aiohttp handler over a `ProcessPoolExecutor` through `run_in_executor`
    offload   `offload serve`, with its defaults
    baseline  the same at an older revision, when one is named
    others    see `peers`
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import offload
from tests.benchmark import peers, tasks
from tests.benchmark.load import HOST

EXAMPLES: Final = "offload.examples.tasks"
NOOP_BODY: Final = '{"x": 1}'

# By path: an older revision, which has no such module, serves the same tasks.
_TASKS_FILE: Final = str(Path(tasks.__file__))

PACKAGE_FOLDER: Final = Path(offload.__file__).parents[1]
# For servers that import the tasks as a module.
_IMPORTS: Final = {"PYTHONPATH": f"{PACKAGE_FOLDER}:{Path(__file__).parents[2]}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a system is to be started.  With `is_example` the service has the tasks of its examples, others a no-op."""

    port: int
    workers: int
    max_body_bytes: int | None = None  # None is the service's default; the others have no limit that matters here
    is_example: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A process: its arguments, and what its environment has besides this one's."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system.  It is ready when `ready` (method, path, body) is answered with 200.

    `is_service` are those that have `/stats` and can stop work; `has_workers` those whose event loop runs no task;
    `may_fail` those that are left out where they do not work, instead of ending the run.
    """

    name: str
    command: Callable[[Start], Command]
    ready: tuple[str, str, str | None] = ("POST", "/jobs/noop", NOOP_BODY)
    live_path: str = "/health/live"
    is_service: bool = False
    has_workers: bool = True
    may_fail: bool = False


def service(name: str, package_folder: Path, *, may_fail: bool = False, more: Sequence[str] = ()) -> System:
    """`offload serve`, of the package in that folder, with `more` on its command line."""

    def command(start: Start) -> Command:
        target = EXAMPLES if start.is_example else _TASKS_FILE
        flags = {"--host": HOST, "--port": start.port, "--workers": start.workers, "--max-body": start.max_body_bytes}
        given = [str(word) for flag in flags.items() if flag[1] is not None for word in flag]
        return Command(
            arguments=(sys.executable, "-m", "offload", "serve", target, *given, *more),
            variables={"PYTHONPATH": str(package_folder)},
        )

    return System(name=name, command=command, ready=("GET", "/health/ready", None), is_service=True, may_fail=may_fail)


def _handler(name: str) -> System:
    def command(start: Start) -> Command:
        module = "tests.benchmark.handlers"
        return Command(
            arguments=(sys.executable, "-m", module, name, str(start.port), str(start.workers)),
            variables=_IMPORTS,
        )

    return System(name=name, command=command, has_workers=name != "bare")


def _peer(peer: peers.Peer) -> System:
    def command(start: Start) -> Command:
        tasks = ("noop",) if start.is_example else peers.TASKS
        return Command(
            arguments=(str(peer.python), *peer.arguments(start.port, start.workers, tasks)),
            variables=_IMPORTS,
        )

    return System(name=peer.name, command=command, live_path=peer.live_path, may_fail=True)


OURS: Final = service("offload", PACKAGE_FOLDER)
BASELINE: Final = "baseline"
# Beside the default one.  A cluster is a local one, with as many workers.
ENGINES: Final = tuple(
    service(f"--engine {engine}", PACKAGE_FOLDER, may_fail=True, more=("--engine", engine))
    for engine in ("pool", "executor", "dask", "ray")
)

DEFAULT: Final = (*map(_handler, ("bare", "pool", "executor")), OURS)
PEERS: Final = tuple(map(_peer, peers.PEERS))
BY_NAME: Final = {system.name: system for system in (*DEFAULT, *PEERS)}
