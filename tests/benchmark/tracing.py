"""Other people's tools that look into a process: `strace` or `perf trace` for system calls, `py-spy` for stacks.

Lives here: finding them, running them beside a load, and reading what they print.  Where one is missing or may not
look, the account says so and goes on.  Only processes that the benchmark has started are looked at.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmark.errors import BenchError

_ATTACH_S: Final = 10.0
_END_S: Final = 30.0
_POLL_S: Final = 0.02
_SAMPLES_PER_S: Final = 250

# `strace -c`: % time, seconds, usecs/call, calls, errors (may be missing), name.
_STRACE_LINE: Final = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?([a-z_]\w*)$")
# `perf trace -s`: name, calls, errors, and times.
_PERF_LINE: Final = re.compile(r"^\s+([a-z_]\w*)\s+(\d+)\s+\d+\s+[\d.]+\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracer:
    """A tool that counts system calls, from when it is attached until it gets SIGINT."""

    name: str
    command: tuple[str, ...]  # the process and the file to write come last
    line: re.Pattern[str]
    name_group: int
    calls_group: int

    def read(self, text: str) -> Counter[str]:
        """Calls by name, all threads together."""
        calls: Counter[str] = Counter()
        for line in text.splitlines():
            found = self.line.match(line)
            if found is not None:
                calls[found[self.name_group]] += int(found[self.calls_group])
        calls.pop("total", None)
        return calls


STRACE: Final = Tracer(
    name="strace -c -f",
    command=("strace", "-c", "-f", "-o", "{file}", "-p", "{pid}"),
    line=_STRACE_LINE,
    name_group=2,
    calls_group=1,
)
PERF: Final = Tracer(
    name="perf trace -s",
    command=("perf", "trace", "-s", "-o", "{file}", "-p", "{pid}"),
    line=_PERF_LINE,
    name_group=1,
    calls_group=2,
)


def tracer() -> Tracer:
    """The one that is here.  Raises BenchError that says what to install."""
    for candidate in (STRACE, PERF):
        if shutil.which(candidate.command[0]):
            return candidate
    raise BenchError("system calls are not counted: there is neither strace nor perf (apt install strace)")


@contextmanager
def traced(tool: Tracer, pids: Sequence[int], folder: Path) -> Iterator[dict[int, Counter[str]]]:
    """Counts the system calls of each process while the context is entered; the result is filled when it is left."""
    calls: dict[int, Counter[str]] = {}
    with ExitStack() as stack:
        tools = {}
        for pid in pids:
            file = folder / f"calls-{pid}"
            words = [word.format(file=file, pid=pid) for word in tool.command]
            tools[pid] = (stack.enter_context(_running(words)), file)
        _wait_until_attached(tool, pids, [process for process, _ in tools.values()])
        yield calls
        for pid, (process, file) in tools.items():
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_END_S)
            calls[pid] = tool.read(file.read_text(encoding="utf-8", errors="replace")) if file.exists() else Counter()


def sampled(pids: Sequence[int], seconds: float, folder: Path) -> Sampling:
    """Samples the stacks of each process for so long.  Raises BenchError when py-spy is not there."""
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise BenchError("stages are not measured: there is no py-spy (pip install py-spy)")
    return Sampling(program, pids, seconds, folder)


class Sampling:
    """py-spy at work, one for each process; stacks are in its raw form, by process, when the context is left."""

    def __init__(self, program: str, pids: Sequence[int], seconds: float, folder: Path) -> None:
        flags = ("--threads", "--format", "raw", "--rate", str(_SAMPLES_PER_S), "--duration", f"{max(seconds, 1):.0f}")
        self._files = {pid: folder / f"stacks-{pid}" for pid in pids}
        self._commands = [
            [program, "record", *flags, "--output", str(file), "--pid", str(pid)] for pid, file in self._files.items()
        ]
        self._stack = ExitStack()
        self.stacks: dict[int, str] = {}

    def __enter__(self) -> Sampling:
        self._processes = [self._stack.enter_context(_running(command)) for command in self._commands]
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            for process in self._processes:
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=_END_S)
        for pid, file in self._files.items():
            if file.exists():
                self.stacks[pid] = file.read_text(encoding="utf-8", errors="replace")


@contextmanager
def _running(command: Iterable[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _wait_until_attached(tool: Tracer, pids: Sequence[int], tools: Sequence[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + _ATTACH_S
    while tool is STRACE and not all(map(_is_traced, pids)):
        ended = next((process for process in tools if process.poll() is not None), None)
        if ended is not None:
            said = ended.communicate()[1].decode("utf-8", "replace").strip()
            raise BenchError(f"system calls are not counted: {said}")
        if time.monotonic() > end:
            raise BenchError(f"system calls are not counted: {tool.name} does not attach itself")
        time.sleep(_POLL_S)


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return "\nTracerPid:\t0\n" not in status
