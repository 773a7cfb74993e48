"""The systems that are measured: how each is started, and what it can do.

All serve the same tasks, on the same paths, with the same bodies.

    bare      an aiohttp handler that calls the task on its event loop: no worker, only the cost of HTTP
    pool      an aiohttp handler with `multiprocessing.Pool.apply_async` and a callback
    executor  an aiohttp handler with a `ProcessPoolExecutor` and `run_in_executor`
    offload   `offload serve` with its defaults
    baseline  the same at an older revision, if one is named
    fastapi   FastAPI on uvicorn, with a `ProcessPoolExecutor`
    mosec     mosec: a front in Rust, worker processes for each task
    litserve  LitServe: FastAPI processes, ZeroMQ, worker processes for each task
    granian   granian: the task runs in the web worker, without isolation or limits
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmark import tasks
from tests.benchmark.environments import PACKAGE_FOLDER, ROOT, checkout, interpreter
from tests.benchmark.load.plan import HOST

NOOP_BODY: Final = '{"x": 1}'

_EXAMPLES: Final = "offload.examples.tasks"
_TASKS_FILE: Final = str(Path(tasks.__file__))  # a path, because an older revision cannot import the module
_TASK_NAMES: Final = ("noop", "burn", "echo")
_UVICORN: Final = ("fastapi==0.165.0", "starlette==1.10.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")
_ORJSON: Final = "orjson==3.13.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a system is started. With `is_example` the service has its example tasks, the others at least a no-op."""

    port: int
    workers: int
    max_body_bytes: int | None = None  # None is the service's default; the other systems have no relevant limit
    is_example: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A server is ready when the request `ready` (method, path, body) is answered with 200.

    `python_path` is the PYTHONPATH of its process, `requirements` what its environment needs if it has one.
    `is_service`: has `/stats` and can stop work. `has_workers`: runs tasks outside its event loop.
    `may_fail`: is left out if it does not work, instead of ending the run.
    """

    name: str
    command: Callable[[Start], tuple[str, ...]]
    python_path: str = f"{PACKAGE_FOLDER}:{ROOT}"
    requirements: tuple[str, ...] = ()
    ready: tuple[str, str, str | None] = ("POST", "/jobs/noop", NOOP_BODY)
    live_path: str = "/health/live"
    is_service: bool = False
    has_workers: bool = True
    may_fail: bool = False


def _service(name: str, package_folder: Path, *, may_fail: bool = False, options: Sequence[str] = ()) -> System:
    """`offload serve` of the package in that folder."""

    def command(start: Start) -> tuple[str, ...]:
        target = _EXAMPLES if start.is_example else _TASKS_FILE
        flags = {"--host": HOST, "--port": start.port, "--workers": start.workers, "--max-body": start.max_body_bytes}
        given = [str(word) for flag in flags.items() if flag[1] is not None for word in flag]
        return (sys.executable, "-m", "offload", "serve", target, *given, *options)

    return System(
        name=name,
        command=command,
        python_path=str(package_folder),
        ready=("GET", "/health/ready", None),
        is_service=True,
        may_fail=may_fail,
    )


def _handler(name: str) -> System:
    def command(start: Start) -> tuple[str, ...]:
        return (sys.executable, "-m", "tests.benchmark.handlers", name, str(start.port), str(start.workers))

    return System(name=name, command=command, has_workers=name != "bare")


def _peer(name: str, *requirements: str, live_path: str = "/health/live") -> System:
    def command(start: Start) -> tuple[str, ...]:
        served = ("noop",) if start.is_example else _TASK_NAMES
        module = f"tests.benchmark.peers.{name}_server"
        return (str(interpreter(name)), "-m", module, str(start.port), str(start.workers), *served)

    return System(name=name, command=command, requirements=requirements, live_path=live_path, may_fail=True)


OFFLOAD: Final = _service("offload", PACKAGE_FOLDER)
BASELINE: Final = "baseline"
# Beside the default one. A cluster is a local one with as many workers.
ENGINES: Final = tuple(
    _service(f"--engine {engine}", PACKAGE_FOLDER, may_fail=True, options=("--engine", engine))
    for engine in ("pool", "executor", "dask", "ray")
)

DEFAULT: Final = (*map(_handler, ("bare", "pool", "executor")), OFFLOAD)
# Versions are pinned, so that figures of different days are comparable.
PEERS: Final = (
    _peer("fastapi", *_UVICORN, _ORJSON),
    _peer("mosec", "mosec==0.9.8", _ORJSON, live_path="/"),
    _peer("litserve", "litserve==0.2.19", *_UVICORN, _ORJSON),
    _peer("granian", "granian[uvloop]==2.8.7", "uvloop==0.23.0", _ORJSON),
)
BY_NAME: Final = {system.name: system for system in (*DEFAULT, *PEERS)}


def baseline(revision: str) -> System:
    """The service at that git revision, which may lack what is measured. Raises BenchError as `checkout` does."""
    return _service(BASELINE, checkout(revision), may_fail=True)
