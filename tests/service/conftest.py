"""A service that the tests of a module share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.service import RunningService, serving

TASKS = Path(__file__).parent.parent / "faults" / "fault_tasks.py"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service_of_module() -> AsyncIterator[RunningService]:
    async with serving(TASKS, "--workers", "1") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def service(service_of_module: RunningService) -> RunningService:
    """A ready service with one worker and an empty log; tests that use it share the module's event loop."""
    await service_of_module.ready()
    service_of_module.log.clear()
    return service_of_module
