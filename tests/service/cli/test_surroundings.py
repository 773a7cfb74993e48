"""Whatever surrounds the command: the service serves, or says in a sentence what the system refuses."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

BOUND_S: Final = 60.0
TASKS: Final = """
import os, resource
from offload import task

@task
def double(n: int) -> int:
    return 2 * n

@task
def leave(n: int) -> None:
    os._exit(n)

@task
def descriptor_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""
# Modules of the standard library and of others. Each of these files ends the process that imports it.
SHADOWS: Final = "email json numpy platform pydantic queue random select signal socket string struct typing"
BOMB: Final = "import os\nos.write(2, b'the file in the working directory was imported\\n')\nos._exit(3)\n"


@dataclass(frozen=True)
class Row:
    """`shell` runs before the command, in an empty directory; `python` are options of the interpreter.

    `environment`: added to the caller's, or the whole if `is_bare`; `{}` in it is the directory.
    """

    shell: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    is_bare: bool = False
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


# Surroundings that do not touch each other share a row: each start takes a second.
SERVING: Final = {
    "no HOME, no PATH, ASCII only, a long TMPDIR, optimised, and warnings are errors": Row(
        environment={
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONIOENCODING": "ascii",
            "PYTHONWARNINGS": "error",
            "PYTHONWARNDEFAULTENCODING": "1",
            "PYTHONOPTIMIZE": "2",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": "{}::relative:/nonexistent",
            "PYTHONSTARTUP": "/nonexistent",
            "PYTHONBREAKPOINT": "nonexistent.module",
            "TMPDIR": "{}/" + "x" * 150,
        },
        is_bare=True,
    ),
    "development mode, no TMPDIR, and a safe path already": Row(
        environment={
            "PYTHONDEVMODE": "1",
            "PYTHONMALLOC": "debug",
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONINSPECT": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            "TMPDIR": "/nonexistent",
        }
    ),
    "no standard streams": Row(shell="exec <&- >&- 2>&-"),
    "no stdin and stderr, and signals that the parent ignores": Row(shell="trap '' CHLD HUP INT; exec <&- 2>&-"),
    "modules of the same names": Row(shell="cd shadows"),
    "modules of the same names, spawn, and an isolated interpreter": Row(
        shell="cd shadows", options=("-E",), arguments=("--start-method", "spawn")
    ),
    "modules of the same names, fork": Row(shell="cd shadows", arguments=("--start-method", "fork")),
    "a working directory that was removed": Row(shell="mkdir gone; cd gone; rmdir ../gone"),
    "few file descriptors": Row(shell="ulimit -n 64", arguments=("--workers", "2")),
}


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    path: Path

    def job(self, task: str, body: str = "{}") -> str:
        """Returns the result of a job, as soon as a worker is ready."""
        end = time.monotonic() + BOUND_S
        while True:
            status, text = self._ask(task, body)
            if status == 200:
                return text
            assert status in (0, 503), text
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
            assert time.monotonic() < end, text
            time.sleep(0.02)

    def connection(self) -> http.client.HTTPConnection:
        connection = _UnixConnection(self.path)
        connection.connect()
        return connection

    def _ask(self, task: str, body: str) -> tuple[int, str]:
        connection = _UnixConnection(self.path)
        try:
            connection.request("POST", f"/jobs/{task}", body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (FileNotFoundError, ConnectionRefusedError):
            return 0, "not listening"
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=BOUND_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(BOUND_S)
        self.sock.connect(str(self._path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with tasks, an empty one to work in, and one whose files have the names of modules."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "work" / ("x" * 150)).mkdir(parents=True)
    (tmp_path / "work" / "shadows").mkdir()
    for name in SHADOWS.split():
        (tmp_path / "work" / "shadows" / f"{name}.py").write_text(BOMB)
    return tmp_path


def command(folder: Path, row: Row, *target: str) -> list[str]:
    serve = [sys.executable, *row.options, "-m", "offload", "serve", *(target or [str(folder / "tasks.py")])]
    if "--workers" not in row.arguments:
        serve += ["--workers", "1"]
    shell = f'{row.shell}\nexec "$@"'
    return ["/bin/bash", "-c", shell, "bash", *serve, "--port", "0", "--uds", str(folder / "s"), *row.arguments]


def environment(folder: Path, row: Row) -> dict[str, str]:
    added = {name: value.replace("{}", str(folder / "work")) for name, value in row.environment.items()}
    return added if row.is_bare else {**os.environ, **added}


@contextmanager
def running(folder: Path, row: Row) -> Iterator[Running]:
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(
            command(folder, row), cwd=folder / "work", env=environment(folder, row), stderr=log, text=True
        ) as process,
    ):
        try:
            yield Running(process, folder / "s")
        finally:
            process.kill()


def unexpected(log: Path) -> list[str]:
    """Returns the lines that are no news. In development mode, asyncio reports each step that takes long."""
    return [line for line in log.read_text().splitlines() if " INFO  " not in line and "logger=asyncio" not in line]


@pytest.mark.parametrize("name", SERVING)
def test_it_serves_and_ends_with_exit_code_0(folder: Path, name: str) -> None:
    with running(folder, SERVING[name]) as service:
        assert service.job("double", '{"n": 21}') == "42"
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(BOUND_S) == 0
    assert unexpected(folder / "log") == []
    assert not (folder / "s").exists()


def test_workers_have_the_original_limit_on_descriptors_and_the_service_a_higher_one(folder: Path) -> None:
    for method in ("forkserver", "spawn", "fork"):
        row = Row(shell="umask 077; ulimit -n 2000; ulimit -Sn 300", arguments=("--start-method", method))
        with running(folder, row) as service:
            assert service.job("descriptor_limit") == "300"
            assert stat.S_IMODE(service.path.stat().st_mode) == 0o700  # the socket's mode follows the umask
            limits = Path(f"/proc/{service.process.pid}/limits").read_text()
            assert next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")) == "2000"
            service.process.send_signal(signal.SIGHUP)  # the end of a terminal is a reason to stop as well
            assert service.process.wait(BOUND_S) == 0


def mounting(mounts: str, serve: list[str]) -> list[str]:
    """Returns the command with mounts of its own."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mounts of our own are allowed here: a full /dev/shm is NOT tested")
    return [unshare, "-m", "/bin/bash", "-c", f'{mounts}\nexec "$@"', "bash", *serve]


@pytest.mark.parametrize(
    ("mounts", "arguments"),
    [
        ("mount -t tmpfs -o size=64k none /dev/shm; head -c 64k /dev/zero > /dev/shm/full 2>/dev/null", ()),
        ("mount -t tmpfs -o ro none /dev/shm; mount -t tmpfs -o ro none /var/tmp", ("--start-method", "spawn")),
    ],
    ids=["a full /dev/shm", "a read-only /dev/shm"],
)
def test_it_needs_no_space_in_shared_memory(folder: Path, mounts: str, arguments: tuple[str, ...]) -> None:
    serve = mounting(mounts, command(folder, Row(arguments=arguments)))
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(serve, cwd=folder / "work", stderr=log, text=True) as process,
    ):
        assert Running(process, folder / "s").job("double", '{"n": 21}') == "42"
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_command_is_being_imported_ends_it_with_exit_code_0(
    folder: Path, number: signal.Signals
) -> None:
    with running(folder, Row()) as service:
        wait_for_handler_of_sigterm(service.process.pid)
        service.process.send_signal(number)
        assert service.process.wait(BOUND_S) == 0
    assert unexpected(folder / "log") == []


def wait_for_handler_of_sigterm(pid: int) -> None:
    end = time.monotonic() + BOUND_S
    while time.monotonic() < end:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
        if mask & 1 << (signal.SIGTERM - 1):
            return
        time.sleep(0.001)
    raise AssertionError("SIGTERM is not handled")


def test_more_connections_than_descriptors_are_refused_and_the_others_served(folder: Path) -> None:
    with running(folder, Row(shell="ulimit -n 80")) as service:
        assert service.job("double", '{"n": 1}') == "2"
        connections = [service.connection() for _ in range(70)]
        answers = [answer_on(connection) for connection in connections]
        assert answers[0] == "4"
        assert answers[-1] == "refused"
        assert set(answers) == {"4", "refused"}
        assert "worker-crashed" in answer_on(connections[0], "leave")
        assert answer_on(connections[1]) == "4"  # descriptors were kept for another worker
        for connection in connections:
            connection.close()
        assert service.job("double", '{"n": 3}') == "6"
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(BOUND_S) == 0
    refused, *others = unexpected(folder / "log")
    assert "connections are refused for lack of file descriptors; raise the limit with `ulimit -n`" in refused
    assert "limit=80" in refused
    assert [line for line in others if " crashed " not in line] == []


def answer_on(connection: http.client.HTTPConnection, task: str = "double") -> str:
    try:
        connection.request("POST", f"/jobs/{task}", '{"n": 2}')
        return connection.getresponse().read().decode()
    except (ConnectionError, http.client.RemoteDisconnected):
        return "refused"


def test_an_engine_that_needs_semaphores_says_so(folder: Path) -> None:
    row = Row(arguments=("--engine", "pool"))
    done = subprocess.run(
        mounting("mount -t tmpfs -o ro none /dev/shm", command(folder, row)),
        cwd=folder / "work",
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "offload: cannot load the tasks and start the workers: Read-only file system: /dev/shm, for the semaphores of "
        "this engine\n",
    )


REFUSED: Final = {
    "too few file descriptors": (
        Row(shell="ulimit -n 24"),
        "offload: cannot serve: the limit of 24 open files is too low for 1 workers",
    ),
    "a relative path in a working directory that was removed": (
        Row(shell="mkdir gone; cd gone; rmdir ../gone"),
        "offload: cannot find tasks.py: the working directory was removed",
    ),
    "a path for the socket in a directory that nobody may write to": (
        Row(arguments=("--uds", "/proc/s")),
        "offload: cannot listen on /proc/s: ",
    ),
    "a path for the socket that is a directory": (
        Row(arguments=("--uds", "/")),
        "offload: cannot listen on /: ",
    ),
    "a host name with an empty part": (
        Row(arguments=("--host", "a..b")),
        "offload: cannot listen on a..b: not a host name; choose another with --host",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_system_refuses_is_said_in_a_sentence(folder: Path, name: str) -> None:
    row, sentence = REFUSED[name]
    target = ["tasks.py"] if "relative" in name else []
    done = subprocess.run(
        command(folder, row, *target), cwd=folder / "work", capture_output=True, text=True, timeout=BOUND_S
    )
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line[: len(sentence)]) == (1, sentence)
