"""Example tasks: CPU-heavy work that needs no other packages. `make serve` serves them.

Each is an ordinary function with type hints. Their bounds keep a single call from taking minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import random
import re
import secrets
from base64 import b64decode, b64encode
from collections import Counter
from typing import Annotated, Final

from pydantic import Field

from offload import Response, task
from offload.examples.png import greyscale_png

# scrypt with N = 2^14, r = 8 and p = 1 takes 16 MiB and about 50 ms (RFC 7914, section 2).
_SCRYPT_BLOCK_SIZE: Final = 8
_SCRYPT_PARALLELISM: Final = 1
_SCRYPT_MAX_BYTES: Final = 256 * 1024 * 1024
_SALT_BYTES: Final = 16
_PASSWORD_HASH: Final = re.compile(r"scrypt\$(1[0-7])\$([A-Za-z0-9+/]{22}==)\$([A-Za-z0-9+/]{86}==)")

_ESCAPED: Final = 2.0
_WORD: Final = re.compile(r"\w+")


@task(timeout=30)
def primes(limit: Annotated[int, Field(ge=0, le=50_000_000)]) -> list[int]:
    """All primes below `limit`, by the sieve of Eratosthenes."""
    is_prime = bytearray([1]) * limit
    is_prime[:2] = bytes(min(limit, 2))
    for number in range(2, math.isqrt(max(limit - 1, 0)) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return [number for number, prime in enumerate(is_prime) if prime]


@task(timeout=60)
def mandelbrot(
    *,
    width: Annotated[int, Field(ge=1, le=4_000)] = 600,
    height: Annotated[int, Field(ge=1, le=4_000)] = 400,
    center_x: Annotated[float, Field(ge=-2, le=2)] = -0.75,
    center_y: Annotated[float, Field(ge=-2, le=2)] = 0.0,
    zoom: Annotated[float, Field(gt=0, le=1e12)] = 1.0,
    iterations: Annotated[int, Field(ge=1, le=5_000)] = 100,
) -> Response:
    """A PNG of the Mandelbrot set: black inside; outside, points that take longer to escape are lighter."""
    # Most points escape after a few iterations and would all look black on a linear scale.
    shades = [round(255 * math.log1p(count) / math.log1p(iterations)) for count in range(1, iterations + 1)]
    step = 2.5 / (zoom * height)
    left, top = center_x - step * (width - 1) / 2, center_y + step * (height - 1) / 2

    def shade(x: int, y: int) -> int:
        c = complex(left + step * x, top - step * y)
        z = 0j
        for grey in shades:
            z = z * z + c
            if abs(z) > _ESCAPED:
                return grey
        return 0

    rows = (bytes(shade(x, y) for x in range(width)) for y in range(height))
    return Response(greyscale_png(width, height, rows), media_type="image/png")


@task(timeout=10, memory="512MB")
def hash_password(
    password: Annotated[str, Field(min_length=1, max_length=1_000)],
    strength: Annotated[int, Field(ge=10, le=17, description="log2 of scrypt's cost")] = 14,
) -> str:
    """A salted scrypt hash of a password, slow and memory-hungry on purpose."""
    salt = secrets.token_bytes(_SALT_BYTES)
    derived = _scrypt(password, salt, strength)
    return f"scrypt${strength}${b64encode(salt).decode()}${b64encode(derived).decode()}"


@task(timeout=10, memory="512MB")
def check_password(
    password: Annotated[str, Field(max_length=1_000)],
    password_hash: Annotated[str, Field(max_length=200, description="what hash_password returned")],
) -> bool:
    """Whether the hash belongs to this password."""
    match = _PASSWORD_HASH.fullmatch(password_hash)
    if match is None:
        raise ValueError("password_hash was not made by hash_password")
    derived = _scrypt(password, b64decode(match[2]), int(match[1]))
    return hmac.compare_digest(derived, b64decode(match[3]))


@task(timeout=60)
def estimate_pi(
    samples: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000, seed: int | None = None
) -> dict[str, float]:
    """Pi by the Monte Carlo method, with its standard error: the share of random points in a quarter circle."""
    draw = random.Random(seed).random
    inside = sum(draw() ** 2 + draw() ** 2 < 1 for _ in range(samples))
    share = inside / samples
    return {"estimate": 4 * share, "standard_error": 4 * math.sqrt(share * (1 - share) / samples)}


@task(timeout=30)
def most_similar(
    text: Annotated[str, Field(max_length=100_000)],
    candidates: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(max_length=10_000)],
    top: Annotated[int, Field(ge=1, le=100)] = 5,
) -> list[dict[str, float | int]]:
    """The candidates most similar to `text`, best first: cosine similarity of word counts, from 0 to 1."""
    words = Counter(_WORD.findall(text.lower()))
    scored = [
        {"index": index, "similarity": round(_cosine(words, Counter(_WORD.findall(candidate.lower()))), 6)}
        for index, candidate in enumerate(candidates)
    ]
    return sorted(scored, key=lambda candidate: -candidate["similarity"])[:top]


@task(timeout=120)
def count_queens(size: Annotated[int, Field(ge=1, le=14)]) -> int:
    """The number of ways to place `size` queens on a board of that size so that none attacks another."""
    full = (1 << size) - 1

    def place(columns: int, falling: int, rising: int) -> int:
        if columns == full:
            return 1
        found = 0
        free = full & ~(columns | falling | rising)
        while free:
            queen = free & -free
            free ^= queen
            found += place(columns | queen, (falling | queen) << 1, (rising | queen) >> 1)
        return found

    return place(0, 0, 0)


def _scrypt(password: str, salt: bytes, strength: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8"),
        salt=salt,
        n=1 << strength,
        r=_SCRYPT_BLOCK_SIZE,
        p=_SCRYPT_PARALLELISM,
        maxmem=_SCRYPT_MAX_BYTES,
    )


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    product = sum(count * other[word] for word, count in one.items())
    lengths = math.sqrt(sum(count * count for count in one.values()) * sum(count * count for count in other.values()))
    return product / lengths if lengths else 0.0
