"""Sort the tests into tiers, and check around every test and module that nothing is left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.support.leaks import (
    Stock,
    left_since,
    mark_environment,
    memory_names,
    take_stock,
    tasks_left_to_runners,
    unused_memory_since,
)
from tests.support.unit_guard import UnitGuard

TIERS: Final = {
    "unit": "starts no process and opens no socket",
    "service": "starts processes or opens sockets",
    "cluster": "needs a Dask or Ray cluster",
}
LONG: Final = "long: runs only in `make test-all`"
# The tests of other folders are in the service tier.
TIER_OF_FOLDER: Final = {"unit": "unit", "property": "unit", "cluster": "cluster"}
CLUSTER_ENGINES: Final = ("dask", "ray")

MEMORY_BEFORE: Final = pytest.StashKey[frozenset[str]]()
MEMORY_LEFT: Final = pytest.StashKey[list[str]]()

# A busy machine is not a fault of the test: neither how long an example takes nor how long it takes to make one counts.
settings.register_profile("offload", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("offload")

unit_guard = UnitGuard()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("memory_settle_s", "how long shared memory may take to go at the end, seconds", default="30")


def pytest_configure(config: pytest.Config) -> None:
    for tier, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{tier}: {meaning}")
    config.addinivalue_line("markers", LONG)
    if not hasattr(config, "workerinput"):  # not in a worker of pytest-xdist: the session's own process outlives them
        config.stash[MEMORY_BEFORE] = memory_names()
    mark_environment()
    _keep_bytecode(config.rootpath / ".pytest_cache" / "bytecode")


# First, because pytest selects by marker (`-m`) in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.get_closest_marker(tier) for tier in TIERS):
            item.add_marker(_tier_of(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a unit test that starts a process or opens a socket, in its fixtures too."""
    with unit_guard.armed(item.get_closest_marker("unit") is not None):
        return (yield)


# Last, because the workers of pytest-xdist end in a hook of the same name.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session that leaves named shared memory that no process uses."""
    before = session.config.stash.get(MEMORY_BEFORE, None)
    settle_s = float(session.config.getini("memory_settle_s"))
    left = [] if before is None else unused_memory_since(before, settle_s)
    session.config.stash[MEMORY_LEFT] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the session left, and what could not be tested here: a skipped test looks like success."""
    left = config.stash.get(MEMORY_LEFT, [])
    if left:
        terminalreporter.section("LEFT BEHIND", sep="!", red=True, bold=True)
        for name in left:
            terminalreporter.write_line(f"shared memory {name}: not unlinked", red=True)
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = sorted({text for report in skipped if "NOT tested" in (text := str(report.longrepr[2]))})
    if reasons:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        for reason in reasons:
            terminalreporter.write_line(reason.removeprefix("Skipped: "), red=True)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind_by_a_module() -> Iterator[None]:
    """Fail the last test of a module if its module-scoped fixtures, or their event loop, leave something.

    Named shared memory is looked at here only, because finding its users takes as long as many tests; names without
    users are looked at when the session ends.
    A loop shared by a module is closed after the last test; only then do the asyncio tasks that nobody ended show.
    Environment variables set by libraries are reset, so that services of later modules do not inherit them.
    """
    variables = dict(os.environ)
    yield from _checked(take_stock())
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor, shared memory or asyncio task.

    What fixtures of a wider scope hold existed before the test.
    """
    yield from _checked(take_stock(with_memory_names=False))


def _tier_of(item: pytest.Item) -> str:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    if folder == "contract" and _is_on_cluster(item):
        return "cluster"
    return TIER_OF_FOLDER.get(folder, "service")


def _is_on_cluster(item: pytest.Item) -> bool:
    """Whether a test that runs once for each engine has a cluster as its engine."""
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec is not None else ()
    return any(isinstance(value, str) and value in CLUSTER_ENGINES for value in values)


def _keep_bytecode(folder: Path) -> None:
    """Redirect bytecode to `folder`: with none, every service that a test starts would compile its modules anew."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(folder)
        sys.dont_write_bytecode = False


def _checked(before: Stock) -> Iterator[None]:
    """Compare before and after.  An autouse fixture is set up before the others of its scope and torn down after."""
    with tasks_left_to_runners() as tasks:
        yield
    left = [*tasks, *left_since(before)]
    if left:
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)
