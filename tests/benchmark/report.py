"""What a scenario returns, and how it is printed: Markdown for people, plain data for programs."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import offload
from tests.benchmark.figures import Percentiles, Spread

T = TypeVar("T")

_PACKAGES: Final = ("aiohttp", "uvloop", "orjson")
_WHOLE_FROM: Final = 1_000
_ONE_DIGIT_FROM: Final = 10


@dataclass(slots=True, kw_only=True)
class Report:
    """`paragraphs` are Markdown, or empty; `data` is for JSON; `figures` of the service are for `goals`.

    `files` by name are what the repository keeps.
    """

    title: str
    paragraphs: list[str] = field(default_factory=list)
    data: Mapping[str, Any] = field(default_factory=dict)
    figures: dict[str, Spread] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        return "\n\n".join([f"## {self.title}", *filter(None, self.paragraphs)]) + "\n"


def number(value: float) -> str:
    """About three digits; the measurements are not more precise."""
    if value >= _WHOLE_FROM:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= _ONE_DIGIT_FROM else f"{value:.2f}"


def percent(value: float) -> str:
    return f"{value:.0%}"


def ratio(spread: Spread | None) -> str:
    """The median and the range of the rounds."""
    return f"{spread.median:.2f} ({spread.lowest:.2f} to {spread.highest:.2f})" if spread else "–"


@dataclass(frozen=True)  # without slots: Column[T](…) sets an attribute
class Column(Generic[T]):
    """One figure of each measurement and how its rounds become one; `ratio_head` if its ratios are shown."""

    head: str
    figure: Callable[[T], float]
    text: Callable[[float], str] = number
    over_rounds: Callable[[Iterable[float]], float] = statistics.median
    ratio_head: str = ""

    def cell(self, rounds: Iterable[T]) -> str:
        return self.text(self.over_rounds(map(self.figure, rounds)))


def latency_columns(latency: Callable[[T], Percentiles]) -> list[Column[T]]:
    return [
        Column("count", lambda one: latency(one).count, "{:.0f}".format, sum),
        Column("p50 ms", lambda one: latency(one).p50_ms),
        Column("p90 ms", lambda one: latency(one).p90_ms),
        Column("p99 ms", lambda one: latency(one).p99_ms),
        Column("max ms", lambda one: latency(one).max_ms, over_rounds=max),
    ]


def rounds_table(
    labels: Sequence[str], columns: Iterable[Column[T]], rows: Iterable[tuple[Sequence[str], Sequence[T]]]
) -> str:
    """One row for each (labels, rounds)."""
    columns = [*columns]
    return table(
        [*labels, *(column.head for column in columns)],
        [[*row_labels, *(column.cell(rounds) for column in columns)] for row_labels, rounds in rows],
    )


def systems_table(columns: Iterable[Column[T]], results: Mapping[str, Sequence[T]]) -> str:
    return rounds_table(("system",), columns, [((system,), rounds) for system, rounds in results.items()])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned for a terminal."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": usable_cores(),
        "cpu": _cpu_model(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {"offload": offload.__version__, **{name: _version(name) for name in _PACKAGES}},
    }


def machine_line(facts: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['cores']} cores ({facts['cpu']}), {facts['kernel']}, Python {facts['python']}, {packages}. "
        "The load generator is one process on the same cores."
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()  # not every architecture has a model name


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
