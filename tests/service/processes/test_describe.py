"""What is reported if the process that loads the tasks cannot be started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from offload.errors import StartError, TargetError
from offload.processes.describe import describe
from offload.wire.spec import LoadSpec

LOAD = LoadSpec(targets=(), library_threads=1, max_body_bytes=1)


def launcher_that_fails(cause: OSError | EOFError) -> Any:
    async def start(*_: object, name: str) -> None:
        raise StartError(str(cause)) from cause

    return SimpleNamespace(start_method="forkserver", start=start)


@pytest.mark.parametrize("cause", [EOFError("unexpected EOF"), BrokenPipeError(), ConnectionResetError()], ids=repr)
async def test_tasks_that_end_the_forkserver_are_to_blame(cause: OSError | EOFError) -> None:
    """Which of these it is depends on when it ended."""
    with pytest.raises(TargetError, match="ended while it loaded them"):
        await describe(launcher_that_fails(cause), LOAD, timeout_s=60)


async def test_the_tasks_are_not_to_blame_for_what_the_system_refuses() -> None:
    with pytest.raises(BlockingIOError):
        await describe(launcher_that_fails(BlockingIOError(11, "no more processes")), LOAD, timeout_s=60)
