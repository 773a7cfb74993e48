"""The tasks that the workers of these tests serve."""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
import time
from contextlib import suppress

from offload import current_lane, on_worker_start, task

STARTED: list[int | None] = []


@on_worker_start
def begin() -> None:
    STARTED.append(current_lane())
    if threshold := os.environ.get("GC_THRESHOLD"):
        gc.set_threshold(int(threshold))
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
    """Waits until the other end of this FIFO is closed."""
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


KEPT: list[memoryview] = []


@task
def echo_bytes(data: bytes) -> bytes:
    return data


@task
def echo_view(data: memoryview) -> memoryview:
    return data[1:]


@task
def keep_view(data: memoryview) -> None:
    KEPT.append(data[1:])


@task
def forget_kept() -> bytes:
    """Returns the end of the view that `keep_view` kept."""
    return bytes(KEPT.pop()[-3:])


@task
def raise_with_view(data: memoryview) -> None:
    raise ValueError(len(data))


@task
def many(count: int) -> bytes:
    return bytes(count)


@task
def wait_with(data: memoryview, path: str) -> str:
    return wait_at(path)


@task
def shared_memory() -> list[str]:
    """Returns the descriptors and mappings of shared memory in this process."""
    held = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of this listing
            held.append(os.readlink(f"/proc/self/fd/{name}"))
    with open("/proc/self/maps") as maps:
        held += maps.read().splitlines()
    return [line for line in held if "memfd:offload" in line]


@task
def lose_output(how: str) -> None:
    if how == "closed":
        sys.stdout.close()
        sys.stderr.close()
    elif how == "none":
        sys.stdout = sys.stderr = None  # as in Python without a console
    else:
        sys.stdout = sys.stderr = io.StringIO()


@task
def garbage_threshold() -> int:
    return gc.get_threshold()[0]
