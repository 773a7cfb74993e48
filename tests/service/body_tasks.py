"""Tasks that report what they were called with."""

from __future__ import annotations

import hashlib
import resource
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from offload import task


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
def measure(data: bytes, tag: str = "none") -> list[Any]:
    return [len(data), hashlib.sha256(data).hexdigest(), tag]


@task
def look(data: memoryview, tag: str = "none") -> list[Any]:
    return [len(data), hashlib.sha256(data).hexdigest(), tag]


@task
def several(files: list[bytes]) -> list[int]:
    return [len(file) for file in files]


@task
def doubled(array: np.ndarray) -> np.ndarray:
    return array * 2


@task
def collects(item: str, seen: list[str] = []) -> list[str]:  # noqa: B006  # each job gets a copy
    seen.append(item)
    return seen


@task
def aliased(limit: Annotated[int, Field(alias="maxItems")]) -> int:
    return limit


@task
def peak_kib() -> int:
    """Returns the largest resident memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
