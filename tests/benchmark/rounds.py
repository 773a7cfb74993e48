"""Measures systems in rounds, A B C A B C, so that a change of the machine's speed does not change a ratio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tests.benchmark import report
from tests.benchmark.errors import BenchError
from tests.benchmark.figures import Spread, ratios
from tests.benchmark.options import say
from tests.benchmark.report import Column
from tests.benchmark.systems import OFFLOAD, System

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Rounds(Generic[T]):
    """The measurements of each system by round, and why systems are absent."""

    results: dict[str, list[T]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        return [f"Left out: {name}: {reason}" for name, reason in self.absent.items()]

    def figure(self, of: Callable[[T], float]) -> Spread | None:
        """A figure of the service; None if it was not measured."""
        return Spread.of([*map(of, self.results[OFFLOAD.name])]) if OFFLOAD.name in self.results else None


def measure_in_rounds(
    scenario: str, systems: Sequence[System], rounds: int, measure: Callable[[System], T]
) -> Rounds[T]:
    """Raises BenchError if a system fails that may not."""
    measured: Rounds[T] = Rounds()
    for number in range(1, rounds + 1):
        for system in systems:
            if system.name in measured.absent:
                continue
            say(f"{scenario}: round {number} of {rounds}, {system.name}")
            try:
                result = measure(system)
            except BenchError as error:
                if not system.may_fail:
                    raise
                # The first line says what failed, the last one is the end of a traceback.
                lines = str(error).splitlines()
                measured.absent[system.name] = " ".join(dict.fromkeys((lines[0], lines[-1])))
                measured.results.pop(system.name, None)
            else:
                measured.results.setdefault(system.name, []).append(result)
    return measured


def compare(results: Mapping[str, Sequence[T]], figure: Callable[[T], float]) -> dict[str, Spread | None]:
    """Returns the ratios service / system for each other system."""
    measured = [*map(figure, results.get(OFFLOAD.name, ()))]
    return {
        system: ratios(measured, [*map(figure, others)])
        for system, others in results.items()
        if measured and system != OFFLOAD.name
    }


def ratio_table(columns: Iterable[Column[T]], results: Mapping[str, Sequence[T]]) -> str:
    """The ratios of the columns that have a head for them; empty without other systems."""
    shown = [column for column in columns if column.ratio_head]
    compared = [compare(results, column.figure) for column in shown]
    rows = [[system, *(report.ratio(found[system]) for found in compared)] for system in compared[0]]
    return report.table((f"{OFFLOAD.name} / other", *(column.ratio_head for column in shown)), rows) if rows else ""
