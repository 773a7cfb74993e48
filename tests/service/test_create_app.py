"""The service as an application: run by itself, or mounted in one of somebody else's, served as aiohttp serves any."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from offload import Settings, create_app
from offload.errors import SettingsError, TargetError
from offload.settings.table import StartMethod
from offload.tasks.targets.loading import Named
from offload.worker.isolation import THREAD_VARIABLES
from tests.faults import fault_tasks
from tests.support.service import alive, assert_books_balance, descendants, eventually

FILE = Path(fault_tasks.__file__)
MODULE = "tests.faults.fault_tasks"

ONE_WORKER = Settings(workers=1, access_log=False)

Tasks = Named | Sequence[Named]


@pytest.fixture(autouse=True)
def environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `fork` a service limits the threads of the libraries that it loads into this very process."""
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")


class Client:
    """Calls the application under `prefix`."""

    def __init__(self, http: aiohttp.ClientSession, runner: web.AppRunner, prefix: str) -> None:
        self.http = http
        self.runner = runner
        self._prefix = prefix

    async def get(self, path: str) -> Any:
        async with self.http.get(self._prefix + path) as response:
            return await response.json()

    async def job(self, task: str, arguments: dict[str, Any] | None = None) -> tuple[int, Any]:
        async with self.http.post(f"{self._prefix}/jobs/{task}", json=arguments or {}) as response:
            return response.status, await response.json(content_type=None)

    async def ready(self) -> Any:
        async def is_ready() -> Any:
            stats = await self.get("/stats")
            assert_books_balance(stats)
            states = {worker["state"] for worker in stats["workers"]}
            return stats if states == {"idle"} and not stats["jobs"]["running"] else None

        return await eventually("it is ready", is_ready)

    async def running(self, task: str) -> int:
        """Waits until the task runs; its worker's id."""

        async def find() -> int | None:
            workers = (await self.get("/stats"))["workers"]
            return next((worker["pid"] for worker in workers if worker["task"] == task), None)

        pid: int = await eventually(f"{task} runs", find)
        return pid


