"""Runs one job in a worker: decodes, validates, calls and encodes, and makes an answer of anything that is raised.

It uses no socket and no process.
"""

from __future__ import annotations

import time
import traceback
from typing import Final, NamedTuple

from offload.core.outcome import Reason
from offload.core.request import JobHead
from offload.tasks.context import set_current
from offload.tasks.faults import Fault, task_error
from offload.tasks.results.encoding import Encoded
from offload.tasks.targets.loading import LoadedTask, Registry
from offload.worker.call import JobCall
from offload.worker.large import LargeBody

# Looked up once, as in `core.job`.
_SUCCEEDED: Final = Reason.SUCCEEDED

# A longer traceback keeps its end: the exception and the frames next to it.
_MAX_TRACEBACK_LENGTH: Final = 1 << 16


class Answer(NamedTuple):
    """The answer to a job. `run_ns` is the time from decoding its arguments to the encoded result.

    `traceback` goes to the service's log with the job's id; the worker's own output does not have that.
    """

    reason: Reason
    media_type: str
    body: bytes | bytearray | memoryview
    run_ns: int
    traceback: str = ""


class Executor:
    """Runs jobs of the tasks in `registry`, one at a time.

    `is_debug` puts tracebacks into problems. `max_body_bytes` limits a body after it is inflated.
    """

    def __init__(self, registry: Registry, *, lane: int, is_debug: bool, max_body_bytes: int) -> None:
        self._tasks = registry.tasks
        self._lane = lane
        self._is_debug = is_debug
        self._max_body_bytes = max_body_bytes

    def run(self, call: JobCall, began_ns: int) -> Answer:
        """Run a job; never raises because of the task. `began_ns` is the current `time.monotonic_ns()`."""
        task, head = self._tasks[call.task_index], call.head
        set_current((call.job_id, task.name, call.attempt, self._lane, head.request_id, head.traceparent))
        try:
            encoded = self._result(task, head, call.body)
        except Fault as fault:
            return Answer(fault.reason, "", fault.to_json(), time.monotonic_ns() - began_ns, fault.traceback)
        except BaseException as error:  # raised outside the task by a signal handler or a tracer that it has left
            return self.answer_to(error, began_ns)
        finally:
            set_current(None)
        return Answer(_SUCCEEDED, encoded.media_type, encoded.body, time.monotonic_ns() - began_ns)

    def answer_to(self, error: BaseException, began_ns: int) -> Answer:
        """Returns the answer to a job that this exception ended."""
        fault = self._fault_of(error)
        return Answer(fault.reason, "", fault.to_json(), time.monotonic_ns() - began_ns, fault.traceback)

    def _result(self, task: LoadedTask, head: JobHead, body: bytes | memoryview | LargeBody) -> Encoded:
        compiled = task.compiled
        given: bytes | memoryview
        if head.content_encoding:
            given = self._inflated(body, head.content_encoding)
        elif isinstance(body, LargeBody):
            given = body.contents(as_copy=compiled.copies_body(head.content_type))
        else:
            given = body
        arguments = compiled.validate(compiled.decode(given, head.query, head.content_type))
        try:
            result = compiled.call(arguments)
        except BaseException as error:  # SystemExit and KeyboardInterrupt end the job, not the worker
            raise self._fault_of(error) from None
        return compiled.encode(result, head.accept)

    def _inflated(self, body: bytes | memoryview | LargeBody, coding: str) -> memoryview:
        from offload.tasks.arguments.inflation import inflated  # late: most workers get no compressed body

        return inflated(
            body.contents(as_copy=False) if isinstance(body, LargeBody) else body, coding, self._max_body_bytes
        )

    def _fault_of(self, error: BaseException) -> Fault:
        """Returns the fault for an exception. Only the log, or a caller in debug mode, gets its traceback."""
        fault = task_error(error)
        try:
            fault.traceback = "".join(traceback.format_exception(error))[-_MAX_TRACEBACK_LENGTH:]
        except BaseException as unprintable:  # the exception's own methods may raise anything
            fault.traceback = f"(no traceback: {type(unprintable).__name__})"
        if self._is_debug:
            fault.fields["traceback"] = fault.traceback
        return fault
