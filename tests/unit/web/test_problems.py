"""The table of problems and the shape of a document."""

from __future__ import annotations

import orjson
import pytest

from offload.core.job import END_STATE, Job, JobId, JobState, Outcome, OverloadCause, Reason, SlotId, TaskLimits
from offload.web.answers.outcomes import outcome_reply
from offload.web.answers.problems import PROBLEMS, Problem, printable, spliced
from offload.web.answers.reply import Reply


def reply_to(reason: Reason, **facts: object) -> Reply:
    job = Job(
        id=JobId("a"), number=1, limits=TaskLimits(name="primes", index=0, timeout_s=5), submitted_at=0.0, deadline=2.5
    )
    if END_STATE[reason] is not JobState.REJECTED:
        job.start(SlotId(0), 1.0)
    job.settle(Outcome(reason=reason, facts=facts or {"cause": OverloadCause.QUEUE_FULL, "limit": 1000}), 2.0)
    return outcome_reply(job, ("0.000", ""))


@pytest.mark.parametrize("reason", set(Reason) - {Reason.SUCCEEDED, Reason.DISCONNECTED})
def test_every_end_of_a_job_has_its_row(reason: Reason) -> None:
    reply = reply_to(reason)
    assert isinstance(reply.body, bytes)
    document = orjson.loads(reply.body)
    kind = PROBLEMS[document["type"].removeprefix("/problems/")]
    assert (document["status"], document["title"]) == (reply.status, kind.title) == (kind.status, kind.title)
    assert (document["job"], document["task"]) == ("a", "primes")


def test_a_budget_is_told_as_it_was_given() -> None:
    reply = reply_to(Reason.DEADLINE_EXCEEDED)
    assert isinstance(reply.body, bytes)
    assert "The budget of 2.5 s" in orjson.loads(reply.body)["detail"]


@pytest.mark.parametrize(
    ("cause", "limit", "detail"),
    [
        (OverloadCause.QUEUE_FULL, {"limit": 1000}, "The queue is full (1000 jobs). Retry after 3 s."),
        (
            OverloadCause.QUEUE_BYTES_FULL,
            {"limit_bytes": 4096},
            "The bodies and results in memory leave no room for this body (limit: 4096 bytes in all). Retry after 3 s.",
        ),
        (
            OverloadCause.TASK_QUEUE_FULL,
            {"limit": 10},
            "The queue of task 'primes' is full (10 jobs). Retry after 3 s.",
        ),
        (
            OverloadCause.DEADLINE_UNREACHABLE,
            {},
            "The job cannot finish within its Request-Timeout of 2.5 s. Retry after 3 s, or allow more time.",
        ),
        (
            OverloadCause.DISPLACED,
            {"limit": 1000},
            "The queue is full (1000 jobs); this job made room for a more urgent one or one of another client. "
            "Retry after 3 s, or send it with a more urgent Priority.",
        ),
        (
            OverloadCause.DISPLACED,
            {"limit_bytes": 4096},
            "The queue is full (4096 bytes); this job made room for a more urgent one or one of another client. "
            "Retry after 3 s, or send it with a more urgent Priority.",
        ),
    ],
)
def test_overload_says_its_cause(cause: OverloadCause, limit: dict[str, int], detail: str) -> None:
    facts = {"cause": cause, "queued": 7, "expected_wait_s": 2.5, "retry_after_s": 3, **limit}
    reply = reply_to(Reason.OVERLOADED, **facts)
    assert isinstance(reply.body, bytes)
    document = orjson.loads(reply.body)
    assert (document["detail"], document["cause"]) == (detail, cause.value)
    assert (document["queued"], document["expected_wait_s"]) == (7, 2.5)
    assert "limit" not in document and "limit_bytes" not in document


def test_what_a_job_did_to_itself_is_500_and_what_another_machine_could_serve_is_503() -> None:
    """A proxy sends 503 to the next machine, and must not do so with what would kill a worker there too."""
    of_the_job = {"task-error", "worker-crashed", "memory-limit", "result-not-serialisable"}
    of_the_service = {"overloaded", "draining", "starting"}
    assert {PROBLEMS[slug].status for slug in of_the_job} == {500}
    assert {PROBLEMS[slug].status for slug in of_the_service} == {503}


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (b'{"b":2}', {"a": 1, "b": 2}),
        (memoryview(b'{"b":{}}'), {"a": 1, "b": {}}),
        (b"{}", {"a": 1}),
        (b"", {"a": 1}),
        (b"[1]", {"a": 1}),
    ],
)
def test_an_encoded_object_is_joined_unread(encoded: bytes, expected: dict[str, object]) -> None:
    assert orjson.loads(spliced({"a": 1}, encoded)) == expected


def test_what_is_echoed_is_short_and_can_be_encoded() -> None:
    assert printable("a" * 1000) == "a" * 100 + "…"
    assert orjson.dumps(printable("a\udcffb")) == b'"a?b"'


def test_a_problem_is_told_in_a_line() -> None:
    assert str(Problem("not-found", "There is nothing.")) == "not-found: There is nothing."
