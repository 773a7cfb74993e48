"""One job in a worker: decode, validate, call, encode; and what is said when any of it fails.

Lives here: the order of the steps, and the certainty that whatever the user's code raises becomes an answer.  No
socket and no process is touched.  `main` calls `Executor.run` for each frame.
"""

from __future__ import annotations

import time
import traceback
from typing import Final, NamedTuple

from offload.core.outcome import Reason
from offload.core.request import JobHead
from offload.tasks.context import set_current
from offload.tasks.faults import Fault, task_error
from offload.tasks.loading import LoadedTask, Registry
from offload.tasks.results import Encoded
from offload.worker.call import JobCall
from offload.worker.large import LargeBody

# Looked up once, as in `core.job`.
_SUCCEEDED: Final = Reason.SUCCEEDED

# Of a longer one the end is kept: what was raised, and the frames next to it.
_MAX_TRACEBACK_LENGTH: Final = 1 << 16


class Answer(NamedTuple):
    """What a job ends with.  `run_ns` is the time from the first look at its arguments to the encoded result.

    `traceback` is for the service's log, which knows whose it is; in the worker's output it would be anybody's.
    """

    reason: Reason
    media_type: str
    body: bytes | bytearray | memoryview
    run_ns: int
    traceback: str = ""


class Executor:
    """Runs jobs of the tasks in `registry`, one at a time.  `is_debug` puts tracebacks into problems."""

    def __init__(self, registry: Registry, *, lane: int, is_debug: bool) -> None:
        self._tasks = registry.tasks
        self._lane = lane
        self._is_debug = is_debug

    def run(self, call: JobCall, began_ns: int) -> Answer:
        """Never raises for what the task does.  `began_ns` is the present, of `time.monotonic_ns`."""
        task, head = self._tasks[call.task_index], call.head
        set_current((call.job_id, task.name, call.attempt, self._lane, head.request_id, head.traceparent))
        try:
            encoded = self._result(task, head, call.body)
        except Fault as fault:
            return Answer(fault.reason, "", fault.to_json(), time.monotonic_ns() - began_ns, fault.traceback)
        finally:
            set_current(None)
        return Answer(_SUCCEEDED, encoded.media_type, encoded.body, time.monotonic_ns() - began_ns)

    def _result(self, task: LoadedTask, head: JobHead, body: bytes | memoryview | LargeBody) -> Encoded:
        compiled = task.compiled
        given = body.contents(as_copy=compiled.copies_body) if isinstance(body, LargeBody) else body
        arguments = compiled.validate(compiled.decode(given, head.query, head.content_type))
        try:
            result = compiled.call(arguments)
        except BaseException as error:  # SystemExit and KeyboardInterrupt end the job, not the worker
            raise self._fault_of(error) from None
        return compiled.encode(result, head.accept)

    def _fault_of(self, error: BaseException) -> Fault:
        """The caller is told what was raised; where, only the log (and the caller of a service in debug mode)."""
        fault = task_error(error)
        try:
            fault.traceback = "".join(traceback.format_exception(error))[-_MAX_TRACEBACK_LENGTH:]
        except BaseException as unprintable:  # the exception's own methods run here
            fault.traceback = f"(no traceback: {type(unprintable).__name__})"
        if self._is_debug:
            fault.fields["traceback"] = fault.traceback
        return fault
