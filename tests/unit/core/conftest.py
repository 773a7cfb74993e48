from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.core.long_life import LongLife


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that waits for the long life comes last of all: it goes on beside the others."""
    items.sort(key=_asks_for_long_life)


@pytest.fixture(scope="session", autouse=True)
def _long_life(request: pytest.FixtureRequest) -> Iterator[LongLife | None]:
    """Begins before the first test of this folder, if anybody is going to ask for it."""
    if not any(map(_asks_for_long_life, request.session.items)):
        yield None
        return
    life = LongLife()
    yield life
    life.end()


@pytest.fixture
def long_life(_long_life: LongLife | None) -> LongLife:
    assert _long_life is not None
    return _long_life


def _asks_for_long_life(item: pytest.Item) -> bool:
    return "long_life" in vars(item).get("fixturenames", ())
