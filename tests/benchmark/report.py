"""What a scenario hands back, and how it is written: Markdown for people, plain data for programs.

Lives here: the report's shape, tables, numbers as text, and the line that names the machine.  The scenarios make
reports, the command prints them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import offload
from tests.benchmark.figures import Percentiles, Spread

NOTHING: Final = "–"

_PACKAGES: Final = ("aiohttp", "uvloop", "orjson")
_WHOLE_FROM: Final = 1_000
_ONE_DIGIT_FROM: Final = 10


@dataclass(slots=True, kw_only=True)
class Report:
    """`paragraphs` is Markdown; `data` has the same figures, ready for JSON; `files` is what the repository keeps of
    it, by file name.  `figures` are those of the service that `goals` knows.
    """

    title: str
    paragraphs: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Spread] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        return "\n\n".join([f"## {self.title}", *self.paragraphs]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for a terminal."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def number(value: float) -> str:
    """Three digits or so, as much as such measurements are worth."""
    if value >= _WHOLE_FROM:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= _ONE_DIGIT_FROM else f"{value:.2f}"


def ratio(spread: Spread | None) -> str:
    """The median, and the range of the rounds."""
    if spread is None:
        return NOTHING
    return f"{spread.median:.2f} ({spread.lowest:.2f} to {spread.highest:.2f})"


PERCENTILE_HEAD: Final = ("times", "p50 ms", "p90 ms", "p99 ms", "max ms")


def percentile_cells(latency: Percentiles) -> list[str]:
    """The cells under PERCENTILE_HEAD."""
    durations_ms = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms)
    return [str(latency.count), *map(number, durations_ms)]


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


def machine_line(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['cores']} cores ({facts['cpu']}), {facts['kernel']}, Python {facts['python']}, {packages}. "
        "The load generator, `tests.benchmark.load`, is one process on the same cores."
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()  # not every architecture names it


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
