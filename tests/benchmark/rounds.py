"""Measures systems in rounds, A B C A B C, so that a change of the machine's speed does not change a ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tests.benchmark.errors import BenchError
from tests.benchmark.figures import Spread, ratios
from tests.benchmark.options import say
from tests.benchmark.report import Column
from tests.benchmark.systems import OURS, System

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
        return Spread.of([*map(of, self.results[OURS.name])]) if OURS.name in self.results else None


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


def compare(
    results: Mapping[str, Sequence[T]], columns: Mapping[str, Column[T]]
) -> dict[str, dict[str, Spread | None]]:
    """Returns the ratios service / system of each column, for each other system."""
    ours = results.get(OURS.name, ())
    return {
        system: {
            name: ratios([*map(column.figure, ours)], [*map(column.figure, others)]) for name, column in columns.items()
        }
        for system, others in results.items()
        if ours and system != OURS.name
    }
