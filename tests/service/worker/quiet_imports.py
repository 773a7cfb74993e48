"""Tasks whose module opens files at its import that copies of a process may share."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import random
import signal
import sys
import tempfile
import types
import zipfile
from pathlib import Path
from typing import TextIO

from offload import on_worker_start, task

DIRECTORY = Path(os.environ["IMPORTS_DIRECTORY"])
ARGUMENTS = list(sys.argv)
WORDS = (DIRECTORY / "words.txt").open()
FIRST = WORDS.readline()
with (DIRECTORY / "words.txt").open("rb") as _file:
    MAPPED = mmap.mmap(_file.fileno(), 0, prot=mmap.PROT_READ)
ARCHIVE = zipfile.ZipFile(DIRECTORY / "words.zip")
ENTROPY = open("/dev/urandom", "rb", buffering=0)  # noqa: SIM115
RESULTS = (DIRECTORY / "results.txt").open("a")
RESULTS.write(f"imported by {os.getpid()}\n")
LOCK = (DIRECTORY / "lock").open("w")
NUMBERS = random.Random()
logging.basicConfig(level=logging.INFO, format="root has %(message)s")
AUDIT = logging.getLogger("audit")
AUDIT.addHandler(logging.FileHandler(DIRECTORY / "audit.log"))
AUDIT.addHandler(logging.StreamHandler(sys.stderr))
AUDIT.setLevel(logging.INFO)
OUTPUT = sys.stdout
RECEIVED: list[int] = []

HOOKED: TextIO


def receive(number: int, _: types.FrameType | None) -> None:
    RECEIVED.append(number)


signal.signal(signal.SIGUSR1, receive)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)  # would end a process that has not the handler


@on_worker_start
def open_own() -> None:
    global HOOKED  # noqa: PLW0603
    HOOKED = (DIRECTORY / "words.txt").open()


@task
def facts() -> dict[str, object]:
    """What must be the same in each worker, and with each start method."""
    os.kill(os.getpid(), signal.SIGUSR1)
    return {
        "arguments": ARGUMENTS,
        "first": FIRST,
        "hook": HOOKED.fileno() > 2,
        "mapped": MAPPED[:5].decode(),
        "archive": ARCHIVE.read("words").decode(),
        "entropy": len(ENTROPY.read(8)),
        "signals": [RECEIVED.pop()],
    }


@task
def draw() -> dict[str, float]:
    return {"pid": os.getpid(), "common": random.random(), "own": NUMBERS.random()}


@task
def count(times: int) -> None:
    """Add to the number in a file, which is locked meanwhile."""
    for _ in range(times):
        fcntl.flock(LOCK, fcntl.LOCK_EX)
        number = int((DIRECTORY / "count").read_text())
        (DIRECTORY / "count").write_text(str(number + 1))
        fcntl.flock(LOCK, fcntl.LOCK_UN)


@task
def lines(number: int) -> int:
    """Read one line again and again; return how often it was another one."""
    wrong = 0
    for _ in range(200):
        WORDS.seek(8 * number)
        wrong += WORDS.readline() != f"{number:07}\n"
    return wrong


@task
def write_file(text: str) -> str:
    """Write into a file of its own beside the log handler's; return what is in it."""
    with tempfile.TemporaryFile("w+") as file:
        file.write(text)
        file.flush()
        AUDIT.info("audit %s", text)
        print("printed", text, file=OUTPUT)
        RESULTS.write(text + "\n")  # stays in the buffer
        file.seek(0)
        return file.read()
