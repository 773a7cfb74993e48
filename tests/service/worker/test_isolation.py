"""The state of a process after its isolation, from inside and outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offload.worker.isolation import limit_library_threads

CHILD = """
import json, os, random, resource, signal, sys
from offload.worker.isolation import isolate, seed_anew

report, kept, output = map(int, sys.argv[1:4])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
random.seed(1)
isolate(keep=[report, kept], output=output, start_method="forkserver")
seed_anew()
print("printed", flush=True)
os.system("echo from a program")
facts = {
    "session": os.getsid(0) == os.getpid() == os.getpgid(0),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    "stdin": sys.stdin.read(),
    "wakeup": signal.set_wakeup_fd(-1),
    "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "signals": {
        int(number): int(handler)
        for number in signal.valid_signals()
        if isinstance(handler := signal.getsignal(number), int)
    },
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "nice": os.nice(0),
    "group": open("/proc/self/autogroup").read().split()[-1] if os.path.exists("/proc/self/autogroup") else None,
    "random": random.random(),
}
os.write(report, json.dumps(facts).encode())
sys.stdout.close()
"""


@pytest.fixture(scope="module")
def isolated() -> dict[str, Any]:
    """The facts that an isolated process reports, with its printed text as "output"."""
    ends = {name: os.pipe() for name in ("report", "kept", "output")}
    passed = [ends[name][1] for name in ("report", "kept", "output")]
    stray, _ = stray_pipe = os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-c", CHILD, *map(str, passed)],
            pass_fds=(*passed, stray),
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
    finally:
        for descriptor in (*passed, *stray_pipe):
            os.close(descriptor)
    received = {}
    for name, (reader, _) in ends.items():
        with open(reader, "rb") as file:
            received[name] = file.read()
    return {**json.loads(received["report"]), "output": received["output"].decode(), "passed": passed}


def test_a_worker_leads_its_own_session(isolated: dict[str, Any]) -> None:
    assert isolated["session"]


def test_a_worker_has_no_inherited_descriptors(isolated: dict[str, Any]) -> None:
    listing = 1
    assert len(isolated["descriptors"]) == 3 + len(isolated["passed"]) + listing
    assert {0, 1, 2, *isolated["passed"]} <= set(isolated["descriptors"])


def test_stdin_is_empty_and_output_goes_to_the_pipe(isolated: dict[str, Any]) -> None:
    assert isolated["stdin"] == ""
    assert isolated["output"] == "printed\nfrom a program\n"


def test_signals_have_their_default_actions(isolated: dict[str, Any]) -> None:
    handlers = isolated["signals"]
    kept = {int(signal.SIGPIPE), int(signal.SIGXFSZ)}
    assert {number for number, handler in handlers.items() if handler == signal.SIG_IGN} == set(map(str, kept))
    assert len(handlers) == len(signal.valid_signals())
    assert (isolated["wakeup"], isolated["blocked"]) == (-1, [])


def test_the_kernel_kills_workers_first_and_writes_no_core_file(isolated: dict[str, Any]) -> None:
    assert isolated["oom"] > int(Path("/proc/self/oom_score_adj").read_text())
    assert isolated["core"] == [0, 0]


def test_a_worker_has_a_lower_priority_than_the_event_loop(isolated: dict[str, Any]) -> None:
    """If the kernel groups processes by session, the session has the lower priority too."""
    assert isolated["nice"] == min(os.nice(0) + 5, 19)
    assert isolated["group"] in {"5", None}


def test_a_worker_has_its_own_random_numbers(isolated: dict[str, Any]) -> None:
    import random

    assert isolated["random"] != random.Random(1).random()


def test_the_threads_of_numeric_libraries_are_limited_unless_the_user_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "")
    limit_library_threads(0)
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    limit_library_threads(2)
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]) == ("7", "2")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
