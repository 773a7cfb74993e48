"""Systems by turns: A B C A B C, never A A A B B B, so that a machine that changes its mind changes no ratio.

Lives here: the order, and what becomes of one that does not work here: it is left out, and the table says so.  The
scenarios hand in how one system is measured once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tests.benchmark.errors import BenchError
from tests.benchmark.figures import Spread, ratios
from tests.benchmark.options import say
from tests.benchmark.systems import OURS, System

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Turns(Generic[T]):
    """What was measured of each system, by round, and why some are not among them."""

    results: dict[str, list[T]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        return [f"Left out: {name}: {reason}" for name, reason in self.absent.items()]


def take_turns(scenario: str, systems: Sequence[System], rounds: int, measure: Callable[[System], T]) -> Turns[T]:
    """Raises BenchError for a system that may not fail."""
    turns: Turns[T] = Turns()
    for round_number in range(1, rounds + 1):
        for system in systems:
            if system.name in turns.absent:
                continue
            say(f"{scenario}: round {round_number} of {rounds}, {system.name}")
            try:
                measured = measure(system)
            except BenchError as error:
                if not system.may_fail:
                    raise
                # What it is about, and the end of a log, which is where a traceback says what was wrong.
                lines = str(error).splitlines()
                turns.absent[system.name] = " ".join(dict.fromkeys((lines[0], lines[-1])))
                turns.results.pop(system.name, None)
            else:
                turns.results.setdefault(system.name, []).append(measured)
    return turns


def compare(
    results: Mapping[str, Sequence[T]], figures: Mapping[str, Callable[[T], float]]
) -> dict[str, dict[str, Spread | None]]:
    """For each other system the ratio of ours to it within the rounds, by figure."""
    ours = results.get(OURS.name, [])
    return {
        system: {name: ratios([*map(figure, ours)], [*map(figure, theirs)]) for name, figure in figures.items()}
        for system, theirs in results.items()
        if ours and system != OURS.name
    }
