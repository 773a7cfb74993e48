"""Requests rejected by their head alone: no job is made, and no body is read."""

from __future__ import annotations

import pytest

from tests.support.fake_engine import FakeEngine, body_of, result
from tests.support.web_service import MOUNTED_AT, mounted, web_service


def compressed(encoding: str, prefix: str = "") -> bytes:
    """Returns a request that declares this coding."""
    head = f"POST {prefix}/jobs/primes HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Encoding: {encoding}\r\n\r\n"
    return head.encode()


async def test_an_unknown_task_is_answered_with_similar_names() -> None:
    async with web_service() as service:
        answer = await service.post("primse", data=b"{}")
        assert (answer.status, answer.slug) == (404, "unknown-task")
        assert answer.json()["known"] == ["primes"]
        assert "primes" in answer.json()["detail"]
        assert service.counts.submitted == 0


@pytest.mark.parametrize("name", ["%ff%fe", "%00", "%F0%9F%92%A9", "a" * 5000, "..%2f..%2fetc"])
async def test_any_text_may_be_requested_as_a_task(name: str) -> None:
    async with web_service() as service, service.raw() as connection:
        connection.send(f"POST /jobs/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (404, "unknown-task")
        assert len(answer.body) < 1000


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/jobs/primes", "POST"),
        ("PUT", "/jobs/primes/1", "DELETE"),
        ("POST", "/tasks", "GET, HEAD"),
        ("DELETE", "/stats", "GET, HEAD"),
        ("POST", "/health/live", "GET, HEAD"),
        ("PATCH", "/", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_allowed_is_answered_with_those_that_are(
    method: str, path: str, allowed: str
) -> None:
    async with web_service() as service:
        answer = await service.request(method, path)
        assert (answer.status, answer.slug) == (405, "method-not-allowed")
        assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/nope", "/jobs", "/jobs/", "/tasks/", "/jobs/a/b/c", "//", "/health", "/%ff"])
async def test_an_unknown_path_is_a_problem(path: str) -> None:
    async with web_service() as service, service.raw() as connection:
        connection.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (404, "not-found")


@pytest.mark.parametrize("value", ["soon", "-1", "0", "0.0", "1e3", "inf", "nan", "", "1,5", "9" * 400, "1\x85", "١"])
async def test_an_invalid_budget_is_rejected(value: str) -> None:
    async with web_service() as service, service.raw() as connection:
        head = f"POST /jobs/primes HTTP/1.1\r\nHost: x\r\nRequest-Timeout: {value}\r\nContent-Length: 0\r\n\r\n"
        connection.send(head.encode())
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (400, "invalid-header")
        assert answer.json()["header"] == "Request-Timeout"
        assert service.counts.submitted == 0


async def test_two_budgets_are_rejected() -> None:
    async with web_service() as service:
        answer = await service.post("primes", headers=[("Request-Timeout", "1"), ("Request-Timeout", "100")])
        assert (answer.status, answer.slug) == (400, "invalid-header")


@pytest.mark.parametrize("header", ["Transfer-Encoding: gzip, chunked", "Content-Range: bytes 0-3/10"])
async def test_a_body_that_is_not_the_data_itself_is_rejected(header: str) -> None:
    async with web_service() as service, service.raw() as connection:
        length = "" if header.startswith("Transfer") else "Content-Length: 0\r\n"
        connection.send(f"POST /jobs/resize HTTP/1.1\r\nHost: x\r\n{length}{header}\r\n\r\n0\r\n\r\n".encode())
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (400, "bad-request")
        assert service.counts.submitted == 0


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "identity, br", "nonsense", "gzip;q=1", "zstd"])
async def test_a_coding_that_workers_do_not_support_is_rejected(encoding: str) -> None:
    async with web_service(content_codings=("gzip",)) as service, service.raw() as connection:
        connection.send(compressed(encoding))
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (415, "unsupported-media-type")
        assert answer.json()["supported"] == ["gzip", "identity"]
        assert answer.headers["Accept-Encoding"] == "gzip"
        assert service.counts.submitted == 0


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "gzip, gzip"])
async def test_a_compressed_body_that_another_server_may_have_inflated_is_rejected(encoding: str) -> None:
    async with web_service(wrap=mounted) as service, service.raw() as connection:
        connection.send(compressed(encoding, MOUNTED_AT.decode()))
        answer = await connection.answer()
        assert (answer.status, answer.slug) == (415, "unsupported-media-type")
        assert answer.json()["supported"] == ["identity"]
        assert answer.headers["Accept-Encoding"] == "identity"
        assert service.counts.submitted == 0


