"""Every problem's detail, as its caller reads it: what happened, the limit, what to do.

The rows are complete: a function of `request_problems`, a reason, or a further sentence without a row fails a test.
Details of faults that the worker finds are written in `offload.tasks` and tested there; here they arrive unchanged.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import orjson
import pytest

import offload
from offload.core.death import Death
from offload.core.job import END_STATE, Job, JobState, SlotId
from offload.core.outcome import Outcome, OverloadCause, Reason
from offload.core.request import TaskLimits
from offload.tasks.faults import Fault
from offload.web.answers import outcomes, request_problems
from offload.web.answers.outcomes import _DETAILS, outcome_problem, outcome_reply
from offload.web.answers.problems import PROBLEMS, Problem
from offload.web.answers.reply import Reply
from tests.support.jobs import make_job

# The worker finds these, and writes their details.
WORKER_FAULTS: Final = (
    Reason.TASK_ERROR,
    Reason.BAD_REQUEST,
    Reason.BODY_TOO_LARGE,
    Reason.UNSUPPORTED_MEDIA_TYPE,
    Reason.INVALID_JSON,
    Reason.INVALID_ARGUMENTS,
    Reason.RESULT_NOT_SERIALISABLE,
)
WITHOUT_PROBLEM: Final = (Reason.SUCCEEDED, Reason.DISCONNECTED)


class RequestRow(NamedTuple):
    make: Callable[..., Problem]
    arguments: dict[str, Any]
    slug: str
    status: int
    detail: str


REQUEST_ROWS: Final = [
    RequestRow(
        request_problems.malformed_head,
        {},
        "bad-request",
        400,
        "Malformed HTTP request: the request line and headers are not valid HTTP/1.1, or exceed the size limits "
        "(8190 bytes per line). Correct or shorten them.",
    ),
    RequestRow(
        request_problems.malformed_body,
        {},
        "bad-request",
        400,
        "Malformed HTTP request: the body does not have the length or the chunks that its headers announce. "
        "The job was not run. Correct the body and send the request again.",
    ),
    RequestRow(
        request_problems.invalid_request_timeout,
        {"values": ["soon"], "max_s": 999_999_999},
        "invalid-header",
        400,
        "Request-Timeout is 'soon'. Send one number of seconds above 0 and at most 999999999, for example 2.5.",
    ),
    RequestRow(
        request_problems.invalid_request_timeout,
        {"values": ["1", "100"], "max_s": 999_999_999},
        "invalid-header",
        400,
        "Request-Timeout is '1, 100'. Send one number of seconds above 0 and at most 999999999, for example 2.5.",
    ),
    RequestRow(
        request_problems.unknown_task,
        {"name": "primse", "known": ["primes", "prices"]},
        "unknown-task",
        404,
        "Task 'primse' does not exist. Did you mean 'primes'?",
    ),
    RequestRow(
        request_problems.unknown_task,
        {"name": "sort", "known": []},
        "unknown-task",
        404,
        "Task 'sort' does not exist. GET /tasks lists the available tasks.",
    ),
    RequestRow(
        request_problems.unknown_job,
        {"job_id": "17", "task": "primes"},
        "unknown-job",
        404,
        "Task 'primes' has no queued or running job '17'. Jobs are not kept after they end.",
    ),
    RequestRow(
        request_problems.not_found,
        {"path": "/job"},
        "not-found",
        404,
        "Path '/job' does not exist. GET / lists the available paths.",
    ),
    RequestRow(
        request_problems.method_not_allowed,
        {"method": "POST", "allowed": "GET, HEAD"},
        "method-not-allowed",
        405,
        "POST is not allowed here. Allowed methods: GET, HEAD.",
    ),
    RequestRow(
        request_problems.body_timeout,
        {"limit_s": 30.0},
        "body-timeout",
        408,
        "The body did not arrive within 30 s. "
        "Send it faster, split the work into smaller jobs, or have the service's --body-timeout raised.",
    ),
    RequestRow(
        request_problems.body_too_large,
        {"limit_bytes": 33_554_432},
        "body-too-large",
        413,
        "The body is larger than 33554432 bytes. "
        "Split the work into smaller jobs, or have the service's --max-body raised.",
    ),
    RequestRow(
        request_problems.unsupported_transfer,
        {"transfer_encoding": "gzip, chunked"},
        "bad-request",
        400,
        "Transfer-Encoding 'gzip, chunked' is not supported. "
        "Send the body chunked or with its length; compress it with Content-Encoding.",
    ),
    RequestRow(
        request_problems.partial_body,
        {},
        "bad-request",
        400,
        "Content-Range says that the body is a part of the data. A job takes a whole body: send all of it at once.",
    ),
    RequestRow(
        request_problems.unsupported_encoding,
        {"content_encoding": "gzip, br", "supported": ("gzip", "zstd")},
        "unsupported-media-type",
        415,
        "Content-Encoding 'gzip, br' of the body is not supported. "
        "Send it with one coding (gzip or zstd), or unencoded.",
    ),
    RequestRow(
        request_problems.unsupported_encoding,
        {"content_encoding": "gzip", "supported": ()},
        "unsupported-media-type",
        415,
        "Content-Encoding 'gzip' of the body is not supported. Send it unencoded.",
    ),
    RequestRow(
        request_problems.unsupported_media_type,
        {"task": "primes", "media_type": "application/x-npy", "supported": ["application/json"]},
        "unsupported-media-type",
        415,
        "Task 'primes' does not accept application/x-npy. Send application/json.",
    ),
    RequestRow(
        request_problems.unsupported_media_type,
        {"task": "solve", "media_type": "application/x-ndjson", "supported": ["application/json", "application/x-npy"]},
        "unsupported-media-type",
        415,
        "Task 'solve' does not accept application/x-ndjson. Send application/json or application/x-npy.",
    ),
    RequestRow(
        request_problems.internal_error,
        {"error": ValueError("secret"), "is_debug": False},
        "internal-error",
        500,
        "The service failed because of a bug and has logged it. The request may be sent again.",
    ),
    RequestRow(
        request_problems.internal_error,
        {"error": ValueError("secret"), "is_debug": True},
        "internal-error",
        500,
        "The service failed because of a bug and has logged it. The request may be sent again.",
    ),
]


class JobRow(NamedTuple):
    """A job with a budget of 2.5 s and a task with a timeout of 5 s."""

    reason: Reason
    facts: dict[str, object]
    slug: str
    status: int
    detail: str
    attempt: int = 1


def overloaded(cause: OverloadCause, limit: dict[str, object], detail: str) -> JobRow:
    facts = {"cause": cause, "queued": 7, "expected_wait_s": 2.5, "retry_after_s": 3, **limit}
    return JobRow(Reason.OVERLOADED, facts, "overloaded", 503, detail)


JOB_ROWS: Final = [
    JobRow(
        Reason.JOB_TIMEOUT,
        {"limit_s": 5.0, "stage": "running"},
        "job-timeout",
        504,
        "The job ran for 5 s, the timeout of its task, and was stopped. "
        "Ask for less work in one job, or have the task's timeout raised.",
    ),
    JobRow(
        Reason.DEADLINE_EXCEEDED,
        {"stage": "queued"},
        "deadline-exceeded",
        504,
        "The budget of 2.5 s given by Request-Timeout ran out while the job was queued. "
        "It was not run. Allow more time, or retry later.",
    ),
    JobRow(
        Reason.DEADLINE_EXCEEDED,
        {"stage": "running"},
        "deadline-exceeded",
        504,
        "The budget of 2.5 s given by Request-Timeout ran out while the job was running. "
        "It was stopped. Allow more time, or ask for less work in one job.",
    ),
    JobRow(
        Reason.WORKER_CRASHED,
        {"death": Death(signal="SIGSEGV")},
        "worker-crashed",
        500,
        "The worker process was terminated by SIGSEGV while running this job. "
        "Other jobs are not affected. If it happens again with the same arguments, the task is at fault.",
    ),
    JobRow(
        Reason.WORKER_CRASHED,
        {"death": Death(exit_code=3)},
        "worker-crashed",
        500,
        "The worker process exited with code 3 while running this job. 2 attempts were made. "
        "Other jobs are not affected. If it happens again with the same arguments, the task is at fault.",
        attempt=2,
    ),
    JobRow(
        Reason.WORKER_CRASHED,
        {"death": Death(note="its process died")},
        "worker-crashed",
        500,
        "The worker process ended for an unknown reason (its process died) while running this job. "
        "Other jobs are not affected. If it happens again with the same arguments, the task is at fault.",
    ),
    JobRow(
        Reason.MEMORY_LIMIT,
        {"limit_bytes": 1000, "peak_bytes": 1500},
        "memory-limit",
        500,
        "The job used 1500 bytes of memory, more than its task's limit of 1000 bytes, and was stopped. "
        "Ask for less work in one job, or have the task's memory limit raised.",
    ),
    JobRow(
        Reason.CANCELLED,
        {"stage": "running"},
        "cancelled",
        409,
        "The job was cancelled by a DELETE request. Its work has been stopped.",
    ),
    JobRow(
        Reason.STOPPED,
        {"retry_after_s": 1},
        "draining",
        503,
        "The service stopped before the job finished. Send the job again, to this address or another.",
    ),
    JobRow(
        Reason.CLIENT_QUEUE_FULL,
        {"limit": 10, "retry_after_s": 3},
        "client-queue-full",
        429,
        "This caller already has 10 queued jobs, the limit for one caller. Retry after 3 s.",
    ),
    JobRow(
        Reason.QUARANTINED,
        {"crashes": 3},
        "quarantined",
        422,
        "The last 3 attempts at this task with these arguments each crashed their worker, so the "
        "job is rejected for a while. Other arguments are accepted. Fix the task, or leave out this job.",
    ),
    JobRow(
        Reason.DRAINING,
        {"retry_after_s": 2},
        "draining",
        503,
        "The service is stopping and accepts no new jobs. Retry after 2 s.",
    ),
    JobRow(
        Reason.STARTING,
        {"retry_after_s": 1},
        "starting",
        503,
        "No worker is ready: workers are starting, or fail to start (see /stats). Retry after 1 s.",
    ),
    overloaded(OverloadCause.QUEUE_FULL, {"limit": 1000}, "The queue is full (1000 jobs). Retry after 3 s."),
    overloaded(
        OverloadCause.QUEUE_BYTES_FULL,
        {"limit_bytes": 4096},
        "The bodies and results in memory leave no room for this body (limit: 4096 bytes in all). Retry after 3 s.",
    ),
    overloaded(
        OverloadCause.TASK_QUEUE_FULL, {"limit": 10}, "The queue of task 'primes' is full (10 jobs). Retry after 3 s."
    ),
    overloaded(
        OverloadCause.DEADLINE_UNREACHABLE,
        {},
        "The job cannot finish within its Request-Timeout of 2.5 s. Retry after 3 s, or allow more time.",
    ),
    overloaded(
        OverloadCause.DISPLACED,
        {"limit": 1000},
        "The queue is full (1000 jobs); this job made room for a more urgent one or one of another client. "
        "Retry after 3 s, or send it with a more urgent Priority.",
    ),
    overloaded(
        OverloadCause.DISPLACED,
        {"limit_bytes": 4096},
        "The queue is full (4096 bytes); this job made room for a more urgent one or one of another client. "
        "Retry after 3 s, or send it with a more urgent Priority.",
    ),
]


def name_of(row: RequestRow | JobRow) -> str:
    return row.make.__name__ if isinstance(row, RequestRow) else row.reason.value


def ended_job(outcome: Outcome, attempt: int = 1) -> Job:
    limits = TaskLimits(name="primes", index=0, timeout_s=5)
    job = make_job(id="a", limits=limits, budget_s=2.5, now=1000.0)
    for number in range(attempt if END_STATE[outcome.reason] is not JobState.REJECTED else 0):
        if number:
            job.requeue(begun=True)
        job.start(SlotId(0), 1.0)
    job.settle(outcome, 2.0)
    return job


def document_of(reply: Reply) -> dict[str, object]:
    assert isinstance(reply.body, bytes)
    document = orjson.loads(reply.body)
    assert isinstance(document, dict)
    return document


def check_problem(reply: Reply, slug: str, status: int, detail: str) -> None:
    """Asserts that it is this problem, with the title of the table and the content type of problems."""
    document = document_of(reply)
    expected = {"type": f"/problems/{slug}", "title": PROBLEMS[slug].title, "status": status, "detail": detail}
    assert {name: document.get(name) for name in expected} == expected
    assert (reply.status, reply.headers[0]) == (status, ("Content-Type", "application/problem+json"))


@pytest.mark.parametrize("row", REQUEST_ROWS, ids=name_of)
def test_the_detail_for_a_rejected_request(row: RequestRow) -> None:
    check_problem(row.make(**row.arguments).reply(), row.slug, row.status, row.detail)


@pytest.mark.parametrize("row", JOB_ROWS, ids=name_of)
def test_the_detail_for_a_job_without_a_result(row: JobRow) -> None:
    job = ended_job(Outcome(reason=row.reason, facts=row.facts), row.attempt)
    reply = outcome_reply(job, ("0.000", ""))
    check_problem(reply, row.slug, row.status, row.detail)
    document = document_of(reply)
    assert (document["job"], document["task"]) == ("a", "primes")
    assert document == orjson.loads(orjson.dumps(outcome_problem(job), default=str))


@pytest.mark.parametrize("reason", WORKER_FAULTS)
def test_the_worker_describes_what_it_found(reason: Reason) -> None:
    detail = "What happened, the limit, what to do."
    job = ended_job(Outcome(reason=reason, body=Fault(reason, detail=detail).to_json()))
    check_problem(outcome_reply(job, ("0.000", "")), reason.value, PROBLEMS[reason.value].status, detail)


def test_overload_has_its_cause_as_a_member() -> None:
    facts = {"cause": OverloadCause.QUEUE_FULL, "queued": 7, "expected_wait_s": 2.5, "retry_after_s": 3, "limit": 1000}
    job = ended_job(Outcome(reason=Reason.OVERLOADED, facts=facts))
    document = document_of(outcome_reply(job, ("0.000", "")))
    assert (document["cause"], document["queued"], document["expected_wait_s"]) == ("queue-full", 7, 2.5)
    assert document.keys().isdisjoint({"limit", "retry_after_s"})


def test_a_traceback_is_shown_only_with_debug() -> None:
    error = ValueError("secret")
    assert "secret" not in str(request_problems.internal_error(error, is_debug=False).document())
    assert "secret" in str(request_problems.internal_error(error, is_debug=True).document()["traceback"])


def test_every_problem_of_a_request_has_a_row() -> None:
    in_code = {
        function.name: sum(1 for _ in constructions_of("Problem", function))
        for function in functions_of(request_problems)
        if any(constructions_of("Problem", function))
    }
    rows = Counter(name_of(row) for row in REQUEST_ROWS)
    assert in_code.keys() == rows.keys()
    assert {name for name, count in in_code.items() if rows[name] < count} == set()


def test_problems_are_made_in_one_module() -> None:
    package = Path(offload.__file__).parent
    makers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(constructions_of("Problem", ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert makers == {"web/answers/request_problems.py"}


def test_every_end_of_a_job_has_a_row_for_each_of_its_sentences() -> None:
    rows = Counter(row.reason for row in JOB_ROWS)
    assert rows.keys() == set(Reason) - set(WORKER_FAULTS) - set(WITHOUT_PROBLEM) == _DETAILS.keys()
    sentences = {
        function.name: sum(isinstance(node, ast.Return) for node in ast.walk(function))
        for function in functions_of(outcomes)
    }
    missing = {reason for reason, describe in _DETAILS.items() if rows[reason] < sentences[describe.__name__]}
    assert missing == set()
    assert {row.facts["cause"] for row in JOB_ROWS if row.reason is Reason.OVERLOADED} == set(OverloadCause)


def test_every_slug_has_a_row() -> None:
    slugs = {row.slug for row in REQUEST_ROWS} | {row.slug for row in JOB_ROWS}
    assert slugs | {reason.value for reason in WORKER_FAULTS} == PROBLEMS.keys()


def functions_of(module: ModuleType) -> Iterator[ast.FunctionDef]:
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef):
            yield node


def constructions_of(name: str, tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
            yield node
