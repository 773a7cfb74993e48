"""Tasks for the contract of all engines: well-behaved ones and others."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import offload
from offload import Response, current_lane, on_worker_start, task

STARTS: list[int | None] = []


@on_worker_start
def begin() -> None:
    STARTS.append(current_lane())
    if os.path.exists(os.environ.get("CONTRACT_BROKEN", "")):
        raise ValueError("the model is missing")


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
def starts() -> list[int | None]:
    """Returns the lane at each call of the hook in this process."""
    return STARTS


@task
def about_job() -> dict[str, object]:
    job = offload.current_job()
    assert job is not None
    return {**job._asdict(), "threads": os.environ.get("OMP_NUM_THREADS"), "pid": os.getpid()}


@task
def length(data: bytes, times: int = 1) -> int:
    return len(data) * times


@task
def mirror(data: memoryview) -> Response:
    return Response(bytes(data), media_type="image/x-mirror")


@task
def double(values: np.ndarray) -> np.ndarray:
    return values * 2


@dataclass
class Point:
    x: int
    y: int


@task
def swap(point: Point) -> Point:
    return Point(point.y, point.x)


class OwnError(Exception):
    """Ends the process that pickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        os._exit(99)


@task
def fail(message: str) -> None:
    raise OwnError(message)


@task
def unserialisable() -> object:
    return object()


@task
def leave_by_exit() -> None:
    raise SystemExit(3)


@task
def say(text: str) -> None:
    print(text)


@task
def fork_and_return() -> int:
    """Both sides of the fork return; the answer of the child must be ignored."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return 0 if pid else 1


def _leave_trace(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


@task(timeout=60)
def spin(path: str) -> str:
    """Writes its process id to a file, and burns its core while the file exists."""
    _leave_trace(path, str(os.getpid()))
    end = time.monotonic() + 60
    while os.path.exists(path) and time.monotonic() < end:
        pass
    return "done"


@task(timeout=0.3)
def spin_too_long(path: str) -> str:
    return spin(path)


@task
def work(ms: float) -> float:
    end = time.process_time() + ms / 1000
    while time.process_time() < end:
        pass
    return ms


@task
def mark(path: str, number: int) -> int:
    _leave_trace(path, str(number))
    return number


@task
def die(how: str) -> None:
    match how:
        case "exit":
            os._exit(3)
        case "SIGSEGV":
            ctypes.string_at(0)
        case _:
            os.kill(os.getpid(), signal.Signals[how])
    time.sleep(30)


@task(retries=2)
def die_twice(path: str) -> int:
    _leave_trace(path, "x")
    if len(Path(path).read_text().split()) < 3:
        os._exit(1)
    job = offload.current_job()
    assert job is not None
    return job.attempt


@task(memory="200MB")
def hog() -> int:
    """Exceeds its memory limit for long enough to be seen."""
    data = bytearray(b"x") * 400_000_000
    time.sleep(0.5)
    return len(data)
