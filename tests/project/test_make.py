"""`make serve`: the commands that it prints work as they stand, and Ctrl-C ends it."""

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
# What the commands ask for, and how the answers begin.
ANSWERS = {"/jobs/primes": b"[2,3,5,7,11,13,17,19,23,29]", "/jobs/mandelbrot": b"\x89PNG", "/stats": b'{"service":'}


@contextlib.asynccontextmanager
async def made(target: str, **variables: object) -> AsyncIterator[Process]:
    """`make target`, with what this interpreter has installed: nothing is downloaded."""
    stamp = f"--old-file={sys.prefix}/.installed-{target}"
    given = [f"{name}={value}" for name, value in {"VENV": sys.prefix, **variables}.items()]
    process = await asyncio.create_subprocess_exec(
        *("make", stamp, target, *given),
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
    """What comes, up to a line with `text` in it."""
    assert stream is not None
    lines: list[str] = []
    while not lines or text not in lines[-1]:
        line = await asyncio.wait_for(stream.readline(), BOUND_S)
        assert line, f"ended before {text!r}:\n" + "".join(lines)
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


def typed(line: str) -> tuple[str, str | None]:
    """The address that a line with a curl command asks, and what it sends there."""
    words = shlex.split(line)
    return words[-1], words[words.index("-d") + 1] if "-d" in words else None


async def test_make_serve_serves_the_examples_until_it_is_interrupted() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with made("serve", PORT=port) as make:
        said = await lines_until("To stop: Ctrl-C", make.stdout)
        await lines_until(f"serving address=http://127.0.0.1:{port}", make.stderr)
        await eventually("it is ready", lambda: is_ready(f"http://127.0.0.1:{port}/health/ready"))
        family = set(descendants(make.pid))
        commands = [typed(line) for line in said if line.startswith("  curl ")]
        assert [url for url, _ in commands] == [f"http://127.0.0.1:{port}{path}" for path in ANSWERS]
        for (url, body), beginning in zip(commands, ANSWERS.values(), strict=True):
            status, answer = await call(url, body)
            assert (status, answer[: len(beginning)]) == (200, beginning)
        os.killpg(make.pid, signal.SIGINT)  # what a terminal does: everybody in the foreground gets it
        await lines_until("stopped", make.stderr)

        async def is_gone() -> bool:
            return not alive(family)

        await eventually("nothing of the service is left", is_gone)
        await asyncio.wait_for(make.wait(), BOUND_S)  # its code: whether it heeds SIGINT, in the background it does not
