"""How the output of a process becomes lines, and what is kept of progress bars."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.processes.lines import MAX_LINE_BYTES, STATE_EVERY_S, LineSplitter

UP = b"\x1b[A"


def everything(lines: int) -> int:
    return lines


def nothing(lines: int) -> int:
    return 0


def lines_of(*chunks: bytes) -> list[str]:
    """Returns the lines of chunks that are read at the same moment, as at the end of a job."""
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk, 0.0, everything)]
    return lines + splitter.end()


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n\nthree", ["one", "two", "three"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\r\r\n", ["one"]),
        (b"  \n", ["  "]),
        (b"\r  0%\r 50%\r100%\n", ["100%"]),
        (b"  0%\r 50%\r100%\r", ["100%"]),
        (b"\r 50%\r100%\r    \rdone\n", ["done"]),
        (b"\r 50%\r100%\r    \r", ["100%"]),
        (b"\r100%\r\x1b[K\n", ["100%"]),
        (b"\r100%\r\x1b[2K\x1b[?25h\n", ["100%"]),
        (b" 50%\x1b[1G100%\x1b[G", ["100%"]),
        (b"before\n\r 50%\r100%\nafter\n", ["before", "100%", "after"]),
        (b"a\rb\nc\rd\ne", ["b", "d", "e"]),
        (b"50% \r    \r", ["50% "]),
        (b"\x1b[31mred\x1b[0m\n", ["\x1b[31mred\x1b[0m"]),
        (b"caf\xe9\n", ["caf\\xe9"]),
        (b"x" * 5000 + b"\n", ["x" * 4096 + "… (904 more bytes)"]),
        (b"\rshort\r" + b"x" * 5000 + b"\n", ["x" * 4096 + "… (904 more bytes)"]),
        (b"x" * 5000 + b"\rshort", ["short"]),
        (b"x" * 4095 + "é".encode() + b"\n", ["x" * 4095 + "… (2 more bytes)"]),
        (b"x" * 4094 + "é".encode() + b"y\n", ["x" * 4094 + "é… (1 more bytes)"]),
    ],
)
def test_lines_are_split_and_only_the_last_state_of_a_line_is_kept(printed: bytes, lines: list[str]) -> None:
    assert lines_of(printed) == lines


PARTS = [b"a", b"\r", b"\n", b" ", b"\xc3\xa9", b"x" * 3000, b" " * 3000]


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.data())
def test_it_does_not_matter_how_the_output_is_split_into_reads(parts: list[bytes], data: st.DataObject) -> None:
    printed = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(printed)), max_size=4)))
    chunks = [printed[start:end] for start, end in itertools.pairwise([0, *cuts, len(printed)])]
    assert lines_of(*chunks) == lines_of(printed)


def test_nested_bars_are_followed_as_one() -> None:
    """They draw each line below the first one by going down, drawing and moving up again."""
    outer, inner = b"\router %d", b"\n\rinner %d" + UP
    printed = b"".join(outer % step + b"".join(inner % part for part in range(100)) for step in range(3))
    assert lines_of(printed + b"\nall done\n") == ["outer 0", "inner 99", "all done"]


def test_the_state_of_a_bar_is_logged_once_a_second_while_it_changes() -> None:
    splitter = LineSplitter()
    logged = []
    for tenth in range(100):
        now = tenth / 10
        assert splitter.feed(b"\r%d" % tenth, now, everything) == []
        if splitter.wait_s(now) == 0:
            logged.append(splitter.take_state(now))
    assert logged == ["10", "20", "30", "40", "50", "60", "70", "80", "90"]
    assert splitter.wait_s(10.0) == 0
    assert splitter.take_state(10.0) == "99"
    assert splitter.wait_s(20.0) is None, "it has not changed"
    assert splitter.feed(b"\n", 20.0, everything) == [], "the line says nothing new"


def test_a_state_is_not_cut_within_a_character() -> None:
    splitter = LineSplitter()
    splitter.feed("\r██".encode()[:-1], 0.0, everything)
    assert splitter.take_state(1.0) == "█"
    assert splitter.feed("█\n".encode()[-2:], 1.0, everything) == ["██"]


def test_a_bar_that_ends_within_a_second_is_one_line() -> None:
    splitter = LineSplitter()
    for step in range(10):
        assert splitter.feed(b"\r%d" % step, step / 20, everything) == []
        assert splitter.wait_s(step / 20) == STATE_EVERY_S - step / 20
    assert splitter.feed(b"\rdone\n", 0.5, everything) == ["done"]
    assert splitter.wait_s(0.5) is None


def test_two_bars_with_the_same_last_state_are_two_lines() -> None:
    splitter = LineSplitter()
    splitter.feed(b"\r100%", 0.0, everything)
    assert splitter.take_state(1.0) == "100%"
    assert splitter.feed(b"\n\r50%\r100%\n", 2.0, everything) == ["100%"]


def test_a_line_that_is_only_written_in_parts_is_not_logged_before_its_end() -> None:
    splitter = LineSplitter()
    splitter.feed(b"half a ", 0.0, everything)
    assert splitter.wait_s(100.0) is None
    assert splitter.feed(b"line\n", 200.0, everything) == ["half a line"]


def test_lines_beyond_the_allowance_are_left_out_with_their_bars() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"kept\ndropped\n\rdropped 1\rdropped 2\n\r10%", 0.0, lambda lines: 1) == ["kept"]
    assert splitter.feed(b"\r20%\n", 0.0, nothing) == []
    assert splitter.end() == []


def test_a_bar_without_an_end_takes_constant_memory() -> None:
    splitter = LineSplitter()
    chunk = b"".join(b"\r%05d" % step for step in range(10_000))
    tracemalloc.start()
    try:
        for _ in range(170):  # 10 MB
            splitter.feed(chunk, 0.0, everything)
        splitter.feed(b"\r" * 100_000 + b"x" * 10_000_000, 0.0, everything)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 4 * MAX_LINE_BYTES
    assert splitter.end() == ["x" * MAX_LINE_BYTES + "… (9,995,904 more bytes)"]
