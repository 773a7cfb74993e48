"""The probabilities and mean times with which the workers of the simulation behave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from offload.core.commands import Command
from offload.core.outcome import Reason
from offload.core.scheduler import Scheduler

BRAKE_FROM: Final = 3  # failed start-ups in a row
BRAKE_PAUSE_S: Final = 0.02
DRAGS_BY: Final = 200
DOUBTS: Final = 0.05  # how often a death is reported with one job more than has begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Probabilities for one job, start-up or death; mean times in seconds.

    `run_s` is by task index. A run that drags takes `DRAGS_BY` times as long. `busy` is how often an answer finds the
    loop busy.
    """

    run_s: tuple[float, ...] = (0.01, 0.01, 0.01, 0.01)
    start_s: float = 0.006
    stop_s: float = 0.003
    death_reported_s: float = 0.0003
    drags: float = 0.0
    crashes: float = 0.01
    crashes_unbegun: float = 0.01
    stalls: float = 0.005
    memory_excesses: float = 0.01
    faults: float = 0.05
    leaves: float = 0.01
    garbage: float = 0.1
    late_answers: float = 0.5
    busy: float = 0.02
    failed_starts: float = 0.05
    idle_deaths: float = 0.001
    replacements: float = 0.05


USUAL: Final = Habits()


class Surroundings(Protocol):
    """What the fake engine needs of the simulation."""

    random: Random
    scheduler: Scheduler
    now: float

    def at(self, delay_s: float, event: Callable[..., None], *arguments: object) -> None: ...
    def carry_out(self, commands: list[Command], possible: frozenset[Reason]) -> None: ...
