"""A complete worker process; the test acts as the service on its channel and output."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import orjson
import pytest

from offload.core.job import JobId
from offload.core.outcome import Reason
from offload.core.request import NO_HEAD, JobHead
from offload.metrics.layout import WorkerRow, WorkerRows
from offload.processes.proctree import rss_bytes
from offload.tasks.targets.loading import load, parse_target
from offload.wire.frames import (
    HEADER_BYTES,
    PENDING_OUTPUT,
    STATUSES,
    FrameKind,
    Header,
    check_from_worker,
    pack_job,
    pack_large,
    pack_large_job,
    pack_meta,
    pack_retire,
    pack_skip,
    unpack,
    unpack_large,
)
from offload.wire.passing import make_pair, receive_descriptor, send_descriptor
from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes
from offload.wire.spec import DescribeSpec, LoadSpec, WorkerSpec
from offload.worker.entry import run_describe, run_worker
from offload.worker.main import EXIT_CHANNEL_LOST, EXIT_START_FAILED
from tests.support.shared_memory import made

BOUND_S = 60.0
TARGET = parse_target(str(Path(__file__).with_name("served_tasks.py")))
LANE = 2
TASKS = [task.name for task in load([TARGET]).tasks]


class Worker:
    """The service's side of a worker process."""

    def __init__(
        self,
        process: BaseProcess,
        channel: socket.socket,
        output: connection.Connection,
        *,
        tokens: connection.Connection,
        descriptors: socket.socket,
        row: WorkerRow,
    ) -> None:
        self.process = process
        self.channel = channel
        self.output = output
        self.descriptors = descriptors
        self.row = row
        self._tokens = tokens

    def send(self, task: str, number: int = 1, **arguments: object) -> None:
        self.send_body(task, number, orjson.dumps(arguments))

    def send_body(self, task: str, number: int, body: bytes) -> None:
        meta = pack_meta(JobId("0" * 32), NO_HEAD)
        header = pack_job(
            number=number, task_index=TASKS.index(task), attempt=1, meta_bytes=len(meta), body_bytes=len(body)
        )
        os.eventfd_write(self._tokens.fileno(), 1)
        self.channel.sendall(header + meta + body)

    def send_large(self, task: str, number: int, body: SharedBytes, *, is_last: bool = True, query: str = "") -> None:
        meta = pack_meta(JobId("0" * 32), JobHead(query=query))
        index = TASKS.index(task)
        header = pack_large_job(number=number, task_index=index, attempt=1, meta_bytes=len(meta))
        assert send_descriptor(self.descriptors, number, body.fileno())
        os.eventfd_write(self._tokens.fileno(), 1)
        self.channel.sendall(header + meta + pack_large(len(body), is_last=is_last))

    def withdraw(self, number: int) -> bool:
        """Withdraw the newest job, as the service does; return False if it has begun."""
        try:
            os.eventfd_read(self._tokens.fileno())
        except BlockingIOError:
            return False
        self.channel.sendall(pack_skip(number))
        return True

    def frame(self) -> tuple[Header, bytes]:
        """Returns the header and the body of the next frame."""
        header = unpack(self._exactly(HEADER_BYTES))
        check_from_worker(header)
        self._exactly(header.meta_bytes)
        return header, self._exactly(header.body_bytes)

    def answer(self, number: int = 1) -> Any:
        """Returns the result of the job."""
        header, body = self.frame()
        assert (header.kind, header.number) == (FrameKind.DONE, number)
        assert STATUSES[header.flag & ~PENDING_OUTPUT] is Reason.SUCCEEDED, body
        return orjson.loads(body)

    def large_answer(self, number: int) -> bytes:
        """Returns a result that arrived as shared memory."""
        header, announced = self.frame()
        assert (header.kind, header.number, header.flag) == (FrameKind.LARGE_DONE, number, 0)
        size_bytes = unpack_large(announced).size_bytes
        with closing(SharedBytes.received(receive_descriptor(self.descriptors, number), size_bytes)) as result:
            return result.read(0, size_bytes)

    def expect_ready(self) -> None:
        assert self.frame()[0].kind == FrameKind.READY

    def exit_code(self) -> int | None:
        self.process.join(BOUND_S)
        return self.process.exitcode

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = self.channel.recv(count - len(data))
            assert chunk, "the channel was closed"
            data += chunk
        return bytes(data)


