"""A busy event loop must not make an answer that arrived in time miss its deadline."""

from __future__ import annotations

import asyncio
import socket
import time

import uvloop

from offload.core.admission.admission import AdmissionLimits
from offload.core.outcome import Reason
from offload.core.request import JobRequest, JobTerms, TaskLimits
from offload.core.scheduler import Scheduler
from offload.dispatch.dispatcher import Dispatcher
from offload.metrics.layout import MetricsMemory
from offload.metrics.recorder import Recorder
from tests.support.fake_engine import FakeEngine, result

BUDGET_S = 0.05


async def reason_of_an_answer_read_late() -> Reason:
    """Return the reason of a job whose answer arrives in time while the loop is busy until after the deadline."""
    engine, loop = FakeEngine(), asyncio.get_running_loop()
    dispatcher = Dispatcher(
        scheduler=Scheduler(limits=AdmissionLimits(queue_limit=10, queue_bytes=1 << 20)),
        engine=engine,
        recorder=Recorder(MetricsMemory(tasks=1, lanes=1), ["primes"]),
    )
    await engine.open(dispatcher)
    limits = TaskLimits(name="primes", index=0, timeout_s=60.0)
    job, has_ended = dispatcher.new_job(JobRequest(JobTerms(limits=limits, budget_s=BUDGET_S))), asyncio.Event()
    channel, worker = socket.socketpair()
    other, caller = socket.socketpair()
    with channel, worker, other, caller:

        def be_busy() -> None:
            loop.remove_reader(other)
            worker.send(b"7")
            while time.monotonic() < job.submitted_at + 2 * BUDGET_S:
                pass

        def on_answer() -> None:
            loop.remove_reader(channel)
            if job in engine.running:
                engine.finish(job, result())

        loop.add_reader(other, be_busy)
        loop.add_reader(channel, on_answer)
        dispatcher.submit(job, lambda _: has_ended.set())
        caller.send(b"!")
        async with asyncio.timeout(10):
            await has_ended.wait()
        loop.remove_reader(channel)
    dispatcher.close()
    assert job.outcome is not None
    return job.outcome.reason


def test_an_answer_that_arrived_in_time_wins_over_the_deadline() -> None:
    """uvloop runs timers before it reads sockets."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(reason_of_an_answer_read_late()) is Reason.SUCCEEDED
