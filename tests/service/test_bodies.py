"""Bodies of every kind, from bytes on a connection to the arguments of a task, through one service."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from tests.support.service import Answer, RunningService, serving

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TASKS = Path(__file__).with_name("body_tasks.py")
MAX_BODY = 4 << 20
# More than travels in the stream: such a body is in shared memory.
LARGE = bytes(range(256)) * 8_000
NOISE = random.Random(1).randbytes(len(LARGE))
FORM = "multipart/form-data; boundary=x"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with serving(TASKS, "--workers", "1", "--max-body", str(MAX_BODY), "--no-access-log") as running:
        await running.ready()
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


def part(name: str, content: bytes, extra: str = "") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def file(name: str, content: bytes) -> bytes:
    return part(name, content, '; filename="a.bin"\r\nContent-Type: application/octet-stream')


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


def measured(data: bytes, tag: str = "none") -> list[Any]:
    return [len(data), hashlib.sha256(data).hexdigest(), tag]


def npy(values: list[int]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


async def post(service: RunningService, task: str, body: bytes, content_type: str = "", coding: str = "") -> Answer:
    headers = {"Content-Type": content_type, "Content-Encoding": coding}
    return await service.post(
        task, data=io.BytesIO(body), headers={name: value for name, value in headers.items() if value}
    )


JSON = "application/json"
ROWS = {
    "JSON": ("add", b'{"a": 1, "b": 2}', JSON, 3),
    "bytes": ("measure?tag=a", b"hello", "image/png", measured(b"hello", "a")),
    "bytes that cannot be compressed": ("measure", NOISE, "", measured(NOISE)),
    "a form that cannot be compressed": ("look", form(file("data", NOISE)), FORM, measured(NOISE)),
    "an .npy file": ("doubled", npy([1, 2]), "application/x-npy", [2, 4]),
    "a form for JSON arguments": ("add", form(part("a", b"1"), part("b", b"2")), FORM, 3),
    "a form for bytes": ("measure", form(file("data", b"hello"), part("tag", b"5")), FORM, measured(b"hello", "5")),
    "a large file for bytes": ("measure", form(part("tag", b"a"), file("data", LARGE)), FORM, measured(LARGE, "a")),
    "a large file for a view": ("look", form(file("data", LARGE), part("tag", b"a")), FORM, measured(LARGE, "a")),
    "several files": ("several", form(file("files", LARGE), file("files", b"ab")), FORM, [len(LARGE), 2]),
    "an array in a form": ("doubled", form(file("array", npy([1, 2]))), FORM, [2, 4]),
    "an alias": ("aliased", b'{"maxItems": 5}', JSON, 5),
}


@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
@pytest.mark.parametrize("row", ROWS)
async def test_a_body_arrives_as_arguments(service: RunningService, row: str, coding: str) -> None:
    task, body, content_type, expected = ROWS[row]
    sent = {"": body, "gzip": gzip.compress(body), "zstd": zstd.compress(body)}[coding]
    for _ in range(2):  # the second time, a small request with this head is known
        answer = await post(service, task, sent, content_type, coding)
        assert (answer.status, answer.json()) == (200, expected)


FAULTS = [
    (400, "bad-request", "measure", form(file("data", b"a"))[:-6], FORM, ""),
    (400, "bad-request", "measure", b"hello", FORM, ""),
    (415, "unsupported-media-type", "measure", b"hello", "multipart/mixed; boundary=x", ""),
    (400, "invalid-json", "add", b"a=1&b=2", "application/x-www-form-urlencoded", ""),
    (422, "invalid-arguments", "add", b'{"a": 1, "a": 2}', JSON, ""),
    (422, "invalid-arguments", "add?b=2", b'{"a": 1}', JSON, ""),
    (400, "bad-request", "add", b'{"a": 1}', JSON, "gzip"),
    (400, "bad-request", "measure", gzip.compress(LARGE)[:-1], "", "gzip"),
    (415, "unsupported-media-type", "measure", gzip.compress(b"a"), "", "br"),
    (415, "unsupported-media-type", "measure", gzip.compress(gzip.compress(b"a")), "", "gzip, gzip"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
async def test_a_body_that_cannot_be_read_is_a_problem(service: RunningService, fault: tuple[Any, ...]) -> None:
    status, slug, *request = fault
    answer = await post(service, *request)
    assert (answer.status, answer.slug) == (status, slug)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("task", ["measure", "add"])
async def test_a_bomb_is_stopped_at_the_limit(service: RunningService, task: str, coding: str) -> None:
    bomb = gzip.compress(bytes(64 * MAX_BODY), 1) if coding == "gzip" else zstd.compress(bytes(64 * MAX_BODY))
    before_kib = (await service.job("peak_kib")).json()
    for _ in range(2):
        answer = await post(service, task, bomb, "application/json", coding)
        assert (answer.status, answer.slug, answer.json()["limit_bytes"]) == (413, "body-too-large", MAX_BODY)
    after_kib = (await service.job("peak_kib")).json()
    assert after_kib - before_kib < 8 * MAX_BODY >> 10


async def test_a_mutable_default_is_not_shared_by_callers(service: RunningService) -> None:
    assert [(await service.job("collects", {"item": item})).json() for item in "abc"] == [["a"], ["b"], ["c"]]
