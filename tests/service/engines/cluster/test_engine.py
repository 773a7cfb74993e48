"""The cluster engine: slots come and go, every job is answered, and lost clusters are found again."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from offload.core.job import SlotId
from offload.core.outcome import Outcome, Reason
from tests.service.engines.cluster.cluster_engine import SLOTS, job, opened
from tests.service.engines.supervised_engine import RecordedEvents
from tests.service.processes.process_trees import are_gone
from tests.support.service import descendants

ALL = [SlotId(slot) for slot in range(SLOTS)]


async def ready(events: RecordedEvents, times: int = 1) -> None:
    """Waits until all slots have had a worker `times` times."""
    await events.until(lambda: len(events.all("ready")) == SLOTS * times)


def driver() -> int:
    (pid,) = (pid for pid, command in descendants(os.getpid()).items() if "cluster.driver" in command)
    return pid


async def test_a_job_runs_on_the_cluster_and_its_answer_comes_back() -> None:
    async with opened() as (engine, events):
        await ready(events)
        assert (events.all("added"), events.all("failing to start")) == ([(slot,) for slot in ALL], [])
        engine.start(ALL[1], given := job(body=bytes(10_000_000)))
        await events.until(lambda: bool(events.all("finished")))
        assert events.all("finished") == [(1, given.number)]
        idle, worked = engine.worker_facts()
        assert (idle.pid, idle.state) == (None, "idle")
        assert (worked.pid, worked.rss_bytes, worked.state) == (driver(), 4096, "idle")
        assert engine._metrics.worker_row(1).busy_ns() == 10**9
        assert (engine.pool_facts().size, engine.pool_facts().error) == (SLOTS, None)


async def test_the_driver_imports_nothing_from_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("json", "socket", "random", "typing"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('imported from the working directory')\n")
    monkeypatch.chdir(tmp_path)
    async with opened() as (_, events):
        await ready(events)


async def test_an_invalid_answer_costs_the_job_but_not_the_slot() -> None:
    async with opened() as (engine, events):
        await ready(events)
        for what in ("garbage", "answer"):
            engine.start(ALL[0], job(what))
            await events.until(lambda: bool(events.all("finished")))
            events.seen.clear()


async def test_a_stopped_job_frees_its_slot() -> None:
    async with opened() as (engine, events):
        await ready(events)
        engine.start(ALL[0], given := job("hold"))
        given.start(ALL[0], 0.0)
        given.settle(Outcome(reason=Reason.JOB_TIMEOUT), 1.0)
        assert engine.worker_facts()[0].state == "killing"
        engine.stop(ALL[0], given, Reason.JOB_TIMEOUT)
        await events.until(lambda: ("ready", 0, 2) in events.seen)
        assert events.all("died") == [(0, 1)]
        assert engine.pool_facts().restarts["timeout"] == 1


async def test_a_job_on_its_way_to_a_lost_slot_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as (engine, events):
        await ready(events)
        begun: list[int] = []
        monkeypatch.setattr(events, "died", lambda *_, **more: begun.append(more["begun"]))
        engine.start(ALL[0], job("lose another"))
        engine.start(ALL[1], job("answer"))
        await events.until(lambda: bool(events.all("removed")))
        assert (begun, events.all("removed"), events.all("finished")) == ([0], [(1,)], [])
        assert engine.pool_facts().size == SLOTS - 1


async def test_a_job_whose_worker_cannot_load_the_tasks_has_not_begun() -> None:
    async with opened() as (engine, events):
        await ready(events)
        engine.start(ALL[0], job("cannot load"))
        await events.until(lambda: bool(events.all("died")))
        assert events.all("finished") == []


@pytest.mark.parametrize("what", ["down", "die"])
async def test_a_lost_cluster_is_reported_and_found_again(what: str) -> None:
    async with opened() as (engine, events):
        await ready(events)
        engine.start(ALL[0], job("hold"))
        engine.start(ALL[1], job(what))
        await events.until(lambda: bool(events.all("failing to start")))
        assert events.all("died") == [(0, 1), (1, 1)]
        assert events.all("removed") == [(0,), (1,)]
        assert engine.pool_facts().error == ("it went away" if what == "down" else "the driver ended")
        await ready(events, 2)
        assert engine.pool_facts().error is None
        engine.start(ALL[0], job("answer"))
        await events.until(lambda: bool(events.all("finished")))


async def test_a_killed_driver_is_replaced() -> None:
    async with opened() as (_, events):
        await ready(events)
        os.kill(driver(), signal.SIGKILL)
        await ready(events, 2)


async def test_an_unreachable_cluster_is_retried_with_growing_pauses() -> None:
    async with opened("unreachable") as (engine, events):
        await events.until(lambda: len(events.all("failing to start")) == 4)
        assert engine.pool_facts().error == "OSError: no response"
        assert engine._brake.pause_s() > 0.25
        assert events.all("added") == []


async def test_a_cluster_without_workers_is_reported() -> None:
    async with opened("empty") as (engine, events):
        await events.until(lambda: bool(events.all("failing to start")))
        assert engine.pool_facts().error == "the cluster has no workers"


async def test_a_driver_that_does_not_respond_is_killed_with_its_descendants(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as directory:  # a short path, as that of a socket must be
        monkeypatch.setattr(tempfile, "tempdir", directory)
        async with opened() as (engine, events):
            await ready(events)
            pid = driver()
            assert len(list(Path(directory).iterdir())) == 1
            engine.start(ALL[0], job("hang"))
            await engine.close(0.1)
        assert list(Path(directory).iterdir()) == []
    assert are_gone([pid])


async def test_the_output_of_the_driver_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "offload.output")
    async with opened() as (_, events):
        await ready(events)
    lines: list[dict[str, Any]] = [
        vars(record)["fields"] for record in caplog.records if record.name == "offload.output"
    ]
    assert [fields["line"].split()[0] for fields in lines] == ["load"]
    assert "lane" not in lines[0]
