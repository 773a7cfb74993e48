"""LitServe: `python -m tests.benchmark.peers.litserve_server PORT WORKERS TASK …`.

Each task has worker processes of its own; those of the tasks that are not called wait.  Source: the docstring of
`LitServer`: `fast_queue` from 100 requests a second on, on a CPU as many workers as cores, as many HTTP processes as
workers (its default).
"""

import sys
from typing import Annotated, Any

import litserve
import orjson
from fastapi import Body, Response

from tests.benchmark import tasks
from tests.benchmark.peers import HOST


class JsonApi(litserve.LitAPI):
    def __init__(self, task: str) -> None:
        super().__init__(api_path=f"/jobs/{task}")
        self.task = task

    def setup(self, device: str) -> None:
        self.function = getattr(tasks, self.task)

    def predict(self, x: Any) -> Any:
        return self.function(**x)

    def encode_response(self, output: Any) -> Response:
        return Response(orjson.dumps(output), media_type="application/json")


class EchoApi(JsonApi):
    # The annotation is read by FastAPI, which is why this module has no `from __future__ import annotations`.
    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, x: Any) -> bytes:
        return tasks.echo(x)

    def encode_response(self, output: Any) -> Response:
        return Response(output, media_type="application/octet-stream")


def main(arguments: list[str]) -> None:
    port, workers, names = int(arguments[0]), int(arguments[1]), arguments[2:]
    server = litserve.LitServer(
        [EchoApi(name) if name == "echo" else JsonApi(name) for name in names],
        accelerator="cpu",
        workers_per_device=workers,
        fast_queue=True,
        timeout=False,
        healthcheck_path="/health/live",
        max_payload_size=1 << 30,
    )
    server.run(
        host=HOST, port=port, num_api_servers=workers, log_level="warning", generate_client_file=False, access_log=False
    )


if __name__ == "__main__":
    main(sys.argv[1:])
