"""The HTTP interface through a real nginx with `deploy/nginx/offload.conf`, over TCP and over a Unix socket."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from offload.settings.table import Settings
from tests.deploy.proxy import Proxy, nginx, nginx_program
from tests.support.raw_http import raw_connection
from tests.support.service import Answer, RunningService, eventually, serving

TASKS = Path(__file__).with_name("proxied_tasks.py")
PROBLEM = "application/problem+json"
TOO_LARGE = b"POST /jobs/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (Settings().max_body + 1)


@dataclass(frozen=True, kw_only=True)
class Stack:
    service: RunningService
    proxy: Proxy


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def nginx_is_installed() -> None:
    """Automatic and asynchronous, it also opens the module's loop, before a test could seem to leave that behind."""
    nginx_program()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["tcp", "unix"])
async def stack(request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="offload-test-") as directory:
        path = f"{directory}/offload.sock"
        async with serving(TASKS, "--workers", "2", "--port", "0", "--uds", path) as service:
            await service.ready()
            await eventually("listens on its Unix socket", returning(lambda: f"unix:{path}" in "\n".join(service.log)))
            upstream = f"unix:{path}" if request.param == "unix" else service.base.removeprefix("http://")
            async with nginx(upstream) as proxy:
                yield Stack(service=service, proxy=proxy)


