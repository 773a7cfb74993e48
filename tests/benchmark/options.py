"""The options that all scenarios share."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from tests.benchmark.systems import DEFAULT, System

# Long enough for some thousand jobs, short enough for the machine to stay the same during a round.
DEFAULT_SECONDS: Final = 2.0
DEFAULT_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Each of `systems` is measured once in each of `rounds`, with loads of `seconds`."""

    rounds: int = DEFAULT_ROUNDS
    seconds: float = DEFAULT_SECONDS
    systems: tuple[System, ...] = DEFAULT


def say(text: str) -> None:
    """Reports progress, which is not part of the result."""
    print(text, file=sys.stderr, flush=True)
