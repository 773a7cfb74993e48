"""What the scheduler wants done: plain records, carried out by `dispatch` in the order in which they come.

Not frozen, unlike other records: two of them are made for every job, on the hot path, and frozen ones (named tuples
too) take twice as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass

from offload.core.job import Job, SlotId
from offload.core.outcome import Reason


@dataclass(slots=True)
class Start:
    """Hand this job to this slot."""

    slot: SlotId
    job: Job


@dataclass(slots=True)
class Stop:
    """End the work of this job, whose outcome is settled already, and tell when it is over."""

    slot: SlotId
    job: Job
    why: Reason


@dataclass(slots=True)
class Settled:
    """This job has its outcome: count it and tell its caller."""

    job: Job


Command = Start | Stop | Settled
