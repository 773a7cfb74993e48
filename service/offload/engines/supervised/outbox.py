"""The service's side of `worker.inbox`: giving jobs to one worker, and taking back those that it has not begun.

Lives here: what is sent when, and the tokens by which the kernel decides who has a job.  What is given in one turn of
the loop leaves in one write.  A `WorkerProcess` owns one; the lane gives and takes.
"""

from __future__ import annotations

import asyncio
import os
from multiprocessing import connection

from offload.core.job import Job
from offload.engines.supervised.channel import WorkerChannel
from offload.wire.frames import pack_retire, pack_skip


class Outbox:
    """`tokens` holds the eventfd, None where the system has none: then no job can be taken back."""

    def __init__(self, channel: WorkerChannel, tokens: connection.Connection | None) -> None:
        self._channel = channel
        self._tokens = tokens
        self._unsent: list[Job] = []
        self._unread_skips = 0
        self._must_retire = False
        self._is_closed = False
        self._loop = asyncio.get_running_loop()

    def send_job(self, job: Job, *, is_idle: bool) -> None:
        """Gives it one more job: at once if it is idle, else with all others of this turn of the loop.

        Waking a process costs more than all else on the way; several frames in one write wake it once.
        """
        self._unsent.append(job)
        if is_idle:
            self._send_all()
        elif len(self._unsent) == 1:
            self._loop.call_soon(self._send_all)

    def take_back(self, job: Job) -> bool:
        """Takes the newest job back, if it has not begun."""
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
        """The worker says that it knows of a job that was taken back.  False: there is none that it can mean."""
        if not self._unread_skips:
            return False
        self._unread_skips -= 1
        self._send_all()
        return True

    def send_retire(self) -> None:
        """Lets it leave after the jobs that it was given."""
        self._must_retire = True
        self._send_all()

    def close(self) -> None:
        """The worker is gone; nothing is sent any more."""
        self._is_closed = True
        if self._tokens is not None:
            self._tokens.close()

    def _send_all(self) -> None:
        """The tokens first: the worker must find one for each frame that it reads.  Nothing before it has read of all
        jobs that were taken back, see `worker.inbox`."""
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
