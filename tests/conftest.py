"""Around every test: nothing may be left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.leaks import left_since, mark_environment, take_stock, tasks_left_to_runners


def pytest_configure() -> None:
    mark_environment()


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fails a test that leaves a process, thread, descriptor, shared memory or asyncio task.

    Being automatic it is set up before all other fixtures of a test, and torn down after them.  What fixtures of a
    wider scope hold was there before.
    """
    before = take_stock()
    with tasks_left_to_runners() as tasks:
        yield
    left = [*tasks, *left_since(before)]
    if left:
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)
