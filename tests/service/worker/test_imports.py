"""What the user's modules open or make at their import is right in every worker, with each start method."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.service import RunningService, eventually, serving

QUIET = Path(__file__).with_name("quiet_imports.py")
HELD = Path(__file__).with_name("held_imports.py")
METHODS = ["forkserver", "spawn", "fork"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


def make_directory(path: Path) -> Path:
    (path / "words.txt").write_text("".join(f"{number:07}\n" for number in range(1000)))
    with zipfile.ZipFile(path / "words.zip", "w") as archive:
        archive.writestr("words", "apple")
    database = sqlite3.connect(path / "words.db")
    database.executescript("create table words (w); insert into words values ('apple');")
    database.close()
    return path


async def of_each_worker(service: RunningService, task: str) -> dict[int, Any]:
    """Return the first answer of each of the two workers."""
    found: dict[int, Any] = {}

    async def is_complete() -> bool:
        for answer in await asyncio.gather(*(service.job(task) for _ in range(8))):
            assert answer.status == 200, answer
            values = answer.json()
            found.setdefault(values["pid"], values)
        return len(found) == 2

    await eventually("an answer of each worker", is_complete)
    return found


# Files that copies may share


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=METHODS)
async def quiet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[RunningService, Path]]:
    directory = make_directory(tmp_path_factory.mktemp("quiet"))
    env = {"IMPORTS_DIRECTORY": str(directory)}
    async with serving(QUIET, "--workers", "2", "--start-method", request.param, env=env) as service:
        await service.ready()
        yield service, directory
    # At its normal end a worker writes what is buffered; what was buffered at the import is written once per import.
    results = (directory / "results.txt").read_text().splitlines()
    audited = [line.removeprefix("audit ") for line in (directory / "audit.log").read_text().splitlines()]
    assert sorted(line for line in results if "imported" not in line) == sorted(audited)
    imports = [line for line in results if "imported" in line]
    assert len(imports) == len(set(imports)) == {"forkserver": 1, "spawn": 3, "fork": 2}[request.param]


async def test_open_files_work_in_each_worker(quiet: tuple[RunningService, Path]) -> None:
    service, _ = quiet
    expected = {
        "arguments": [str(QUIET)],
        "first": "0000000\n",
        "hook": True,
        "mapped": "00000",
        "archive": "apple",
        "entropy": 8,
        "signals": [10],
    }
    for answer in await asyncio.gather(*(service.job("facts") for _ in range(8))):
        assert answer.json() == expected


async def test_workers_do_not_move_each_others_position_in_a_file(quiet: tuple[RunningService, Path]) -> None:
    service, _ = quiet
    answers = await asyncio.gather(*(service.job("lines", {"number": 100 * number}) for number in range(10)))
    assert [answer.json() for answer in answers] == [0] * 10


async def test_a_log_handler_does_not_write_into_the_file_of_a_job(quiet: tuple[RunningService, Path]) -> None:
    service, directory = quiet
    texts = [f"text {number}" for number in range(8)]
    answers = await asyncio.gather(*(service.job("write_file", {"text": text}) for text in texts))
    assert [answer.json() for answer in answers] == texts
    assert sorted((directory / "audit.log").read_text().splitlines()) == [f"audit {text}" for text in texts]

    async def are_logged() -> bool:
        return all(
            any(f"{word} {text}" in line and answer.headers["Job-Id"] in line for line in service.log)
            for text, answer in zip(texts, answers, strict=True)
            for word in ("audit", "root has audit", "printed")
        )

    await eventually("the streams that the module kept are the worker's output", are_logged)


async def test_a_lock_on_a_file_excludes_other_workers(quiet: tuple[RunningService, Path]) -> None:
    service, directory = quiet
    (directory / "count").write_text("0")
    await asyncio.gather(*(service.job("count", {"times": 50}) for _ in range(6)))
    assert (directory / "count").read_text() == "300"


async def test_workers_draw_different_random_numbers(quiet: tuple[RunningService, Path]) -> None:
    service, _ = quiet
    answers = (await of_each_worker(service, "draw")).values()
    assert len({values["common"] for values in answers}) == 2
    assert len({values["own"] for values in answers}) == 2


async def test_what_copies_may_share_is_not_reported(quiet: tuple[RunningService, Path]) -> None:
    """Under spawn each worker opens its files anew, and so empties one of them."""
    service, _ = quiet
    lines = [line for line in service.log if "at import" in line]
    assert len(lines) == (1 if service.start_method == "spawn" else 0)
    assert all("each worker empties it" in line for line in lines)


# What copies would disturb


@dataclass
class Peer:
    """Replies to each line; counts the connections that are open."""

    port: int = 0
    connections: int = 0

    async def reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        async for line in reader:
            writer.write(b"reply to " + line)
        self.connections -= 1
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=METHODS)
async def held(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[RunningService, Peer]]:
    """The service, and the peer that its workers are connected to."""
    directory = make_directory(tmp_path_factory.mktemp("held"))
    peer = Peer()
    server = await asyncio.start_server(peer.reply, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    env = {"IMPORTS_DIRECTORY": str(directory), "PEER_PORT": str(peer.port)}
    async with serving(HELD, "--workers", "2", "--start-method", request.param, env=env) as service:
        await service.ready()
        yield service, peer
    server.close()
    await server.wait_closed()
    # Each process that imported the module called its exit functions, and removed its temporary directory.
    imported, left = ((directory / name).read_text().split() for name in ("imported.txt", "left.txt"))
    assert sorted(imported) == sorted(left)
    assert len(imported) == 3
    assert [path.name for path in directory.iterdir() if path.is_dir()] == []


async def test_each_worker_has_its_own_of_what_cannot_be_shared(held: tuple[RunningService, Peer]) -> None:
    service, _ = held
    expected = {
        "arguments": [str(HELD)],
        "managed": 1,
        "thread": 2,
        "database": "apple",
        "scratch": "own",
        "folder": True,
    }
    for answer in await asyncio.gather(*(service.job("facts") for _ in range(8))):
        assert answer.json() == expected


async def test_a_reply_goes_to_the_job_that_asked(held: tuple[RunningService, Peer]) -> None:
    service, _ = held
    answers = await asyncio.gather(*(service.job("ask", {"number": number}) for number in range(30)))
    assert [answer.json() for answer in answers] == [f"reply to {number}\n" for number in range(30)]


async def test_no_process_but_the_workers_keeps_a_connection(held: tuple[RunningService, Peer]) -> None:
    """Neither the service nor a forkserver; the process that described the tasks has ended."""
    _, peer = held

    async def are_connected() -> bool:
        return peer.connections == 2

    await eventually("two connections", are_connected)


async def test_a_seed_holds_in_each_worker_and_without_one_the_numbers_differ(
    held: tuple[RunningService, Peer],
) -> None:
    service, _ = held
    answers = list((await of_each_worker(service, "draw")).values())
    assert {values["seeded"] for values in answers} == {random.Random(7).random()}
    assert {values["common"] for values in answers} == {random.Random(42).random()}
    assert len({values["unseeded"] for values in answers}) == 2
    assert len({values["folder"] for values in answers}) == 2


async def test_a_connection_is_reported_when_the_service_starts(held: tuple[RunningService, Peer]) -> None:
    service, peer = held
    sentence = f"held_imports.py opened a connection to 127.0.0.1:{peer.port} at import; open it in `@on_worker_start`"
    (line,) = [line for line in service.log if "opened a connection" in line]
    assert sentence in line
    assert ("each worker imports held_imports.py anew" in line) == (service.start_method != "spawn")
    reported = [line for line in service.log if "at import" in line]
    assert len(reported) == (1 if service.start_method == "spawn" else 7)
