"""One worker process as the service holds it: from its start to the certain knowledge of its end.

Lives here: the process with its channel, its output and its process descriptor, and the order in which its end is
told: first what it still had to say, then that it is gone, exactly once.  What all that means for jobs is the lane's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Final, Protocol

from offload.engines.supervised.channel import Frame, WorkerChannel
from offload.engines.supervised.outbox import Outbox
from offload.errors import FrameError, StartError
from offload.processes.forkserver import UNKNOWN_EXIT_CODE
from offload.processes.launcher import Launcher
from offload.processes.output import OutputReader
from offload.processes.proctree import read
from offload.wire.frames import MAX_BODY_BYTES, unpack_place
from offload.wire.passing import make_pair, receive_descriptor
from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes
from offload.wire.spec import WorkerSpec
from offload.worker.entry import run_worker
from offload.worker.isolation import DUMP_SIGNAL

# How long the exit code may lag behind the end: the forkserver has to be woken, to wait for it and to write.
_EXIT_CODE_WAIT_S: Final = 1.0
_EXIT_CODE_POLL_S: Final = 0.001
# A descriptor that could not be waited for is tried again; what its owner has to say by then it says a moment later.
_AWAIT_AGAIN_S: Final = 0.1
# How long, after the end, the channel may still be held open by a descendant that has not been killed yet.
_CHANNEL_WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnds:
    """The worker's ends of what connects it with the service; see `worker.spec.WorkerSpec`."""

    channel: socket.socket
    output: connection.Connection
    tokens: connection.Connection | None
    descriptors: socket.socket | None


MakeSpec = Callable[[WorkerEnds], WorkerSpec]


class WorkerEvents(Protocol):
    """What the lane is told.  `worker_ended` comes last, once."""

    def frames(self, frames: list[Frame]) -> None: ...
    def channel_closed(self, error: FrameError | None) -> None: ...
    def worker_ended(self, exit_code: int | None) -> None: ...


