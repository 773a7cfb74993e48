"""A separate test suite inside a test, for the tests of the project's own `conftest.py`."""

from __future__ import annotations

import pytest


@pytest.fixture
def suite(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> pytest.Pytester:
    """Returns an empty test suite with the `conftest.py` of this one."""
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --import-mode=importlib -p no:cacheprovider\nasyncio_mode = auto\n"
        f"asyncio_default_fixture_loop_scope = function\npythonpath = {pytestconfig.rootpath}"
    )
    pytester.makeconftest((pytestconfig.rootpath / "tests" / "conftest.py").read_text(encoding="utf-8"))
    return pytester
