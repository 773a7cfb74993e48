"""Where the price of a job goes: what is read of other people's tools, and how it is shared out."""

from __future__ import annotations

import ast
from pathlib import Path

import orjson
import pytest

from tests.benchmark import account, stages, tracing
from tests.benchmark.errors import BenchError
from tests.benchmark.options import Options
from tests.benchmark.stages import CALL, CHANNEL_OUT, HTTP_IN, HTTP_OUT, OTHER, SCHEDULING, WORKER_IN

PACKAGE = Path(account.__file__).parents[1]

STACKS = """\
thread (12): MainThread;Runner.run (asyncio/runners.py:118);JobHandlers.run (offload/web/jobs.py:68);of (x/x.py:1) 3
thread (12): MainThread;Runner.run (asyncio/runners.py:118);Steps.fill (offload/core/steps.py:55) 6
thread (12): MainThread;WorkerChannel.write (offload/engines/supervised/channel.py:50) 1
thread (13): elsewhere;new (somebody/new.py:9) 2
py-spy says something
"""

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 92.12    0.494322         871       567        45 futex
  3.26    0.017518           3      4513           write
------ ----------- ----------- --------- --------- ----------------
100.00    0.511840           4      5080        45 total
"""

PERF = """\
 python (22276), 468 events, 4.6%

   syscall            calls  errors  total       min       avg       max       stddev
   --------------- --------  ------ -------- --------- --------- ---------     ------
   futex                 18      4   750.407     0.000    41.689   250.302     53.69%
   read                  48      0     0.653     0.007     0.014     0.047      8.38%

 python (22268), 9401 events, 92.2%

   read                   2      0     0.653     0.007     0.014     0.047      8.38%
"""


def test_samples_are_of_the_innermost_code_that_the_table_names() -> None:
    samples = stages.read_samples(STACKS, stages.SERVICE)
    assert samples[12].stages == {HTTP_IN: 3, SCHEDULING: 6, CHANNEL_OUT: 1}
    assert samples[12].unknown == {}


def test_code_that_no_stage_names_is_told() -> None:
    samples = stages.read_samples(STACKS, stages.SERVICE)
    assert samples[13].stages == {OTHER: 2}
    assert samples[13].unknown == {"somebody/new.py:new": 2}


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("aiohttp/web_protocol.py:RequestHandler.data_received", HTTP_IN),
        ("aiohttp/web_protocol.py:RequestHandler.finish_response", HTTP_OUT),
        ("offload/web/jobs.py:JobHandlers.run", HTTP_IN),
        ("offload/web/outcomes.py:outcome_reply", HTTP_OUT),
    ],
)
def test_the_longest_beginning_that_fits_decides(name: str, stage: str) -> None:
    assert stages.stage_of([name], stages.SERVICE) == stage


def test_the_time_of_a_thread_is_shared_out_by_its_samples() -> None:
    """A thread that costs nothing adds nothing, however often it is seen, and none of the time is lost."""
    samples = stages.read_samples(STACKS, stages.SERVICE)
    shared = stages.share_out(samples, {12: 50.0, 13: 0.0, 14: 5.0})
    assert shared == {HTTP_IN: 15.0, SCHEDULING: 30.0, CHANNEL_OUT: 5.0, OTHER: 5.0}


def test_stages_are_told_in_the_order_of_a_jobs_way() -> None:
    assert stages.in_order([OTHER, CALL, WORKER_IN, HTTP_IN]) == [HTTP_IN, WORKER_IN, CALL, OTHER]


@pytest.mark.parametrize("prefix", [one for one in {**stages.SERVICE, **stages.WORKER} if one.startswith("offload/")])
def test_what_the_table_of_stages_names_exists(prefix: str) -> None:
    """Code that has moved must not end up in another stage unnoticed."""
    module, _, function = prefix.removeprefix("offload/").partition(":")
    path = PACKAGE / module
    assert path.exists()
    if function:
        assert function in functions_of(path)


def functions_of(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def test_what_strace_prints_is_read() -> None:
    assert tracing.STRACE.read(STRACE) == {"futex": 567, "write": 4513}


def test_what_perf_prints_is_read_over_all_threads() -> None:
    assert tracing.PERF.read(PERF) == {"futex": 18, "read": 50}


def test_without_a_tracer_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="apt install strace"):
        tracing.tracer()


def test_a_short_run_counts_what_a_job_costs_and_says_what_it_cannot_count() -> None:
    made = account.run(Options(rounds=1, seconds=0.2))
    found = made.data
    assert found["costs_per_job"]["service"]["cpu_s"] > 0
    assert found["costs_per_job"]["workers"]["wakeups"] > 0
    assert found["loop"]["callbacks"] > 0
    assert found["calls"]["service"]["python_calls"] > 1
    assert found["calls"]["workers"]["python_calls"] > 1
    notes = " ".join(found["notes"])
    assert found["system_calls"] or "system calls are not counted" in notes
    assert found["us_by_stage"] or "stages are not measured" in notes
    assert made.files["account.md"].startswith("# What one no-op job costs")
    assert orjson.dumps(found)
