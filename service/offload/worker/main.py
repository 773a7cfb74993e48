"""What a worker process is: isolated, loaded, ready, and then one job after the other.

Lives here: the order of a worker's life and its answers.  What a single job is made of stands in `execution`.  Runs as
the target of a `multiprocessing.Process`, in a process of its own.
"""

from __future__ import annotations

import array
import fcntl
import os
import sys
import termios
import time
from contextlib import suppress
from typing import Final

from offload.metrics.layout import WorkerRow
from offload.worker.channel import Channel, JobFrame
from offload.worker.execution import Answer, Executor
from offload.worker.frames import PENDING_OUTPUT, STATUSES, Kind, pack_answer
from offload.worker.inbox import Inbox
from offload.worker.isolation import hand_over_to_guard, isolate
from offload.worker.spec import WorkerSpec
from offload.worker.start import StartFailed, end_if_copy, get_ready

_FLAG_OF: Final = {reason: index for index, reason in enumerate(STATUSES)}

# Exit codes of our own, told apart from those of tasks in the log.  Source for the range: sysexits.h.
EXIT_START_FAILED: Final = 78
EXIT_CHANNEL_LOST: Final = 76


def serve(spec: WorkerSpec) -> None:
    """Serves jobs until the service closes the channel or retires this worker."""
    output = spec.output.fileno()
    tokens = None if spec.tokens is None else spec.tokens.fileno()
    own = [spec.channel.fileno()] if tokens is None else [spec.channel.fileno(), tokens]
    isolate(keep=own, output=output, start_method=spec.start_method)
    channel = Channel(spec.channel)
    try:
        executor = get_ready(spec.load, lane=spec.lane, is_debug=spec.is_debug)
    except StartFailed as failure:
        body = str(failure).encode("utf-8", "replace")
        with suppress(OSError):
            channel.write(pack_answer(Kind.START_FAILED, body_bytes=len(body)), body=body)
        _leave(EXIT_START_FAILED)
    row = spec.metrics.worker_row(spec.lane)
    try:
        hand_over_to_guard()
        channel.write(pack_answer(Kind.READY))
        _serve_jobs(channel, Inbox(channel, tokens), executor, row, output)
    except (OSError, EOFError):
        # The service is gone, or a task closed our descriptors: there is nobody to answer to.
        _leave(EXIT_CHANNEL_LOST)


def _serve_jobs(channel: Channel, inbox: Inbox, executor: Executor, row: WorkerRow, output: int) -> None:
    owner = os.getpid()
    while (frame := inbox.next()) is not None:
        began_ns = time.monotonic_ns()
        row.begin(frame.header.number, began_ns)
        answer = executor.run(frame)
        end_if_copy(owner)
        _send(channel, frame, answer, output)
        row.end(time.monotonic_ns())
    sys.stdout.flush()
    sys.stderr.flush()


def _send(channel: Channel, frame: JobFrame, answer: Answer, output: int) -> None:
    flag = _FLAG_OF[answer.reason]
    if _has_output(output):
        flag |= PENDING_OUTPUT
    if answer.traceback:
        meta = answer.traceback.encode("utf-8", "backslashreplace")
    else:
        meta = answer.media_type.encode("latin-1", "replace")
    header = pack_answer(
        Kind.DONE,
        flag=flag,
        meta_bytes=len(meta),
        body_bytes=len(answer.body),
        number=frame.header.number,
        run_ns=answer.run_ns,
    )
    channel.write(header, meta, answer.body)


def _has_output(output: int) -> bool:
    """Whether something printed is still on its way: it must be read as this job's before the next begins."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the task may have closed or replaced it; its loss is then its own
            stream.flush()
    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(output, termios.FIONREAD, waiting)  # works on the writing end too: pipe(7)
    except OSError:
        return False
    return waiting[0] > 0


def _leave(code: int) -> None:
    """Ends this process without its exit handlers: what they need may be broken."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
