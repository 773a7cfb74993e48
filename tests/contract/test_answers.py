"""Requests and answers are the same on every engine."""

from __future__ import annotations

import asyncio
import gzip
import io
import logging
import multiprocessing.connection as connections
from typing import Any

import numpy as np
import orjson
import pytest

from tests.contract.engines import WORKERS, Running, body_of, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_arguments_are_read_and_results_written(running: Running) -> None:
    assert await running.result("add", {"a": 1, "b": 2}) == 3
    assert await running.result("add", {"a": 10**30}) == 10**30
    assert await running.result("swap", {"point": {"x": 1, "y": 2}}) == {"x": 2, "y": 1}


@pytest.mark.parametrize(
    ("task", "arguments", "reason", "fields"),
    [
        ("add", {"b": 1}, "invalid-arguments", {"errors": [{"pointer": "/a", "detail": "This argument is required"}]}),
        ("fail", {"message": "no"}, "task-error", {"exception": "OwnError", "message": "no"}),
        ("leave_by_exit", {}, "task-error", {"exception": "SystemExit"}),
        ("unserialisable", {}, "result-not-serialisable", {"result_type": "builtins.object", "pointer": ""}),
    ],
)
async def test_an_error_of_a_job_is_reported_in_plain_fields(
    running: Running, task: str, arguments: dict[str, Any], reason: str, fields: dict[str, Any]
) -> None:
    outcome = await running.outcome(task, arguments)
    assert outcome.reason == reason
    document = orjson.loads(body_of(outcome))
    assert {name: document[name] for name in fields} == fields


async def test_invalid_json_is_reported_with_its_position(running: Running) -> None:
    outcome = await running.outcome("add", body=b'{"a": 1,}')
    assert (outcome.reason, orjson.loads(body_of(outcome))["position"]) == ("invalid-json", 7)


