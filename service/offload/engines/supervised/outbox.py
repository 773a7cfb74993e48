"""Sends jobs to one worker, and withdraws those that it has not begun: the service's side of `worker.inbox`.

The tokens of an eventfd decide whether the worker or the service has a job. All jobs of one iteration of the event loop
are sent in one write.
"""

from __future__ import annotations

import asyncio
import os
from multiprocessing import connection

from offload.core.job import Job
from offload.engines.supervised.channel import WorkerChannel
from offload.wire.frames import pack_retire, pack_skip


class Outbox:
    """`tokens` holds the eventfd. Without one (None) no job can be withdrawn."""

    def __init__(self, channel: WorkerChannel, tokens: connection.Connection | None) -> None:
        self._channel = channel
        self._tokens = tokens
        self._unsent: list[Job] = []
        self._unread_skips = 0
        self._must_retire = False
        self._is_closed = False
        self._loop = asyncio.get_running_loop()

    def send_job(self, job: Job, *, is_idle: bool) -> None:
        """Send one more job: at once if the worker is idle, else with all others of this iteration of the loop.

        Waking a process costs more than everything else; several frames in one write wake it once.
        """
        self._unsent.append(job)
        if is_idle:
            self._send_all()
        elif len(self._unsent) == 1:
            self._loop.call_soon(self._send_all)

    def withdraw(self, job: Job) -> bool:
        """Withdraw the newest job. Returns False if it has begun."""
        if self._unsent and self._unsent[-1] is job:
            self._unsent.pop()
            return True
        if self._tokens is None:
            return False
        try:
            os.eventfd_read(self._tokens.fileno())
        except BlockingIOError:
            return False
        self._channel.write(pack_skip(job.number))
        self._unread_skips += 1
        return True

    def skip_was_read(self) -> bool:
        """The worker reports that it has read of a withdrawn job. Returns False if none was withdrawn."""
        if not self._unread_skips:
            return False
        self._unread_skips -= 1
        self._send_all()
        return True

    def send_retire(self) -> None:
        """Make the worker end after the jobs that it has."""
        self._must_retire = True
        self._send_all()

    def close(self) -> None:
        """Stop sending: the worker has ended. May be called twice."""
        self._is_closed = True
        if self._tokens is not None:
            self._tokens.close()

    def _send_all(self) -> None:
        """Send all jobs, unless the worker has yet to read of a withdrawn one: see `worker.inbox`.

        Writes the tokens first: the worker must find one for each frame that it reads.
        """
        if self._unread_skips or self._is_closed:
            return
        jobs, self._unsent = self._unsent, []
        if jobs:
            if self._tokens is not None:
                os.eventfd_write(self._tokens.fileno(), len(jobs))
            self._channel.write_jobs(jobs)
        if self._must_retire:
            self._must_retire = False
            self._channel.write(pack_retire())
