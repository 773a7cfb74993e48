"""The life of a worker process: isolate, load, become ready, and serve one job after the other.

It is the target of a `multiprocessing.Process`.
"""

from __future__ import annotations

import gc
import os
import time
from contextlib import suppress
from typing import Final

from offload.core.outcome import Reason
from offload.errors import FrameError
from offload.metrics.layout import WorkerRow
from offload.wire.frames import LEAVING, PENDING_OUTPUT, STATUSES, FrameKind, pack_answer, pack_large
from offload.wire.memory import trim
from offload.wire.shared_bytes import LARGE_BYTES
from offload.wire.spec import WorkerSpec
from offload.worker.channel import Channel
from offload.worker.execution import Answer, Executor
from offload.worker.imports.preload import inherited_descriptors
from offload.worker.inbox import Inbox
from offload.worker.isolation import hand_over_to_guard, isolate
from offload.worker.large import LargeBody, send_result
from offload.worker.program import become_program
from offload.worker.start import StartFailed, end_if_copy, get_ready
from offload.worker.state.orphans import Orphans
from offload.worker.state.streams import flush_output
from offload.worker.state.surroundings import Surroundings

# Looked up once, as in `core.job`.
_DONE: Final = FrameKind.DONE
_SUCCEEDED: Final = Reason.SUCCEEDED

_FLAG_OF: Final = {reason: index for index, reason in enumerate(STATUSES)}

# Number of young objects at which Python looks for cycles: with the default of 700 this takes a fifth of the time of a
# short job. A task that makes cycles of large objects keeps at most this number of objects for a while.
_YOUNG_OBJECTS: Final = 10_000

# Exit codes of workers, distinct from those of tasks. Source of the range: sysexits.h.
EXIT_START_FAILED: Final = 78
EXIT_CHANNEL_LOST: Final = 76


def serve(spec: WorkerSpec) -> None:
    """Serve jobs until the service closes the channel or retires this worker."""
    output = spec.output.fileno()
    tokens = None if spec.tokens is None else spec.tokens.fileno()
    own = [spec.channel.fileno()] if tokens is None else [spec.channel.fileno(), tokens]
    if spec.descriptors is not None:
        own.append(spec.descriptors.fileno())
    streams = isolate(keep={*own, *inherited_descriptors()}, output=output, start_method=spec.start_method)
    become_program(spec.load.targets, start_method=spec.start_method)
    channel = Channel(spec.channel, spec.descriptors)
    try:
        executor = get_ready(spec.load, lane=spec.lane, is_debug=spec.is_debug)
    except StartFailed as failure:
        body = str(failure).encode("utf-8", "replace")
        with suppress(OSError):
            channel.write(pack_answer(FrameKind.START_FAILED, body_bytes=len(body)), body=body)
        _leave(EXIT_START_FAILED)
    gc.freeze()  # the loaded modules stay
    _raise_garbage_threshold()
    row = spec.metrics.worker_row(spec.lane)
    surroundings = Surroundings(streams, output)
    try:
        hand_over_to_guard()
        channel.write(pack_answer(FrameKind.READY))
        _serve_jobs(channel, Inbox(channel, tokens, Orphans().reap), executor, row, surroundings)
    except (OSError, EOFError, FrameError):
        # The service has ended, or a task closed the descriptors: no answer can be sent.
        _leave(EXIT_CHANNEL_LOST)


def _raise_garbage_threshold() -> None:
    """Raise the threshold of the garbage collection, unless the user disabled it or set a higher one."""
    young, *older = gc.get_threshold()
    if 0 < young < _YOUNG_OBJECTS:
        gc.set_threshold(_YOUNG_OBJECTS, *older)


def _serve_jobs(channel: Channel, inbox: Inbox, executor: Executor, row: WorkerRow, surroundings: Surroundings) -> None:
    owner = os.getpid()
    while (call := inbox.next()) is not None:
        began_ns = time.monotonic_ns()
        row.begin(call.number, began_ns)
        answer = None
        try:
            answer = executor.run(call, began_ns)
            end_if_copy(owner)
            problem = surroundings.restore()
        except BaseException as error:  # raised outside the task by a signal handler or a tracer that it has left
            end_if_copy(owner)
            problem = surroundings.restore()
            answer = answer or executor.answer_to(error, began_ns)
        is_large = _send(channel, call.number, answer, _flags(surroundings, problem))
        row.end(time.monotonic_ns())
        if problem:
            break
        if is_large or isinstance(call.body, LargeBody):
            del answer  # first: it may be a view of the body
            if isinstance(call.body, LargeBody):
                call.body.release()
            del call
            trim()
    flush_output()


def _flags(surroundings: Surroundings, problem: str) -> int:
    """Returns the flags of an answer. `problem`: why this worker ends after it, else ""."""
    if problem:
        surroundings.log_problem(problem)
    return (LEAVING if problem else 0) | (PENDING_OUTPUT if surroundings.has_output() else 0)


def _send(channel: Channel, number: int, answer: Answer, flags: int) -> bool:
    """Send the answer. Returns whether it was large."""
    flag = _FLAG_OF[answer.reason] | flags
    if answer.traceback:
        meta = answer.traceback.encode("utf-8", "backslashreplace")
    else:
        meta = answer.media_type.encode("latin-1", "replace")
    kind, body = _DONE, answer.body
    is_large = len(body) > LARGE_BYTES
    if is_large and answer.reason is _SUCCEEDED and send_result(channel.descriptors, number, body):
        kind, body = FrameKind.LARGE_DONE, pack_large(len(body))
    header = pack_answer(
        kind, flag=flag, meta_bytes=len(meta), body_bytes=len(body), number=number, run_ns=answer.run_ns
    )
    channel.write(header, meta, body)
    return is_large


def _leave(code: int) -> None:
    """End this process without exit handlers, which may depend on something broken."""
    flush_output()
    os._exit(code)
