"""The jobs that a worker holds, and the protocol that decides which of them it begins.

A worker may hold several jobs, and the service may withdraw those that have not begun. The kernel resolves the race
between beginning and withdrawing: for each job the service puts a token into an `eventfd`, and the side that takes the
token has the job. The worker takes one to begin its oldest job; the service takes one to withdraw the newest, and then
sends SKIP for it. Neither side holds a lock, so no death can leave one behind.

Tokens are anonymous. If the service withdrew job 2 and then sent job 3, a worker that has read only up to job 2 would
begin it with the token of job 3. So the service sends no further job until the worker has confirmed with SKIPPED.

Source: eventfd(2), EFD_SEMAPHORE.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Final

from offload.wire.frames import FrameKind, pack_answer, unpack_large, unpack_meta
from offload.worker.call import JobCall
from offload.worker.channel import Channel
from offload.worker.large import LargeBody, receive_body

# Looked up once, as in `core.job`.
_JOB: Final = FrameKind.JOB
_JOBS: Final = frozenset({FrameKind.JOB, FrameKind.LARGE_JOB})


class Inbox:
    """The jobs that arrive through `channel`, one after the other. `before_waiting` is called when none is there.

    `tokens` is None on a system without eventfd: then the service sends one job at a time and withdraws none.
    """

    def __init__(self, channel: Channel, tokens: int | None, before_waiting: Callable[[], None]) -> None:
        self._channel = channel
        self._tokens = tokens
        self._before_waiting = before_waiting
        self._waiting: deque[JobCall] = deque()

    def next(self) -> JobCall | None:
        """Wait for the next job and take it. Returns None when this worker should end."""
        while True:
            if not self._waiting:
                if not self._channel.has_buffered:
                    self._before_waiting()
                if not self._receive():
                    return None
            if self._waiting and self._take_token():
                return self._waiting.popleft()
            # Fewer tokens than jobs: the service has withdrawn one, and its SKIP is on the way.
            if self._waiting and not self._receive():
                return None

    def _receive(self) -> bool:
        """Receive a frame. Returns False if no job will follow."""
        frame = self._channel.read()
        if frame is None:
            return False
        header, meta, body = frame
        kind = header.kind
        if kind in _JOBS:
            job_id, head = unpack_meta(meta)
            content = body if kind == _JOB else self._receive_body(header.number, body)
            self._waiting.append(JobCall(header.number, header.tag, header.flag, job_id, head, content))
        elif kind == FrameKind.SKIP:
            self._skip(header.number)
            self._channel.write(pack_answer(FrameKind.SKIPPED, number=header.number))
        else:
            return False  # RETIRE
        return True

    def _skip(self, number: int) -> None:
        for job in self._waiting:
            if job.number == number and isinstance(job.body, LargeBody):
                job.body.release()
        self._waiting = deque(job for job in self._waiting if job.number != number)

    def _receive_body(self, number: int, announced: bytes | memoryview) -> LargeBody:
        """Receive the descriptor now, not when the job begins: the next descriptor belongs to another job."""
        assert self._channel.descriptors is not None
        size_bytes, is_last = unpack_large(announced)
        return receive_body(self._channel.descriptors, number, size_bytes, is_last=is_last)

    def _take_token(self) -> bool:
        if self._tokens is None:
            return True
        try:
            os.eventfd_read(self._tokens)
        except BlockingIOError:
            return False
        return True
