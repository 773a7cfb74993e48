"""Starts servers and load generators, each in a process group of its own, and ends them with all their descendants."""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, Final

import orjson

from tests.benchmark import proc
from tests.benchmark.environments import ROOT
from tests.benchmark.errors import BenchError
from tests.benchmark.load.plan import HOST, LoadPlan
from tests.benchmark.load.result import LoadResult
from tests.benchmark.load.schedules import LAST_ANSWERS_S
from tests.benchmark.systems import Start, System

_READY_S: Final = 30.0
_STOP_S: Final = 15.0
_LEAVE_S: Final = 15.0  # for processes that end by themselves after the server, such as the resource tracker
_ANSWER_S: Final = 30.0
_START_LOAD_S: Final = 30.0
_POLL_S: Final = 0.001  # the precision of start-up and recovery
_SHOWN_LOG_BYTES: Final = 2_000

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)


class Server:
    """A running server."""

    def __init__(self, system: System, port: int, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.port = port
        self.pid = process.pid
        self.system = system
        self._process = process
        self._log = log
        self._connection = http.client.HTTPConnection(HOST, port, timeout=_ANSWER_S)

    def cpu_s(self) -> float:
        """CPU time of all its processes so far, seconds."""
        return proc.cpu_s(self.pid)

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Returns (status, body). Raises BenchError without an answer."""
        try:
            self._connection.request(method, path, body)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request opens it again
            raise BenchError(f"{self.system.name} did not answer {method} {path}: {error!r}") from error

    def stats(self) -> dict[str, Any]:
        status, body = self.request("GET", "/stats")
        if status != http.HTTPStatus.OK:
            raise BenchError(f"/stats of {self.system.name} answered {status}")
        document: dict[str, Any] = orjson.loads(body)
        return document

    def wait_until(self, what: str, condition: Callable[[], bool]) -> None:
        """Raises BenchError, with the end of the server's log, if that takes too long or the server ends."""
        end = time.monotonic() + _READY_S
        while not condition():
            has_ended = self._process.poll() is not None
            if has_ended or time.monotonic() > end:
                problem = "ended unexpectedly" if has_ended else f"was not {what} after {_READY_S:g} s"
                raise BenchError(f"{self.system.name} {problem}; its log ends with:\n{self._log_end()}")
            time.sleep(_POLL_S)

    def is_ready(self) -> bool:
        try:
            status, _ = self.request(*self.system.ready)
        except BenchError:
            return False
        return status == http.HTTPStatus.OK

    def stop(self, *, at_once: bool) -> None:
        """SIGTERM, then SIGKILL to what remains after a while, or SIGKILL `at_once`. Afterwards no process is left."""
        self._connection.close()
        family = proc.tree(self.pid)
        if not at_once:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        if self._process.poll() is None:
            # The resource tracker unlinks the semaphores of the others when they have ended, and then ends itself.
            _kill(process for process in family if not proc.is_resource_tracker(process))
            self._process.wait()
        end = time.monotonic() + _LEAVE_S
        while any(map(proc.is_running, family)) and time.monotonic() < end:
            time.sleep(_POLL_S)
        _kill(family)

    def _log_end(self) -> str:
        self._log.seek(max(self._log.seek(0, os.SEEK_END) - _SHOWN_LOG_BYTES, 0))
        return self._log.read().decode("utf-8", "replace").strip()


@contextmanager
def running(
    system: System,
    *,
    workers: int,
    max_body_bytes: int | None = None,
    is_example: bool = False,
    is_killed: bool = False,
) -> Iterator[Server]:
    """The system once it is ready; gone afterwards. `is_killed`: without finishing its backlog."""
    port = _free_port()
    start = Start(port=port, workers=workers, max_body_bytes=max_body_bytes, is_example=is_example)
    # In a folder of its own, so that no file of a server outlives a SIGKILL.
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            system.command(start),
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": system.python_path, "TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            # Only a system call; and the benchmark has one thread when it starts a server.
            preexec_fn=_end_with_parent,  # noqa: PLW1509
        )
        server = Server(system, port, process, log)
        try:
            server.wait_until("ready", server.is_ready)
            yield server
        finally:
            server.stop(at_once=is_killed)


def _end_with_parent() -> None:
    """SIGTERM for this process when the benchmark ends, however it ends. It outlives exec. Source: prctl(2)."""
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))


class RunningLoad:
    """A load generator at work."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._process = process
        self._seconds = seconds

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def result(self) -> LoadResult:
        """Waits for its end. Raises BenchError if it fails."""
        try:
            output, errors = self._process.communicate(timeout=self._seconds + LAST_ANSWERS_S + _START_LOAD_S)
        except subprocess.TimeoutExpired:
            raise BenchError("the load generator does not end") from None
        if self._process.returncode:
            raise BenchError(f"the load generator failed: {errors.decode('utf-8', 'replace').strip()}")
        return LoadResult.from_json(output)


@contextmanager
def start_load(plan: LoadPlan) -> Iterator[RunningLoad]:
    """The load begins when its connections are open; it is ended when the context is left.

    A process group of its own, so that Ctrl-C reaches the benchmark alone. No session of its own: where the kernel
    shares out the CPU by session (sched(7), autogrouping), all systems and loads are in one.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmark.load", plan.to_json()],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    with process:  # closes the pipes, and waits
        try:
            yield RunningLoad(process, plan.seconds)
        finally:
            process.kill()


def load(plan: LoadPlan) -> LoadResult:
    """Carries out the whole plan."""
    with start_load(plan) as running_load:
        return running_load.result()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _kill(family: Iterable[proc.Process]) -> None:
    for process in family:
        if proc.is_running(process):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
