"""Large bodies and results arrive complete, and their memory is released, whatever dies."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import orjson
import pytest

from offload.core.job import Job, SlotId
from offload.core.outcome import Reason
from offload.core.request import TaskLimits
from offload.dispatch.fingerprint import fingerprint_of
from offload.engines.supervised import channel, process
from offload.wire.frames import FrameKind, pack_answer, unpack
from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes
from tests.service.engines.dispatched_engine import Dispatched, dispatched, result
from tests.service.engines.supervised_engine import opened
from tests.support.jobs import make_job
from tests.support.shared_memory import made, shared_memory

BOUND_S = 30.0
DATA = os.urandom(3 * LARGE_BYTES + 5)

TASKS = '''
import array, ctypes, fcntl, hashlib, os, signal, socket, stat, struct, time
from offload import current_job, task

@task
def echo(data: bytes) -> bytes:
    return data

@task
def reverse(data: memoryview) -> memoryview:
    return bytes(data[::-1])

@task(retries=1)
def digest_at_last(data: bytes) -> str:
    """The first attempt kills its worker when it has read the body."""
    if current_job().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return hashlib.sha256(data).hexdigest()

@task
def die(data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

@task
def hang(data: bytes) -> None:
    time.sleep(1000)

@task
def close_everything(data: memoryview) -> bytes:
    os.closerange(3, 4096)
    return bytes(data)

def sockets(kind):
    for name in os.listdir("/dev/fd"):
        try:
            if int(name) > 2 and stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found = socket.socket(fileno=os.dup(int(name)))
                if found.family == socket.AF_UNIX and found.type == kind:
                    yield found
        except OSError:
            pass

def memory(size, seals):
    descriptor = os.memfd_create("offload", os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor

SIZE = 2 << 20
ALL = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
INVALID = {
    "nothing at all": lambda: None,
    "a pipe": lambda: (1, os.pipe()[0], SIZE),
    "memory that can shrink": lambda: (1, memory(SIZE, 0), SIZE),
    "memory that can be written": lambda: (1, memory(SIZE, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW), SIZE),
    "less than announced": lambda: (1, memory(SIZE - 1, ALL), SIZE),
    "another job's": lambda: (2, memory(SIZE, ALL), SIZE),
    "less than a large result": lambda: (1, memory(10, ALL), 10),
    "more than the limit": lambda: (1, memory((1 << 31) + 1, ALL), (1 << 31) + 1),
}

@task
def answer_with(what: str) -> None:
    """Answers instead of the worker, with an invalid result."""
    number, descriptor, size = INVALID[what]() or (1, None, SIZE)
    if descriptor is not None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        next(sockets(socket.SOCK_SEQPACKET)).sendmsg([struct.pack("<Q", number)], rights)
    header = struct.pack("<BBHIQQQ", 10, 0, 0x0FF1, 0, 9, 1, 0)
    for channel in sockets(socket.SOCK_STREAM):
        channel.sendall(header + struct.pack("<Q?", size, False))
    time.sleep(1000)
'''


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.001)


def reason(job: Job) -> Reason:
    assert job.outcome is not None
    return job.outcome.reason


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
async def test_a_large_body_and_a_large_result_arrive_complete(start_method: str, tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS, start_method=start_method) as one:
        for task, expected in (("echo", DATA), ("reverse", DATA[::-1]), ("echo", DATA)):
            assert result(await one.run(one.job(task, DATA))) == expected
        await until(lambda: shared_memory() == [])


async def test_the_service_maps_nothing_and_holds_one_descriptor(tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        job = await one.run(one.job("echo", DATA))
        (held,) = shared_memory()
        assert held.startswith("/memfd:offload")
        result(job)


async def test_a_worker_that_dies_with_a_large_body_leaves_no_memory(tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        for _ in range(3):
            assert reason(await one.run(one.job("die", DATA))) is Reason.WORKER_CRASHED
            await until(lambda: shared_memory() == [])
        assert result(await one.run(one.job("echo", DATA))) == DATA


async def test_a_retry_gets_the_whole_body_again(tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        job = await one.run(one.job("digest_at_last", DATA))
        assert job.outcome is not None
        assert job.outcome.body == b'"%s"' % hashlib.sha256(DATA).hexdigest().encode()
        assert job.attempt == 2


async def test_a_job_that_had_not_begun_gets_the_whole_body_elsewhere(tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        unbegun_deaths = 0
        while not unbegun_deaths:  # until the job was given to the worker before the engine noticed the stop
            await one.run(one.job("echo", b""))
            pid = one.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            job = one.job("echo", DATA)
            running = asyncio.create_task(one.run(job))
            await until(partial(getattr, job, "is_running"))
            with suppress(ProcessLookupError):  # the engine may have noticed the stop first, and killed it
                os.kill(pid, signal.SIGKILL)
            assert result(await running) == DATA
            assert job.attempt == 1
            unbegun_deaths = job.unbegun_deaths


async def test_a_used_up_body_has_no_fingerprint(tmp_path: Path) -> None:
    """From the next attempt on the job has a fingerprint before it runs, and can be quarantined."""
    async with dispatched(tmp_path, TASKS, quarantine_after=2) as one:
        reasons = [reason(await one.run(one.job("die", DATA))) for _ in range(4)]
        assert reasons == [Reason.WORKER_CRASHED] * 3 + [Reason.QUARANTINED]
        other = await one.run(one.job("die", DATA[::-1]))
        assert reason(other) is Reason.WORKER_CRASHED


async def test_the_fingerprint_of_a_large_body_is_that_of_its_bytes(tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        job, same, other = (one.job("echo", data) for data in (DATA, DATA, DATA[:-1] + bytes([DATA[-1] ^ 1])))
        plain = one.job("echo", b"")
        plain.request.body = DATA
        prints = [await fingerprint_of(each) for each in (job, same, other, plain)]
        assert prints[0] == prints[1] == prints[3] != prints[2]
        for each in (job, same, other):
            assert isinstance(each.request.body, SharedBytes)
            each.request.body.use_up()
            assert await fingerprint_of(each) is None
            each.request.body.close()


async def cancelled(one: Dispatched, job: Job) -> None:
    one.dispatcher.cancel(job)


async def disconnected(one: Dispatched, job: Job) -> None:
    one.dispatcher.cancel(job, Reason.DISCONNECTED)


async def killed(one: Dispatched, job: Job) -> None:
    assert one.pid is not None
    os.kill(one.pid, signal.SIGKILL)


async def drained(one: Dispatched, job: Job) -> None:
    await one.dispatcher.drain(0, asyncio.Event())


@pytest.mark.parametrize("end", [cancelled, disconnected, killed, drained])
async def test_a_large_body_is_released_however_its_job_ends(
    end: Callable[[Dispatched, Job], Awaitable[None]], tmp_path: Path
) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        running, waiting = (one.job("hang", DATA) for _ in range(2))
        ends = [asyncio.create_task(one.run(job)) for job in (running, waiting)]
        await until(lambda: running.is_running)
        await end(one, running)
        one.dispatcher.cancel(waiting)
        await asyncio.gather(*ends)
        await until(lambda: shared_memory() == [])


async def test_a_job_that_was_withdrawn_at_once_can_be_sent_again(tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        await one.run(one.job("echo", b""))
        slot = SlotId(0)
        first, second = one.job("hang", DATA), one.job("echo", DATA)
        running = asyncio.create_task(one.run(first))
        await until(lambda: first.is_running)
        for _ in range(3):
            one.engine.start(slot, second)
            await asyncio.sleep(0)  # the descriptor has been sent
            assert one.engine.withdraw(slot, second)
        one.dispatcher.cancel(first)
        await running
        assert result(await one.run(second)) == DATA


async def test_a_task_that_closes_all_descriptors_ends_only_its_worker(tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        assert reason(await one.run(one.job("close_everything", DATA))) is Reason.WORKER_CRASHED
        assert result(await one.run(one.job("echo", DATA))) == DATA


@pytest.mark.parametrize(
    "what",
    [
        "nothing at all",
        "a pipe",
        "memory that can shrink",
        "memory that can be written",
        "less than announced",
        "another job's",
        "less than a large result",
        "more than the limit",
    ],
)
async def test_a_worker_that_sends_an_invalid_large_result_is_killed(what: str, tmp_path: Path) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        job = await one.run(one.job("answer_with", b'{"what": "%s"}' % what.encode()))
        assert reason(job) is Reason.WORKER_CRASHED
        assert job.outcome is not None
        assert "it wrote an invalid frame to its channel" in str(job.outcome.facts["death"])
        await until(lambda: shared_memory() == [])
        assert result(await one.run(one.job("echo", DATA))) == DATA


async def test_a_body_whose_descriptor_cannot_be_sent_goes_through_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dispatched(tmp_path, TASKS) as one:
        monkeypatch.setattr(channel, "send_descriptor", lambda *_: False)
        assert result(await one.run(one.job("echo", DATA))) == DATA
        await until(lambda: shared_memory() == [])


async def test_a_large_result_that_cannot_be_received_is_a_crash_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(*arguments: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with dispatched(tmp_path, TASKS) as one:
        with monkeypatch.context() as patched:
            patched.setattr(process, "receive_descriptor", receive)
            job = await one.run(one.job("echo", DATA))
        assert reason(job) is Reason.WORKER_CRASHED
        assert job.outcome is not None
        assert "Too many open files" in str(job.outcome.facts["death"])
        assert result(await one.run(one.job("echo", DATA))) == DATA


async def test_a_result_that_arrives_too_late_is_released(tmp_path: Path) -> None:
    """Its job was settled while the answer was on its way."""
    async with opened(tmp_path, tasks=TASKS) as (engine, events):
        await events.until(lambda: ("ready", 0, 1) in events.seen)
        body = made(DATA)
        limits = TaskLimits(name="echo", index=0, timeout_s=BOUND_S)
        engine.start(SlotId(0), make_job(number=1, limits=limits, body=body))
        body.close()
        await events.until(lambda: events.all("finished") == [(0, 1)])
        await until(lambda: shared_memory() == [])


WAITING = """
import os, time
from offload import task