@asynccontextmanager
async def running_app(app: web.Application, prefix: str = "") -> AsyncIterator[Client]:
    """By aiohttp's own runner with its own defaults: hang-ups do not cancel handlers."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{site.port}", connector=connector) as http:
            client = Client(http, runner, prefix)
            await client.ready()
            yield client
    finally:
        await runner.cleanup()


def mounted(app: web.Application) -> web.Application:
    async def hello(_: web.Request) -> web.Response:
        return web.json_response("hello")

    host = web.Application()
    host.router.add_get("/hello", hello)
    host.add_subapp("/compute", app)
    return host


@pytest.mark.parametrize("start_method", StartMethod)
async def test_it_runs_by_itself(start_method: StartMethod) -> None:
    app = create_app(str(FILE), Settings(workers=1, access_log=False, start_method=start_method))
    async with running_app(app) as client:
        assert await client.job("fine", {"x": 5}) == (200, 5)
        stats = await client.get("/stats")
        assert (stats["service"]["pid"], stats["pool"]["start_method"]) == (os.getpid(), start_method)


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        (fault_tasks.fine, {"fine"}),
        ([fault_tasks.fine, fault_tasks.steady], {"fine", "steady"}),
        (MODULE, None),
        ([str(FILE)], None),
        (FILE, None),
        ([FILE, fault_tasks.fine], None),
        ([fault_tasks.fine, MODULE], None),
    ],
    ids=[
        "a function",
        "functions",
        "a module",
        "a file",
        "a path",
        "a path and a function of it",
        "a function of a module and the module",
    ],
)
async def test_functions_files_and_modules_are_tasks(tasks: Tasks, names: set[str] | None) -> None:
    async with running_app(create_app(tasks, ONE_WORKER)) as client:
        served = set((await client.get("/stats"))["tasks"])
        assert served == names if names else {"fine", "steady", "segfault"} < served
        assert await client.job("fine", {"x": 2}) == (200, 2)


async def test_mounted_it_stands_beside_what_else_is_there() -> None:
    async with running_app(mounted(create_app(fault_tasks.fine, ONE_WORKER)), "/compute") as client:
        assert await client.job("fine", {"x": 3}) == (200, 3)
        async with client.http.get("/hello") as response:
            assert await response.json() == "hello"


async def test_mounted_a_caller_that_hangs_up_ends_the_work() -> None:
    async with running_app(mounted(create_app(str(FILE), ONE_WORKER)), "/compute") as client:
        call = asyncio.create_task(client.job("steady", {"ms": 20_000}))
        pid = await client.running("steady")
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        async def is_gone() -> bool:
            return not alive({pid})

        await eventually("the work is over", is_gone)
        stats = await client.ready()
        assert (stats["jobs"]["cancelled"], stats["pool"]["restarts"]["cancel"]) == (1, 1)
        assert (await client.job("fine"))[0] == 200


async def test_a_crash_costs_one_job_here_too() -> None:
    async with running_app(mounted(create_app(str(FILE), ONE_WORKER)), "/compute") as client:
        status, problem = await client.job("segfault")
        assert (status, problem["signal"]) == (500, "SIGSEGV")
        assert (await client.job("fine"))[0] == 200


@pytest.mark.parametrize("wrap", [None, mounted], ids=["by itself", "mounted"])
async def test_the_applications_shutdown_drains(wrap: Callable[[web.Application], web.Application] | None) -> None:
    app = create_app(str(FILE), ONE_WORKER)
    async with running_app(wrap(app) if wrap else app, "/compute" if wrap else "") as client:
        call = asyncio.create_task(client.job("steady", {"ms": 400}))
        pid = await client.running("steady")
        await client.runner.cleanup()
        assert await call == (200, pid)
    assert descendants_of_ours() == {}


async def test_what_does_not_end_in_time_is_stopped_with_an_answer() -> None:
    settings = Settings(workers=1, access_log=False, drain_timeout=0.2)
    async with running_app(create_app(str(FILE), settings)) as client:
        call = asyncio.create_task(client.job("steady", {"ms": 20_000}))
        pid = await client.running("steady")
        await client.runner.cleanup()
        status, problem = await call
        assert (status, problem["type"]) == (503, "/problems/draining")
        assert not alive({pid})


async def test_two_of_them_in_one_program_do_not_get_in_each_others_way() -> None:
    host = web.Application()
    host.add_subapp("/compute", create_app(fault_tasks.fine, ONE_WORKER))
    host.add_subapp("/other", create_app([fault_tasks.fine, fault_tasks.leave], ONE_WORKER))
    async with running_app(host, "/compute") as client:
        other = Client(client.http, client.runner, "/other")
        await other.ready()
        assert (await other.job("leave"))[0] == 500
        assert await client.job("fine", {"x": 1}) == (200, 1)
        assert await other.job("fine", {"x": 2}) == (200, 2)
        assert (await client.get("/stats"))["pool"]["restarts"]["crash"] == 0
        assert set((await client.get("/stats"))["tasks"]) == {"fine"}


@pytest.mark.parametrize("target", ["", lambda: None, print, [7], []], ids=["nothing", "lambda", "print", "7", "none"])
async def test_what_cannot_be_a_target_is_told(target: Any) -> None:
    with pytest.raises(TargetError):
        await web.AppRunner(create_app(target)).setup()
    assert descendants_of_ours() == {}


async def test_what_cannot_be_loaded_is_told_when_the_application_starts(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name\n")
    runner = web.AppRunner(create_app(str(broken), ONE_WORKER))
    with pytest.raises(TargetError, match="nothing_of_this_name"):
        await runner.setup()
    await runner.cleanup()
    assert descendants_of_ours() == {}


def test_settings_that_cannot_be_are_told_together() -> None:
    with pytest.raises(SettingsError) as caught:
        create_app(fault_tasks.fine, Settings(workers=-1, timeout=0))
    assert len(caught.value.faults) == 2


def test_an_application_that_is_never_started_leaves_nothing() -> None:
    create_app(fault_tasks.fine)
    assert descendants_of_ours() == {}


def descendants_of_ours() -> dict[int, str]:
    """Without the standard library's resource tracker, which lives as long as this process."""
    return {
        pid: command
        for pid, command in descendants(os.getpid()).items()
        if "resource_tracker import main" not in command
    }
