from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.long_life import LongLife


@pytest.fixture(scope="package", autouse=True)
def _long_life(request: pytest.FixtureRequest) -> Iterator[LongLife | None]:
    """Begins before the first test of this folder, if anybody is going to ask for it."""
    if not any("long_life" in vars(item).get("fixturenames", ()) for item in request.session.items):
        yield None
        return
    life = LongLife()
    yield life
    life.end()


@pytest.fixture
def long_life(_long_life: LongLife | None) -> LongLife:
    assert _long_life is not None
    return _long_life
