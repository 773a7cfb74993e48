"""A task may start processes in any way that works when its file is run as a program, with the same results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.service.children.shapes import ROWS
from tests.support.service import RunningService, serving

CODE: Final = Path(__file__).with_name("shapes.py").read_text(encoding="utf-8")

# Served beside the file: as a module, and as a file that cannot be imported under its own name.
PLACES: Final = {"file": "shapes.py", "module": "package/shapes.py", "dotted": "shapes.v2.py"}
# What child processes import differs between the places only in these.
IN_EACH_PLACE: Final = [("pool", {"method": "spawn"}), ("pool", {"method": "forkserver"}), ("joblib", {})]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("service")]
on_default = pytest.mark.parametrize("service", ["forkserver"], indirect=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("children")
    for place, name in PLACES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(CODE.replace('PLACE = "file"', f"PLACE = {place!r}"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Any]:
    """What the file prints when it is run as a program."""
    done = subprocess.run([sys.executable, folder / "shapes.py"], capture_output=True, text=True, check=True, input="")
    return {name_of(*row): value for row, value in zip(ROWS, json.loads(done.stdout), strict=True)}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["forkserver", "spawn", "fork"])
async def service(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[RunningService]:
    targets: list[str | Path] = [folder / "shapes.py", "package.shapes", folder / "shapes.v2.py"]
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    flags = ("--workers", "1", "--start-method", request.param)
    async with serving(*targets, *flags, env={"PYTHONPATH": path}) as running:
        await running.ready()
        yield running
        complaints = [line for line in running.log if "task printed" in line or "task raised" in line]
    assert complaints == []  # no traceback of a child, no "leaked" resource


def name_of(task: str, arguments: dict[str, str]) -> str:
    return f"{task}({', '.join(arguments.values())})"


@pytest.mark.parametrize(("task", "arguments"), ROWS, ids=[name_of(*row) for row in ROWS])
async def test_a_task_starts_processes_as_a_program_does(
    service: RunningService, expected: dict[str, Any], task: str, arguments: dict[str, str]
) -> None:
    answer = await service.job(f"file-{task}", arguments)
    assert answer.status == 200, answer
    assert answer.json() == expected[name_of(task, arguments)]


@on_default
@pytest.mark.parametrize("place", ["module", "dotted"])
@pytest.mark.parametrize(("task", "arguments"), IN_EACH_PLACE, ids=[name_of(*row) for row in IN_EACH_PLACE])
async def test_child_processes_find_the_module_wherever_it_is(
    service: RunningService, expected: dict[str, Any], place: str, task: str, arguments: dict[str, str]
) -> None:
    answer = await service.job(f"{place}-{task}", arguments)
    assert answer.status == 200, answer
    assert answer.json() == expected[name_of(task, arguments)]


@pytest.mark.parametrize("service", ["spawn", "fork"], indirect=True)
async def test_child_processes_find_the_module_with_other_start_methods_too(
    service: RunningService, expected: dict[str, Any]
) -> None:
    arguments = {"method": "spawn"}
    answer = await service.job("dotted-pool", arguments)
    assert answer.json() == expected[name_of("pool", arguments)]


@on_default
async def test_a_forkserver_that_died_between_jobs_is_replaced(
    service: RunningService, expected: dict[str, Any]
) -> None:
    """The worker, which reaps orphans, leaves its end to `multiprocessing`."""
    pool = {"method": "forkserver"}
    for task, arguments in [("pool", pool), ("lose_forkserver", {}), ("closure", {}), ("pool", pool)]:
        answer = await service.job(f"file-{task}", arguments)
        assert answer.json() == expected.get(name_of(task, arguments), True)
