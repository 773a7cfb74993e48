"""Around every test, and around every module of tests: nothing may be left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leaks import left_since, mark_environment, take_stock, tasks_left_to_runners


def pytest_configure(config: pytest.Config) -> None:
    mark_environment()
    _keep_bytecode(config.rootpath / ".pytest_cache" / "bytecode")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What this machine could not test stands out: a skipped test looks like success."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = sorted({text for report in skipped if "NOT tested" in (text := str(report.longrepr[2]))})
    if reasons:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        for reason in reasons:
            terminalreporter.write_line(reason.removeprefix("Skipped: "), red=True)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind_by_a_module() -> Iterator[None]:
    """Fails the last test of a module if something is left of what fixtures of that scope hold, or of their loop.

    A loop that a whole module shares is closed after its last test, and only then is it known which of its asyncio
    tasks nobody has ended.  Variables that libraries set for themselves are not for the services of later modules.
    """
    variables = dict(os.environ)
    yield from _checked()
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fails a test that leaves a process, thread, descriptor, shared memory or asyncio task.

    What fixtures of a wider scope hold was there before.
    """
    yield from _checked()


def _keep_bytecode(folder: Path) -> None:
    """Where Python writes none beside the sources, every service that a test starts would compile all of them anew."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def _checked() -> Iterator[None]:
    """Being automatic, both are set up before all other fixtures of their scope, and torn down after them."""
    before = take_stock()
    with tasks_left_to_runners() as tasks:
        yield
    left = [*tasks, *left_since(before)]
    if left:
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)
