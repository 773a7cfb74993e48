"""What the scheduler wants done, as plain records to be carried out in order.

Not frozen, unlike other records: two are made for every job, and frozen ones (named tuples too) take twice as long to
make.
"""

from __future__ import annotations

from dataclasses import dataclass

from offload.core.job import Job, SlotId
from offload.core.outcome import Reason


@dataclass(slots=True)
class Start:
    """Hand the job to the slot."""

    slot: SlotId
    job: Job


@dataclass(slots=True)
class Stop:
    """Stop the work of the job, which is settled already, and report when it has ended."""

    slot: SlotId
    job: Job
    why: Reason


@dataclass(slots=True)
class Settled:
    """The job has its outcome: count it and answer its caller."""

    job: Job


Command = Start | Stop | Settled
