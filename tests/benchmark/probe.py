"""Counts what happens inside the service: `python -m tests.benchmark.probe KIND FILE serve TARGET …`.

Lives here: the service's own command, run in this process with one thing counted: `loop` counts what its event loop is
asked to call, `calls` the calls of functions in its main thread, which slows it down.  At each SIGUSR2 a line with all
counts so far goes to the file, as JSON; who reads takes the difference of two.  Workers are counted by `probe_tasks`.
"""

from __future__ import annotations

import cProfile
import gc
import runpy
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any, Final

import orjson

Counts = dict[str, int]

_ASKED: Final = {
    "call_soon": "callbacks",
    "call_soon_threadsafe": "from_threads",
    "call_later": "timers",
    "call_at": "timers",
}


def memory_counts() -> Counts:
    """How often the garbage collector ran for each generation, and how many blocks of memory are in use."""
    collections = [generation["collections"] for generation in gc.get_stats()]
    return {
        **{f"collections_{age}": times for age, times in enumerate(collections)},
        "blocks": sys.getallocatedblocks(),
    }


def call_counts(profile: cProfile.Profile) -> Counts:
    """Calls so far of functions written in Python, and of all others."""
    counts = {"python_calls": 0, "builtin_calls": 0}
    for entry in profile.getstats():
        counts["python_calls" if isinstance(entry.code, CodeType) else "builtin_calls"] += entry.callcount
    return counts


def count_calls() -> Callable[[], Counts]:
    profile = cProfile.Profile()
    profile.enable()
    return lambda: call_counts(profile)


def count_loop() -> Callable[[], Counts]:
    """From now on uvloop makes loops that count.  What the loop calls by itself, for a socket, it is not asked for."""
    import uvloop

    counts: Counter[str] = Counter(dict.fromkeys(_ASKED.values(), 0))

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(uvloop.Loop, name)

        def call(*args: Any, **keywords: Any) -> Any:
            counts[_ASKED[name]] += 1
            return method(*args, **keywords)

        return call

    uvloop.new_event_loop = type("CountingLoop", (uvloop.Loop,), {name: counted(name) for name in _ASKED})
    return lambda: dict(counts)


KINDS: Final[dict[str, Callable[[], Callable[[], Counts]]]] = {"loop": count_loop, "calls": count_calls}


def main(arguments: list[str]) -> None:
    kind, path, *command = arguments
    counts = KINDS[kind]()

    def write(*signal_: object) -> None:
        with Path(path).open("ab") as file:
            file.write(orjson.dumps({**counts(), **memory_counts()}) + b"\n")

    signal.signal(signal.SIGUSR2, write)
    sys.argv[1:] = command
    runpy.run_module("offload", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
