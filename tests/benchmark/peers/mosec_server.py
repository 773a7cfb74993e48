"""mosec. A worker does not know the path it is called by, so each task has its own workers; those not called wait.

Source: mosec's README, "Configuration" and "Performance tuning" (own `serialize` and `deserialize`), and `--help`; the
timeout is raised above the longest answer.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
from mosec import Server, Worker

from tests.benchmark import tasks
from tests.benchmark.load.plan import HOST


class JsonWorker(Worker):
    task = ""

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data)

    def forward(self, data: dict[str, Any]) -> Any:
        return getattr(tasks, self.task)(**data)


class Noop(JsonWorker):
    task = "noop"


class Burn(JsonWorker):
    task = "burn"


class Echo(Worker):
    resp_mime_type = "application/octet-stream"

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> bytes:
        return tasks.echo(data)


def main(port: str, workers: str, *names: str) -> None:
    # The server reads its flags from the command line.
    flags = {"--timeout": "60000", "--max-request-size": str(1 << 30), "--log-level": "warning"}
    sys.argv[1:] = ["--address", HOST, "--port", port, *(word for flag in flags.items() for word in flag)]
    server = Server()
    for name, worker in (("noop", Noop), ("burn", Burn), ("echo", Echo)):
        if name in names:
            server.append_worker(worker, num=int(workers), route=f"/jobs/{name}")
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
