"""Tasks whose worker start hook does what the file named after its lane in the folder START_FAULTS says."""

from __future__ import annotations

import os
import time
from pathlib import Path

from offload import current_lane, on_worker_start, task

LANES: list[int | None] = []


@on_worker_start
def begin() -> None:
    lane = current_lane()
    LANES.append(lane)
    file = Path(os.environ["START_FAULTS"], str(lane))
    match file.read_text() if file.exists() else "":
        case "raise":
            raise ValueError("the model is missing")
        case "exit":
            raise SystemExit(3)
        case "die":
            os._exit(9)
        case "hang":  # ends together with the fault
            while file.exists():
                time.sleep(0.01)


@task
def lane() -> list[int | None]:
    return LANES


@task
def leave() -> None:
    os._exit(1)
