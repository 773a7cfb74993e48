"""An external Ray cluster: a head on a free port, and nodes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.service import alive, descendants

_END_S: Final = 30.0
_RAY: Final = "from ray.scripts.scripts import main; main()"


class RayCluster:
    """Each process leads a group of its own.  `directory` must have a short name, for there are sockets in it."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.environment = {
            "HOME": str(directory),
            "TMPDIR": str(directory),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_head(self) -> subprocess.Popen[bytes]:
        port = self.address.partition(":")[2]
        where = ["--head", "--port", port, "--temp-dir", str(self._directory / "ray"), "--include-dashboard", "false"]
        return self._start(*where, "--num-cpus", "1")

    def start_node(self, cpus: int) -> subprocess.Popen[bytes]:
        return self._start("--address", self.address, "--num-cpus", str(cpus))

    def close(self) -> None:
        """Kill everything, as a power failure would."""
        processes, self._processes = self._processes, []
        for process in processes:
            pids = {process.pid, *descendants(process.pid)}
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(_END_S)
            while alive(pids):
                pass

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", _RAY, "start", *arguments, "--block"],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._processes.append(process)
        return process


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    directory = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = RayCluster(directory)
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(directory)
