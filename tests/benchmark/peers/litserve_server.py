"""LitServe. Each task has its own workers; those of tasks that are not called wait.

Source: the docstring of `LitServer`: `fast_queue` from 100 requests a second on, as many workers as cores on a CPU, as
many HTTP processes as workers (its default).
"""

# No `from __future__ import annotations`: FastAPI reads the annotation of `EchoApi.decode_request`.
import sys
from typing import Annotated, Any

import litserve
import orjson
from fastapi import Body, Response

from tests.benchmark import tasks
from tests.benchmark.load.plan import HOST


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
    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, x: Any) -> bytes:
        return tasks.echo(x)

    def encode_response(self, output: Any) -> Response:
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    litserve.LitServer(
        [EchoApi(name) if name == "echo" else JsonApi(name) for name in sys.argv[3:]],
        accelerator="cpu",
        workers_per_device=workers,
        fast_queue=True,
        timeout=False,
        healthcheck_path="/health/live",
        max_payload_size=1 << 30,
    ).run(
        host=HOST, port=port, num_api_servers=workers, log_level="warning", generate_client_file=False, access_log=False
    )
