"""Learning what there is to serve, without loading it here.

Lives here: one short-lived process that loads the user's modules and sends the catalogue as bytes.  What goes wrong in
them (an import error, an endless loop, a crash) goes wrong there, and comes back as a sentence.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Final

import orjson

from offload.errors import FrameError, StartError, TargetError
from offload.processes.forkserver import UNKNOWN_EXIT_CODE
from offload.processes.launcher import Launcher
from offload.processes.naming import name_death
from offload.wire.frames import HEADER_BYTES, Kind, check_from_worker, unpack
from offload.wire.spec import DescribeSpec, LoadSpec
from offload.worker.entry import run_describe

_READ_BYTES: Final = 1 << 16
# What it may take to end after it has said everything; and how often that is looked at.
_END_S: Final = 1.0
_END_POLL_S: Final = 0.001


async def describe(launcher: Launcher, load: LoadSpec, *, timeout_s: float) -> bytes:
    """The catalogue of the targets, JSON.  Raises TargetError for what the user can mend.

    After a timeout the launcher may still be held up by what loads; closing it ends that.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _describe(launcher, load)
    except TimeoutError as error:
        raise TargetError("", f"the tasks were not loaded within {timeout_s:g} s; see --start-timeout") from error


async def _describe(launcher: Launcher, load: LoadSpec) -> bytes:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        try:
            spec = DescribeSpec(load=load, start_method=launcher.start_method, channel=theirs)
            process = await launcher.start(run_describe, spec, name="offload-describe")
        except StartError as error:
            problem = f"the process that loads the tasks ended while it loaded them ({error.problem})"
            raise TargetError("", problem) from error
        finally:
            theirs.close()
        try:
            data = await _read_all(ours)
        finally:
            exit_code = await _end(process, launcher)
    return _catalogue(data, exit_code)


async def _read_all(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    chunks = []
    with suppress(ConnectionResetError):
        while chunk := await loop.sock_recv(sock, _READ_BYTES):
            chunks.append(chunk)
    return b"".join(chunks)


async def _end(process: BaseProcess, launcher: Launcher) -> int | None:
    """Lets it end, or ends it, and lets go of it; returns its exit code, None where nobody can tell."""
    if not await _ends_by_itself(process):
        process.kill()
        await asyncio.to_thread(process.join)
    if process.pid is not None:
        launcher.forget(process.pid)
    exit_code = process.exitcode
    process.close()
    return None if exit_code == UNKNOWN_EXIT_CODE else exit_code


async def _ends_by_itself(process: BaseProcess) -> bool:
    """Whether it does within a moment.  `join` with a timeout cannot tell: it takes for the end what is only the end
    of a pipe, which the process has closed with all others, and then waits for ever."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _END_S
    while process.exitcode is None:
        if loop.time() > give_up_at:
            return False
        await asyncio.sleep(_END_POLL_S)
    return True


def _catalogue(data: bytes, exit_code: int | None) -> bytes:
    if len(data) < HEADER_BYTES:
        raise TargetError("", f"the process that loads the tasks {name_death(exit_code)} while it loaded them")
    header, body = unpack(data), data[HEADER_BYTES:]
    try:
        check_from_worker(header)
        failure = orjson.loads(body) if header.kind == Kind.START_FAILED else None
    except (FrameError, ValueError) as error:
        raise TargetError("", "a module wrote to the descriptors of the process that loads it") from error
    if failure is not None:
        raise TargetError(*failure)
    return body
