"""The table of problems and the shape of a document."""

from __future__ import annotations

import orjson
import pytest

from offload.web.answers.problems import PROBLEMS, Problem, printable, spliced


def test_a_failure_of_the_job_is_500_and_of_the_service_503() -> None:
    """A proxy retries 503 on the next machine, where a job that kills its worker would kill another."""
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
def test_an_encoded_object_is_spliced_without_parsing(encoded: bytes, expected: dict[str, object]) -> None:
    assert orjson.loads(spliced({"a": 1}, encoded)) == expected


def test_echoed_text_is_short_and_can_be_encoded() -> None:
    assert printable("a" * 1000) == "a" * 100 + "…"
    assert orjson.dumps(printable("a\udcffb")) == b'"a?b"'


def test_the_text_of_a_problem_is_one_line() -> None:
    assert str(Problem("not-found", "There is nothing.")) == "not-found: There is nothing."
