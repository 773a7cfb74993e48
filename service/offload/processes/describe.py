"""Reads the catalogue of tasks without loading the user's modules in the service.

A short-lived process loads them and sends the catalogue as bytes. An import error, an endless loop or a crash happens
there, and is reported as a sentence.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Final

import orjson

from offload.errors import FrameError, StartError, TargetError
from offload.processes.launcher import Launcher
from offload.processes.naming import name_death
from offload.processes.process import ProcessHandle, open_descriptor
from offload.wire.frames import HEADER_BYTES, FrameKind, check_from_worker, unpack
from offload.wire.spec import DescribeSpec, LoadSpec
from offload.worker.entry import run_describe

_READ_BYTES: Final = 1 << 16
# How long the process may take to end once it has sent everything.
_END_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """`catalogue` is JSON. `can_be_copied`: workers may be copies of a process that has loaded the targets.

    `held`: sentences for the user about what the modules hold after their import.
    """

    catalogue: bytes
    can_be_copied: bool
    held: tuple[str, ...]


async def describe(launcher: Launcher, load: LoadSpec, *, timeout_s: float) -> Description:
    """Returns the description of the targets. Raises TargetError for what the user can fix.

    After a timeout the launcher may still be blocked by the loading; closing it ends that.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _describe(launcher, load)
    except TimeoutError as error:
        raise TargetError("", f"the tasks were not loaded within {timeout_s:g} s; see --start-timeout") from error


async def _describe(launcher: Launcher, load: LoadSpec) -> Description:
    service_end, worker_end = socket.socketpair()
    service_end.setblocking(False)
    with service_end:
        try:
            spec = DescribeSpec(load=load, start_method=launcher.start_method, channel=worker_end)
            process = await launcher.start(run_describe, spec, name="offload-describe")
        except StartError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and not isinstance(cause, ConnectionError):
                raise cause from None  # what the system has refused has nothing to do with the tasks
            problem = f"the process that loads the tasks ended while it loaded them ({error.problem})"
            raise TargetError("", problem) from error
        finally:
            worker_end.close()
        try:
            data = await _read_all(service_end)
        finally:
            exit_code = await _end(process, launcher)
    return _description(data, exit_code)


async def _read_all(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    chunks = []
    with suppress(ConnectionResetError):
        while chunk := await loop.sock_recv(sock, _READ_BYTES):
            chunks.append(chunk)
    return b"".join(chunks)


async def _end(process: BaseProcess, launcher: Launcher) -> int | None:
    """Wait for the end, and kill the process if it takes long. Returns the exit code, None if it is unknown.

    Raises OSError if no descriptor is left to wait with; then the process has been killed.
    """
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    try:
        descriptor = open_descriptor(process)
    except OSError:
        process.kill()
        raise
    handle = ProcessHandle(process, descriptor, on_ended=ended.set_result)
    handle.watch_end()
    try:
        await asyncio.wait([ended], timeout=_END_S)
        handle.signal(signal.SIGKILL)
        exit_code = await ended
    finally:
        handle.signal(signal.SIGKILL)
        handle.close()
    launcher.forget(handle.pid)
    handle.close_process()
    return exit_code


def _description(data: bytes, exit_code: int | None) -> Description:
    if len(data) < HEADER_BYTES:
        raise TargetError("", f"the process that loads the tasks {name_death(exit_code)} while it loaded them")
    try:
        header = unpack(data)
        check_from_worker(header)
        body_at = HEADER_BYTES + header.meta_bytes
        meta, body = data[HEADER_BYTES:body_at], data[body_at:]
        failure = orjson.loads(body) if header.kind == FrameKind.START_FAILED else None
        can_be_copied, held = orjson.loads(meta) if failure is None else (True, [])
    except (FrameError, ValueError, TypeError) as error:
        problem = "a module wrote to a descriptor that it did not open; a task file must not do that"
        raise TargetError("", problem) from error
    if failure is not None:
        raise TargetError(*failure)
    return Description(catalogue=body, can_be_copied=bool(can_be_copied), held=tuple(held))
