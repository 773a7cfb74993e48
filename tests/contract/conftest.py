"""For each module, one open engine of each row."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.contract.engines import ROWS, Running, opened


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> None:
    """Replaces the check after each test by the one after the module: the engine's processes outlive a test."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ROWS)
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with opened(request.param) as engine:
        await engine.until_idle()
        yield engine
        await engine.until_idle()