@contextmanager
def worker() -> Iterator[Worker]:
    own_end, worker_end = socket.socketpair()
    reader, writer = connection.Pipe(duplex=False)
    tokens = connection.Connection(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE))
    pair = make_pair()
    assert pair is not None
    descriptors, worker_descriptors = pair
    metrics = WorkerRows(LANE + 1)
    spec = WorkerSpec(
        load=LoadSpec(targets=(TARGET,), library_threads=1, max_body_bytes=1 << 25),
        lane=LANE,
        start_method="spawn",
        channel=worker_end,
        output=writer,
        tokens=tokens,
        descriptors=worker_descriptors,
        metrics=metrics,
        is_debug=False,
    )
    process = multiprocessing.get_context("spawn").Process(target=run_worker, args=(spec,))
    with own_end, reader, tokens, descriptors:
        with worker_end, writer, worker_descriptors:
            process.start()
        own_end.settimeout(BOUND_S)
        one = Worker(process, own_end, reader, tokens=tokens, descriptors=descriptors, row=metrics.worker_row(LANE))
        try:
            yield one
        finally:
            process.kill()
            process.join()
            process.close()


def test_a_worker_becomes_ready_answers_jobs_in_order_and_retires() -> None:
    with worker() as one:
        one.expect_ready()
        for number in range(1, 20):
            one.send("echo", number, text=str(number))
            assert one.answer(number) == str(number)
        one.send("lanes", 20)
        assert one.answer(20) == [LANE]
        one.channel.sendall(pack_retire())
        assert one.exit_code() == 0
        assert one.row.jobs == 20
        assert one.row.current_job == 20


def test_jobs_sent_together_are_answered_in_order() -> None:
    with worker() as one:
        one.expect_ready()
        for number in range(1, 50):
            one.send("echo", number, text="x" * number)
        assert [one.answer(number) for number in range(1, 50)] == ["x" * number for number in range(1, 50)]


