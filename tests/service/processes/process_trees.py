"""Real process trees, for the tests of what finds and kills them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SERVICE = Path(__file__).parents[3] / "service"
BOUND_S = 30.0

# Each process of a tree prints its name and id. `adopt` makes it a subreaper, as a worker is.
PRELUDE = f"""
import os, signal, sys, time
sys.path.insert(0, {str(SERVICE)!r})
from offload.worker.prctl import adopt_orphaned_descendants

def say(name):
    os.write(1, f"{{name}} {{os.getpid()}}\\n".encode())

def sleep():
    while True:
        time.sleep(1000)

def child(name, then=sleep, session=False):
    if os.fork() == 0:
        if session:
            os.setsid()
        say(name)
        then()
        os._exit(0)
"""


@dataclass
class Tree:
    """`pids` by name; the root is "root"."""

    process: subprocess.Popen[bytes]
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def root(self) -> int:
        return self.process.pid

    def read(self, count: int) -> None:
        """Waits until `count` processes have printed their names."""
        assert self.process.stdout is not None
        while len(self.pids) < count:
            line = self.process.stdout.readline()
            assert line, "the tree has ended"
            name, pid = line.split()
            self.pids[name.decode()] = int(pid)


@contextlib.contextmanager
def tree(body: str, *, count: int, env: dict[str, str] | None = None) -> Iterator[Tree]:
    """Yields the tree that `body` makes once `count` processes have printed their names; kills all of it at the end."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"{PRELUDE}\nsay('root')\n{body}"],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **(env or {})},
    ) as process:
        made = Tree(process)
        try:
            made.read(count)
            yield made
        finally:
            for pid in [*made.pids.values(), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def state(pid: int) -> str:
    """Returns the state letter of /proc, "" if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def eventually(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, f"not within {BOUND_S} s: {what}"
        time.sleep(0.005)


def are_gone(pids: Iterator[int] | list[int]) -> bool:
    return all(state(pid) in ("", "Z", "X") for pid in pids)
