"""granian, which calls the task on the event loop of its web worker.

Source: granian's README: RSGI is its own and fastest interface, as many workers as cores, the defaults for threads,
uvloop.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
from granian import Granian
from granian.constants import Interfaces, Loops

from tests.benchmark import tasks
from tests.benchmark.load.plan import HOST

_JSON = [("content-type", "application/json")]
_BYTES = [("content-type", "application/octet-stream")]


async def app(scope: Any, protocol: Any) -> None:
    task = scope.path.removeprefix("/jobs/")
    if task == scope.path:
        protocol.response_empty(200, [])
        return
    body = await protocol()
    if task == "echo":
        protocol.response_bytes(200, _BYTES, tasks.echo(body))
    else:
        protocol.response_bytes(200, _JSON, orjson.dumps(getattr(tasks, task)(**orjson.loads(body))))


if __name__ == "__main__":
    Granian(
        f"{__spec__.name}:app",
        address=HOST,
        port=int(sys.argv[1]),
        interface=Interfaces.RSGI,
        workers=int(sys.argv[2]),
        loop=Loops.uvloop,
        websockets=False,
        log_access=False,
    ).serve()