class WorkerProcess:
    """Made by `start`, then to be connected.  All other methods return at once."""

    def __init__(
        self,
        *,
        process: BaseProcess,
        descriptor: int | None,
        sock: socket.socket,
        tokens: connection.Connection | None,
        descriptors: socket.socket | None,
        output: OutputReader,
        events: WorkerEvents,
    ) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._start_ticks = _start_ticks(process.pid)
        self.output = output
        self.channel = WorkerChannel(self, descriptors)
        self._process = process
        self._socket = sock
        self._rest: socket.socket | None = None
        self.outbox = Outbox(self.channel, tokens)
        self._descriptors = descriptors
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._has_ended = False
        self._is_channel_open = True
        self._polls_left = round(_EXIT_CODE_WAIT_S / _EXIT_CODE_POLL_S)
        self._exit_code: int | None = None
        self._wait: asyncio.TimerHandle | None = None
        self._descriptor = descriptor
        self._is_told = False

    @classmethod
    async def start(cls, launcher: Launcher, make_spec: MakeSpec, events: WorkerEvents) -> WorkerProcess:
        """A new process; nothing is heard of it until `connect`.  Raises StartError."""
        with ExitStack() as ours, ExitStack() as theirs:
            try:
                sock, channel = socket.socketpair()
                ours.enter_context(sock)
                theirs.enter_context(channel)
                reader, writer = os.pipe()
                ours.callback(os.close, reader)
                output = theirs.enter_context(connection.Connection(writer, readable=False))
                tokens = _make_tokens()
                if tokens is not None:
                    ours.enter_context(tokens)
                descriptors, their_descriptors = make_pair() or (None, None)
                if descriptors is not None and their_descriptors is not None:
                    ours.enter_context(descriptors)
                    theirs.enter_context(their_descriptors)
                ends = WorkerEnds(channel=channel, output=output, tokens=tokens, descriptors=their_descriptors)
                spec = make_spec(ends)
                process, descriptor = await _start_process(launcher, spec)
            except OSError as error:  # no more descriptors, most likely
                raise StartError(str(error)) from error
            ours.pop_all()
        assert process.pid is not None
        return cls(
            process=process,
            descriptor=descriptor,
            sock=sock,
            tokens=tokens,
            descriptors=descriptors,
            output=OutputReader(reader, lane=spec.lane, pid=process.pid),
            events=events,
        )

    async def connect(self) -> None:
        """From here on its frames and its end are told.  Raises OSError: then there will be no frames, but its end."""
        self._await_end()  # first: whatever fails below, its end must be seen
        try:
            self.output.open()
            self._socket.setblocking(False)
            self._rest = self._socket.dup()
            await self._loop.create_unix_connection(lambda: self.channel, sock=self._socket)
        except OSError:
            self._is_channel_open = False  # and never was: its end need not wait for that
            self._socket.close()
            raise

    @property
    def start_ticks(self) -> int:
        """As in `proctree.ProcessInfo`; 0 as long as it cannot be read, for want of a descriptor most likely."""
        if not self._start_ticks and not self._has_ended:
            self._start_ticks = _start_ticks(self.pid)
        return self._start_ticks

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    def signal(self, number: int) -> None:
        """By descriptor where the system has them: an id may be another process's by now, a descriptor never."""
        if self._has_ended or self._descriptor is None:
            return
        try:
            if hasattr(signal, "pidfd_send_signal"):
                signal.pidfd_send_signal(self._descriptor, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def receive_body(self, number: int, announced: bytes | bytearray) -> SharedBytes:
        """The result that the worker has sent beside the frame that announced it.  Raises FrameError, OSError."""
        size_bytes = unpack_place(announced).size_bytes
        if self._descriptors is None or not LARGE_BYTES < size_bytes <= MAX_BODY_BYTES:
            raise FrameError(f"a large result of {size_bytes} bytes")
        return SharedBytes.received(receive_descriptor(self._descriptors, number), size_bytes)

    def dump_stacks(self) -> None:
        """Asks for the Python stacks of all its threads; they come out of its output."""
        self.signal(DUMP_SIGNAL)

    # ChannelEvents

    def frames(self, frames: list[Frame]) -> None:
        self._events.frames(frames)

    def channel_closed(self, error: FrameError | None) -> None:
        self._is_channel_open = False
        self._read_rest(is_garbage=error is not None)
        if not self._has_ended:
            self._events.channel_closed(error)
        elif self._polls_left == 0:
            self._tell_end()

    def _read_rest(self, *, is_garbage: bool) -> None:
        """What the worker had sent before it died, if writing to it failed first and closed the connection: answers
        that were given are not lost."""
        rest, self._rest = self._rest, None
        if rest is None:
            return
        with rest, suppress(OSError):
            while not is_garbage and (count := rest.recv_into(self.channel.get_buffer(-1))):
                self.channel.buffer_updated(count)

    # The end

    def _await_end(self) -> None:
        if self._descriptor is None:
            self._on_end()  # it has ended already, and been waited for
            return
        try:
            self._loop.add_reader(self._descriptor, self._on_end)
        except OSError:  # the system has a limit for these, too: epoll_ctl(2)
            self._wait = self._loop.call_later(_AWAIT_AGAIN_S, self._await_end)

    def _on_end(self) -> None:
        """The process has ended.  Its last words may still be in the channel, its exit code still on the way."""
        self._has_ended = True
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            if hasattr(os, "pidfd_open"):
                os.close(self._descriptor)
            self._descriptor = None
        self._poll_exit_code()

    def _poll_exit_code(self) -> None:
        self._exit_code = self._process.exitcode
        self._polls_left -= 1
        if self._exit_code is None and self._polls_left > 0:
            self._wait = self._loop.call_later(_EXIT_CODE_POLL_S, self._poll_exit_code)
            return
        self._polls_left = 0
        if self._is_channel_open:
            self._wait = self._loop.call_later(_CHANNEL_WAIT_S, self._tell_end)
        else:
            self._tell_end()

    def _tell_end(self) -> None:
        if self._is_told:
            return
        self._is_told = True
        self._read_rest(is_garbage=False)
        if self._wait is not None:
            self._wait.cancel()
        self.channel.close()
        self.output.close()
        self.outbox.close()
        if self._descriptors is not None:
            self._descriptors.close()
        if self._exit_code is not None:
            self._process.close()
        self._events.worker_ended(None if self._exit_code == UNKNOWN_EXIT_CODE else self._exit_code)


async def _start_process(launcher: Launcher, spec: WorkerSpec) -> tuple[BaseProcess, int | None]:
    """The process, with its descriptor as of `_open_process`."""
    process = await launcher.start(run_worker, spec, name=f"offload-worker-{spec.lane}")
    try:
        return process, _open_process(process)
    except OSError:
        process.kill()
        if process.pid is not None:
            launcher.forget(process.pid)
        raise


def _start_ticks(pid: int) -> int:
    info = read(pid)
    return 0 if info is None else info.start_ticks


def _make_tokens() -> connection.Connection | None:
    """An eventfd, in a wrapping that travels to the child."""
    if not hasattr(os, "eventfd"):
        return None
    return connection.Connection(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE))


def _open_process(process: BaseProcess) -> int | None:
    """A descriptor that becomes readable when the process ends; None if it has ended and is gone."""
    assert process.pid is not None
    if not hasattr(os, "pidfd_open"):
        return process.sentinel
    try:
        return os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
