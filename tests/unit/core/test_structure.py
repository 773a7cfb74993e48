"""What the core's modules claim about each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import offload

PACKAGE = Path(offload.__file__).parent
CORE = PACKAGE / "core"
SCHEDULER = "core/scheduler.py"
# The modules of the scheduler's plain data, which build on each other.
DATA = {"core/job.py", "core/slot.py", "core/slots.py", "core/queue/job_queue.py", "core/queue/fair_queue.py"}
# Their methods that change a job, a slot or the queue.
CHANGES = (
    "record_crash",
    "requeue",
    "settle",
    "attach_worker",
    "detach_worker",
    "occupy_idle",
    "occupy",
    "advance",
    "stop_work",
    "vacate",
    "add_waiting",
    "drop_waiting",
    "push",
    "push_back",
    "take_turn",
)


@cache
def calls() -> dict[str, set[str]]:
    """Returns the names of the functions and methods that each module calls, by its path in the package."""
    return {str(path.relative_to(PACKAGE)): set(_calls(path)) for path in PACKAGE.rglob("*.py")}


def _calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name)):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id


def callers(name: str) -> set[str]:
    return {path for path, names in calls().items() if name in names}


@pytest.mark.parametrize("method", CHANGES)
def test_only_the_scheduler_changes_jobs_slots_and_the_queue(method: str) -> None:
    assert callers(method)
    assert callers(method) - DATA <= {SCHEDULER}


@pytest.mark.parametrize("data", ["JobQueue", "Slots", "Tally", "Load", "Admission", "Prefetch"])
def test_only_the_scheduler_makes_its_data(data: str) -> None:
    assert callers(data) == {SCHEDULER}


def test_the_reading_order_names_every_module_once() -> None:
    lines = (CORE / "README.md").read_text(encoding="utf-8").splitlines()
    named = [name for line in lines if line[:1] == "|" for name in re.findall(r"`([\w/]+\.py)`", line.split("|")[1])]
    modules = [str(path.relative_to(CORE)) for path in CORE.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(named) == sorted(modules)
