"""The worker process of a lane: a process with a channel, from its start to its end.

Its end is reported once, after everything that it sent.
"""

from __future__ import annotations

import asyncio
import os
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
from offload.processes.launcher import Launcher
from offload.processes.process import WorkerHandle, open_descriptor
from offload.wire.frames import MAX_BODY_BYTES, unpack_large
from offload.wire.passing import make_pair, receive_descriptor
from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes
from offload.wire.spec import WorkerSpec
from offload.worker.entry import run_worker

# How long to wait for the end of the channel: a descendant that has not been killed yet may hold it open.
_CHANNEL_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnds:
    """The worker's ends of its connections with the service; see `wire.spec.WorkerSpec`."""

    channel: socket.socket
    output: connection.Connection
    tokens: connection.Connection | None
    descriptors: socket.socket | None


MakeSpec = Callable[[WorkerEnds], WorkerSpec]


class WorkerEvents(Protocol):
    """`worker_ended` is called once, last."""

    def frames(self, frames: list[Frame]) -> None: ...
    def channel_closed(self, error: FrameError | None) -> None: ...
    def worker_ended(self, exit_code: int | None) -> None: ...


class WorkerProcess:
    """Made by `start`; then call `connect`. All other methods return at once."""

    def __init__(
        self,
        *,
        process: BaseProcess,
        descriptor: int | None,
        lane: int,
        sock: socket.socket,
        output: int,
        tokens: connection.Connection | None,
        descriptors: socket.socket | None,
        events: WorkerEvents,
    ) -> None:
        self.handle = WorkerHandle(process, descriptor, output=output, lane=lane, on_ended=self._on_ended)
        self.pid = self.handle.pid
        self.output = self.handle.output
        self.channel = WorkerChannel(self, descriptors)
        self._socket = sock
        self._rest: socket.socket | None = None
        self.outbox = Outbox(self.channel, tokens)
        self._descriptors = descriptors
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._is_channel_open = True
        self._has_exit_code = False
        self._exit_code: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @classmethod
    async def start(cls, launcher: Launcher, make_spec: MakeSpec, events: WorkerEvents) -> WorkerProcess:
        """Start a process, which reports nothing until `connect`. Raises StartError."""
        with ExitStack() as kept, ExitStack() as passed:
            try:
                sock, channel = socket.socketpair()
                kept.enter_context(sock)
                passed.enter_context(channel)
                reader, writer = os.pipe()
                kept.callback(os.close, reader)
                output = passed.enter_context(connection.Connection(writer, readable=False))
                tokens = _make_tokens()
                if tokens is not None:
                    kept.enter_context(tokens)
                descriptors, worker_descriptors = make_pair() or (None, None)
                if descriptors is not None and worker_descriptors is not None:
                    kept.enter_context(descriptors)
                    passed.enter_context(worker_descriptors)
                ends = WorkerEnds(channel=channel, output=output, tokens=tokens, descriptors=worker_descriptors)
                spec = make_spec(ends)
                process, descriptor = await _start_process(launcher, spec)
            except OSError as error:  # no more descriptors, most likely
                raise StartError(str(error)) from error
            kept.pop_all()
        return cls(
            process=process,
            descriptor=descriptor,
            lane=spec.lane,
            sock=sock,
            output=reader,
            tokens=tokens,
            descriptors=descriptors,
            events=events,
        )

    async def connect(self) -> None:
        """From here on frames and the end are reported. Raises OSError: then only the end will be reported."""
        self.handle.watch_end()  # first: whatever fails below, its end must be seen
        try:
            self.output.open()
            self._socket.setblocking(False)
            self._rest = self._socket.dup()
            await self._loop.create_unix_connection(lambda: self.channel, sock=self._socket)
            if self._is_closed:
                self.channel.close()
        except OSError:
            self._is_channel_open = False  # the end need not wait for it
            self._socket.close()
            raise

    def receive_body(self, number: int, announced: bytes | bytearray) -> SharedBytes:
        """Returns the result that the worker has sent beside the frame with `announced`. Raises FrameError, OSError."""
        size_bytes = unpack_large(announced).size_bytes
        if self._descriptors is None or not LARGE_BYTES < size_bytes <= MAX_BODY_BYTES:
            raise FrameError(f"a large result of {size_bytes} bytes")
        return SharedBytes.received(receive_descriptor(self._descriptors, number), size_bytes)

    def close(self) -> None:
        """Release every descriptor; nothing is reported any more. May be called twice."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._rest is not None:
            self._rest.close()
        self.channel.close()
        self.handle.close()
        self.outbox.close()
        if self._descriptors is not None:
            self._descriptors.close()

    # ChannelEvents

    def frames(self, frames: list[Frame]) -> None:
        self._events.frames(frames)

    def channel_closed(self, error: FrameError | None) -> None:
        self._is_channel_open = False
        if self._is_closed:
            return
        self._read_rest(is_garbage=error is not None)
        if not self.handle.has_ended:
            self._events.channel_closed(error)
        elif self._has_exit_code:
            self._report_end()

    def _read_rest(self, *, is_garbage: bool) -> None:
        """Read what the worker had sent before it died: a failed write closes the connection before that is read."""
        rest, self._rest = self._rest, None
        if rest is None:
            return
        with rest, suppress(OSError):
            while not is_garbage and (count := rest.recv_into(self.channel.get_buffer(-1))):
                self.channel.buffer_updated(count)

    # The end

    def _on_ended(self, exit_code: int | None) -> None:
        """The process has ended; its last answers may still be in the channel."""
        self._exit_code, self._has_exit_code = exit_code, True
        if self._is_channel_open:
            self._timer = self._loop.call_later(_CHANNEL_S, self._report_end)
        else:
            self._report_end()

    def _report_end(self) -> None:
        self._read_rest(is_garbage=False)
        self.close()
        self.handle.close_process()
        self._events.worker_ended(self._exit_code)


async def _start_process(launcher: Launcher, spec: WorkerSpec) -> tuple[BaseProcess, int | None]:
    """Returns the process and its descriptor. Raises StartError, OSError."""
    process = await launcher.start(run_worker, spec, name=f"offload-worker-{spec.lane}")
    try:
        return process, open_descriptor(process)
    except OSError:
        process.kill()
        if process.pid is not None:
            launcher.forget(process.pid)
        raise


def _make_tokens() -> connection.Connection | None:
    """Returns an eventfd in a wrapper that can be passed to the child."""
    if not hasattr(os, "eventfd"):
        return None
    return connection.Connection(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE))