@pytest_asyncio.fixture(loop_scope="module")
async def http(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    async with stack.proxy.client() as client:
        yield client


pytestmark = pytest.mark.asyncio(loop_scope="module")


def returning(function: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        return function()

    return call


async def ask(http: aiohttp.ClientSession, method: str, path: str, **how: Any) -> Answer:
    async with http.request(method, path, **how) as response:
        return Answer(response.status, dict(response.headers), await response.read())


async def jobs(http: aiohttp.ClientSession) -> dict[str, int]:
    """The books, as `/stats` has them."""
    stats = (await ask(http, "GET", "/stats")).json()
    books: dict[str, int] = stats["jobs"]
    return books


def sockets_of(pid: int) -> set[str]:
    directory = Path(f"/proc/{pid}/fd")
    return {link for name in os.listdir(directory) if (link := os.readlink(directory / name)).startswith("socket:")}


async def test_a_job_is_answered_with_its_result(http: aiohttp.ClientSession) -> None:
    answer = await ask(http, "POST", "/jobs/double", data=b'{"number": 21}')
    assert (answer.status, answer.json()) == (200, 42)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Job-Id"]
    assert answer.headers["Server-Timing"].startswith("queue;dur=")


async def test_bytes_arrive_as_they_were_sent(http: aiohttp.ClientSession) -> None:
    """5 MiB, which nginx keeps in files on the way in and on the way out."""
    data = os.urandom(5 << 20)
    answer = await ask(http, "POST", "/jobs/echo", data=io.BytesIO(data))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.body == data


async def test_a_body_of_unknown_length_arrives_whole(http: aiohttp.ClientSession) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%08d" % number

    answer = await ask(http, "POST", "/jobs/echo", data=chunks())
    assert answer.body == b"".join([b"%08d" % number for number in range(100)])


@pytest.mark.parametrize(
    ("path", "body", "status", "slug"),
    [
        ("/jobs/double", b"{", 400, "invalid-json"),
        ("/jobs/nothing", b"{}", 404, "unknown-task"),
        ("/nowhere", b"", 404, "not-found"),
        ("/tasks", b"{}", 405, "method-not-allowed"),
        ("/jobs/double", b'{"number": "many"}', 422, "invalid-arguments"),
    ],
)
async def test_problems_of_the_service_arrive_as_they_are(
    http: aiohttp.ClientSession, path: str, body: bytes, status: int, slug: str
) -> None:
    answer = await ask(http, "POST", path, data=body)
    assert (answer.status, answer.slug) == (status, slug)
    assert answer.headers["Content-Type"] == PROBLEM


async def test_a_body_over_the_limit_is_refused_by_nginx_as_by_the_service(stack: Stack) -> None:
    """At once, by what its head says."""
    host, _, port = stack.service.base.removeprefix("http://").partition(":")
    documents = []
    for connection in (stack.proxy.raw(), raw_connection(host, int(port))):
        async with connection as caller:
            caller.send(TOO_LARGE)
            answer = await caller.answer()
        assert (answer.status, answer.headers["Content-Type"]) == (413, PROBLEM)
        document = answer.json()
        del document["detail"]  # nginx speaks of its own limit, too
        documents.append(document)
    assert documents[0] == documents[1]


@pytest.mark.parametrize("head", [b"nonsense", b"GET /" + b"a" * 20_000 + b" HTTP/1.1", b"GET / HTTP/9.9"])
async def test_broken_http_is_answered_by_nginx_as_by_the_service(stack: Stack, head: bytes) -> None:
    async with stack.proxy.raw() as caller:
        caller.send(head + b"\r\nHost: x\r\n\r\n")
        answer = await caller.answer()
    assert (answer.status, answer.slug) == (400, "bad-request")


async def test_a_caller_who_hangs_up_ends_the_work(stack: Stack, http: aiohttp.ClientSession) -> None:
    before = await jobs(http)
    async with stack.proxy.raw() as caller:
        caller.send(b"POST /jobs/spin HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")

        async def is_running() -> bool:
            return (await jobs(http))["running"] == 1

        await eventually("the job runs", is_running)
        caller.hang_up()

    async def is_stopped() -> bool:
        now = await jobs(http)
        return (now["running"], now["cancelled"]) == (0, before["cancelled"] + 1)

    await eventually("the job is stopped", is_stopped)


async def test_connections_to_the_service_are_kept(stack: Stack, http: aiohttp.ClientSession) -> None:
    """Further jobs, of further callers, cost the service no further connection."""

    async def has_all_workers() -> bool:
        workers = (await ask(http, "GET", "/stats")).json()["workers"]
        return [worker["state"] for worker in workers] == ["idle", "idle"]

    await eventually("the workers that were killed are replaced", has_all_workers)
    before = sockets_of(stack.service.pid)
    for number in range(10):
        async with stack.proxy.client() as another:
            answer = await ask(another, "POST", "/jobs/double", data=b'{"number": %d}' % number)
            assert answer.json() == 2 * number
    assert sockets_of(stack.service.pid) == before


async def test_a_request_without_an_id_gets_one_that_reaches_task_log_and_caller(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    answer = await ask(http, "POST", "/jobs/request_id")
    given = answer.headers["X-Request-ID"]
    assert len(given) == 32
    assert answer.json() == given
    await eventually("the id is in the log", returning(lambda: f"request_id={given}" in "\n".join(stack.service.log)))


@pytest.mark.parametrize(("sent", "is_taken"), [("order-7/a", True), ("two words", False), ("x" * 129, False)])
async def test_the_id_of_a_request_is_kept_where_it_can_be(
    http: aiohttp.ClientSession, sent: str, is_taken: bool
) -> None:
    answer = await ask(http, "POST", "/jobs/request_id", headers={"X-Request-ID": sent})
    assert answer.json() == answer.headers["X-Request-ID"]
    assert (answer.json() == sent) is is_taken


async def test_a_budget_of_the_caller_is_passed_on(http: aiohttp.ClientSession) -> None:
    answer = await ask(http, "POST", "/jobs/spin", headers={"Request-Timeout": "0.2"})
    assert (answer.status, answer.slug) == (504, "deadline-exceeded")


async def test_a_caller_without_a_budget_has_that_of_nginx(stack: Stack) -> None:
    """So the answer is the service's own, and tells more than nginx could."""
    upstream = stack.service.base.removeprefix("http://")
    async with nginx(upstream, changes={'""      290;': '""      0.2;'}) as proxy, proxy.client() as http:
        answer = await ask(http, "POST", "/jobs/spin")
    assert (answer.status, answer.slug) == (504, "deadline-exceeded")


async def test_the_patience_of_nginx_ends_with_a_problem_and_ends_the_work(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    before = await jobs(http)
    upstream = stack.service.base.removeprefix("http://")
    changes = {"proxy_read_timeout 300s;": "proxy_read_timeout 200ms;"}
    async with nginx(upstream, changes=changes) as proxy, proxy.client() as impatient:
        answer = await ask(impatient, "POST", "/jobs/spin", headers={"X-Request-ID": "impatient"})
    assert (answer.status, answer.headers["Content-Type"]) == (504, PROBLEM)
    assert answer.headers["X-Request-ID"] == "impatient"
    assert answer.json()["status"] == 504

    async def is_stopped() -> bool:
        now = await jobs(http)
        return (now["running"], now["cancelled"]) == (0, before["cancelled"] + 1)

    await eventually("the job is stopped", is_stopped)


async def test_health_is_asked_through_nginx(http: aiohttp.ClientSession) -> None:
    for path, document in (("/health/live", {"status": "live"}), ("/health/ready", {"status": "ready"})):
        answer = await ask(http, "GET", path)
        assert (answer.status, answer.json()) == (200, document)


async def test_a_prefix_that_nginx_cuts_off_is_in_the_links(tmp_path: Path) -> None:
    """As the README of `deploy/` has it."""
    changes = {
        "location / {\n        proxy_pass http://offload;": "location /compute/ {\n        proxy_pass http://offload/;"
    }
    async with serving(TASKS, "--workers", "1", "--root-path", "/compute") as service:
        upstream = service.base.removeprefix("http://")
        async with nginx(upstream, changes=changes) as proxy, proxy.client() as http:
            index = await ask(http, "GET", "/compute/", headers={"Accept": "application/json"})
            assert index.status == 200
            assert b'"/compute/tasks"' in index.body
            assert (await ask(http, "GET", "/compute/tasks")).status == 200


async def test_callers_are_told_apart_by_what_nginx_has_seen_and_not_by_what_they_say(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    limits = ("--client-header", "X-Forwarded-For", "--max-queued-per-client", "1")
    async with serving(TASKS, "--workers", "1", *limits) as service:
        await service.ready()
        upstream = service.base.removeprefix("http://")
        async with nginx(upstream) as proxy, proxy.client() as http:
            patient = []
            for number in range(2):
                call = ask(http, "POST", "/jobs/until_there_is", json={"path": str(gate)})
                patient.append(asyncio.create_task(call))

                async def are_there(wanted: int = number + 1) -> bool:
                    books = await jobs(http)
                    return books["running"] + books["queued"] == wanted

                await eventually("one runs, one waits", are_there)
            answer = await ask(
                http, "POST", "/jobs/double", data=b'{"number": 1}', headers={"X-Forwarded-For": "203.0.113.7"}
            )
            assert (answer.status, answer.slug) == (429, "client-queue-full")
            gate.touch()
            assert [(await call).status for call in patient] == [200, 200]


async def test_a_drain_is_seen_through_nginx(tmp_path: Path) -> None:
    """What runs is answered, what comes is refused, and what comes after the end is told that nobody is there."""
    gate = tmp_path / "gate"
    async with serving(TASKS, "--workers", "1") as service:
        await service.ready()
        upstream = service.base.removeprefix("http://")
        async with nginx(upstream) as proxy, proxy.client() as http:
            running = asyncio.create_task(ask(http, "POST", "/jobs/until_there_is", json={"path": str(gate)}))

            async def is_running() -> bool:
                return (await jobs(http))["running"] == 1

            await eventually("the job runs", is_running)
            os.kill(service.pid, signal.SIGTERM)

            async def is_draining() -> bool:
                return (await ask(http, "GET", "/health/ready")).status == 503

            await eventually("the service drains", is_draining)
            refused = await ask(http, "POST", "/jobs/double", data=b'{"number": 1}')
            assert (refused.status, refused.slug) == (503, "draining")
            assert int(refused.headers["Retry-After"]) >= 1
            gate.touch()
            assert (await running).json() == "done"
            assert await service.process.wait() == 0
            nobody = await ask(http, "POST", "/jobs/double", data=b'{"number": 1}', headers={"X-Request-ID": "late"})
            assert (nobody.status, nobody.headers["Content-Type"]) == (502, PROBLEM)
            assert nobody.headers["X-Request-ID"] == "late"
            assert nobody.json()["status"] == 502
