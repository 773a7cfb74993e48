"""`make serve`: the commands that it prints work as they stand, and Ctrl-C stops it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tests.support.service import BOUND_S, alive, descendants, eventually

ROOT = Path(__file__).parents[2]
# The paths that the commands request, and how each response begins.
ANSWERS = {"/jobs/primes": b"[2,3,5,7,11,13,17,19,23,29]", "/jobs/mandelbrot": b"\x89PNG", "/stats": b'{"service":'}


@contextlib.asynccontextmanager
async def made(target: str, **variables: object) -> AsyncIterator[Process]:
    """Runs `make target` with the packages of this interpreter, so that nothing is downloaded."""
    stamp = f"--old-file={sys.prefix}/.installed-{target}"
    arguments = [f"{name}={value}" for name, value in {"VENV": sys.prefix, **variables}.items()]
    process = await asyncio.create_subprocess_exec(
        *("make", stamp, target, *arguments),
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def lines_until(text: str, stream: asyncio.StreamReader | None) -> list[str]:
    """Reads lines up to one that contains `text`."""
    assert stream is not None
    lines: list[str] = []
    while not lines or text not in lines[-1]:
        line = await asyncio.wait_for(stream.readline(), BOUND_S)
        assert line, f"the output ended before {text!r}:\n" + "".join(lines)
        lines.append(line.decode())
    return lines


async def call(url: str, body: str | None = None) -> tuple[int, bytes]:
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.request("GET" if body is None else "POST", url, data=body) as response,
    ):
        return response.status, await response.read()


async def is_ready(url: str) -> bool:
    return (await call(url))[0] == 200


def parsed(line: str) -> tuple[str, str | None]:
    """Returns the URL of a curl command, and the body that it sends."""
    words = shlex.split(line)
    return words[-1], words[words.index("-d") + 1] if "-d" in words else None


async def test_make_serve_serves_the_examples_until_it_is_interrupted() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with made("serve", PORT=port) as make:
        printed = await lines_until("To stop: Ctrl-C", make.stdout)
        await lines_until(f"serving address=http://127.0.0.1:{port}", make.stderr)
        await eventually("it is ready", lambda: is_ready(f"http://127.0.0.1:{port}/health/ready"))
        processes = set(descendants(make.pid))
        commands = [parsed(line) for line in printed if line.startswith("  curl ")]
        assert [url for url, _ in commands] == [f"http://127.0.0.1:{port}{path}" for path in ANSWERS]
        for (url, body), start in zip(commands, ANSWERS.values(), strict=True):
            status, answer = await call(url, body)
            assert (status, answer[: len(start)]) == (200, start)
        os.killpg(make.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
        await lines_until("stopped", make.stderr)

        async def is_gone() -> bool:
            return not alive(processes)

        await eventually("nothing of the service is left", is_gone)
        await asyncio.wait_for(make.wait(), BOUND_S)  # its exit code depends on whether SIGINT is ignored
