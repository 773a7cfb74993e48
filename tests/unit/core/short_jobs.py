"""Tasks of several lengths, and a stage that knows their run times, for tests of prefetch."""

from __future__ import annotations

from offload.core.job import Job
from offload.core.prefetch import MAX_AHEAD_S
from offload.core.request import TaskLimits
from tests.unit.core.stage import Stage, succeeded

TINY = TaskLimits(name="tiny", index=0, timeout_s=0.05)
LONG = TaskLimits(name="long", index=1, timeout_s=60.0)
MEASURED = TaskLimits(name="measured", index=2, timeout_s=60.0, memory_bytes=1000)
MIDDLING = TaskLimits(name="middling", index=3, timeout_s=60.0)
TALKATIVE = TaskLimits(name="talkative", index=4, timeout_s=60.0)
UNKNOWN = TaskLimits(name="unknown", index=5, timeout_s=60.0)
RUN_S = {
    TINY: MAX_AHEAD_S * 0.021,
    LONG: MAX_AHEAD_S,
    MEASURED: MAX_AHEAD_S * 0.021,
    MIDDLING: MAX_AHEAD_S * 0.6,
    TALKATIVE: MAX_AHEAD_S * 0.021,
}


def known_stage(*, slots: int = 1, prefetch: bool = True, queue_limit: int = 100) -> Stage:
    """Returns a stage on which every task but UNKNOWN has run once."""
    stage = Stage(slots=slots, prefetch=prefetch, queue_limit=queue_limit)
    for limits, run_s in RUN_S.items():
        stage.answer(stage.submit(limits=limits), succeeded(run_s, has_printed=limits is TALKATIVE))
    return stage


def submit_many(stage: Stage, count: int) -> list[Job]:
    return [stage.submit(limits=TINY) for _ in range(count)]
