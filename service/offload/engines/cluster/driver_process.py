"""The service's side of a driver: starts its process, exchanges messages, and kills it with its descendants."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from secrets import token_hex
from shutil import rmtree
from subprocess import DEVNULL, Popen
from typing import Final, Self

from offload.engines.cluster.messages import Message, read_message, write_message
from offload.engines.off_loop import off_loop
from offload.processes.killing import kill_all
from offload.processes.naming import name_death
from offload.processes.output import OutputReader
from offload.processes.proctree import ProcessInfo, all_processes, has_mark, is_tracker
from offload.processes.safe_path import SAFE_PATH_FLAG, code_on_path

_CODE: Final = "from offload.engines.cluster.driver import main; main()"
_MARK_VARIABLE: Final = "OFFLOAD_DRIVER"
_TRACKER_S: Final = 1.0
# Time to end after SIGKILL.
_DIE_S: Final = 5.0


class DriverProcess:
    """A running driver; made by `start` on the event loop that uses it."""

    def __init__(self, process: Popen[bytes], sock: socket.socket, output: int, mark: str, directory: str) -> None:
        self.pid = process.pid
        self._process = process
        self._ended = off_loop(process.wait, name="offload-driver-watch")
        self._socket = sock
        self._output = OutputReader(output, lane=None, pid=process.pid)
        self._mark = mark
        self._directory = directory
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    def start(cls, kind: str, *, mark: str, descriptor_limit: int | None = None) -> Self:
        """Start a driver for a cluster of `kind`, see `driver`; blocks for milliseconds.

        `mark`, "NAME=value", goes into its environment, for the service's guard. `descriptor_limit` is its limit on
        open files, if not that of the service. Raises OSError.
        """
        own_mark = f"{_MARK_VARIABLE}={token_hex(16)}"
        directory = tempfile.mkdtemp(prefix="offload-")
        environment = dict(entry.split("=") for entry in (mark, own_mark))
        own_end, driver_end = socket.socketpair()
        readable, writable = os.pipe()
        try:
            process = Popen(
                [sys.executable, SAFE_PATH_FLAG, "-c", _code(descriptor_limit), kind, str(driver_end.fileno())],
                stdin=DEVNULL,
                stdout=writable,
                stderr=writable,
                pass_fds=[driver_end.fileno()],
                env={**os.environ, **environment, "TMPDIR": directory},
                start_new_session=True,
            )
        except BaseException:
            own_end.close()
            os.close(readable)
            rmtree(directory, ignore_errors=True)
            raise
        finally:
            driver_end.close()
            os.close(writable)
        return cls(process, own_end, readable, own_mark, directory)

    def send(self, head: Sequence[object], *body: bytes | bytearray) -> None:
        """Send a message; if the driver has ended, `receive` notices it."""
        if self._writer is not None:
            write_message(self._writer, head, *body)

    async def receive(self, on_connected: Callable[[], None], on_message: Callable[[Message], bool]) -> None:
        """Pass the driver's messages to `on_message` until that returns False or the driver ends.

        Calls `on_connected` as soon as messages can be sent.
        """
        self._output.open()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        on_connected()
        while (message := await read_message(reader)) is not None and on_message(message):
            pass

    async def stop(self, grace_s: float) -> str:
        """Wait `grace_s` for the driver to end, then kill what remains. Returns how it ended."""
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.close()
        await asyncio.wait([self._ended], timeout=grace_s)
        await off_loop(self._kill_remaining, name="offload-driver-ending")
        await asyncio.wait([self._ended], timeout=_DIE_S)  # if the kernel holds the process, the guard deals with it
        self._output.close()
        await off_loop(partial(rmtree, self._directory, ignore_errors=True), name="offload-driver-ending")
        return str(name_death(self._process.returncode))

    def _kill_remaining(self) -> None:
        """Kill the driver's remaining processes.

        Resource trackers get time to unlink the shared memory that the others left. Ray's processes overwrite their
        environment, so only the driver's session identifies them; its id is not reused while it has a member (fork(2)).
        """
        kill_all(lambda processes: {pid for pid in self._remaining(processes) if not is_tracker(pid)})
        give_up_at = time.monotonic() + _TRACKER_S
        while self._remaining(all_processes()) and time.monotonic() < give_up_at:
            time.sleep(_TRACKER_S / 100)
        kill_all(self._remaining)

    def _remaining(self, processes: dict[int, ProcessInfo]) -> set[int]:
        mark = self._mark.encode("ascii")
        alive = [pid for pid, info in processes.items() if not info.is_dead]
        return {pid for pid in alive if _session(pid) == self.pid or has_mark(pid, mark)}


def _code(descriptor_limit: int | None) -> str:
    if descriptor_limit is None:
        return code_on_path(_CODE)
    limit = f"from offload.processes.limits import set_descriptor_limit; set_descriptor_limit({descriptor_limit})"
    return code_on_path(f"{limit}; {_CODE}")


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
