"""Short runs of scenarios: each measures what its tables show, and reports figures that goals use."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.benchmark import goals
from tests.benchmark.__main__ import main
from tests.benchmark.options import Options
from tests.benchmark.scenarios import jobs, payload
from tests.benchmark.systems import BY_NAME, OFFLOAD


def test_a_short_run_prints_tables_and_writes_its_measurements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    assert main(["idle", "--systems", "offload", "--rounds", "1", "--seconds", "0.1", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "| system  | start to ready s | processes | PSS MB | CPU ms/s |\n" in printed
    assert "## Goals\n" in printed
    scenario = orjson.loads(path.read_bytes())["scenarios"]["idle"]
    (measured,) = scenario["measurements"]["offload"]
    assert measured["processes"] >= 3
    assert measured["pss_bytes"] > 10_000_000
    assert set(scenario["figures"]) == {goal.figure for goal in goals.GOALS if goal.scenario == "idle"}


def test_jobs_on_a_bare_handler_are_measured_without_those_that_need_workers() -> None:
    workloads = [workload for workload in jobs.WORKLOADS if workload.name in ("1_ms", "unloaded")]
    made = jobs.measure_workloads("jobs", "Jobs", [BY_NAME["bare"]], workloads, Options(rounds=1, seconds=0.05))
    (measured,) = made.data["bare"]
    assert list(measured) == ["unloaded"]
    assert measured["unloaded"].load.failures == {}
    assert measured["unloaded"].cpu_us_per_job >= 0
    assert "### No-op jobs, 1 connection\n\n| system " in made.markdown()


def test_bodies_come_back_and_the_peak_is_in_bodies() -> None:
    made = payload.run(Options(rounds=1, seconds=0.1, systems=(OFFLOAD,)), sizes_mb=(1,))
    (measured,) = made.data["1_mb"]["offload"]
    assert measured.echo.statuses == {"200": measured.echo.answers}
    assert measured.mb_per_s > 0
    assert measured.live.count >= 1
    assert "### Bodies of 1 MB" in made.markdown()
