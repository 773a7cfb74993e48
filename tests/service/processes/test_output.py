"""What a worker prints is logged line by line, with its job, and never faster than a log can be read."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from offload.core.job import Job
from offload.core.request import JobHead, TaskLimits
from offload.processes.output import OutputReader
from tests.support.jobs import make_job

BOUND_S = 30.0


class Records(logging.Handler):
    """Collects what is logged, and can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[dict[str, Any]] = []
        self._happened = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.fields.append({"message": record.getMessage(), **vars(record)["fields"]})
        self._happened.set()

    @property
    def lines(self) -> list[str]:
        return [fields["line"] for fields in self.fields if "line" in fields]

    @property
    def dropped(self) -> int:
        return sum(fields.get("lines", 0) for fields in self.fields)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not condition():
                self._happened.clear()
                await self._happened.wait()


@dataclass
class Printing:
    reader: OutputReader
    writer: int
    records: Records

    def print(self, data: bytes) -> None:
        os.write(self.writer, data)


@pytest_asyncio.fixture
async def printing() -> AsyncIterator[Printing]:
    logger, records = logging.getLogger("offload.output"), Records()
    level = logger.level
    logger.addHandler(records)
    logger.setLevel(logging.INFO)
    descriptor, writer = os.pipe()
    reader = OutputReader(descriptor, lane=3, pid=77)
    reader.open()
    try:
        yield Printing(reader, writer, records)
    finally:
        os.close(writer)
        reader.close()
        logger.setLevel(level)
        logger.removeHandler(records)


def job(name: str) -> Job:
    return make_job(id=name, limits=TaskLimits(name="primes", index=0, timeout_s=1))


async def test_each_line_is_logged(printing: Printing) -> None:
    printing.print(b"one\ntwo\n\nthr")
    await printing.records.until(lambda: len(printing.records.lines) == 2)
    printing.print(b"ee\n")
    await printing.records.until(lambda: len(printing.records.lines) == 3)
    assert printing.records.lines == ["one", "two", "three"]
    assert printing.records.fields[0] == {"message": "task printed", "lane": 3, "pid": 77, "line": "one"}


async def test_lines_are_attributed_to_the_job_that_printed_them(printing: Printing) -> None:
    for name in ("first", "second"):
        printing.reader.belongs_to(job(name))
        printing.print(f"by {name}".encode())
        printing.reader.read_pending()
        printing.reader.end_of_job()
    assert [(fields["job_id"], fields["task"], fields["line"]) for fields in printing.records.fields] == [
        ("first", "primes", "by first"),
        ("second", "primes", "by second"),
    ]


class Body(bytearray):
    """Can be weakly referenced."""


async def test_the_reader_keeps_no_reference_to_a_job(printing: Printing) -> None:
    """Its body and its result would stay in memory until the next job."""
    body = Body(b"{}")
    watched = weakref.ref(body)
    printing.reader.belongs_to(
        make_job(
            id="first",
            limits=TaskLimits(name="primes", index=0, timeout_s=1),
            body=body,
            head=JobHead(request_id="order-17"),
        )
    )
    del body
    assert watched() is None
    printing.print(b"still its own\n")
    printing.reader.read_pending()
    fields = {"job_id": "first", "task": "primes", "lane": 3, "pid": 77, "request_id": "order-17"}
    assert printing.records.fields == [{"message": "task printed", **fields, "line": "still its own"}]


class CountedHead(JobHead):
    """Counts how often its log fields are made."""

    made = 0

    def labels(self) -> dict[str, str]:
        CountedHead.made += 1
        return super().labels()


async def test_the_fields_of_a_job_that_prints_nothing_are_never_made(printing: Printing) -> None:
    """The reader sees every job, and few jobs print."""
    limits = TaskLimits(name="primes", index=0, timeout_s=1)
    printing.reader.belongs_to(make_job(id="quiet", limits=limits, head=CountedHead(request_id="order-17")))
    printing.reader.read_pending()
    printing.reader.end_of_job()
    assert CountedHead.made == 0


async def test_a_traceback_is_logged_with_its_job_and_counts_as_output(printing: Printing) -> None:
    printing.reader.log_raised(job("other"), b"Traceback:\n  here\n")
    fields = {"message": "task raised", "job_id": "other", "task": "primes", "lane": 3, "pid": 77}
    assert printing.records.fields == [{**fields, "line": "Traceback:"}, {**fields, "line": "  here"}]
    printing.reader.log_raised(job("other"), b"x\n" * 10_000)
    printing.reader.end_of_job()
    assert len(printing.records.lines) + printing.records.dropped == 10_002
    assert printing.records.dropped > 0


