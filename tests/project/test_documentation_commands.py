"""The commands of the documentation, run as they stand against a real service, print what the pages show.

One service has the example tasks and those of every file that a page shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from tests.project.documentation import (
    PAGES,
    Command,
    code_spans,
    commands,
    expanded,
    files,
    page,
    rows,
    section,
    titles,
)
from tests.support.programs import needed_program
from tests.support.service import BOUND_S, RunningService, eventually, serving

EXAMPLES: Final = "offload.examples.tasks"
ADDRESS: Final = "localhost:8080"
# Printed between commands; no answer contains it.
MARK: Final = "--- end of command ---"
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

# They define `primes` as the examples do, so a service of their own runs them.
INTRODUCTION: Final = ("README.md", "offload")
FILES_OF_THE_APPLICATION: Final = ("tasks.py", "app.py")

SECTIONS: Final = [
    (path.name, title)
    for path in PAGES
    for title in titles(path.read_text(encoding="utf-8"))
    if commands(section(page(path.name), title)) and (path.name, title) != INTRODUCTION
]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    shown = write_files(tmp_path_factory.mktemp("shown"), "\n".join(page(path.name) for path in PAGES))
    targets = [path for path in shown if path.name not in FILES_OF_THE_APPLICATION]
    async with serving(EXAMPLES, *targets, "--workers", "2") as running_service:
        yield running_service


@pytest.fixture
def curl() -> str:
    return needed_program("curl", "the commands of the documentation are NOT tested (apt install curl)")


def write_files(folder: Path, text: str) -> list[Path]:
    for name, body in files(text).items():
        (folder / name).write_text(body, encoding="utf-8")
    return [folder / name for name in files(text)]


async def outputs(typed: list[Command], address: str, folder: Path) -> list[str]:
    """Returns what each of the commands prints, typed into one shell one after the other."""
    script = "\n".join(f"{command.line}\necho; echo '{MARK}'" for command in typed)
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script.replace(ADDRESS, address),
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await asyncio.wait_for(shell.communicate(), BOUND_S)
    return printed.decode("utf-8").replace("\r\n", "\n").split(f"{MARK}\n")[:-1]


async def assert_printed_as_shown(typed: list[Command], address: str, folder: Path) -> None:
    printed = await outputs(typed, address, folder)
    assert len(printed) == len(typed)
    for command, output in zip(typed, printed, strict=True):
        assert command.has_printed(output), f"{command.line}\nshown:   {command.output}\nprinted: {output}"


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize(("name", "title"), SECTIONS)
async def test_the_commands_of_a_section_print_what_it_shows(
    name: str, title: str, service: RunningService, tmp_path: Path
) -> None:
    await service.ready()
    typed = commands(section(page(name), title))
    await assert_printed_as_shown(typed, service.base.removeprefix("http://"), tmp_path)
    for picture in tmp_path.glob("*.png"):
        assert picture.read_bytes().startswith(PNG_SIGNATURE)


async def test_every_example_is_called(service: RunningService) -> None:
    from offload.examples import tasks

    called = " ".join(command.line for path in PAGES for command in commands(page(path.name)))
    async with service.http.get("/tasks") as response:
        names = [task["name"] for task in (await response.json())["tasks"] if hasattr(tasks, task["name"])]
    assert [name for name in names if f"/jobs/{name} " not in called] == []


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Yields every key of a document. Names of tasks are "…", and the items of a list are all alike."""
    if isinstance(value, dict):
        for name, member in value.items():
            shown = "…" if path == "tasks" else name
            yield from keys(member, f"{path}.{shown}" if path else shown)
    elif isinstance(value, list):
        for item in value:
            yield from keys(item, f"{path}[]")
    else:
        yield path


async def test_every_key_of_the_statistics_is_documented(service: RunningService) -> None:
    cells = [cell for cell, _ in rows(page("stats.md"), "key")]
    documented = [key for cell in cells for span in code_spans(cell) for key in expanded(span)]
    assert sorted(documented) == sorted(set(keys(await service.ready())))


@contextlib.asynccontextmanager
async def running(*command: str | Path, folder: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), BOUND_S)


@pytest.mark.usefixtures("curl")
async def test_the_introduction_works_in_the_application_that_mounts_it(tmp_path: Path) -> None:
    introduction = section(page(INTRODUCTION[0]), INTRODUCTION[1])
    write_files(tmp_path, introduction)
    (app,) = write_files(tmp_path, section(page("settings.md"), "Inside another application"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app.write_text(app.read_text(encoding="utf-8").replace("port=8080", f"port={port}"), encoding="utf-8")
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        running(sys.executable, app, folder=tmp_path),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as client,
    ):

        async def is_ready() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with client.get("/compute/health/ready") as response:
                    return response.status == 200
            return False

        await eventually("the mounted service is ready", is_ready)
        await assert_printed_as_shown(commands(introduction), f"127.0.0.1:{port}/compute", tmp_path)
