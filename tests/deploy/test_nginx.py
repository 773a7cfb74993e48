"""The HTTP interface behind a real nginx with `deploy/nginx/offload.conf`, over TCP and over a Unix socket."""

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
WORKERS = 2
PROBLEM = "application/problem+json"
TOO_LARGE = b"POST /jobs/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (Settings().max_body + 1)


@dataclass(frozen=True, kw_only=True)
class Upstream:
    service: RunningService
    addresses: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Stack:
    service: RunningService
    proxy: Proxy


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def nginx_is_installed() -> None:
    """Skips the module without nginx. Being asynchronous, it opens the module's loop before the first leak check."""
    nginx_program()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    """A service on TCP and on a Unix socket, published below /compute, that limits each caller."""
    with tempfile.TemporaryDirectory(prefix="offload-test-") as directory:
        path = f"{directory}/offload.sock"
        listening = ("--port", "0", "--uds", path, "--root-path", "/compute")
        limits = ("--client-header", "X-Forwarded-For", "--max-queued-per-client", "1")
        async with serving(TASKS, "--workers", str(WORKERS), *listening, *limits) as service:
            await service.ready()
            await eventually(
                "the service listens on its Unix socket", returning(lambda: f"unix:{path}" in "\n".join(service.log))
            )
            addresses = {"tcp": service.base.removeprefix("http://"), "unix": f"unix:{path}"}
            yield Upstream(service=service, addresses=addresses)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["tcp", "unix"])
async def stack(request: pytest.FixtureRequest, upstream: Upstream) -> AsyncIterator[Stack]:
    async with nginx(upstream.addresses[request.param]) as proxy:
        yield Stack(service=upstream.service, proxy=proxy)


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
    """Returns the counters of `/stats`."""
    stats = (await ask(http, "GET", "/stats")).json()
    counters: dict[str, int] = stats["jobs"]
    return counters


async def until_every_worker_is_idle(http: aiohttp.ClientSession) -> None:
    """Waits until the workers that an earlier test has killed are replaced."""

    async def is_every_worker_idle() -> bool:
        workers = (await ask(http, "GET", "/stats")).json()["workers"]
        return [worker["state"] for worker in workers] == ["idle"] * WORKERS

    await eventually("every worker is idle", is_every_worker_idle)


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
    """nginx keeps 5 MiB in files, both ways."""
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


async def test_nginx_rejects_a_body_over_the_limit_as_the_service_does(stack: Stack) -> None:
    """Both do so as soon as they have the headers."""
    host, _, port = stack.service.base.removeprefix("http://").partition(":")
    documents = []
    for connection in (stack.proxy.raw(), raw_connection(host, int(port))):
        async with connection as caller:
            caller.send(TOO_LARGE)
            answer = await caller.answer()
        assert (answer.status, answer.headers["Content-Type"]) == (413, PROBLEM)
        document = answer.json()
        del document["detail"]  # nginx mentions its own limit
        documents.append(document)
    assert documents[0] == documents[1]


@pytest.mark.parametrize("head", [b"nonsense", b"GET /" + b"a" * 20_000 + b" HTTP/1.1", b"GET / HTTP/9.9"])
async def test_nginx_answers_malformed_http_as_the_service_does(stack: Stack, head: bytes) -> None:
    async with stack.proxy.raw() as caller:
        caller.send(head + b"\r\nHost: x\r\n\r\n")
        answer = await caller.answer()
    assert (answer.status, answer.slug) == (400, "bad-request")


async def test_a_disconnect_of_the_caller_stops_the_work(stack: Stack, http: aiohttp.ClientSession) -> None:
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


async def test_nginx_reuses_its_connections_to_the_service(stack: Stack, http: aiohttp.ClientSession) -> None:
    """Jobs of further callers need no further connection."""
    await until_every_worker_is_idle(http)
    before = sockets_of(stack.service.pid)
    for number in range(10):
        async with stack.proxy.client() as another:
            answer = await ask(another, "POST", "/jobs/double", data=b'{"number": %d}' % number)
            assert answer.json() == 2 * number
    assert sockets_of(stack.service.pid) == before


