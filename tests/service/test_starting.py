"""A start that fails prints one sentence, exits with a code, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.service import RunningService, serving

METHODS = ["forkserver", "spawn", "fork"]
BOUND_S = 60

GOOD = "from offload import task\n\n@task\ndef double(x: int) -> int:\n    return 2 * x\n"

# Content of the file, and the error that it causes.
BROKEN = {
    "an exception": ("\nraise ValueError('no model here')\n", "line 2: ValueError: no model here"),
    "sys.exit": ("import sys\nsys.exit(0)\n", "the file ended the program while it was imported"),
    "os._exit": ("import os\nos._exit(0)\n", "ended while it loaded them"),
    "SIGKILL": ("import os\nos.kill(os.getpid(), 9)\n", "while it loaded them"),
    "null bytes": ("\0\0", "null bytes"),
}


def serve(*arguments: str | Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the command to its end; return its exit code and its stderr."""
    command = [sys.executable, "-m", "offload", "serve", *map(str, arguments)]
    if "--port" not in arguments:
        command += ["--port", "0"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        env={**os.environ, **(env or {})},
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def start_error(*arguments: str | Path) -> str:
    """Return the sentence with which a start fails."""
    code, text = serve(*arguments)
    lines = text.splitlines()
    assert (code, len(lines)) == (1, 1), text
    assert lines[0].startswith("offload: ")
    return lines[0].removeprefix("offload: ")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    file = tmp_path / "tasks.py"
    file.write_text(GOOD)
    return file


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_reported_in_one_sentence(tasks: Path, name: str) -> None:
    source, expected = BROKEN[name]
    tasks.write_text(source)
    assert expected in start_error(tasks)


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
@pytest.mark.parametrize("name", ["an exception"])
def test_with_any_start_method(tasks: Path, name: str, start_method: str) -> None:
    source, expected = BROKEN[name]
    tasks.write_text(source)
    assert expected in start_error(tasks, "--start-method", start_method)


@pytest.mark.parametrize("name", ["os._exit"])
def test_a_module_that_ends_its_process_does_not_end_the_service(tasks: Path, name: str) -> None:
    """`fork` is left out: it loads the tasks into the service itself."""
    tasks.write_text(BROKEN[name][0])
    assert "while it loaded them" in start_error(tasks, "--start-method", "spawn")


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_loading_a_module_that_never_ends_times_out(tasks: Path, start_method: str) -> None:
    tasks.write_text("import time\ntime.sleep(1000)\n")
    sentence = start_error(tasks, "--start-method", start_method, "--start-timeout", "0.5")
    assert sentence == "the tasks were not loaded within 0.5 s; see --start-timeout"


def test_a_missing_target_is_reported() -> None:
    assert "no such file" in start_error("missing.py")


def test_all_wrong_settings_are_reported_together_before_anything_starts(tasks: Path) -> None:
    code, text = serve(tasks, "--workers", "-1", "--timeout", "never", "--port", "70000", env={"OFFLOAD_SPARES": "x"})
    assert code == 2
    assert len(text.splitlines()) == 4
    assert all(line.startswith("offload: ") for line in text.splitlines())


@pytest.mark.parametrize("start_method", METHODS)
async def test_a_module_may_print_while_it_is_imported(tasks: Path, start_method: str) -> None:
    tasks.write_text("import os, sys\nprint('loud')\nsys.stderr.write('louder')\nos.write(1, b'x' * 5000)\n" + GOOD)
    async with serving(tasks, "--workers", "1", "--start-method", start_method) as service:
        await service.ready()
        assert (await service.job("double", {"x": 4})).json() == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_can_be_stopped_before_it_serves(tasks: Path, number: signal.Signals) -> None:
    tasks.write_text("import time, sys\nprint('loading', file=sys.stderr, flush=True)\ntime.sleep(1000)\n")
    with subprocess.Popen(
        [sys.executable, "-m", "offload", "serve", str(tasks), "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "loading\n"
        wait_for_handler(process.pid, number)
        process.send_signal(number)
        assert process.wait(BOUND_S) == 0
        assert "Traceback" not in process.stderr.read()


def wait_for_handler(pid: int, number: int) -> None:
    """Wait until the process catches the signal."""
    end = time.monotonic() + BOUND_S
    while True:
        with open(f"/proc/{pid}/status") as file:
            mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
        # Python itself catches SIGINT from its first moment on; SIGTERM is caught together with it.
        if mask & 1 << (signal.SIGTERM - 1) and mask & 1 << (number - 1):
            return
        assert time.monotonic() < end
        time.sleep(0.005)


# Addresses


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_a_port_in_use_is_reported(tasks: Path, taken_port: int) -> None:
    sentence = start_error(tasks, "--port", str(taken_port))
    assert sentence.startswith(f"cannot listen on 127.0.0.1:{taken_port}: the address is in use")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_reported(tasks: Path, host: str) -> None:
    assert start_error(tasks, "--host", host).startswith(f"cannot listen on {host}")


def test_a_unix_socket_in_use_is_reported_and_kept(tasks: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        assert "another service listens on this path" in start_error(tasks, "--uds", path)
        assert path.is_socket()


def test_a_file_in_place_of_the_unix_socket_is_reported_and_kept(tasks: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    assert "the path is a file, not a socket" in start_error(tasks, "--uds", path)
    assert path.read_text() == "precious"


def test_a_unix_socket_in_a_missing_directory_is_reported(tasks: Path, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "socket"
    assert start_error(tasks, "--uds", path) == f"cannot listen on {path}: No such file or directory"


async def test_a_unix_socket_that_a_killed_service_left_is_replaced(tasks: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with serving(tasks, "--workers", "1", "--port", "0", "--uds", path) as service:
        await service.ready()
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
            client.post("http://offload/jobs/double", json={"x": 3}) as response,
        ):
            assert await response.json() == 6
    assert not path.exists()


def test_a_failed_start_removes_its_unix_socket(tasks: Path, tmp_path: Path) -> None:
    tasks.write_text("x = 1\n")
    start_error(tasks, "--uds", tmp_path / "socket")
    assert not (tmp_path / "socket").exists()


# Event loops


def loops_of(service: RunningService) -> str:
    """Return the service's event loop, judged by its loaded libraries."""
    return "uvloop" if "/uvloop/" in Path(f"/proc/{service.pid}/maps").read_text() else "asyncio"


async def test_it_runs_on_uvloop_if_installed(tasks: Path) -> None:
    pytest.importorskip("uvloop")
    async with serving(tasks, "--workers", "1") as service:
        assert loops_of(service) == "uvloop"


async def test_it_runs_on_asyncios_loop_without_uvloop(tmp_path: Path) -> None:
    """Use everything that depends on the loop: channels, large frames, output, timers, signals, deaths."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('not installed')\n")
    fault_tasks = Path(__file__).parent.parent / "faults" / "fault_tasks.py"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    async with serving(fault_tasks, "--workers", "2", env={"PYTHONPATH": path}) as service:
        await service.ready()
        assert loops_of(service) == "asyncio"
        assert (await service.job("fine", {"x": 3})).json() == 3
        large = b'"%s"' % (b"x" * 3_000_000)
        assert (await service.post("echo", data=io.BytesIO(b'{"text": %s}' % large))).body == large
        assert (await service.job("noise")).json() == "done"
        expected = {
            "segfault": "worker-crashed",
            "endless": "job-timeout",
            "hog": "memory-limit",
            "garbage_on_channel": "worker-crashed",
            "die_while_sending": "worker-crashed",
            "close_everything": "worker-crashed",
        }
        for task, slug in expected.items():
            assert (await service.job(task)).slug == slug
        await service.ready()
