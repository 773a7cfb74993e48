"""The processes of a benchmark: the servers that are measured, and the load on them.

Lives here: starting them, each in a process group of its own, and making sure that none is left.  The scenarios enter
`running` for a server and `start_load` for a load; both end what they began when they are left, by an error too.
"""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import IO, Any, Final, Generic, TypeVar

import orjson

from tests.benchmark import cpu
from tests.benchmark.echo_load import EchoPlan, EchoResult
from tests.benchmark.errors import BenchError
from tests.benchmark.load import HOST, LAST_ANSWERS_S, LoadPlan, LoadResult
from tests.benchmark.open_load import OpenPlan, OpenResult
from tests.benchmark.systems import Start, System

_READY_S: Final = 30.0
_STOP_S: Final = 15.0
_LEAVE_S: Final = 2.0  # for processes that end by themselves once the server has
_ANSWER_S: Final = 30.0
_START_LOAD_S: Final = 30.0
_POLL_S: Final = 0.01
_SHOWN_LOG_BYTES: Final = 2_000

R = TypeVar("R")

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)


class Server:
    """A running server: where it listens, which processes it has, what its `/stats` says."""

    def __init__(self, system: System, port: int, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.name = system.name
        self.port = port
        self.pid = process.pid
        self.is_service = system.is_service
        self._system = system
        self._process = process
        self._log = log
        self._connection = http.client.HTTPConnection(HOST, port, timeout=_ANSWER_S)

    def cpu_s(self) -> float:
        """CPU time of all its processes so far, seconds."""
        return cpu.cpu_s(self.pid)

    def family(self) -> list[cpu.Process]:
        """All its processes."""
        return cpu.tree(self.pid)

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        """Status and body.  Raises BenchError when there is no answer."""
        try:
            self._connection.request(method, path, body)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request opens it again
            raise BenchError(f"{self.name} did not answer {method} {path}: {error!r}") from error

    def stats(self) -> dict[str, Any]:
        status, body = self.request("GET", "/stats")
        if status != http.HTTPStatus.OK:
            raise BenchError(f"/stats of {self.name} answered {status}")
        document: dict[str, Any] = orjson.loads(body)
        return document

    def wait_until(self, what: str, condition: Callable[[], bool], *, poll_s: float = _POLL_S) -> None:
        """Raises BenchError, with the end of the server's log, when that takes too long or the server ends."""
        end = time.monotonic() + _READY_S
        while not condition():
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} has ended by itself; its log ends with:\n{self._log_end()}")
            if time.monotonic() > end:
                raise BenchError(f"{self.name} is not {what} after {_READY_S} s; its log ends with:\n{self._log_end()}")
            time.sleep(poll_s)

    def is_ready(self) -> bool:
        """Whether a job is taken."""
        try:
            status, _ = self.request(*self._system.ready)
        except BenchError:
            return False
        return status == http.HTTPStatus.OK

    def stop(self, *, at_once: bool) -> None:
        """SIGTERM, then SIGKILL to what is left after a while, or SIGKILL `at_once`.  Nothing of it runs afterwards."""
        self._connection.close()
        family = cpu.tree(self.pid)
        if not at_once:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        if self._process.poll() is None:
            # It unlinks the semaphores of the others when they have gone, and knows by itself when that is.
            _kill([process for process in family if not cpu.is_resource_tracker(process)])
            self._process.wait()
        end = time.monotonic() + _LEAVE_S
        while any(map(cpu.is_running, family)) and time.monotonic() < end:
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
    poll_s: float = _POLL_S,
) -> Iterator[Server]:
    """The system, when it takes jobs; it is gone afterwards.  `is_killed`: it has a backlog that nobody waits for."""
    port = _free_port()
    start = Start(port=port, workers=workers, max_body_bytes=max_body_bytes, is_example=is_example)
    command = system.command(start)
    # In a folder of its own, so that nothing of what a server keeps there outlives a SIGKILL.
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command.arguments,
            cwd=scratch,
            env={**os.environ, **command.variables, "TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            # Nothing but a system call; the benchmark has one thread when it starts a server.
            preexec_fn=_end_with_parent,  # noqa: PLW1509
        )
        server = Server(system, port, process, log)
        try:
            server.wait_until("ready", server.is_ready, poll_s=poll_s)
            yield server
        finally:
            server.stop(at_once=is_killed)


def _end_with_parent() -> None:
    """SIGTERM for this process when the benchmark ends, however it does.  It outlives exec.  Source: prctl(2)."""
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))


class RunningLoad(Generic[R]):
    """A load generator at work, for so many seconds; `read` makes its result of what it prints."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float, read: Callable[[bytes], R]) -> None:
        self._process = process
        self._seconds = seconds
        self._read = read

    def result(self) -> R:
        """Waits for its end."""
        try:
            output, errors = self._process.communicate(timeout=self._seconds + LAST_ANSWERS_S + _START_LOAD_S)
        except subprocess.TimeoutExpired:
            raise BenchError("the load generator does not end") from None
        if self._process.returncode:
            raise BenchError(f"the load generator has failed: {errors.decode('utf-8', 'replace').strip()}")
        return self._read(output)


@contextmanager
def start_load(plan: LoadPlan) -> Iterator[RunningLoad[LoadResult]]:
    """A closed loop of callers; the load begins as soon as all of its connections stand."""
    with _generator("tests.benchmark.load", plan) as process:
        yield RunningLoad(process, plan.seconds, LoadResult.from_json)


@contextmanager
def start_open_load(plan: OpenPlan) -> Iterator[RunningLoad[OpenResult]]:
    """Callers who come whatever happens."""
    with _generator("tests.benchmark.open_load", plan) as process:
        yield RunningLoad(process, plan.seconds, OpenResult.from_json)


@contextmanager
def start_echo_load(plan: EchoPlan) -> Iterator[RunningLoad[EchoResult]]:
    """One caller with large bodies."""
    with _generator("tests.benchmark.echo_load", plan) as process:
        yield RunningLoad(process, plan.seconds, EchoResult.from_json)


@contextmanager
def _generator(module: str, plan: LoadPlan | OpenPlan | EchoPlan) -> Iterator[subprocess.Popen[bytes]]:
    """A group of its own, so that Ctrl-C reaches the benchmark alone.  No session of its own: where the kernel groups
    processes by session to share out the CPU (sched(7), autogrouping), all systems and loads stand in one."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, orjson.dumps(asdict(plan)).decode()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    with process:  # closes the pipes, and waits
        try:
            yield process
        finally:
            process.kill()


def load(plan: LoadPlan) -> LoadResult:
    """The whole load, from beginning to end."""
    with start_load(plan) as running_load:
        return running_load.result()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _kill(family: list[cpu.Process]) -> None:
    for process in family:
        if cpu.is_running(process):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
