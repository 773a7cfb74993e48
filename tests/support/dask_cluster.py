"""An external Dask cluster: a scheduler on a free port, and workers with their nannies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.service import alive, descendants

_END_S: Final = 30.0


class DaskCluster:
    """Each process leads a group of its own; `directory` is where they work."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        return self._start("dask_scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-show")

    def start_worker(self, threads: int) -> subprocess.Popen[bytes]:
        local = ["--host", "127.0.0.1", "--local-directory", str(self._directory), "--memory-limit", "0"]
        return self._start("dask_worker", self.address, "--nthreads", str(threads), "--no-dashboard", *local)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process and its descendants, except resource trackers, which unlink semaphores and then end."""
        commands = descendants(process.pid)
        for pid, command in [(process.pid, ""), *commands.items()]:
            if "resource_tracker" not in command:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait(_END_S)
        give_up_at = time.monotonic() + _END_S
        while alive(set(commands)) and time.monotonic() < give_up_at:
            time.sleep(0.01)

    def close(self) -> None:
        for process in self._processes:
            self.kill(process)

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._processes.append(process)
        return process


@contextlib.contextmanager
def dask_cluster(directory: Path) -> Iterator[DaskCluster]:
    directory.mkdir()
    cluster = DaskCluster(directory)
    try:
        yield cluster
    finally:
        cluster.close()
