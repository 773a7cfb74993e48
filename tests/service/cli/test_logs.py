"""The log: the format of lines, which cannot be forged, and readers that stall."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from offload.cli.logs import log_output

logger = logging.getLogger("offload.test")

STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(write)
    os.close(read)


@pytest.fixture
def logged(pipe: tuple[int, int]) -> Callable[..., list[str]]:
    """Returns the lines that a function logs, without their times, whose format is checked."""

    def run(log: Callable[[], object], level: str = "info") -> list[str]:
        read, write = pipe
        with log_output(level, write):
            log()
        os.write(write, b"end")
        text = b""
        while not text.endswith(b"end"):
            text += os.read(read, 65_536)
        lines = text.decode().removesuffix("end").splitlines()
        assert all(STAMP.match(line) or line.startswith("    ") for line in lines)
        return [STAMP.sub("", line) for line in lines]

    return run


Logged = Callable[..., list[str]]


def test_a_line_is_level_message_and_fields(logged: Logged) -> None:
    fields = {"lane": 1, "signal": "SIGSEGV", "wait_s": 0.25, "job_id": None, "begun": True}
    assert logged(lambda: logger.info("worker crashed", extra={"fields": fields})) == [
        "INFO  worker crashed lane=1 signal=SIGSEGV wait_s=0.25 job_id=null begun=true"
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain-text/1.0", "plain-text/1.0"),
        ("über", "über"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("line\n2026-01-01T00:00:00.000Z INFO  forged", '"line\\n2026-01-01T00:00:00.000Z INFO  forged"'),
        ("\x1b[2J\x9b\x7f", '"\\x1b[2J\\x9b\\x7f"'),
        ("\u2028\u202e", '"\\u2028\\u202e"'),
        ("\udcff", '"\\udcff"'),
        (["a", 1], "\"['a', 1]\""),
    ],
)
def test_a_value_is_quoted_if_needed_and_cannot_forge_a_line(logged: Logged, value: object, written: str) -> None:
    assert logged(lambda: logger.info("printed", extra={"fields": {"line": value}})) == [
        f"INFO  printed line={written}"
    ]


def test_a_message_cannot_forge_a_line(logged: Logged) -> None:
    assert logged(lambda: logger.warning("a\nb\r%s", "\x1b[0m")) == ["WARN  a\\nb\\r\\x1b[0m"]


def test_a_traceback_is_indented_below_its_line(logged: Logged) -> None:
    def fail() -> None:
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            logger.exception("bug")

    lines = logged(fail)
    assert lines[0] == "ERROR bug"
    assert lines[-2:] == ["    ValueError: first", "    second"]
    assert all(line.startswith("    ") for line in lines[1:])


def test_the_package_logs_from_the_level_up_and_others_from_warning_up(logged: Logged) -> None:
    def log() -> None:
        logger.debug("own")
        logging.getLogger("library").info("quiet")
        logging.getLogger("library").warning("loud")

    assert logged(log, "debug") == ["DEBUG own", "WARN  loud logger=library"]
    assert logged(log, "error") == []


def test_a_batch_is_written_line_by_line(logged: Logged) -> None:
    class Batch:
        def lines(self) -> Iterator[str]:
            yield from (f"request number={number}" for number in range(100))

    assert logged(lambda: logger.info(Batch())) == [f"INFO  request number={number}" for number in range(100)]


def test_a_record_that_cannot_be_formatted_does_not_end_the_log(logged: Logged) -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

    def log() -> None:
        logger.info("mute", extra={"fields": {"value": Mute()}})
        logger.info("next")

    assert logged(log) == [
        "ERROR log record could not be formatted logger=offload.test exception=RuntimeError",
        "INFO  next",
    ]


def test_a_stalled_reader_blocks_no_caller_and_missed_lines_are_counted(pipe: tuple[int, int]) -> None:
    """The lines that are read and those that are reported as dropped add up, however long the reading takes."""
    read, write = pipe
    count = 30_000
    seen = Counter[str]()

    def read_all() -> None:
        rest = ""
        while seen.total() < count:
            *lines, rest = (rest + os.read(read, 1 << 20).decode()).split("\n")
            for line in lines:
                is_report = "log lines were dropped count=" in line
                seen["dropped" if is_report else "read"] += int(line.rpartition("=")[2]) if is_report else 1

    reader = threading.Thread(target=read_all)
    with log_output("info", write):
        for number in range(count):  # far more than pipe and queue hold; hangs here if it waits
            logger.info("line", extra={"fields": {"number": number}})
        reader.start()
    reader.join()
    assert seen["dropped"] > 0
    assert seen.total() == count


def test_a_reader_that_has_gone_does_no_harm() -> None:
    read, write = os.pipe()
    os.close(read)
    with log_output("info", write):
        logger.info("unread")
    os.close(write)


def test_a_non_blocking_descriptor_loses_nothing(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.set_blocking(write, False)
    lines = 0

    def read_all() -> None:
        nonlocal lines
        while lines < 5_000:
            lines += os.read(read, 4096).count(b"\n")

    reader = threading.Thread(target=read_all)
    with log_output("info", write):
        for _ in range(5_000):
            logger.info("a line")
        reader.start()
    reader.join()


def test_logging_is_restored_afterwards(logged: Logged) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers), logging.getLogger("offload").level
    logged(lambda: None, "debug")
    assert (root.level, root.handlers, logging.getLogger("offload").level) == before


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # forking beside a thread is the subject
def test_a_forked_child_leaves_the_log_to_its_parent(pipe: tuple[int, int]) -> None:
    """It has no writing thread: its records would be lost, and a lock held by the thread would stay locked."""
    _, write = pipe
    with log_output("info", write):
        handlers = len(logging.getLogger().handlers)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if len(logging.getLogger().handlers) == handlers - 1 else signal.SIGUSR1)
        _, status = os.waitpid(pid, 0)
    assert status == 0
