"""The example tasks do what their docstrings say."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import pytest

from offload.examples import tasks
from offload.tasks.catalogue import describe
from offload.tasks.targets.loading import load, parse_target
from tests.unit.tasks.calling import answer, errors, result


def test_all_examples_are_served() -> None:
    registry = load([parse_target("offload.examples.tasks")])
    assert [task.name for task in registry.tasks] == [
        "primes",
        "mandelbrot",
        "hash_password",
        "check_password",
        "estimate_pi",
        "most_similar",
        "count_queens",
    ]
    assert all(task.definition.function.__doc__ for task in registry.tasks)
    assert len(describe(registry)) < 20_000


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, []), (2, []), (3, [2]), (5, [2, 3]), (30, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29])]
)
def test_primes(limit: int, expected: list[int]) -> None:
    assert result(tasks.primes, b'{"limit": %d}' % limit) == expected


def test_there_are_1229_primes_below_10000() -> None:
    assert len(tasks.primes(10_000)) == 1_229


def test_mandelbrot_returns_a_png_of_the_set() -> None:
    media_type, body = answer(tasks.mandelbrot, b'{"width": 33, "height": 21}')
    assert media_type == "image/png"
    chunks = chunks_of(bytes(body))
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (33, 21, 8, 0, 0, 0, 0)
    pixels = zlib.decompress(chunks[b"IDAT"])
    rows = [pixels[start + 1 : start + 34] for start in range(0, len(pixels), 34)]
    assert len(rows) == 21
    assert rows[10][16] == 0  # the centre, -0.75, is inside
    assert rows[0][0] > 0  # the corner is outside
    assert rows == rows[::-1]  # the set is symmetric


def test_a_password_matches_only_its_own_hash() -> None:
    hashed = tasks.hash_password("swordfish", strength=10)
    assert tasks.check_password("swordfish", hashed)
    assert not tasks.check_password("Swordfish", hashed)
    assert hashed != tasks.hash_password("swordfish", strength=10)
    with pytest.raises(ValueError, match="not made by hash_password"):
        tasks.check_password("x", "nonsense")


def test_the_estimate_of_pi_is_repeatable_and_within_its_error() -> None:
    found = tasks.estimate_pi(samples=10_000, seed=1)
    assert found == tasks.estimate_pi(samples=10_000, seed=1)
    assert abs(found["estimate"] - math.pi) < 5 * found["standard_error"]


def test_the_most_similar_text_comes_first() -> None:
    found = tasks.most_similar("The cat sat", ["a dog", "the cat sat down", "", "cat THE sat"], top=2)
    assert found == [{"index": 3, "similarity": 1.0}, {"index": 1, "similarity": 0.866025}]


def test_the_solutions_for_queens_are_counted() -> None:
    assert [tasks.count_queens(size) for size in range(1, 9)] == [1, 0, 0, 2, 10, 4, 40, 92]


@pytest.mark.parametrize(
    ("function", "body", "pointer"),
    [
        (tasks.primes, b'{"limit": 1000000000}', "/limit"),
        (tasks.mandelbrot, b'{"width": 0}', "/width"),
        (tasks.hash_password, b'{"password": "x", "strength": 30}', "/strength"),
        (tasks.estimate_pi, b'{"samples": 0}', "/samples"),
        (tasks.most_similar, b'{"text": "x", "candidates": [1]}', "/candidates/0"),
        (tasks.count_queens, b'{"size": 40}', "/size"),
    ],
)
def test_arguments_out_of_bounds_are_rejected(function: Any, body: bytes, pointer: str) -> None:
    assert set(errors(function, body)) == {pointer}


def chunks_of(png: bytes) -> dict[bytes, bytes]:
    """Returns the chunks of a PNG by kind, after checking their checksums."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + data),)
        chunks[kind] = data
        at += 12 + length
    return chunks
