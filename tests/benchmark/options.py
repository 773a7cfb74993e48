"""What a run of the benchmark can be told, and how it says where it is.

Lives here: the options that all scenarios share.  The command makes them, each scenario takes them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from tests.benchmark.systems import DEFAULT, System

# Long enough for some thousand jobs, short enough for the machine to be the same to all systems of a round.
DEFAULT_SECONDS: Final = 2.0
DEFAULT_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`seconds` is how long each load lasts; in each of the `rounds` every one of the `systems` has its turn."""

    rounds: int = DEFAULT_ROUNDS
    seconds: float = DEFAULT_SECONDS
    systems: tuple[System, ...] = DEFAULT

    def services(self) -> tuple[System, ...]:
        """Those that have `/stats` and can stop work."""
        return tuple(system for system in self.systems if system.is_service)


def say(text: str) -> None:
    """Tells somebody who waits what is going on; not part of the result."""
    print(text, file=sys.stderr, flush=True)
