"""The documents that GET returns, and their links."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import orjson
import pytest
from aiohttp import web

from offload.web.app import build_app
from offload.web.parts import PARTS
from tests.support.fake_engine import FakeEngine, result
from tests.support.web_service import mounted, web_service


async def test_tasks_are_listed_with_schemas_and_limits() -> None:
    async with web_service() as service:
        answer = await service.get("/tasks")
        document = answer.json()
        assert [task["name"] for task in document["tasks"]] == ["primes", "resize", "solve", "compare"]
        assert document["tasks"][0] == {
            "name": "primes",
            "description": "What primes does.",
            "body": "json",
            "accepts": ["application/json", "multipart/form-data"],
            "arguments": {"type": "object"},
            "result": None,
            "limits": {
                "timeout_s": 60.0,
                "memory_bytes": None,
                "retries": 0,
                "max_running": None,
                "max_queued": None,
                "urgency": 3,
            },
            "links": {"self": "/tasks/primes", "run": "/jobs/primes"},
        }


async def test_one_task_has_the_same_document_as_in_the_list() -> None:
    async with web_service() as service:
        listed = (await service.get("/tasks")).json()["tasks"]
        for task in listed:
            assert (await service.get(task["links"]["self"])).json() == task


async def test_an_unknown_task_has_no_document() -> None:
    async with web_service() as service:
        answer = await service.get("/tasks/primse")
        assert (answer.status, answer.slug, answer.json()["known"]) == (404, "unknown-task", ["primes"])


async def test_the_index_links_to_every_resource() -> None:
    async with web_service() as service:
        document = (await service.get("/")).json()
        assert (document["name"], document["version"]) == ("offload", "1.2.3")
        for link in document["links"].values():
            assert (await service.get(link)).status == 200


async def test_stats_are_read_again_for_each_request() -> None:
    numbers = iter(range(10))
    async with web_service(stats_source=lambda: {"number": next(numbers)}) as service:
        assert [(await service.get("/stats")).json() for _ in range(2)] == [{"number": 0}, {"number": 1}]
        assert (await service.get("/stats")).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/tasks", "/tasks/primes", "/stats", "/health/live", "/health/ready", "/"])
async def test_head_is_get_without_a_body(path: str) -> None:
    async with web_service() as service:
        get, head = await service.get(path), await service.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"] == "application/json"


async def test_a_service_without_workers_is_live_and_not_ready() -> None:
    async with web_service(is_engine_ready=False) as service:
        assert (await service.get("/health/live")).json() == {"status": "live"}
        ready = await service.get("/health/ready")
        assert (ready.status, ready.json()) == (503, {"status": "not-ready", "reason": "starting"})
        assert ready.headers["Retry-After"] == "1"
        service.engine.become_ready(next(iter(service.scheduler.slots.all)))
        assert (await service.get("/health/ready")).json() == {"status": "ready"}


async def test_behind_a_proxy_links_begin_with_the_root_path() -> None:
    async with web_service(root_path="/compute") as service:
        assert (await service.get("/")).json()["links"]["tasks"] == "/compute/tasks"
        assert (await service.get("/tasks/primes")).json()["links"]["run"] == "/compute/jobs/primes"


async def test_links_of_a_mounted_application_begin_with_its_prefix() -> None:
    async with web_service(wrap=mounted, root_path="/proxy") as service:
        assert (await service.get("/compute/tasks/primes")).json()["links"]["run"] == "/proxy/compute/jobs/primes"
        assert (await service.get("/compute/nope")).slug == "not-found"
        assert (await service.request("PUT", "/compute/stats")).slug == "method-not-allowed"
        assert (await service.get("/elsewhere")).status == 404


def failing() -> Mapping[str, object]:
    raise ZeroDivisionError("secret")


async def test_a_bug_is_logged_and_its_traceback_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    async with web_service(stats_source=failing) as service:
        answer = await service.get("/stats")
        assert (answer.status, answer.slug) == (500, "internal-error")
        assert b"secret" not in answer.body
        assert (await service.get("/health/live")).status == 200
    assert "ZeroDivisionError: secret" in caplog.text


async def test_with_debug_the_traceback_of_a_bug_is_sent() -> None:
    async with web_service(stats_source=failing, is_debug=True) as service:
        answer = await service.get("/stats")
        assert "ZeroDivisionError: secret" in orjson.loads(answer.body)["traceback"]


async def test_parts_may_be_set_during_start_up() -> None:
    def late(app: web.Application) -> web.Application:
        """Set the parts like an application that starts the workers in its own start-up."""
        parts = app[PARTS]
        late_app = build_app()

        async def start(_: web.Application) -> AsyncIterator[None]:
            late_app[PARTS] = parts
            yield

        late_app.cleanup_ctx.append(start)
        return mounted(late_app)

    async with web_service(wrap=late, engine=FakeEngine(answer=lambda job: result(b"[2]"))) as service:
        answer = await service.request("POST", "/compute/jobs/primes")
        assert (answer.status, answer.body) == (200, b"[2]")