@pytest.mark.parametrize("size", [0, 1, 100_000, 10_000_000])
async def test_bytes_arrive_unchanged(running: Running, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    for body in (data[:size], bytearray(data[:size]), memoryview(data)[:size]):
        assert await running.result("length", body=body, query="times=2") == 2 * size
    outcome = await running.outcome("mirror", body=data[:size])
    assert (outcome.media_type, body_of(outcome)) == ("image/x-mirror", data[:size])


FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize("size", [3, 3_000_000])
async def test_forms_and_compressed_bodies_are_read(running: Running, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    head = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'
    form = b"\r\n".join([head % b"times" + b"2", head % b"data" + data[:size], b"--x--\r\n"])
    assert await running.result("length", body=form, content_type=FORM) == 2 * size
    packed = gzip.compress(form)
    assert await running.result("length", body=packed, content_type=FORM, content_encoding="gzip") == 2 * size
    packed = gzip.compress(data[:size])
    assert await running.result("length", body=packed, query="times=2", content_encoding="gzip") == 2 * size
    outcome = await running.outcome("length", body=form[:-4], content_type=FORM)
    assert (outcome.reason, "ends early" in orjson.loads(body_of(outcome))["detail"]) == ("bad-request", True)


async def test_an_inflated_body_is_limited(running: Running) -> None:
    limit_bytes = running.service.settings.max_body
    outcome = await running.outcome("length", body=gzip.compress(bytes(limit_bytes + 1), 1), content_encoding="gzip")
    assert (outcome.reason, orjson.loads(body_of(outcome))["limit_bytes"]) == ("body-too-large", limit_bytes)


async def test_arrays_arrive_as_files(running: Running) -> None:
    file = io.BytesIO()
    np.save(file, np.arange(6.0).reshape(2, 3))
    npy = "application/x-npy"
    outcome = await running.outcome("double", body=file.getvalue(), content_type=npy, accept=npy)
    assert outcome.media_type == npy
    assert np.load(io.BytesIO(body_of(outcome))).tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]


async def test_a_task_can_read_the_facts_of_its_job(running: Running) -> None:
    job, caller = running.begin("about_job", request_id="order-17", traceparent="00-a-b-01")
    await caller
    assert job.outcome is not None
    document = orjson.loads(body_of(job.outcome))
    assert (document["id"], document["task"], document["attempt"]) == (job.id, "about_job", 1)
    assert (document["request_id"], document["traceparent"]) == ("order-17", "00-a-b-01")
    assert document["lane"] in range(WORKERS)


async def test_numeric_libraries_get_one_thread(running: Running) -> None:
    assert (await running.result("about_job"))["threads"] == "1"


async def test_hooks_are_called_once_in_each_process_with_its_lane(running: Running) -> None:
    lanes_seen = await asyncio.gather(*(running.result("starts") for _ in range(20)))
    assert {tuple(lanes) for lanes in lanes_seen} <= {(lane,) for lane in range(WORKERS)}


async def test_each_of_many_jobs_gets_its_own_result(running: Running) -> None:
    count = 100 if running.is_on_cluster else 600
    numbers = iter(range(count))
    results: dict[int, int] = {}

    async def caller() -> None:
        for number in numbers:
            results[number] = await running.result("add", {"a": number, "b": 1})

    before = running.stats()
    await asyncio.gather(*(caller() for _ in range(32)))
    assert results == {number: number + 1 for number in range(count)}
    stats = await running.until_idle()
    assert stats["jobs"]["succeeded"] - before["jobs"]["succeeded"] == count
    done_before = sum(row["jobs"] for row in before["workers"])

    async def are_counted() -> bool:  # a worker counts a job after it has sent the answer
        return bool(sum(row["jobs"] for row in running.stats()["workers"]) >= done_before + count)

    await eventually("the workers have counted them", are_counted)


async def test_a_fork_that_returns_from_the_task_does_not_answer(running: Running) -> None:
    assert await running.result("fork_and_return") == 0
    await running.until_idle()


async def test_the_statistics_describe_the_engine_and_its_workers(running: Running) -> None:
    await asyncio.gather(*(running.result("add", {"a": 1}) for _ in range(8)))

    async def is_seen() -> dict[str, Any] | None:
        stats = running.stats()
        return stats if all(row["rss_bytes"] for row in stats["workers"]) else None

    stats = await eventually("all workers were watched", is_seen)
    assert stats["pool"]["engine"] == running.service.settings.engine
    assert stats["pool"]["size"] == WORKERS
    assert stats["pool"]["capabilities"] == running.can.as_dict()
    assert stats["pool"]["error"] is None
    for row in stats["workers"]:
        assert row["pid"] > 1
        assert row["busy_s"] > 0
        assert 1 << 20 < row["rss_bytes"] < 1 << 30


async def test_a_traceback_is_logged_with_the_id_of_its_job(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "offload.output")
    job, caller = running.begin("fail", {"message": "here"})
    await caller
    fields_logged = [vars(record)["fields"] for record in caplog.records if record.message == "task raised"]
    assert {fields["job_id"] for fields in fields_logged} == {job.id}
    assert any("in fail" in fields["line"] for fields in fields_logged)


async def test_output_is_logged_with_the_id_of_its_job_if_promised(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offload.output")
    job, caller = running.begin("say", {"text": "hello"})
    await caller

    async def printed() -> list[dict[str, Any]]:
        records = [record for record in caplog.records if record.message == "task printed"]
        return [vars(record)["fields"] for record in records]

    if running.can.starts_before_jobs:  # otherwise only answers of the worker are seen
        (fields,) = await eventually("it is logged", printed)
        assert fields["line"] == "hello"
    job_ids = [fields.get("job_id") for fields in await printed()]
    if running.can.knows_who_printed:
        assert job_ids == [job.id]
    else:
        assert not any(job_ids)


async def test_answers_are_unpickled_only_if_declared(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    unpickled = []
    real = connections._ForkingPickler.loads  # type: ignore[attr-defined]  # private in the stubs

    def loads(data: Any, **more: Any) -> Any:
        unpickled.append(data)
        return real(data, **more)

    monkeypatch.setattr(connections._ForkingPickler, "loads", loads)  # type: ignore[attr-defined]
    assert await running.result("add", {"a": 1}) == 1
    # On a cluster, the driver unpickles, which is another process.
    assert bool(unpickled) == (running.can.unpickles_results and not running.is_on_cluster)


async def test_short_jobs_wait_in_a_worker_only_if_promised(running: Running) -> None:
    assert (running.engine.ahead is not None) == running.can.prefetches