def test_only_jobs_that_have_not_begun_can_be_withdrawn(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with worker() as one:
        one.expect_ready()
        one.send("wait_at", 1, path=str(gate))
        with open(gate, "w"):  # opens when the task does, so the first job has begun
            for number in (2, 3, 4):
                one.send("echo", number, text=str(number))
            assert [one.withdraw(number) for number in (4, 3)] == [True, True]
        assert one.answer(1) == "passed"
        assert one.answer(2) == "2"
        assert not one.withdraw(2)
        assert [one.frame()[0].number for _ in range(2)] == [4, 3]
        one.send("echo", 5, text="after")
        assert one.answer(5) == "after"


def test_a_worker_finishes_its_jobs_before_it_retires() -> None:
    with worker() as one:
        one.expect_ready()
        for number in (1, 2, 3):
            one.send("echo", number, text="x")
        one.channel.sendall(pack_retire())
        assert [one.answer(number) for number in (1, 2, 3)] == ["x"] * 3
        assert one.exit_code() == 0


def test_a_worker_exits_when_the_channel_is_closed() -> None:
    with worker() as one:
        one.expect_ready()
        one.channel.shutdown(socket.SHUT_RDWR)
        assert one.exit_code() == 0


def test_a_worker_exits_when_the_channel_ends_inside_a_job() -> None:
    with worker() as one:
        one.expect_ready()
        one.channel.sendall(pack_job(number=1, task_index=0, attempt=1, meta_bytes=10, body_bytes=10) + b"x")
        one.channel.shutdown(socket.SHUT_WR)
        assert one.exit_code() == EXIT_CHANNEL_LOST


def test_a_worker_exits_when_a_task_closed_its_descriptors() -> None:
    with worker() as one:
        one.expect_ready()
        one.send("close_everything")
        assert one.exit_code() == EXIT_CHANNEL_LOST
        assert one.row.current_job == 1  # tells the service that the job had begun


def test_a_forked_copy_of_a_worker_sends_no_answer() -> None:
    with worker() as one:
        one.expect_ready()
        one.send("fork_and_return", 1)
        one.send("echo", 2, text="after")
        assert [one.answer(1), one.answer(2)] == ["parent", "after"]


def test_an_answer_says_that_printed_output_is_pending() -> None:
    with worker() as one:
        one.expect_ready()
        one.send("say", text="without an end")
        header, _ = one.frame()
        assert header.flag & PENDING_OUTPUT
        assert os.read(one.output.fileno(), 1000) == b"without an end"
        one.send("echo", 2, text="")
        assert not one.frame()[0].flag & PENDING_OUTPUT


@pytest.mark.parametrize("how", ["closed", "none", "replaced"])
def test_a_task_may_close_or_replace_the_output(how: str) -> None:
    with worker() as one:
        one.expect_ready()
        one.send("lose_output", 1, how=how)
        one.answer(1)
        one.send("echo", 2, text="after")
        assert one.answer(2) == "after"
        one.channel.sendall(pack_retire())
        assert one.exit_code() == 0


@pytest.mark.parametrize("threshold", [0, 100_000])
def test_the_user_may_set_the_garbage_collection_threshold(monkeypatch: pytest.MonkeyPatch, threshold: int) -> None:
    monkeypatch.setenv("GC_THRESHOLD", str(threshold))
    with worker() as one:
        one.expect_ready()
        one.send("garbage_threshold")
        assert one.answer() == threshold


def test_integers_of_any_length_arrive_unchanged() -> None:
    number = b"7" * 5000
    with worker() as one:
        one.expect_ready()
        one.send_body("digits", 1, b'{"number": %s}' % number)
        assert one.frame()[1] == number


def test_threads_that_a_task_left_do_not_delay_the_exit() -> None:
    with worker() as one:
        one.expect_ready()
        one.send("leave_a_thread")
        one.answer()
        one.channel.sendall(pack_retire())
        assert one.exit_code() == 0


@contextmanager
def large(size_bytes: int = LARGE_BYTES + 1) -> Iterator[tuple[SharedBytes, bytes]]:
    data = os.urandom(size_bytes)
    with closing(made(data)) as body:
        yield body, data


@pytest.mark.parametrize("is_last", [True, False])
def test_large_bodies_and_results_travel_as_descriptors(is_last: bool) -> None:
    """In the last attempt, a worker frees the memory of the body after copying it."""
    with worker() as one, large() as (body, data):
        one.expect_ready()
        one.send_large("echo_bytes", 1, body, is_last=is_last)
        assert one.large_answer(1) == data
        assert body.is_whole is not is_last
        one.send("shared_memory", 2)
        assert one.answer(2) == []


@pytest.mark.parametrize("is_last", [True, False])
def test_a_view_of_a_large_body_is_released_after_its_job(is_last: bool) -> None:
    with worker() as one, large() as (body, data):
        one.expect_ready()
        one.send_large("echo_view", 1, body, is_last=is_last)
        one.send("shared_memory", 2)
        header, result = one.frame()  # one byte less, so small enough for the stream
        assert (header.kind, result) == (FrameKind.DONE, data[1:])
        assert one.answer(2) == []
        assert body.is_whole is not is_last


def test_a_view_that_a_task_keeps_stays_valid() -> None:
    with worker() as one, large() as (body, data):
        one.expect_ready()
        one.send_large("keep_view", 1, body)
        assert one.answer(1) is None
        one.send("shared_memory", 2)
        assert one.answer(2)
        one.send("forget_kept", 3)
        assert one.frame()[1] == data[-3:]
        one.send("shared_memory", 4)
        assert one.answer(4) == []


def test_a_large_body_is_released_when_its_task_raises() -> None:
    with worker() as one, large() as (body, _):
        one.expect_ready()
        one.send_large("raise_with_view", 1, body)
        header, problem = one.frame()
        assert (header.kind, STATUSES[header.flag]) == (FrameKind.DONE, Reason.TASK_ERROR), problem
        one.send("shared_memory", 2)
        assert one.answer(2) == []


def test_a_large_json_body_is_read_from_shared_memory() -> None:
    text = "x" * LARGE_BYTES
    with worker() as one, closing(made(orjson.dumps({"text": text}))) as body:
        one.expect_ready()
        one.send_large("echo", 1, body)
        assert orjson.loads(one.large_answer(1)) == text


def test_withdrawing_a_large_job_leaves_the_other_bodies_intact(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with worker() as one, large() as (first, data), large() as (second, _), large() as (third, other):
        one.expect_ready()
        one.send("wait_at", 1, path=str(gate))
        with open(gate, "w"):
            one.send_large("echo_bytes", 2, first)
            one.send_large("echo_bytes", 3, second)
            assert one.withdraw(3)
        assert one.answer(1) == "passed"
        assert one.large_answer(2) == data
        assert one.frame()[0].kind == FrameKind.SKIPPED
        one.send_large("echo_bytes", 4, third)
        assert one.large_answer(4) == other
        one.send("shared_memory", 5)
        assert one.answer(5) == []
        assert second.is_whole


def test_results_up_to_the_limit_go_through_the_stream() -> None:
    with worker() as one:
        one.expect_ready()
        one.send("many", 1, count=LARGE_BYTES)
        assert one.frame()[1] == bytes(LARGE_BYTES)
        one.send("many", 2, count=LARGE_BYTES + 1)
        assert one.large_answer(2) == bytes(LARGE_BYTES + 1)


def test_a_large_result_uses_the_stream_if_it_cannot_be_passed() -> None:
    with worker() as one:
        one.expect_ready()
        one.descriptors.close()
        one.send("many", 1, count=LARGE_BYTES + 1)
        header, body = one.frame()
        assert (header.kind, body) == (FrameKind.DONE, bytes(LARGE_BYTES + 1))


def test_a_large_job_without_its_body_ends_the_worker() -> None:
    with worker() as one:
        one.expect_ready()
        meta = pack_meta(JobId("0" * 32), NO_HEAD)
        header = pack_large_job(number=1, task_index=0, attempt=1, meta_bytes=len(meta))
        one.channel.sendall(header + meta + pack_large(9))
        assert one.exit_code() == EXIT_CHANNEL_LOST


def test_memory_is_returned_to_the_system_after_a_large_job() -> None:
    size = 24 << 20  # small enough that the C library would keep it
    with worker() as one:
        one.expect_ready()
        assert one.process.pid is not None
        one.send("many", 1, count=1)
        one.frame()
        before = rss_bytes(one.process.pid)
        for number in range(2, 6):
            one.send("many", number, count=size)
            assert len(one.large_answer(number)) == size
        one.send("lanes", 6)
        one.answer(6)
        assert rss_bytes(one.process.pid) - before < size / 4


@pytest.mark.parametrize(("fault", "message"), [("raise", "ValueError: no model"), ("exit", "SystemExit: gone")])
def test_a_failing_start_hook_is_reported_and_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setenv("HOOK_FAULT", fault)
    with worker() as one:
        header, body = one.frame()
        assert header.kind == FrameKind.START_FAILED
        assert body.decode() == f"@on_worker_start begin raised {message}"
        assert one.exit_code() == EXIT_START_FAILED


def test_a_start_hook_that_forks_makes_only_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_FAULT", "fork")
    with worker() as one:
        one.expect_ready()
        one.send("echo", text="one")
        assert one.answer() == "one"
        one.channel.sendall(pack_retire())
        assert one.exit_code() == 0


@pytest.mark.parametrize(
    ("source", "kind", "expected"),
    [
        ("from offload import task\n@task\ndef add(a: int) -> int: return a\n", FrameKind.CATALOGUE, b'"add"'),
        ("import nothing_of_this_name\n", FrameKind.START_FAILED, b"ModuleNotFoundError"),
        ("from offload import task\n@task\nasync def add(): ...\n", FrameKind.START_FAILED, b"add"),
    ],
    ids=["tasks", "import error", "no task"],
)
def test_the_describing_process_sends_the_catalogue_or_an_error(
    tmp_path: Path, source: str, kind: FrameKind, expected: bytes
) -> None:
    file = tmp_path / "described.py"
    file.write_text(source)
    load_spec = LoadSpec(targets=(parse_target(str(file)),), library_threads=1, max_body_bytes=1 << 25)
    own_end, worker_end = socket.socketpair()
    with own_end:
        with worker_end:
            spec = DescribeSpec(load=load_spec, start_method="spawn", channel=worker_end)
            process = multiprocessing.get_context("spawn").Process(target=run_describe, args=(spec,))
            process.start()
        own_end.settimeout(BOUND_S)
        data = b"".join(iter(lambda: own_end.recv(1 << 16), b""))
    process.join()
    assert process.exitcode == 0
    process.close()
    header = unpack(data)
    check_from_worker(header)
    assert header.kind == kind
    body = data[HEADER_BYTES + header.meta_bytes :]
    assert expected in body
    orjson.loads(body)
