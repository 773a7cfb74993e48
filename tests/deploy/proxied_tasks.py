"""Tasks for a service behind a proxy."""

from __future__ import annotations

import time
from pathlib import Path

import offload
from offload import task


@task
def double(number: int) -> int:
    return 2 * number


@task
def echo(data: bytes) -> bytes:
    return data


@task
def request_id() -> str:
    job = offload.current_job()
    assert job is not None
    return job.request_id


@task
def spin() -> None:
    """Run until the job is stopped."""
    while True:
        pass


@task
def wait_for_file(path: str) -> str:
    """Wait for the file."""
    while not Path(path).exists():
        time.sleep(0.01)
    return "done"
