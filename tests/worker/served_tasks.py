"""What the workers of these tests serve."""

from __future__ import annotations

import os
import sys
import threading
import time

from offload import current_lane, on_worker_start, task

STARTED: list[int | None] = []


@on_worker_start
def begin() -> None:
    STARTED.append(current_lane())
    fault = os.environ.get("HOOK_FAULT")
    if fault == "raise":
        raise ValueError("no model")
    if fault == "exit":
        sys.exit("gone")
    if fault == "fork" and os.fork() == 0:
        return  # the child must not go on as a second worker


@task
def echo(text: str) -> str:
    return text


@task
def wait_at(path: str) -> str:
    """Waits until whoever has opened the other end of this FIFO closes it."""
    with open(path) as gate:
        gate.read()
    return "passed"


@task
def lanes() -> list[int | None]:
    return STARTED


@task
def say(text: str) -> None:
    print(text, end="")


@task
def fork_and_return() -> str:
    """Both sides return from the task."""
    pid = os.fork()
    if pid == 0:
        return "child"
    os.waitpid(pid, 0)
    return "parent"


@task
def close_everything() -> None:
    os.closerange(3, 4096)


@task
def digits(number: int) -> int:
    return number


@task
def leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