async def test_news_lasts_from_the_first_byte_to_the_end_of_the_job(printing: Printing) -> None:
    """Without news `end_of_job` is not called; an unfinished line or the count of dropped ones would be late."""
    reader = printing.reader
    news = [reader.has_news]
    printing.print(b"half a line")
    reader.read_pending()
    news.append(reader.has_news)
    has_printed = [reader.end_of_job()]
    news.append(reader.has_news)
    reader.log_raised(job("a"), b"Traceback")
    news.append(reader.has_news)
    has_printed.append(reader.end_of_job())
    news.append(reader.has_news)
    assert news == [False, True, False, True, False]
    assert has_printed == [True, False]


async def test_bytes_that_are_not_utf_8_are_escaped(printing: Printing) -> None:
    printing.print(b"caf\xe9 \xf0\x9f\x98\x80\n")
    printing.reader.read_pending()
    assert printing.records.lines == ["caf\\xe9 \U0001f600"]


async def test_an_endless_line_is_cut(printing: Printing) -> None:
    for _ in range(50):
        printing.print(b"x" * 10_000)
        printing.reader.read_pending()
    printing.reader.end_of_job()
    assert printing.records.lines == ["x" * 4096 + "… (495,904 more bytes)"]


async def test_the_state_of_a_bar_is_logged_without_waiting_for_the_end_of_its_line(printing: Printing) -> None:
    """The bar may stay as it is for long, so a timer logs its last state; an idle reader has none."""
    printing.reader.belongs_to(job("slow"))
    for percent in range(50):
        printing.print(b"\r%d%%" % percent)
        printing.reader.read_pending()
    await printing.records.until(lambda: len(printing.records.lines) == 1)
    assert printing.records.fields[0] == {
        "message": "task printed",
        "job_id": "slow",
        "task": "primes",
        "lane": 3,
        "pid": 77,
        "line": "49%",
    }
    printing.reader.end_of_job()
    assert printing.records.lines == ["49%"]


async def test_the_bar_of_a_job_is_not_attributed_to_the_next_one(printing: Printing) -> None:
    for name in ("first", "second"):
        printing.reader.belongs_to(job(name))
        printing.print(b"\r0%%\r%s" % name.encode())
        printing.reader.read_pending()
        printing.reader.end_of_job()
    assert [(fields["job_id"], fields["line"]) for fields in printing.records.fields] == [
        ("first", "first"),
        ("second", "second"),
    ]


async def test_bars_count_neither_as_lines_nor_as_dropped(printing: Printing) -> None:
    printing.print(b"\r1%\r2%" * 5000)
    printing.reader.read_pending()
    printing.reader.end_of_job()
    assert (printing.records.lines, printing.records.dropped) == (["2%"], 0)


async def test_a_thousand_lines_of_a_burst_are_logged_and_the_rest_counted(printing: Printing) -> None:
    printing.print(b"".join(b"%d\n" % number for number in range(1100)) + b"the begin")
    printing.reader.read_pending()
    assert printing.records.lines == [str(number) for number in range(1000)]
    printing.reader.end_of_job()
    assert printing.records.lines[1000:] == ["the begin"]
    assert printing.records.dropped == 100


async def test_a_flood_is_always_read_and_counted(printing: Printing) -> None:
    """Printing never blocks, and each line is logged or counted."""
    total = 0
    for _ in range(60):
        printing.print(b"x\n" * 2000)
        total += 2000
        printing.reader.read_pending()
    printing.reader.end_of_job()
    assert 1000 <= len(printing.records.lines) <= 10_000
    assert len(printing.records.lines) + printing.records.dropped == total


async def test_after_the_flood_lines_are_logged_again(printing: Printing) -> None:
    printing.print(b"x\n" * 20_000)
    printing.reader.read_pending()
    printing.reader.end_of_job()
    async with asyncio.timeout(BOUND_S):
        while "after" not in printing.records.lines:
            printing.print(b"after\n")
            printing.reader.read_pending()
            await asyncio.sleep(0)


async def test_closing_reads_what_is_left_in_the_pipe(printing: Printing) -> None:
    printing.print(b"last words")
    printing.reader.close()
    printing.reader.close()
    assert printing.records.lines == ["last words"]


async def test_the_reader_may_be_closed_after_its_writer() -> None:
    descriptor, writer = os.pipe()
    reader = OutputReader(descriptor, lane=0, pid=1)
    reader.open()
    os.close(writer)
    for _ in range(3):
        await asyncio.sleep(0)
    reader.read_pending()
    reader.close()
