"""The executor turns one job into one answer, whatever the task does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import orjson
import pytest
from pydantic import AfterValidator

import offload
from offload.core.job import JobId
from offload.core.outcome import Reason
from offload.core.request import JobHead
from offload.tasks.definition.decorators import definition_of, task
from offload.tasks.signature import CompiledTask
from offload.tasks.targets.loading import LoadedTask, Registry
from offload.worker.call import JobCall
from offload.worker.execution import Answer, Executor

LANE = 3
JOB_ID = JobId("00112233445566778899aabbccddeeff")


def end_the_program(value: int) -> int:
    raise SystemExit(value)


def registry(*functions: Callable[..., Any]) -> Registry:
    definitions = [definition_of(task(function)) for function in functions]
    return Registry(
        tasks=tuple(
            LoadedTask(index=index, definition=definition, compiled=CompiledTask(definition))
            for index, definition in enumerate(definitions)
            if definition is not None
        ),
        hooks=(),
    )


def call(body: bytes = b"", *, task_index: int = 0, attempt: int = 1, accept: str = "") -> JobCall:
    head = JobHead(accept=accept, request_id="request-7", traceparent="00-trace")
    return JobCall(1, task_index, attempt, JOB_ID, head, body)


def run(function: Callable[..., Any], body: bytes = b"", *, is_debug: bool = False) -> Answer:
    executor = Executor(registry(function), lane=LANE, is_debug=is_debug, max_body_bytes=1 << 20)
    return executor.run(call(body), time.monotonic_ns())


def problem(answer: Answer) -> dict[str, Any]:
    """Returns the fields of the problem in the answer."""
    assert answer.reason is not Reason.SUCCEEDED
    assert answer.media_type == ""
    fields: dict[str, Any] = orjson.loads(answer.body)
    assert fields["detail"]
    return fields


def test_an_answer_has_the_result_its_media_type_and_run_time() -> None:
    def add(a: int, b: int = 2) -> int:
        return a + b

    answer = run(add, b'{"a": 1}')
    assert (answer.reason, answer.media_type, bytes(answer.body)) == (Reason.SUCCEEDED, "application/json", b"3")
    assert answer.run_ns > 0


def test_the_task_is_selected_by_its_index() -> None:
    def one() -> int:
        return 1

    def two() -> int:
        return 2

    executor = Executor(registry(one, two), lane=LANE, is_debug=False, max_body_bytes=1 << 20)
    assert [bytes(executor.run(call(task_index=index), 0).body) for index in (1, 0, 1)] == [b"2", b"1", b"2"]


def test_the_current_job_is_known_only_while_it_runs() -> None:
    def ask() -> list[object]:
        return list(offload.current_job() or [])

    answer = Executor(registry(ask), lane=LANE, is_debug=False, max_body_bytes=1 << 20).run(call(attempt=2), 0)
    assert orjson.loads(answer.body) == [JOB_ID, "ask", 2, LANE, "request-7", "00-trace"]
    assert offload.current_job() is None


def test_the_current_job_is_unset_after_an_exception() -> None:
    def fail() -> None:
        raise ValueError("no")

    run(fail)
    assert offload.current_job() is None


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a": 1}}'])
def test_a_body_that_is_not_a_json_object_is_reported(body: bytes) -> None:
    def add(a: int) -> int:
        return a

    answer = run(add, body)
    assert answer.reason is Reason.INVALID_JSON
    assert "position" in problem(answer)


def test_all_argument_errors_are_reported_at_once() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    answer = run(add, b'{"a": "x", "c": 1}')
    assert answer.reason is Reason.INVALID_ARGUMENTS
    assert {error["pointer"] for error in problem(answer)["errors"]} == {"/a", "/b", "/c"}


@pytest.mark.parametrize(
    "error", [KeyError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), RecursionError()]
)
def test_any_exception_ends_the_job_but_not_the_worker(error: BaseException) -> None:
    def fail() -> None:
        raise error

    answer = run(fail)
    assert answer.reason is Reason.TASK_ERROR
    fields = problem(answer)
    assert (fields["exception"], fields["message"]) == (type(error).__name__, str(error))
    assert "traceback" not in fields


def test_the_traceback_of_a_task_error_goes_to_the_log() -> None:
    def fail(depth: int) -> None:
        if depth:
            return other(depth - 1)
        raise ValueError("no")

    def other(depth: int) -> None:
        return fail(depth)

    answer = run(fail, b'{"depth": 0}')
    assert answer.traceback.startswith("Traceback (most recent call last):")
    assert answer.traceback.endswith("ValueError: no\n")
    long = run(fail, b'{"depth": 400}').traceback
    assert len(long) == 1 << 16
    assert long.endswith("ValueError: no\n")
    assert run(fail, b"{}").traceback == ""


def test_a_users_validator_that_raises_anything_gives_an_answer() -> None:
    def take(a: Annotated[int, AfterValidator(end_the_program)]) -> int:
        return a

    assert run(take, b'{"a": 1}').reason in (Reason.INVALID_ARGUMENTS, Reason.TASK_ERROR)


def test_a_result_that_cannot_be_encoded_is_reported_with_its_type() -> None:
    def give() -> object:
        return object()

    answer = run(give)
    assert answer.reason is Reason.RESULT_NOT_SERIALISABLE
    assert "object" in problem(answer)["result_type"]


def test_in_debug_mode_the_caller_gets_the_traceback() -> None:
    def fail() -> None:
        raise ValueError("no")

    assert "in fail" in problem(run(fail, is_debug=True))["traceback"]


def test_an_exception_that_cannot_be_printed_is_reported_by_name() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise SystemExit

        __repr__ = __str__

    def fail() -> None:
        raise Unprintable

    fields = problem(run(fail, is_debug=True))
    assert fields["exception"] == "Unprintable"
    assert isinstance(fields["traceback"], str)
