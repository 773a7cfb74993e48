"""A real service in a process of its own, for tests that kill things.

`RunningService` starts `python -m offload serve …` on a free port, waits until it serves, speaks HTTP to it, stops it,
and fails if anything of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

BOUND_S = 60.0  # generous, for a busy machine

# Set in the environment of a service and inherited by its processes, so that those that lost their parents are found.
_MARK_VARIABLE: Final = "TESTED_SERVICE"


async def eventually(what: str, condition: Callable[[], Awaitable[Any]], bound_s: float = BOUND_S) -> Any:
    """Wait until the condition is truthy; return its value."""
    end = time.monotonic() + bound_s
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {bound_s} s: {what}; last seen {value!r}")
        await asyncio.sleep(0.01)


class RunningService:
    def __init__(self, process: asyncio.subprocess.Process, start_method: str, mark: str) -> None:
        self.process = process
        self.start_method = start_method
        self._mark = mark.encode()
        self.pid = process.pid
        self.log: list[str] = []
        self.base = ""
        self._serving = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read_log())
        self.http: aiohttp.ClientSession

    @classmethod
    async def start(cls, *arguments: str | Path, env: dict[str, str] | None = None) -> Self:
        command = [sys.executable, "-m", "offload", "serve", *map(str, arguments)]
        if not any(str(argument) in ("--uds", "--port") for argument in arguments):
            command += ["--port", "0"]
        mark = secrets.token_hex(8)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {}), _MARK_VARIABLE: mark},
            start_new_session=True,
            limit=1 << 20,
        )
        names = list(map(str, arguments))
        method = names[names.index("--start-method") + 1] if "--start-method" in names else "forkserver"
        service = cls(process, method, f"{_MARK_VARIABLE}={mark}")
        done, _ = await asyncio.wait(
            [service._serving, service._reader], timeout=BOUND_S, return_when=asyncio.FIRST_COMPLETED
        )
        if service._serving not in done:
            service.kill()
            await process.wait()
            raise AssertionError("the service did not start:\n" + "\n".join(service.log))
        service.base = service._serving.result()
        service.http = aiohttp.ClientSession(
            service.base,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=60),
        )
        return service

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            text = line.decode("utf-8", "replace").rstrip("\n")
            self.log.append(text)
            found = re.search(r"serving .*?address=\"?(http://[^\s\"]+)", text)
            if found and not self._serving.done():
                self._serving.set_result(found[1])

    async def stats(self) -> dict[str, Any]:
        async with self.http.get("/stats") as response:
            assert response.status == 200, await response.text()
            document: dict[str, Any] = await response.json()
            return document

    async def job(self, task: str, arguments: dict[str, Any] | None = None, **headers: str) -> Answer:
        return await self.post(task, json=arguments or {}, headers=headers)

    async def post(self, task: str, **how: Any) -> Answer:
        async with self.http.post(f"/jobs/{task}", **how) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def is_at_full_strength(self) -> dict[str, Any] | None:
        """Return `/stats` if every worker is idle and nothing is queued; check that the counters add up."""
        stats = await self.stats()
        assert_books_balance(stats)
        states = [worker["state"] for worker in stats["workers"]]
        if states == ["idle"] * stats["pool"]["size"] and not stats["jobs"]["running"] + stats["jobs"]["queued"]:
            return stats
        return None

    async def ready(self) -> dict[str, Any]:
        stats: dict[str, Any] = await eventually("full strength", self.is_at_full_strength)
        return stats

    def processes(self) -> dict[int, str]:
        """Return the descendants of the service: id and command line."""
        return descendants(self.pid)

    def remains(self) -> set[int]:
        """Return the running processes that the service started, directly or not, without the service itself."""
        return {pid for pid in alive(_marked(self._mark)) if pid != self.pid}

    def strays(self) -> set[int]:
        """Return those that no longer descend from the service."""
        return self.remains() - self.processes().keys()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> int:
        """Send SIGTERM; return the exit code when the service has ended."""
        await self.http.close()
        if self.process.returncode is None:
            self.process.terminate()
        try:
            code = await asyncio.wait_for(self.process.wait(), BOUND_S)
        except TimeoutError:
            self.kill()
            raise AssertionError("the service did not stop:\n" + "\n".join(self.log[-50:])) from None
        await self._reader

        await self.is_gone()
        return code

    async def is_gone(self, bound_s: float = BOUND_S) -> None:
        """Wait until nothing of an ended service is left."""

        async def is_nothing_left() -> bool:
            return not self.remains()

        await eventually("nothing of the service is left", is_nothing_left, bound_s)


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        import orjson

        return orjson.loads(self.body)

    @property
    def slug(self) -> str:
        return str(self.json()["type"]).rpartition("/")[2]

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:300]!r}>"


@contextlib.asynccontextmanager
async def serving(*arguments: str | Path, env: dict[str, str] | None = None) -> AsyncIterator[RunningService]:
    service = await RunningService.start(*arguments, env=env)
    try:
        yield service
    except BaseException:
        print("\n".join(service.log[-100:]))
        raise
    finally:
        code = await service.stop()
    assert code == 0


def assert_books_balance(stats: dict[str, Any]) -> None:
    for jobs in (stats["jobs"], *(task["jobs"] for task in stats["tasks"].values())):
        assert jobs["submitted"] == sum(count for state, count in jobs.items() if state != "submitted"), jobs


def descendants(root: int) -> dict[int, str]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(name))
    found: dict[int, str] = {}
    ends = [root]
    while ends:
        for pid in children.get(ends.pop(), []):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            ends.append(pid)
    return found


def _marked(mark: bytes) -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # gone, or another user's
                if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.add(int(name))
    return found


def alive(pids: set[int]) -> set[int]:
    """Return those processes that still run; zombies do not count."""
    living = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                living.add(pid)
    return living