@task
def make(size: int, path: str) -> bytes:
    while not os.path.exists(path):
        time.sleep(0.001)
    return bytes(size)
"""


def wanted(number: int, size: int, gate: Path) -> Job:
    limits = TaskLimits(name="make", index=0, timeout_s=BOUND_S)
    body = orjson.dumps({"size": size, "path": str(gate)})
    return make_job(number=number, limits=limits, body=body)


async def test_answers_that_arrive_together_are_reported_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    """A large result takes another path, and must not overtake the small ones before it."""
    gate = tmp_path / "gate"
    async with opened(tmp_path, tasks=WAITING) as (engine, events):
        await events.until(lambda: bool(events.all("ready")))
        for number, size in enumerate((10, 2 * LARGE_BYTES, 10, 10), 1):
            engine.start(SlotId(0), wanted(number, size, gate))
        await asyncio.sleep(0)  # what is sent in one iteration of the loop leaves at its end
        await asyncio.sleep(0)
        gate.touch()
        give_up_at = time.monotonic() + BOUND_S
        while engine._lanes[0].row.jobs < 4:  # meanwhile the event loop is blocked
            assert time.monotonic() < give_up_at
        await events.until(lambda: len(events.all("finished")) == 4)
        assert events.all("finished") == [(0, 1), (0, 2), (0, 3), (0, 4)]


async def test_an_answer_to_another_job_than_the_first_ends_the_worker(tmp_path: Path) -> None:
    """A worker never sends one; a task has written it."""
    async with opened(tmp_path, tasks=WAITING) as (engine, events):
        await events.until(lambda: bool(events.all("ready")))
        for number in (1, 2):
            engine.start(SlotId(0), wanted(number, 10, tmp_path / "gate"))
        engine._lanes[0].frames([(unpack(pack_answer(FrameKind.DONE, number=2)), b"", b"")])
        await events.until(lambda: bool(events.all("died")))
        assert events.all("finished") == []