async def test_nginx_gives_a_request_an_id_that_task_log_and_caller_see(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    answer = await ask(http, "POST", "/jobs/request_id")
    given = answer.headers["X-Request-ID"]
    assert len(given) == 32
    assert answer.json() == given
    await eventually("the id is in the log", returning(lambda: f"request_id={given}" in "\n".join(stack.service.log)))


@pytest.mark.parametrize(("sent", "is_kept"), [("order-7/a", True), ("two words", False), ("x" * 129, False)])
async def test_a_valid_id_of_the_caller_is_kept(http: aiohttp.ClientSession, sent: str, is_kept: bool) -> None:
    answer = await ask(http, "POST", "/jobs/request_id", headers={"X-Request-ID": sent})
    assert answer.json() == answer.headers["X-Request-ID"]
    assert (answer.json() == sent) is is_kept


async def test_the_budget_of_the_caller_is_passed_on(http: aiohttp.ClientSession) -> None:
    answer = await ask(http, "POST", "/jobs/spin", headers={"Request-Timeout": "0.2"})
    assert (answer.status, answer.slug) == (504, "deadline-exceeded")


async def test_a_caller_without_a_budget_gets_that_of_nginx(stack: Stack) -> None:
    """The service answers before nginx gives up."""
    upstream = stack.service.base.removeprefix("http://")
    async with nginx(upstream, changes={'""      290;': '""      0.2;'}) as proxy, proxy.client() as http:
        answer = await ask(http, "POST", "/jobs/spin")
    assert (answer.status, answer.slug) == (504, "deadline-exceeded")


async def test_the_read_timeout_of_nginx_gives_a_problem_and_stops_the_work(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    before = await jobs(http)
    upstream = stack.service.base.removeprefix("http://")
    changes = {"proxy_read_timeout 300s;": "proxy_read_timeout 200ms;"}
    async with nginx(upstream, changes=changes) as proxy, proxy.client() as client:
        answer = await ask(client, "POST", "/jobs/spin", headers={"X-Request-ID": "slow"})
    assert (answer.status, answer.headers["Content-Type"]) == (504, PROBLEM)
    assert answer.headers["X-Request-ID"] == "slow"
    assert answer.json()["status"] == 504

    async def is_stopped() -> bool:
        now = await jobs(http)
        return (now["running"], now["cancelled"]) == (0, before["cancelled"] + 1)

    await eventually("the job is stopped", is_stopped)


async def test_health_checks_pass_through_nginx(http: aiohttp.ClientSession) -> None:
    for path, document in (("/health/live", {"status": "live"}), ("/health/ready", {"status": "ready"})):
        answer = await ask(http, "GET", path)
        assert (answer.status, answer.json()) == (200, document)


async def test_a_prefix_that_nginx_removes_is_in_the_links(upstream: Upstream) -> None:
    """The location is the one in deploy/README.md."""
    changes = {
        "location / {\n        proxy_pass http://offload;": "location /compute/ {\n        proxy_pass http://offload/;"
    }
    async with nginx(upstream.addresses["tcp"], changes=changes) as proxy, proxy.client() as http:
        index = await ask(http, "GET", "/compute/", headers={"Accept": "application/json"})
        assert index.status == 200
        assert b'"/compute/tasks"' in index.body
        assert (await ask(http, "GET", "/compute/tasks")).status == 200


async def test_callers_are_identified_by_the_address_that_nginx_sees(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await until_every_worker_is_idle(http)
    gate = tmp_path / "gate"
    waiting = []
    for number in range(WORKERS + 1):
        call = ask(http, "POST", "/jobs/wait_for_file", json={"path": str(gate)})
        waiting.append(asyncio.create_task(call))

        async def are_accepted(wanted: int = number + 1) -> bool:
            counters = await jobs(http)
            return counters["running"] + counters["queued"] == wanted

        await eventually("a job for each worker runs, one is queued", are_accepted)
    answer = await ask(http, "POST", "/jobs/double", data=b'{"number": 1}', headers={"X-Forwarded-For": "203.0.113.7"})
    assert (answer.status, answer.slug) == (429, "client-queue-full")
    gate.touch()
    assert [(await call).status for call in waiting] == [200] * len(waiting)


async def test_a_drain_is_visible_through_nginx(tmp_path: Path) -> None:
    """Running jobs are answered, new ones rejected, and after the end nginx answers 502."""
    gate = tmp_path / "gate"
    async with serving(TASKS, "--workers", "1") as service:
        await service.ready()
        upstream = service.base.removeprefix("http://")
        async with nginx(upstream) as proxy, proxy.client() as http:
            running = asyncio.create_task(ask(http, "POST", "/jobs/wait_for_file", json={"path": str(gate)}))

            async def is_running() -> bool:
                return (await jobs(http))["running"] == 1

            await eventually("the job runs", is_running)
            os.kill(service.pid, signal.SIGTERM)

            async def is_draining() -> bool:
                return (await ask(http, "GET", "/health/ready")).status == 503

            await eventually("the service drains", is_draining)
            rejected = await ask(http, "POST", "/jobs/double", data=b'{"number": 1}')
            assert (rejected.status, rejected.slug) == (503, "draining")
            assert int(rejected.headers["Retry-After"]) >= 1
            gate.touch()
            assert (await running).json() == "done"
            assert await service.process.wait() == 0
            unreachable = await ask(
                http, "POST", "/jobs/double", data=b'{"number": 1}', headers={"X-Request-ID": "late"}
            )
            assert (unreachable.status, unreachable.headers["Content-Type"]) == (502, PROBLEM)
            assert unreachable.headers["X-Request-ID"] == "late"
            assert unreachable.json()["status"] == 502
