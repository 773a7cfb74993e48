"""Large bodies and results through a whole service: as they were sent, and nothing is left of those given up."""

from __future__ import annotations

import asyncio
import io
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson
import pytest

from offload.wire.shared_bytes import LARGE_BYTES
from tests.support.raw_http import RawConnection, raw_connection
from tests.support.service import RunningService, eventually, serving
from tests.support.shared_memory import shared_memory

TASKS = Path(__file__).with_name("large_tasks.py")
FLAGS = ("--workers", "2", "--max-body", "64MB", "--quarantine-after", "0")
SIZE = 4 * LARGE_BYTES + 1
DATA = random.Random(1).randbytes(SIZE)


@asynccontextmanager
async def service_of_large(*flags: str) -> AsyncIterator[RunningService]:
    """One that is found without shared memory and with as many descriptors as before, when all is over."""
    async with serving(TASKS, *FLAGS, *flags) as service:
        await service.ready()
        await service.post("echo", data=b"")
        before = descriptors(service)
        yield service
        await service.ready()
        await eventually("nothing is left", lambda: is_as_before(service, before))


def descriptors(service: RunningService) -> int:
    return len(os.listdir(f"/proc/{service.pid}/fd"))


async def is_as_before(service: RunningService, before: int) -> bool:
    held = [line for pid in (service.pid, *service.processes()) for line in shared_memory(pid)]
    return not held and descriptors(service) <= before  # then the last answer's connection may not have been closed


async def in_chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_003):
        yield data[start : start + 100_003]


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
async def test_large_bodies_and_results_are_as_they_were_sent(start_method: str) -> None:
    async with service_of_large("--start-method", start_method) as service:
        for task in ("echo", "echo_view", "echo_at_last"):
            assert (await service.post(task, data=io.BytesIO(DATA))).body == DATA
            assert (await service.post(task, data=in_chunks(DATA))).body == DATA
        text = "é" * SIZE
        assert (await service.post("echo_json", data=io.BytesIO(orjson.dumps({"text": text})))).json() == text
        assert len((await service.job("many", {"count": SIZE})).body) == SIZE


async def test_arrays_and_long_numbers_are_read_where_they_lie() -> None:
    values = np.arange(SIZE // 8, dtype=np.int64).reshape(-1, 1)
    file = io.BytesIO()
    np.save(file, values)
    numbers = [10**30 + number for number in range(SIZE // 31)]
    async with service_of_large() as service:
        npy = "application/x-npy"
        file.seek(0)
        answer = await service.post("doubled", data=file, headers={"Content-Type": npy, "Accept": npy})
        assert np.array_equal(np.load(io.BytesIO(answer.body)), values * 2)
        body = b'{"numbers": [%s]}' % ",".join(map(str, numbers)).encode()
        assert len(body) > LARGE_BYTES
        answer = await service.post("total", data=io.BytesIO(body))
        assert answer.body == str(sum(numbers)).encode()


@pytest.mark.parametrize(("task", "slug"), [("hang", "job-timeout"), ("die", "worker-crashed")])
async def test_of_a_job_that_does_not_end_well_nothing_is_left(task: str, slug: str) -> None:
    async with service_of_large() as service:
        answers = await asyncio.gather(*(service.post(task, data=io.BytesIO(DATA)) for _ in range(6)))
        assert [answer.slug for answer in answers] == [slug] * 6


@asynccontextmanager
async def raw(service: RunningService) -> AsyncIterator[RawConnection]:
    address = urlsplit(service.base)
    assert address.hostname is not None
    assert address.port is not None
    async with raw_connection(address.hostname, address.port) as connection:
        yield connection


def head(task: str, size: int) -> bytes:
    return f"POST /jobs/{task} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()


async def test_after_a_storm_of_callers_who_hang_up_nothing_is_left() -> None:
    """On their way in, while their job runs, and on their way out; with workers that die meanwhile."""
    dice = random.Random(2)
    async with service_of_large("--queue-limit", "1000") as service:

        async def call() -> None:
            async with raw(service) as caller:
                match dice.randrange(4):
                    case 0:
                        caller.send(head("echo", SIZE) + DATA[: dice.randrange(SIZE)])
                    case 1:
                        caller.send(head("echo_view", SIZE) + DATA)
                    case 2:
                        body = b'{"count": 20000000}'
                        caller.send(head("many", len(body)) + body)
                        await caller.line()
                    case 3:
                        caller.send(head(dice.choice(["die", "hang"]), SIZE) + DATA)
                await asyncio.sleep(dice.random() / 20)  # to hang up at any moment: there is nothing to wait for
                caller.hang_up()

        for _ in range(5):
            await asyncio.gather(*(call() for _ in range(8)))
        assert (await service.post("echo", data=io.BytesIO(DATA))).body == DATA
