"""The peers: other people's ways to put a function behind HTTP, each in its documented good configuration.

Lives here: what each needs and how it is started; its own file beside this one is the server, with the tasks of
`tests.benchmark.tasks`.  Each lives in a virtual environment of its own, so that no peer decides about another's
packages or the service's; `environments` makes it.  Versions are pinned: figures of two days are to be of one thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmark.cache import folder

HOST: Final = "127.0.0.1"
TASKS: Final = ("noop", "burn", "echo")

_UVICORN: Final = ("fastapi==0.165.0", "starlette==1.10.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")
_ORJSON: Final = "orjson==3.13.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """`module` is the server's, with port, workers and tasks as arguments."""

    name: str
    what: str
    requirements: tuple[str, ...]
    module: str
    live_path: str = "/health/live"

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return folder(self.name) / "bin" / "python"

    def arguments(self, port: int, workers: int, tasks: tuple[str, ...]) -> tuple[str, ...]:
        return ("-m", f"{__name__}.{self.module}", str(port), str(workers), *tasks)


PEERS: Final = (
    Peer(
        name="fastapi",
        what="FastAPI on uvicorn, over a `ProcessPoolExecutor`",
        requirements=(*_UVICORN, _ORJSON),
        module="fastapi_server",
    ),
    Peer(
        name="mosec",
        what="mosec: a front in Rust, worker processes for each task",
        requirements=("mosec==0.9.8", _ORJSON),
        module="mosec_server",
        live_path="/",
    ),
    Peer(
        name="litserve",
        what="LitServe: FastAPI processes, ZeroMQ, worker processes for each task",
        requirements=("litserve==0.2.19", *_UVICORN, _ORJSON),
        module="litserve_server",
    ),
    Peer(
        name="granian",
        what="granian: the task runs inside the web worker, no isolation and no limits",
        requirements=("granian[uvloop]==2.8.7", "uvloop==0.23.0", _ORJSON),
        module="granian_server",
    ),
)
