"""Start jobs that wait to be killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.service import Answer, RunningService, eventually


async def begin_waiting(service: RunningService, trace: Path) -> tuple[asyncio.Task[Answer], int]:
    """Start a job that waits for a signal; return its caller and the process in which it has begun.

    `/stats` names a worker as soon as a job is on its way to it.  If that worker dies before the job begins, the job
    runs elsewhere and does not crash.
    """

    async def pid() -> str:
        return trace.read_text() if trace.exists() else ""

    caller = asyncio.create_task(service.job("wait_for_signal", {"trace": str(trace)}))
    return caller, int(await eventually("it has begun", pid))
