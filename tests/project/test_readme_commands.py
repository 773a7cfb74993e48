"""The README's commands, run as they stand against a real service, print what it shows.

The commands of a section go to a service of the files which that section shows, or of the examples if it shows none.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.project.readme_text import Command, code_spans, commands, expanded, files, rows, section
from tests.support.programs import needed_program
from tests.support.service import BOUND_S, eventually, serving

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = "offload.examples.tasks"
ADDRESS = "localhost:8080"
# Printed between commands; no answer has it.
MARK = "--- end of command ---"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def curl() -> str:
    return needed_program("curl", "the README's commands are NOT tested (apt install curl)")


def write_files(text: str, directory: Path) -> list[Path]:
    for name, body in files(text).items():
        (directory / name).write_text(body, encoding="utf-8")
    return [directory / name for name in files(text)]


async def outputs(typed: list[Command], base: str, directory: Path) -> list[str]:
    """What each of the commands prints, typed into one shell one after the other."""
    script = "\n".join(f"{command.line}\necho; echo '{MARK}'" for command in typed)
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script.replace(ADDRESS, base.removeprefix("http://")),
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await asyncio.wait_for(shell.communicate(), BOUND_S)
    return printed.decode("utf-8").replace("\r\n", "\n").split(f"{MARK}\n")[:-1]


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize("title", ["offload", "Write tasks", "Call them"])
async def test_the_commands_of_a_section_print_what_it_shows(title: str, tmp_path: Path) -> None:
    text = section(README, title)
    targets: list[str | Path] = [*write_files(text, tmp_path)] or [EXAMPLES]
    typed = commands(text)
    assert typed
    async with serving(*targets, "--workers", "2") as service:
        await service.ready()
        printed = await outputs(typed, service.base, tmp_path)
    assert len(printed) == len(typed)
    for command, answer in zip(typed, printed, strict=True):
        assert command.has_printed(answer), f"{command.line}\nshown:   {command.output}\nprinted: {answer}"
    for picture in tmp_path.glob("*.png"):
        assert picture.read_bytes().startswith(PNG_SIGNATURE)


def test_every_section_with_commands_is_run() -> None:
    titles = [line.removeprefix("## ") for line in README.splitlines() if line.startswith("## ")]
    assert [title for title in titles if commands(section(README, title))] == ["Write tasks", "Call them"]


async def test_every_example_is_called() -> None:
    called = " ".join(command.line for command in commands(section(README, "Call them")))
    async with serving(EXAMPLES, "--workers", "1") as service, service.http.get("/tasks") as response:
        names = [task["name"] for task in (await response.json())["tasks"]]
    assert [name for name in names if f"/jobs/{name} " not in called] == []


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Every key of a document; names of tasks are "…", and the items of a list are all alike."""
    if isinstance(value, dict):
        for name, member in value.items():
            shown = "…" if path == "tasks" else name
            yield from keys(member, f"{path}.{shown}" if path else shown)
    elif isinstance(value, list):
        for item in value:
            yield from keys(item, f"{path}[]")
    else:
        yield path


async def test_the_table_of_stats_has_every_key() -> None:
    told = [
        key for cell, _ in rows(section(README, "/stats"), "key") for span in code_spans(cell) for key in expanded(span)
    ]
    async with serving(EXAMPLES, "--workers", "1") as service:
        stats = await service.ready()
    assert sorted(told) == sorted(set(keys(stats)))


@contextlib.asynccontextmanager
async def running(*command: str | Path, directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, cwd=directory, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), BOUND_S)


async def test_the_application_that_mounts_the_service_serves_it(tmp_path: Path) -> None:
    write_files(section(README, "offload"), tmp_path)
    (app,) = write_files(section(README, "Run it in earnest"), tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app.write_text(app.read_text(encoding="utf-8").replace("port=8080", f"port={port}"), encoding="utf-8")
    base = f"http://127.0.0.1:{port}"
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        running(sys.executable, app, directory=tmp_path),
        aiohttp.ClientSession(base, connector=connector) as client,
    ):

        async def is_ready() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with client.get("/compute/health/ready") as response:
                    return response.status == 200
            return False

        await eventually("the mounted service is ready", is_ready)
        async with client.post("/compute/jobs/primes", json={"limit": 10}) as response:
            assert await response.json() == [2, 3, 5, 7]