@pytest.mark.parametrize(
    ("encoding", "coding"),
    [("gzip", "gzip"), ("GZIP", "gzip"), ("x-gzip", "gzip"), ("identity", ""), ("identity, gzip,", "gzip"), ("", "")],
)
async def test_a_compressed_body_goes_to_the_worker_as_it_is(encoding: str, coding: str) -> None:
    body = b"\x1f\x8b\x08\x00"
    engine = FakeEngine(answer=lambda job: result(body_of(job)))
    async with web_service(engine=engine, content_codings=("gzip",)) as service:
        for _ in range(2):  # the second time its head is known
            answer = await service.post("primes", data=body, headers={"Content-Encoding": encoding})
            assert answer.body == body
            assert (await service.engine.next_started()).request.head.content_encoding == coding


@pytest.mark.parametrize(
    ("task", "media_type", "supported"),
    [
        ("primes", "application/x-ndjson", ["application/json", "multipart/form-data"]),
        ("primes", "application/x-npy", ["application/json", "multipart/form-data"]),
        ("primes", "Application/X-NPY; a=b", ["application/json", "multipart/form-data"]),
        ("primes", "multipart/mixed; boundary=x", ["application/json", "multipart/form-data"]),
        ("solve", "application/x-ndjson", ["application/json", "application/x-npy", "multipart/form-data"]),
        ("solve", "Multipart/Related", ["application/json", "application/x-npy", "multipart/form-data"]),
        ("compare", "application/json", ["multipart/form-data"]),
        ("compare", "image/png", ["multipart/form-data"]),
        ("resize", "multipart/byteranges", ["application/octet-stream", "multipart/form-data"]),
    ],
)
async def test_a_media_type_that_the_task_does_not_accept_is_rejected(
    task: str, media_type: str, supported: list[str]
) -> None:
    async with web_service() as service:
        answer = await service.post(task, data=b"x", headers={"Content-Type": media_type})
        assert (answer.status, answer.slug) == (415, "unsupported-media-type")
        assert answer.json()["supported"] == supported
        assert service.counts.submitted == 0


@pytest.mark.parametrize(
    ("task", "media_type"),
    [
        ("primes", "application/x-www-form-urlencoded"),
        ("primes", "text/plain; charset=latin-1"),
        ("primes", "nonsense"),
        ("primes", "multipart/form-data; boundary=x"),
        ("solve", "multipart/form-data; boundary=x"),
        ("resize", "Multipart/Form-Data; boundary=x"),
        ("solve", "application/x-npy"),
        ("resize", "application/x-npy"),
        ("resize", "application/x-ndjson"),
        ("resize", "image/png"),
    ],
)
async def test_json_and_raw_bodies_may_declare_any_other_media_type(task: str, media_type: str) -> None:
    async with web_service(engine=FakeEngine(answer=lambda job: result())) as service:
        answer = await service.post(task, data=b"x", headers={"Content-Type": media_type})
        assert answer.status == 200


async def test_a_task_for_forms_needs_a_content_type() -> None:
    async with web_service() as service, service.raw() as connection:
        connection.send(b"POST /jobs/compare HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.json()["supported"]) == (415, ["multipart/form-data"])


async def test_header_values_that_are_not_utf_8_are_accepted() -> None:
    async with web_service(engine=FakeEngine(answer=lambda job: result())) as service, service.raw() as connection:
        connection.send(
            b"POST /jobs/primes?b=%ff HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
            b"Content-Type: text/\xff\r\nAccept: \xfe\r\nX-Request-ID: \xfd\r\n"
            b"traceparent: \xfc\r\nPriority: \xfb\r\n\r\n"
        )
        answer = await connection.answer()
        assert answer.status == 200
        assert "X-Request-ID" not in answer.headers


async def test_invalid_preferences_and_priorities_are_ignored() -> None:
    async with web_service(engine=FakeEngine(answer=lambda job: result())) as service:
        headers = {"Prefer": "respond-async=maybe; ,,", "Priority": "u=99"}
        answer = await service.post("primes", headers=headers)
        assert answer.status == 200
        assert (await service.engine.next_started()).urgency == 3


async def test_problems_echo_the_request_id() -> None:
    async with web_service() as service:
        answer = await service.post("nope", headers={"X-Request-ID": "r-17"})
        assert answer.headers["X-Request-ID"] == "r-17"
