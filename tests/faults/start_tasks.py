"""Tasks whose worker start does what the environment variable START_FAULT says."""

from __future__ import annotations

import os
import time

from offload import current_lane, on_worker_start, task

LANES: list[int | None] = []


@on_worker_start
def begin() -> None:
    LANES.append(current_lane())
    path = os.environ.get("START_FAULT_WHILE", "")
    if path and not os.path.exists(path):
        return
    match os.environ.get("START_FAULT"):
        case "raise":
            raise ValueError("the model is missing")
        case "exit":
            raise SystemExit(3)
        case "die":
            os._exit(9)
        case "hang":
            time.sleep(1000)


@task
def lane() -> list[int | None]:
    return LANES


@task
def leave() -> None:
    os._exit(1)
